"""The meta-learning methods the field is known for, one short file each, as factories of a `Learner`.

Gradient-based: `maml` (also first order), `maml_plus_plus`, `reptile`, `meta_sgd`, `anil`, `cavia`, `imaml`. Closed
form: `ridge` (R2-D2), `alpaca`, `svm` (MetaOptNet), `prototypes` (ProtoNet), `gaussian` (GeMCL). Learned: `recurrent`,
`learned_optimizer`. Around any of them: `adversarial` (AQ, ADML), `averaged` (SWA, EMA), `mixture`.
"""

from streammeta.meta.methods.adversarial import adversarial, attacked
from streammeta.meta.methods.alpaca import alpaca
from streammeta.meta.methods.anil import anil
from streammeta.meta.methods.averaging import averaged, mixture
from streammeta.meta.methods.cavia import cavia
from streammeta.meta.methods.gaussian import gaussian
from streammeta.meta.methods.imaml import imaml
from streammeta.meta.methods.learned_optimizer import learned_optimizer
from streammeta.meta.methods.maml import maml
from streammeta.meta.methods.maml_plus_plus import maml_plus_plus
from streammeta.meta.methods.meta_sgd import meta_sgd
from streammeta.meta.methods.prototypes import prototypes
from streammeta.meta.methods.recurrent import recurrent
from streammeta.meta.methods.reptile import reptile
from streammeta.meta.methods.ridge import ridge
from streammeta.meta.methods.svm import svm

__all__ = [
    "adversarial",
    "alpaca",
    "anil",
    "attacked",
    "averaged",
    "cavia",
    "gaussian",
    "imaml",
    "learned_optimizer",
    "maml",
    "maml_plus_plus",
    "meta_sgd",
    "mixture",
    "prototypes",
    "recurrent",
    "reptile",
    "ridge",
    "svm",
]

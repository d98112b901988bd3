"""Meta-learning on event streams: every task learned from a handful of events, and again after every drift."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["MetaClassifier", "MetaRegressor", "__version__", "replay"]

_MODULES = {
    "MetaClassifier": "streammeta.estimator",
    "MetaRegressor": "streammeta.estimator",
    "replay": "streammeta.review.notebook",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever is asked for
    """Fetch what is offered here from its module when it is first asked for: PyTorch takes seconds to import."""
    if name not in _MODULES:
        raise AttributeError(f"streammeta has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)

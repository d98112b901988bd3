"""Meta-learning methods as tuples of pure functions over visible state."""

from streammeta.meta.base import Episodes, MetaState, Method, Predictions, Theta
from streammeta.meta.exact.heads import ExpertSettings, LearnerSettings, exact_heads
from streammeta.meta.outer import MetaStep, by_autograd, grow_outer, outer_step, start_outer
from streammeta.meta.stream import in_stream

__all__ = [
    "Episodes",
    "ExpertSettings",
    "LearnerSettings",
    "MetaState",
    "MetaStep",
    "Method",
    "Predictions",
    "Theta",
    "by_autograd",
    "exact_heads",
    "grow_outer",
    "in_stream",
    "outer_step",
    "start_outer",
]

"""Meta-learning methods as tuples of pure functions over visible state."""

from streammeta.meta.base import Episodes, MetaState, Method, Theta, Work
from streammeta.meta.ensemble import ensemble
from streammeta.meta.exact_heads import LearnerSettings, exact_heads
from streammeta.meta.outer import MetaStep, by_autograd, grow_outer, outer_step, start_outer

__all__ = [
    "Episodes",
    "LearnerSettings",
    "MetaState",
    "MetaStep",
    "Method",
    "Theta",
    "Work",
    "by_autograd",
    "ensemble",
    "exact_heads",
    "grow_outer",
    "outer_step",
    "start_outer",
]

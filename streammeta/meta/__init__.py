"""Meta-learning methods as tuples of pure functions over visible state."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streammeta.meta.base import Episodes, MetaState, Method, Predictions, Theta
    from streammeta.meta.outer import MetaStep, by_autograd, grow_outer, outer_step, start_outer
    from streammeta.meta.settings import ExpertSettings, LearnerSettings
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
    "grow_outer",
    "in_stream",
    "outer_step",
    "start_outer",
]

_ROOMS = {
    "Episodes": "base",
    "ExpertSettings": "settings",
    "LearnerSettings": "settings",
    "MetaState": "base",
    "MetaStep": "outer",
    "Method": "base",
    "Predictions": "base",
    "Theta": "base",
    "by_autograd": "outer",
    "grow_outer": "outer",
    "in_stream": "stream",
    "outer_step": "outer",
    "start_outer": "outer",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever is asked for
    """Fetch what is offered here when it is first asked for: whoever reads settings needs no PyTorch."""
    if name not in _ROOMS:
        raise AttributeError(f"{__name__} has no {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)

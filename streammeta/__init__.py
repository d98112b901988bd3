"""Meta-learning on event streams: every task learned from a handful of events, and again after every drift."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streammeta.engine.engine import Engine
    from streammeta.engine.outcome import Outcome, Signal
    from streammeta.engine.settings import EngineSettings
    from streammeta.errors import (
        ConfigError,
        EventError,
        SnapshotError,
        StreammetaError,
        TransactionError,
        TransportError,
    )
    from streammeta.estimator import MetaClassifier, MetaRegressor
    from streammeta.event import Event, Label, Origin
    from streammeta.review.notebook import replay

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Engine",
    "EngineSettings",
    "Event",
    "EventError",
    "Label",
    "MetaClassifier",
    "MetaRegressor",
    "Origin",
    "Outcome",
    "Signal",
    "SnapshotError",
    "StreammetaError",
    "TransactionError",
    "TransportError",
    "__version__",
    "replay",
]

_MODULES = {
    "ConfigError": "streammeta.errors",
    "Engine": "streammeta.engine.engine",
    "EngineSettings": "streammeta.engine.settings",
    "Event": "streammeta.event",
    "EventError": "streammeta.errors",
    "Label": "streammeta.event",
    "MetaClassifier": "streammeta.estimator",
    "MetaRegressor": "streammeta.estimator",
    "Origin": "streammeta.event",
    "Outcome": "streammeta.engine.outcome",
    "Signal": "streammeta.engine.outcome",
    "SnapshotError": "streammeta.errors",
    "StreammetaError": "streammeta.errors",
    "TransactionError": "streammeta.errors",
    "TransportError": "streammeta.errors",
    "replay": "streammeta.review.notebook",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever is asked for
    """Import what is offered here when it is first asked for: PyTorch takes seconds to import."""
    if name not in _MODULES:
        raise AttributeError(f"streammeta has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """What is offered here, also before it was asked for: for completion in a shell."""
    return sorted(__all__)

"""The engine: events in, predictions out, and all that is remembered of a task. No clock, no I/O beyond the spill."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streammeta.engine.engine import Candidate, Engine
    from streammeta.engine.outcome import EngineStats, MetaResult, Outcome, Signal, TaskSummary
    from streammeta.engine.settings import EngineSettings, MetaSettings
    from streammeta.engine.trial import Verdict
    from streammeta.meta.settings import Kind

__all__ = [
    "Candidate",
    "Engine",
    "EngineSettings",
    "EngineStats",
    "Kind",
    "MetaResult",
    "MetaSettings",
    "Outcome",
    "Signal",
    "TaskSummary",
    "Verdict",
]

_MODULES = {
    "Candidate": "streammeta.engine.engine",
    "Engine": "streammeta.engine.engine",
    "EngineSettings": "streammeta.engine.settings",
    "EngineStats": "streammeta.engine.outcome",
    "Kind": "streammeta.meta.settings",
    "MetaResult": "streammeta.engine.outcome",
    "MetaSettings": "streammeta.engine.settings",
    "Outcome": "streammeta.engine.outcome",
    "Signal": "streammeta.engine.outcome",
    "TaskSummary": "streammeta.engine.outcome",
    "Verdict": "streammeta.engine.trial",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever is asked for
    """Fetch what is offered here when it is first asked for: reading settings needs neither PyTorch nor River."""
    if name not in _MODULES:
        raise AttributeError(f"{__name__} has no {name!r}")
    return getattr(import_module(_MODULES[name]), name)

"""The engine: events in, predictions out, and all that is remembered of a task. No clock, no I/O beyond the spill."""

from streammeta.engine.engine import (
    Engine,
    EngineSettings,
    EngineStats,
    Kind,
    MetaResult,
    MetaSettings,
    Outcome,
    Signal,
    TaskSummary,
)

__all__ = [
    "Engine",
    "EngineSettings",
    "EngineStats",
    "Kind",
    "MetaResult",
    "MetaSettings",
    "Outcome",
    "Signal",
    "TaskSummary",
]

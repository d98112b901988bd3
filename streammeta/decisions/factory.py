"""Which engine the settings want."""

from streammeta.engine import Engine, EngineSettings

__all__ = ["engine_class"]


def engine_class(settings: EngineSettings) -> type[Engine]:
    """The engine that predicts, or the one that decides."""
    if settings.decide is None:
        return Engine
    from streammeta.decisions.engine import DecisionEngine  # noqa: PLC0415  brings SciPy, which few services need

    return DecisionEngine

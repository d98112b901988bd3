"""The loops around the engine, on files and on Kafka, with what a service needs: health, metrics, logs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streammeta.service.loop import Observe, Options, Service, Summary, restore

__all__ = ["Observe", "Options", "Service", "Summary", "restore"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever is asked for
    """Fetch what is offered here when it is first asked for: whoever sets up logs needs no engine."""
    if name not in __all__:
        raise AttributeError(f"{__name__} has no {name!r}")
    return getattr(import_module("streammeta.service.loop"), name)

"""What follows when a task's concept changed: one object a response, one file each.

``base`` says what a response is asked, and answers as the simplest one does. To add one: a class in a file of its
own, its name in ``RESPONSES`` here and in ``streammeta.engine.drift.settings.DriftResponseName``.
"""

from collections.abc import Callable

from streammeta.engine.drift import DriftResponseName
from streammeta.engine.responses.base import DriftResponse
from streammeta.engine.responses.mix import Mix
from streammeta.engine.responses.recall import Recall
from streammeta.engine.responses.reset import Reset
from streammeta.engine.settings import EngineSettings
from streammeta.meta.base import Method

__all__ = ["RESPONSES", "DriftResponse", "make_response"]

RESPONSES: dict[DriftResponseName, Callable[[Method, EngineSettings], DriftResponse]] = {
    "mix": Mix,
    "reset": Reset,
    "recall": Recall,
}


def make_response(method: Method, settings: EngineSettings) -> DriftResponse:
    """The response that the settings name, for this learner.

    Raises:
        ConfigError: it cannot work with that learner.
    """
    return RESPONSES[settings.drift.response](method, settings)

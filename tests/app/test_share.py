"""What a service shares."""

import threading

import pytest

from streammeta.app.serve import serve
from streammeta.app.train import train
from streammeta.config import Settings
from streammeta.errors import ConfigError


@pytest.mark.parametrize("command", [serve, train])
def test_a_service_that_is_to_share_updates_says_that_it_cannot(command: object) -> None:
    """It would send episodes, and who had wanted to keep them would not see it."""
    settings = Settings.model_validate({"meta": {"share": "updates", "trainer": "separate"}})

    with pytest.raises(ConfigError, match=r'\[meta\] share: got "updates"'):
        command(settings, threading.Event())  # type: ignore[operator]

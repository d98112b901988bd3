"""What a service shares."""

import sys
import threading

import pytest

from streammeta.app.serve import serve
from streammeta.app.train import train
from streammeta.config import Settings
from streammeta.errors import ConfigError


def settings(**more: object) -> Settings:
    given = {"meta": {"share": "updates", "trainer": "separate"}} | more
    return Settings.model_validate(given)


@pytest.mark.parametrize("command", [serve, train])
def test_a_service_that_shares_updates_wants_a_trainer_of_its_own(command: object) -> None:
    """A member that trained would share θ of its events as they are, and who had wanted to keep them would not see it."""
    alone = settings(meta={"share": "updates"})

    with pytest.raises(ConfigError, match=r'trainer.*"separate"'):
        command(alone, threading.Event())  # type: ignore[operator]


@pytest.mark.parametrize("command", [serve, train])
def test_decisions_are_not_shared_as_updates(command: object) -> None:
    """An action's part of a task would be clipped as a task, and ε would be said of less than a whole one."""
    with pytest.raises(ConfigError, match=r'\[app\] kind = "decision"'):
        command(settings(app={"kind": "decision"}), threading.Event())  # type: ignore[operator]


def test_a_member_with_noise_says_which_package_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, and not when its first change is due."""
    monkeypatch.setitem(sys.modules, "dp_accounting", None)

    with pytest.raises(ConfigError, match=r"streammeta\[private\]"):
        serve(settings(), threading.Event())


def test_a_trainer_of_updates_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks share the gradient of episodes, and there are none."""
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(ConfigError, match="without torchrun"):
        train(settings(), threading.Event())

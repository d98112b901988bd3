import threading
import time

import pytest
from structlog.testing import capture_logs

from streammeta.app.reload import Reload, changed_settings, reloading, sort_changes
from streammeta.config import Settings
from streammeta.errors import ConfigError

PASSWORD = "correct-horse"  # noqa: S105


def test_what_cannot_hold_at_once_is_named_with_the_reason_and_without_the_value() -> None:
    """Whoever changes a password and hears nothing believes that it holds; and logs are read by many."""
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "me"}
    before = Settings(input={"topic": "a"}, kafka=sasl | {"sasl_password": "old"})
    after = Settings(
        input={"topic": "b"},
        kafka=sasl | {"sasl_password": PASSWORD},
        log={"level": "debug"},
        state={"every_seconds": 2.0},
        learner={"hidden": 8},
    )

    live, refused = sort_changes(before, after)

    assert live == ["log.level", "state.every_seconds"]
    assert sorted(refused) == ["input.topic", "kafka.sasl_password", "learner.hidden"]
    assert PASSWORD not in str(refused)


@pytest.mark.parametrize(
    ("before", "seconds", "holds"),
    [({"every_seconds": 1.0}, 11.0, True), ({"every_seconds": 1.0}, 11.5, False), ({"every_seconds": 60.0}, 0.5, True)],
)
def test_commits_cannot_become_rarer_than_the_broker_keeps_a_transaction_open(
    before: dict[str, float], seconds: float, holds: bool
) -> None:
    """It would abort every one of them: a service that looks well and writes nothing."""
    live, refused = sort_changes(Settings(state=before), Settings(state={"every_seconds": seconds}))

    assert (live == ["state.every_seconds"], "state.every_seconds" in refused) == (holds, not holds)


def test_what_is_set_back_is_said_to_hold_again() -> None:
    """Compared with the start only, the log would say that nothing changed, while everything did."""
    asked, answers = threading.Event(), [Settings(log={"level": "debug"}), Settings()]
    applied: list[str] = []

    with (
        capture_logs() as lines,
        reloading(Settings(), Reload(asked, lambda: answers.pop(0)), lambda s: applied.append(s.log.level)),
    ):
        for count in (1, 2):
            asked.set()
            deadline = time.monotonic() + 10
            while len(lines) < count and time.monotonic() < deadline:
                time.sleep(0.01)

    assert applied == ["debug", "info"]
    assert [one["hold"] for one in lines] == [["log.level"], ["log.level"]]


def test_settings_that_are_equal_have_no_changes() -> None:
    """Else each hangup would complain of everything."""
    assert changed_settings(Settings(), Settings()) == []


def test_each_time_it_is_asked_for_settings_are_read_and_a_broken_file_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A typing mistake in a file must not end a service that runs, nor half of it hold."""
    asked = threading.Event()
    applied: list[Settings] = []
    answers: list[Settings | ConfigError] = [
        ConfigError("a.toml: not TOML"),
        Settings(log={"level": "debug"}, input={"topic": "other"}),
    ]

    def read() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    with reloading(Settings(), Reload(asked, read), applied.append):
        for left in (1, 0):
            asked.set()
            deadline = time.monotonic() + 10
            while (len(answers) > left or asked.is_set()) and time.monotonic() < deadline:
                time.sleep(0.01)
        while not applied and time.monotonic() < deadline:
            time.sleep(0.01)

    (settings,) = applied
    assert settings.log.level == "debug"
    assert settings.input.topic == "events"

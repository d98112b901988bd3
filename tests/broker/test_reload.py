"""Settings read again by a running service, and looked at before one runs."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streammeta import cli
from tests.broker.running import RunningBroker
from tests.broker.test_service import STREAMMETA

PATIENCE = 60.0
CreateTopic = Callable[[str, int], str]


def configuration(topic: str, bootstrap: str, more: str = "") -> str:
    return (
        f'[app]\nname = "{topic}"\n[input]\ntopic = "{topic}"\n[kafka]\nbootstrap_servers = "{bootstrap}"\n'
        f'[http]\nenabled = false\n[learner]\nhidden = 8\nencoded = 4\n[log]\nformat = "json"\n{more}'
    )


def test_a_hangup_makes_changed_settings_hold_and_names_those_that_wait(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """Debug logs for ten minutes, without a rebalance: and the service goes on, whatever stands in the file."""
    create_topic(topic, 1)
    file, log = tmp_path / "a.toml", tmp_path / "log"
    file.write_text(configuration(topic, broker.bootstrap))
    with log.open("wb") as out:
        running = subprocess.Popen(
            [STREAMMETA, "run", "--config", file], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in log.read_text():
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, (text, log.read_text()[-2000:])
            time.sleep(0.05)

    try:
        wait_for("partitions restored")
        file.write_text("[state\n")
        os.kill(running.pid, signal.SIGHUP)
        wait_for("going on with those before")
        more = 'level = "error"\n[state]\nevery_seconds = 0.2\n[memory]\nmax_tasks = 77\n'
        file.write_text(configuration(topic, broker.bootstrap, more))
        os.kill(running.pid, signal.SIGHUP)
        wait_for("does not hold yet")
        time.sleep(0.5)
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    finally:
        running.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["setting"] for one in lines if "does not hold yet" in one["event"]] == ["memory.max_tasks"]
    assert lines[-1]["event"] != "stopped", "the level is error by now"


def test_run_check_says_whether_it_would_start_and_starts_nothing(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """In a pipeline, before the rollout."""
    file = tmp_path / "a.toml"
    file.write_text(configuration(topic, broker.bootstrap))

    absent = CliRunner().invoke(cli.app, ["run", "--check", "--config", str(file)])
    create_topic(topic, 2)
    present = CliRunner().invoke(cli.app, ["run", "--check", "--config", str(file)])

    assert (absent.exit_code, "it does not exist" in absent.output) == (1, True), absent.output
    assert present.exit_code == 0, present.output
    assert f"ok       topic {topic}-state: not there yet" in present.output


@pytest.mark.parametrize("missing", ["theta.safetensors", "cert.pem"])
def test_run_check_looks_at_what_the_settings_name(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path, missing: str
) -> None:
    """A file that is not in the image is found before the rollout, too."""
    create_topic(topic, 1)
    absent = tmp_path / missing
    more = f'[learner]\nstart_from = "{absent}"\nmethod = "maml"\n'
    if missing == "cert.pem":
        more = f'[http]\ntls_certfile = "{absent}"\ntls_keyfile = "{absent}"\n'
    file = tmp_path / "a.toml"
    file.write_text(
        f'[app]\nname = "{topic}"\n[input]\ntopic = "{topic}"\n[kafka]\nbootstrap_servers = "{broker.bootstrap}"\n{more}'
    )

    done = CliRunner().invoke(cli.app, ["run", "--check", "--config", str(file)])

    assert done.exit_code == 1
    assert f"{absent}" in done.output

"""A service goes from the version before to this one, under load; docs/upgrade.md says how."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streammeta.engine.handover.record import FORMAT
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.before import before, record_format
from tests.broker.running import RunningBroker
from tests.broker.test_savepoint import ENVIRONMENT, load
from tests.broker.test_scaling import (
    ENDLESS,
    RATE,
    all_work,
    committed,
    hold_against_what_was_sent,
    sent_to_each,
    wait_until,
)
from tests.broker.test_service import CreateTopic, ReadAll, Running

__all__ = ["before"]

pytestmark = pytest.mark.timeout(600)  # the version before is compiled first, once on a machine
PARTITIONS = 4
SAME = {"STREAMMETA_LEARNER__EXPERTS": "[]"}  # settings whose defaults differ, as docs/upgrade.md advises
COMMAND_LINE = ("-P", "-c", "from streammeta.cli import main; main()")


class Upgraded(Running):
    """A member that runs by the interpreter it is given, and later by another one."""

    def __init__(self, python: Path, broker: RunningBroker, topic: str, directory: Path, **settings: str) -> None:
        self.python = python
        super().__init__(broker, topic, directory, **settings)

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [self.python, *COMMAND_LINE, "run"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def upgrade(self) -> None:
        """Start again, by this version."""
        self.python = Path(sys.executable)
        self.restart()

    def inspected(self, python: Path) -> dict[str, Any]:
        """Every task's figures, as that version reads them."""
        command = [python, *COMMAND_LINE, "inspect", "--json", "--limit", "0"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return {task["task"]: task for task in json.loads(done.stdout)}


@pytest.fixture
def members(before: Path, broker: RunningBroker, topic: str, tmp_path: Path) -> Iterator[list[Upgraded]]:
    """Two static members of the version before, like pods of the chart."""
    running: list[Upgraded] = []
    for number in range(2):
        folder = tmp_path / f"pod-{number}"
        folder.mkdir()
        name = {"STREAMMETA_KAFKA__GROUP_INSTANCE_ID": folder.name}
        running.append(Upgraded(before, broker, topic, folder, **ENVIRONMENT, **SAME, **name))
    yield running
    for one in running:
        if one.process.poll() is None:
            one.kill()


def test_members_are_upgraded_under_load_and_each_event_counts_once(
    before: Path,
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    members: list[Upgraded],
) -> None:
    """As the chart's StatefulSet does it: each pod comes back under its name, before its session is over.

    Both versions are in one group meanwhile; where the format of states is a new one, all are stopped and started first.
    """
    create_topic(topic, PARTITIONS)
    rolls = record_format(before) == FORMAT
    wait_until("both read", lambda: all(m.metric("streammeta_assigned_partitions") for m in members), members)
    with load(broker, topic, PARTITIONS, ENDLESS, RATE):
        wait_until("both work", lambda: all_work(members), members)
        for batch in ([] if rolls else [members]) + [[one] for one in members]:
            assert [one.stop() for one in batch] == [0] * len(batch)
            for one in batch:
                one.upgrade()
            wait_until("all work again", lambda: all_work(members), members)
    sent = sent_to_each(broker, topic, PARTITIONS)
    wait_until("nothing is left", lambda: committed(kafka, topic, PARTITIONS) == {sent}, members)
    assert [one.stop() for one in members] == [0, 0]

    assert hold_against_what_was_sent(kafka, topic, PARTITIONS, sent, read_all) == []
    refused = [line for one in members for line in one.log.read_text().splitlines() if "refused" in line]
    assert refused == []
    if rolls:  # what the new one wrote last, the old one reads as the new one does
        assert members[0].inspected(before) == members[0].inspected(Path(sys.executable))

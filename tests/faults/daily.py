"""A day's load on members that are processes, with as many of them as the chart's scaler would have: one to eight and back.

    python -m tests.faults.daily --seconds 240 --peak 400

The clock runs `--times` as fast as the chart's, so a window of five minutes is five seconds, and thresholds of backlog are
as much smaller. `deploy.check.scaler` has the arithmetic, helm (`make deploy-tools`) the rules; events are explained, so
that a member is busy with few of them. In the end each event has one prediction, in order, and each label was learned once.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict, deque
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import yaml
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.broker import Broker
from deploy.check.scaler import LOOK_SECONDS, Rules, Scaler, rules
from streammeta.app.inspection import inspect_service
from streammeta.transport.kafka.group import Group
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import RunningBroker
from tests.broker.test_savepoint import ENVIRONMENT, event, settings_of
from tests.broker.test_service import Running

_ROOT = Path(__file__).parents[2]
_CHART = _ROOT / "deploy/helm/streammeta"
_PARTITIONS = 8
_TOPIC = "daily"
_PATIENCE = 600.0  # for what is left when the day is over
_EXPLAIN = {"STREAMMETA_OUTPUT__EXPLAIN": "true"}


def chart_rules(times: float) -> Rules:
    """Those that helm renders of the values for a service that is monitored and scaled, for a faster clock."""
    helm, values = _ROOT / ".tools/deploy/bin/helm", _CHART / "ci/5-monitored-and-scaled.yaml"
    text = subprocess.run([helm, "template", "a", _CHART, "-f", values], capture_output=True, text=True, check=True)
    (scaled,) = (one for one in yaml.safe_load_all(text.stdout) if one and one["kind"] == "ScaledObject")
    found = rules(scaled)._replace(least=1, most=_PARTITIONS).faster(times)
    return found._replace(lag_threshold=found.lag_threshold / times)


class Day:
    """One day: what was sent, who works, and what was seen."""

    def __init__(self, broker: Broker, seconds: float, peak: float, times: float, folder: Path) -> None:
        self._broker = RunningBroker(broker.bootstrap, broker)
        self.kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, session_timeout_seconds=6)
        create_topics(self.kafka, {_TOPIC: _PARTITIONS})
        self._seconds, self._peak, self._times, self._folder = seconds, peak, times, folder
        self.sent = 0  # in each partition
        self._sent_at: list[tuple[int, float]] = [(0, 0.0)]
        self._members: list[Running] = []
        self._ended: list[int] = []
        self._busy: dict[int, deque[tuple[float, float]]] = defaultdict(deque)
        self.counts: list[int] = []
        self.delay = 0.0
        self._scale(1)

    def run(self) -> None:
        """The day, and what is left after it, until one member is left that has nothing to do."""
        scaler, begun, look_at = Scaler(chart_rules(self._times), 1), time.monotonic(), 0.0
        with (
            closing(KafkaProducer(bootstrap_servers=self._broker.bootstrap, linger_ms=5)) as producer,
            closing(Group(self.kafka, _TOPIC)) as group,
        ):
            due = before = 0.0
            while (now := time.monotonic() - begun) < self._seconds + _PATIENCE:
                due += (now - before) * self._rate(now) / _PARTITIONS if now < self._seconds else 0.0
                before = now
                while self.sent < due:
                    for partition in range(_PARTITIONS):
                        producer.send(_TOPIC, event(self.sent, partition), partition=partition)
                    self.sent += 1
                    self._sent_at.append((self.sent, now))
                if now >= look_at:
                    look_at = now + LOOK_SECONDS / self._times
                    lags = self._lags(group, now)
                    self._scale(scaler.look(now, [lag + 1 for lag in lags], self._busy_members(now)))
                    if now > self._seconds and not any(lags) and self.counts[-1] == 1:
                        break
                time.sleep(0.1)
        self._scale(0)

    def _rate(self, now: float) -> float:
        return self._peak * (0.03 + 0.97 * math.sin(math.pi * now / self._seconds) ** 4)

    def _lags(self, group: Group, now: float) -> list[int]:
        offsets = {number: at.next for (_, number), at in group.offsets(_TOPIC, _PARTITIONS).items()}
        done = [offsets.get(number, 0) for number in range(_PARTITIONS)]
        first = bisect_left(self._sent_at, (min(done) + 1, 0.0))
        if first < len(self._sent_at):
            self.delay = max(self.delay, now - self._sent_at[first][1])
        return [self.sent - one for one in done]

    def _busy_members(self, now: float) -> float:
        """As the chart's query: the sum of all members' rates over five minutes of its clock."""
        total = 0.0
        for member in self._members:
            seen = self._busy[member.port]
            seen.append((now, member.metric("streammeta_busy_seconds_total")))
            while len(seen) > 2 and seen[0][0] < now - 300 / self._times:
                seen.popleft()
            if seen[-1][0] > seen[0][0]:
                total += max(0.0, seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
        return total

    def _scale(self, count: int) -> None:
        while len(self._members) < count:
            folder = self._folder / str(len(self._ended) + len(self._members))
            folder.mkdir(exist_ok=True)
            self._members.append(Running(self._broker, _TOPIC, folder, **ENVIRONMENT, **_EXPLAIN))
        while len(self._members) > count:  # the last pod goes first
            self._ended.append(self._members.pop().stop())
        if count and (not self.counts or self.counts[-1] != count):
            sys.stdout.write(f"members: {count}\n")
            sys.stdout.flush()
        if count:
            self.counts.append(count)

    def complaints(self) -> list[str]:
        """What was lost, doubled, out of order, or learned other than once."""
        places: dict[int, list[int]] = defaultdict(list)
        consumer = KafkaConsumer(
            bootstrap_servers=self._broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        with closing(consumer):
            name = f"{_TOPIC}-predictions"
            consumer.assign([TopicPartition(name, number) for number in consumer.partitions_for_topic(name)])
            quiet = 0
            while quiet < 5:
                records = [one for batch in consumer.poll(timeout_ms=500).values() for one in batch]
                quiet = 0 if records else quiet + 1
                for record in records:
                    _, partition, offset = json.loads(record.value)["source"].split("/")
                    places[int(partition)].append(int(offset))
        wanted = [*range(self.sent)]
        found = [f"partition {n}: not each once, in order" for n in range(_PARTITIONS) if places[n] != wanted]
        learned = sum(task.labelled for task in inspect_service(settings_of(self.kafka, _TOPIC, _TOPIC)))
        if learned != _PARTITIONS * self.sent:
            found.append(f"{learned} labels were learned, {_PARTITIONS * self.sent} sent")
        return found + [f"a member ended with status {status}" for status in self._ended if status]


def main() -> int:
    """Exit status 1 where something was lost or doubled, or the number of members turned more than once."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="how long the day is")
    parser.add_argument("--peak", type=float, default=400.0, help="events a second at its busiest")
    parser.add_argument("--times", type=float, default=60.0, help="how many times as fast as the chart's clock")
    options = parser.parse_args()
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        day = Day(broker, options.seconds, options.peak, options.times, Path(folder))
        day.run()
        complaints = day.complaints()
    changes = [after - before for before, after in pairwise(day.counts) if after != before]
    turns = sum(one * other < 0 for one, other in pairwise(changes))
    sys.stdout.write(
        f"{_PARTITIONS * day.sent:,} events, members {day.counts[0]} to {max(day.counts)} to {day.counts[-1]} in "
        f"{len(changes)} changes, {turns} turn(s); longest delay {day.delay:.1f} s; {len(complaints)} wrong\n"
    )
    sys.stdout.writelines(f"{one}\n" for one in complaints)
    return int(bool(complaints) or turns > 1)


if __name__ == "__main__":
    sys.exit(main())

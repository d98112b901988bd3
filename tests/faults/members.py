"""Members of one group come and go, fail and go back, at random; every start, and every record, is held against commits.

`python -m tests.faults.members --seconds 300` runs it for long; the tests run it for a few seconds. It is the sources
alone, without engines, transactions and processes, so that it comes past a rare order of events a hundred times where
`tests.faults.chaos` does once.
"""

import argparse
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field

from kafka import KafkaProducer

from deploy.broker import Broker
from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import GroupSource, Partition
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics

_PARTITIONS = 6
_MEMBERS = 3
_RATE = 1500  # records a second
_PATIENCE = 60.0


@dataclass
class Seen:
    """What the members did, and what they should not have."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    committed: dict[Partition, int] = field(default_factory=dict)
    unsure: dict[Partition, set[int]] = field(default_factory=dict)  # asked for, and not known whether it was done

    def __str__(self) -> str:
        """For people."""
        done = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return "\n".join([f"{done}: {len(self.wrong)} wrong", *self.wrong])


class Member:
    """One life of one member.

    Args:
        kafka: how to reach Kafka, and by which client.
        topic: the input, and the group.
        seen: what all members share.
        choice: decides what happens.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, seen: Seen, choice: random.Random) -> None:
        self._seen, self._choice = seen, choice
        self._at: dict[Partition, int] = {}  # ours: what comes next
        self._arriving: set[Partition] = set()  # ours, paused
        self._resume_at = 0.0
        self._history: deque[str] = deque(maxlen=20)
        self._name = f"{kafka.client} {kafka.group_instance_id or kafka.client_id}"
        self._source: GroupSource = adapters(kafka).source(
            kafka, topic, topic, on_revoked=self._revoked, on_lost=self._lost, on_assigned=self._assigned
        )

    def live(self, until: float) -> None:
        """Poll, commit, fail, go back, until it is time (monotonic seconds); then commit, and leave."""
        with closing(self._source):
            while time.monotonic() < until:
                try:
                    self._turn()
                except TransactionError as err:
                    self._note(f"failed: {err}")
                    self._go_back(until)
            with suppress(TransactionError):
                self._commit()

    def _turn(self) -> None:
        if self._arriving and time.monotonic() > self._resume_at:
            self._resume()
        for record in self._source.poll(200, 0.0 if self._arriving else 0.2):
            partition = record.origin.topic, record.origin.partition
            wanted = self._at.get(partition)
            if record.origin.offset != wanted:
                self._wrong(f"{record.origin} came, wanted {wanted}")
            self._at[partition] = record.origin.offset + 1
            self._seen.counts["records"] += 1
        if not self._arriving and self._choice.random() < 0.1:
            self._may_fail()
            self._commit()

    def _resume(self) -> None:
        self._note(f"resumes {self._numbers(self._arriving)}")
        starts, seen = self._source.assigned(), self._seen
        for partition in self._arriving & starts.keys():
            start, wanted = starts[partition], seen.committed.get(partition, 0)
            if start != wanted and start not in seen.unsure.get(partition, ()):
                self._wrong(f"{partition} begins at {start}, committed is {wanted}")
            self._at[partition] = start
            seen.counts["starts"] += 1
        self._source.resume(self._arriving)
        self._arriving = set()

    def _commit(self) -> None:
        if not self._at:
            return
        try:
            self._source.commit(self._at)
        except TransportError as err:
            for partition, offset in self._at.items():
                self._seen.unsure.setdefault(partition, set()).add(offset)
            raise TransactionError(str(err)) from err
        self._seen.committed |= self._at
        for partition in self._at:
            self._seen.unsure.pop(partition, None)
        self._seen.counts["commits"] += 1
        self._note("committed")

    def _go_back(self, until: float) -> None:
        self._pause({*self._at, *self._arriving})
        self._at.clear()
        while time.monotonic() < until:
            try:
                self._source.rewind()
            except TransactionError as err:
                self._note(f"cannot go back: {err}")
                with suppress(TransactionError):
                    self._source.poll(1, 0.1)
            else:
                self._seen.counts["failures"] += 1
                return

    def _pause(self, partitions: Collection[Partition]) -> None:
        self._arriving |= set(partitions)
        self._source.pause(partitions)
        self._resume_at = time.monotonic() + 0.3 * self._choice.random()

    def _may_fail(self) -> None:
        if self._choice.random() < 0.2:
            raise TransactionError("by chance")

    def _assigned(self, partitions: Collection[Partition]) -> None:
        self._note(f"is given {self._numbers(partitions)}")
        self._pause(partitions)
        self._seen.counts["assignments"] += 1

    def _revoked(self, partitions: Collection[Partition]) -> None:
        self._note(f"gives up {self._numbers(partitions)}")
        try:
            self._may_fail()
            self._commit()
        finally:
            self._forget(partitions)

    def _lost(self, partitions: Collection[Partition]) -> None:
        self._note(f"has lost {self._numbers(partitions)}")
        self._forget(partitions)
        raise TransactionError("lost")

    def _forget(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._at.pop(partition, None)
            self._arriving.discard(partition)

    def _wrong(self, what: str) -> None:
        self._seen.wrong.append("\n    ".join([f"{self._name}: {what}", *self._history]))

    def _note(self, what: str) -> None:
        self._history.append(f"{time.monotonic():.3f} {what}")

    @staticmethod
    def _numbers(partitions: Collection[Partition]) -> list[int]:
        return sorted(number for _, number in partitions)


def come_and_go(
    kafka: KafkaSettings,
    topic: str,
    *,
    seed: int,
    seconds: float,
    clients: Sequence[str],
    beside: Callable[[float], None] = lambda _end: None,
) -> Seen:
    """Let members live and die on a topic that is written to meanwhile; the first of them is a static one.

    ``beside`` is called with the end (monotonic seconds), in a thread of its own; what it raises is raised.
    """
    create_topics(kafka, {topic: _PARTITIONS})
    seen, end = Seen(), time.monotonic() + seconds
    with ThreadPoolExecutor(_MEMBERS + 2) as pool:
        works = [pool.submit(beside, end), pool.submit(_produce, kafka, topic, end)]
        for number in range(_MEMBERS):
            static = "static" if number == 0 else None
            named = kafka.model_copy(update={"client_id": f"member-{number}", "group_instance_id": static})
            choice = random.Random(f"{seed} {number}")
            works.append(pool.submit(_live_again_and_again, named, topic, seen, choice, clients, end))
        for work in works:
            work.result(seconds + _PATIENCE)
    return seen


def _produce(kafka: KafkaSettings, topic: str, end: float) -> None:
    with closing(KafkaProducer(bootstrap_servers=kafka.servers, enable_idempotence=True, linger_ms=5)) as producer:
        begun, number = time.monotonic(), 0
        while time.monotonic() < end:
            producer.send(topic, b"%d" % number, partition=number % _PARTITIONS)
            number += 1
            time.sleep(max(0.0, begun + number / _RATE - time.monotonic()))


def _live_again_and_again(
    kafka: KafkaSettings, topic: str, seen: Seen, choice: random.Random, clients: Sequence[str], end: float
) -> None:
    while (now := time.monotonic()) < end:
        client = kafka.model_copy(update={"client": choice.choice(clients)})
        try:
            Member(client, topic, seen, choice).live(min(end, now + choice.uniform(3.0, 15.0)))
        except TransportError:  # there is no broker now
            seen.counts["errors"] += 1
        time.sleep(min(choice.uniform(0.0, 4.0), max(0.0, end - time.monotonic())))


def _crashes(broker: Broker, every_seconds: float) -> Callable[[float], None]:
    """SIGKILLs of the broker, which starts again each time, every so often until a time; never where that is 0."""

    def crash(end: float) -> None:
        while every_seconds and time.monotonic() + every_seconds < end:
            time.sleep(every_seconds)
            broker.kill()
            broker.start()

    return crash


def main() -> int:
    """Run it, print what was seen; exit status 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.members", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rebalance", default="cooperative", choices=["cooperative", "eager"])
    parser.add_argument("--broker-seconds", type=float, default=0.0, help="between two SIGKILLs of the broker; 0: none")
    parser.add_argument("--clients", nargs="+", default=["kafka-python", "confluent"], help="of the members")
    options = parser.parse_args()
    with Broker() as broker:
        kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap, session_timeout_seconds=6, rebalance=options.rebalance
        )
        seen = come_and_go(
            kafka,
            "members",
            seed=options.seed,
            seconds=options.seconds,
            clients=options.clients,
            beside=_crashes(broker, options.broker_seconds),
        )
    sys.stdout.write(f"seed {options.seed}: {seen}\n")
    return 1 if seen.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Members come and go under load, by plan: what was predicted, learned and kept is held against what was sent."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing

from kafka import KafkaConsumer, TopicPartition

from streammeta.app.inspection import inspect_service
from streammeta.transport.kafka.group import Group
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import RunningBroker
from tests.broker.test_savepoint import ENVIRONMENT, event, load, settings_of
from tests.broker.test_service import CreateTopic, ReadAll, Running, start

__all__ = ["start"]

PATIENCE = 70.0
LEARNED = 'streammeta_events_total{fate="learned"}'
RATE = 25.0  # events a second and partition
ENDLESS = 1_000_000  # until all has been done
MOST_WRONG = 0.25  # of the last third: its classes are known from its features, without noise


def wait_until(what: str, is_true: Callable[[], bool], members: Sequence[Running]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        for member in members:
            assert member.process.poll() is None, f"a member ended:\n{member.log.read_text()[-3000:]}"
        figures = [(member.metric("streammeta_assigned_partitions"), member.metric(LEARNED)) for member in members]
        assert time.monotonic() < deadline, f"not in time: {what}; partitions and learned, by member: {figures}"
        time.sleep(0.2)


def all_work(members: Sequence[Running]) -> bool:
    """Each has partitions, and learned from some of them."""
    return all(one.metric("streammeta_assigned_partitions") >= 1 and one.metric(LEARNED) >= 1 for one in members)


def hold_against_what_was_sent(
    kafka: KafkaSettings, topic: str, partitions: int, count: int, read_all: ReadAll
) -> list[str]:
    """The truth: each event predicted once and in order, each label learned once; returns complaints."""
    found = [json.loads(record.value) for record in read_all(f"{topic}-predictions", partitions * count)]
    offsets: dict[int, list[int]] = defaultdict(list)
    for one in found:
        partition, offset = one["source"].split("/")[-2:]
        offsets[int(partition)].append(int(offset))
    complaints = [f"partition {p}: not each once, in order" for p in range(partitions) if offsets[p] != [*range(count)]]
    truth = {(p, n): json.loads(event(n, p)) for p in range(partitions) for n in range(count)}
    sent = Counter(one["task"] for one in truth.values())
    learned = {task.task: task.labelled for task in inspect_service(settings_of(kafka, topic, topic))}
    complaints += [f"task {t}: learned {learned.get(t)}, sent {n}" for t, n in sent.items() if learned.get(t) != n]
    late = [one for one in found if int(one["source"].rsplit("/", 1)[1]) >= count * 2 // 3]
    wrong = [str(one["prediction"]) != str(truth[_place(one["source"])]["y"]) for one in late]
    if sum(wrong) > MOST_WRONG * len(wrong):
        complaints.append(f"{sum(wrong)} of the last {len(wrong)} are wrong")
    return complaints


def sent_to_each(broker: RunningBroker, topic: str, partitions: int) -> int:
    """Events in each partition, of which all have equally many."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    with closing(consumer):
        ends = consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
    (count,) = set(ends.values())
    return int(count)


def committed(kafka: KafkaSettings, topic: str, partitions: int) -> set[int]:
    """Next offsets of the group, whatever partition has them."""
    with closing(Group(kafka, topic)) as group:
        offsets = group.offsets(topic, partitions)
    return {one.next for one in offsets.values()} if len(offsets) == partitions else set()


def _place(source: str) -> tuple[int, int]:
    partition, offset = source.split("/")[-2:]
    return int(partition), int(offset)


def test_one_member_becomes_eight_and_one_again_and_nothing_is_lost_or_doubled(
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
) -> None:
    """What a scaler does on every day that has a busy hour."""
    partitions = 8
    create_topic(topic, partitions)
    members = [start(topic, **ENVIRONMENT)]
    wait_until("the first one reads", lambda: members[0].metric("streammeta_assigned_partitions") == 8, members)
    with load(broker, topic, partitions, ENDLESS, RATE):
        wait_until("the first one learns", lambda: members[0].metric(LEARNED) > 50, members)
        members += [start(topic, **ENVIRONMENT) for _ in range(7)]
        wait_until("all eight work", lambda: all_work(members), members)
        for member in members[1:]:
            assert member.stop() == 0
        wait_until(
            "all is back", lambda: members[0].metric("streammeta_assigned_partitions") == partitions, members[:1]
        )
    count = sent_to_each(broker, topic, partitions)
    assert count > 200
    wait_until("nothing is left", lambda: committed(kafka, topic, partitions) == {count}, members[:1])
    assert members[0].stop() == 0

    assert hold_against_what_was_sent(kafka, topic, partitions, count, read_all) == []

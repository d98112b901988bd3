"""The Kafka source and sink against a real broker."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import confluent_kafka
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka import codec as kafka_codec
from pydantic import ValidationError

from streammeta.errors import TransactionError, TransportError
from streammeta.event import Record
from streammeta.transport.base import ChangelogReader, GroupSource, Message, Partition
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset
from streammeta.transport.kafka.topics import create_topics, ensure_topics
from tests.broker.running import CLIENTS, RunningBroker

CreateTopic = Callable[..., str]
ReadAll = Callable[[str, int], list[Any]]
WAIT_SECONDS = 30.0


@pytest.fixture(params=CLIENTS)
def kafka(request: pytest.FixtureRequest, kafka: KafkaSettings) -> KafkaSettings:
    """One after the other, by each client."""
    return kafka.model_copy(update={"client": request.param})


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes sources and sinks, also after a failure."""
    with ExitStack() as stack:
        yield stack


def fill(kafka: KafkaSettings, topic: str, values: int, *, begin: int = 0, keys: int = 7) -> None:
    with closing(adapters(kafka).sink(kafka, {"in": topic})) as sink:
        sink.send([Message("in", b"%d" % i, key=b"task-%d" % (i % keys)) for i in range(begin, begin + values)])
        sink.flush(WAIT_SECONDS)


def read(source: GroupSource, count: int, *, at_once: int = 100) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(records) < count and time.monotonic() < deadline:
        records += source.poll(min(at_once, count - len(records)), 0.2)
    assert len(records) == count, f"{len(records)} records came, wanted {count}"
    return records


def after(records: Collection[Record]) -> dict[Partition, int]:
    """The next offsets once these records are done."""
    return {(record.origin.topic, record.origin.partition): record.origin.offset + 1 for record in records}


def offsets(records: Collection[Record]) -> list[int]:
    return [record.origin.offset for record in records]


def test_a_record_arrives_whole(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, broker: RunningBroker, opened: ExitStack
) -> None:
    """Key, headers and time carry the task and the order of events; a tombstone has no value and is no error."""
    create_topic(topic)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(
        topic, b"\xff value", key=b"task", headers=[("h", b"1"), ("h", b"\x00")], timestamp_ms=1_732_147_200_250
    )
    producer.send(topic, None, key=b"gone", timestamp_ms=1_732_147_200_251)
    producer.flush(WAIT_SECONDS)
    producer.close()

    whole, tombstone = read(opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic))), 2)

    assert (whole.value, whole.key, whole.headers) == (b"\xff value", b"task", (("h", b"1"), ("h", b"\x00")))
    assert whole.timestamp == 1_732_147_200.25
    assert str(whole.origin) == f"{topic}/0/0"
    assert (tombstone.value, tombstone.key, tombstone.headers) == (None, b"gone", ())


def test_what_the_sink_sent_and_flushed_is_in_the_topic(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, read_all: ReadAll, opened: ExitStack
) -> None:
    """Offsets are committed after a flush: a result that is not there then is lost for good."""
    names = {channel: create_topic(f"{topic}-{channel}", 3) for channel in ("predictions", "signals")}
    sink = opened.enter_context(closing(adapters(kafka).sink(kafka, names)))
    sent = [Message("predictions", b"%d" % i, b"t%d" % (i % 5), (("n", b"%d" % i),)) for i in range(500)]

    sink.send([*sent, Message("signals", b"drift", key=None)])
    sink.flush(WAIT_SECONDS)

    came = read_all(names["predictions"], 500)
    assert read_all(names["signals"], 1)[0].value == b"drift"
    for key in (b"t0", b"t1", b"t2", b"t3", b"t4"):  # a task's results stay in order, in one partition
        wanted = [message for message in sent if message.key == key]
        mine = [record for record in came if record.key == key]
        assert [(r.value, tuple(r.headers)) for r in mine] == [(m.value, m.headers) for m in wanted]
        assert len({record.partition for record in mine}) == 1


def test_reading_goes_on_where_the_group_committed(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """A restart would otherwise learn everything again, or skip what came meanwhile."""
    create_topic(topic)
    fill(kafka, topic, 20)
    with closing(adapters(kafka).source(kafka, topic, topic)) as first:
        done = read(first, 10, at_once=4)
        first.commit(after(done))
        read(first, 5)  # not committed: must come again

    rest = read(opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic))), 10)

    assert offsets(done) == list(range(10))
    assert offsets(rest) == list(range(10, 20))


@pytest.mark.parametrize(("sought", "begins"), [(8, 8), (3, 5), (0, 5)])
def test_the_later_of_sought_and_committed_offset_wins(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack, sought: int, begins: int
) -> None:
    """A snapshot is written before its offsets are committed; after a kill in between, it is the newer one. And an old
    snapshot must not make a member repeat what the group has long done."""
    create_topic(topic)
    fill(kafka, topic, 10)
    with closing(adapters(kafka).source(kafka, topic, topic)) as first:
        first.commit(after(read(first, 5)))
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))

    source.seek({(topic, 0): sought})

    assert offsets(read(source, 10 - begins)) == list(range(begins, 10))


def test_an_assigned_partition_can_be_sought_back(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """What was prefetched must not come out after the seek."""
    create_topic(topic)
    fill(kafka, topic, 50)
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))
    read(source, 10)

    source.seek({(topic, 0): 4})

    assert source.assigned() == {(topic, 0): 4}
    assert offsets(read(source, 46)) == list(range(4, 50))


def test_lag_counts_down_to_nothing(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """Autoscaling and the lag alert hang on it."""
    create_topic(topic)
    fill(kafka, topic, 30)
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))

    read(source, 10)
    assert source.lag() == {(topic, 0): 20}
    read(source, 20)
    assert source.lag() == {(topic, 0): 0}


def test_aborted_records_stay_out_and_transaction_ends_are_no_lag(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, broker: RunningBroker, opened: ExitStack
) -> None:
    """Learning from a transaction that was rolled back is learning from what never happened."""
    create_topic(topic)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=topic, retry_backoff_ms=10)
    producer.init_transactions()
    for value in (b"kept", b"aborted", b"kept too"):
        producer.begin_transaction()
        producer.send(topic, value)
        if value == b"aborted":
            producer.flush(WAIT_SECONDS)
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.close()
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))

    records = read(source, 2)
    source.poll(1, 0.5)

    assert [record.value for record in records] == [b"kept", b"kept too"]
    assert source.lag() == {(topic, 0): 0}


def test_a_second_member_starts_exactly_where_the_first_committed_on_revocation(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """The heart of scaling out: nothing twice, nothing lost, nothing of a partition that was given away."""
    create_topic(topic, 4)
    fill(kafka, topic, 400, keys=40)
    done: list[Record] = []
    told: list[tuple[str, frozenset[Partition], int]] = []

    def revoked(partitions: Collection[Partition]) -> None:
        told.append(("revoked", frozenset(partitions), threading.get_ident()))
        first.commit({partition: offset for partition, offset in after(done).items() if partition in first.assigned()})

    def assigned(partitions: Collection[Partition]) -> None:
        told.append(("assigned", frozenset(partitions), threading.get_ident()))

    first = opened.enter_context(
        closing(adapters(kafka).source(kafka, topic, topic, on_revoked=revoked, on_assigned=assigned))
    )
    done += read(first, 100, at_once=10)  # and never commits by itself
    second = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))
    theirs: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(done) + len(theirs) < 400 and time.monotonic() < deadline:
        came = first.poll(3, 0.05)
        gone = {p for what, partitions, _ in told for p in partitions if what == "revoked"}
        assert not [r for r in came if (r.origin.topic, r.origin.partition) in gone]
        done += came
        theirs += second.poll(3, 0.05)

    assert [what for what, _, _ in told] == ["assigned", "revoked"]
    assert {thread for _, _, thread in told} == {threading.get_ident()}
    assert set(first.assigned()) | set(second.assigned()) == {(topic, number) for number in range(4)}
    assert len(second.assigned()) == 2
    everything = sorted(str(record.origin) for record in [*done, *theirs])
    assert len(everything) == 400, "some records were read twice, or never"
    assert len(set(everything)) == 400


@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_a_partition_that_comes_back_starts_where_it_was_committed_not_where_it_was_read(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack, rebalance: str
) -> None:
    """A member that could not commit what it read before the partitions were shared out has to read it again."""
    create_topic(topic, 2)
    fill(kafka, topic, 100, keys=40)
    settings = kafka.model_copy(update={"rebalance": rebalance})
    gone: set[Partition] = set()
    begun: dict[Partition, int] = {}

    def revoked(partitions: Collection[Partition]) -> None:
        gone.update(partitions)
        raise TransactionError("cannot be committed")

    def assigned(partitions: Collection[Partition]) -> None:
        begun.update((partition, first.assigned()[partition]) for partition in partitions)

    first = opened.enter_context(
        closing(adapters(kafka).source(settings, topic, topic, on_revoked=revoked, on_assigned=assigned))
    )
    read(first, 100)
    begun.clear()
    second = opened.enter_context(closing(adapters(kafka).source(settings, topic, topic)))
    theirs: list[Record] = []
    ours: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while not (gone and second.assigned() and len(first.assigned()) == 1) and time.monotonic() < deadline:
        theirs += second.poll(100, 0.05)
        with suppress(TransactionError):
            ours += first.poll(100, 0.05)
    (kept,) = first.assigned()
    if rebalance == "eager":  # everybody gives up everything, and what comes back is begun again
        assert begun == {kept: 0}
        assert (ours or read(first, 1))[0].origin.offset == 0
    else:  # what stays was never away
        assert not begun
        assert kept not in gone
    assert (theirs or read(second, 1))[0].origin.offset == 0


def test_nobody_commits_for_a_partition_that_went_to_another(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """A late commit of the former owner would set the new one back, or ahead."""
    create_topic(topic, 2)
    first = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))
    second = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))
    share_out(first, second)
    (foreign,) = second.assigned()

    with pytest.raises(TransportError, match="not ours"):
        first.commit({foreign: 1})


def share_out(first: GroupSource, second: GroupSource) -> None:
    """Two partitions: the first member has both, then the second comes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(first.assigned()) < 2 and time.monotonic() < deadline:
        first.poll(1, 0.05)
    while not second.assigned() and time.monotonic() < deadline:
        first.poll(1, 0.05)
        second.poll(1, 0.05)
    assert len(first.assigned()) == len(second.assigned()) == 1


def test_a_member_that_was_silent_too_long_is_told_and_comes_back(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """A long step must not end the service: it may not commit what others do now, but goes on as a new member."""
    create_topic(topic)
    fill(kafka, topic, 10)
    told: list[str] = []
    slow = kafka.model_copy(update={"max_poll_interval_seconds": 1.0})
    source = opened.enter_context(
        closing(
            adapters(kafka).source(
                slow,
                topic,
                topic,
                on_revoked=lambda _: told.append("revoked"),
                on_assigned=lambda _: told.append("assigned"),
            )
        )
    )
    done = read(source, 4)
    # kafka-python notices at a heartbeat, and leaves; librdkafka does not, before the session timeout
    time.sleep(4.5 if kafka.client == "kafka-python" else kafka.session_timeout_seconds + 2.5)

    with pytest.raises(TransportError, match="offsets not committed"):
        source.commit(after(done))
    again = read(source, 10)

    assert told == ["assigned", "revoked", "assigned"]
    assert offsets(again) == list(range(10))
    source.commit(after(again))


def test_a_static_member_keeps_its_partitions_over_a_restart(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """A rolling restart would otherwise move every partition twice, with its state."""
    create_topic(topic, 2)
    named = [kafka.model_copy(update={"group_instance_id": f"worker-{i}"}) for i in range(2)]
    told: list[str] = []
    first = adapters(kafka).source(named[0], topic, topic)
    second = opened.enter_context(
        closing(adapters(kafka).source(named[1], topic, topic, on_revoked=lambda _: told.append("revoked")))
    )
    share_out(first, second)
    before = dict(first.assigned())
    first.close()

    again = opened.enter_context(closing(adapters(kafka).source(named[0], topic, topic)))
    deadline = time.monotonic() + WAIT_SECONDS
    while not again.assigned() and time.monotonic() < deadline:
        again.poll(1, 0.05)
        second.poll(1, 0.05)

    assert again.assigned().keys() == before.keys()
    assert not told


def test_two_members_of_one_name_are_told_apart_with_a_reason(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """Copied settings: without the name in the message, `fenced` sends its reader to the wrong chapter."""
    create_topic(topic)
    named = kafka.model_copy(update={"group_instance_id": "worker-0"})
    first, second = (opened.enter_context(closing(adapters(named).source(named, topic, topic))) for _ in range(2))

    def poll_both() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            first.poll(1, 0.1)
            second.poll(1, 0.1)

    with pytest.raises(TransportError, match="another member runs under group_instance_id 'worker-0'"):
        poll_both()


def test_members_that_work_between_short_polls_settle(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """kafka-python forgets, or repeats without end, a join that finishes between two polls (see `Consumer`)."""
    create_topic(topic, 2)
    told: list[str] = []
    members = [
        opened.enter_context(
            closing(adapters(kafka).source(kafka, topic, topic, on_assigned=lambda _: told.append("assigned")))
        )
        for _ in range(2)
    ]
    deadline = time.monotonic() + WAIT_SECONDS
    settled_at = None
    while time.monotonic() < deadline and (settled_at is None or time.monotonic() < settled_at + 2):
        for member in members:
            member.poll(1, 0.002)
        time.sleep(0.02)  # the work
        if settled_at is None and all(len(member.assigned()) == 1 for member in members):
            settled_at = time.monotonic()
            told.clear()

    assert settled_at is not None
    assert not told, "partitions went on moving"


def test_on_assigned_may_seek_before_the_first_record(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """State is restored per partition as it comes; what was read before that would be learned on top of nothing."""
    create_topic(topic)
    fill(kafka, topic, 10)
    sources: list[GroupSource] = []
    sources.append(adapters(kafka).source(kafka, topic, topic, on_assigned=lambda _: sources[0].seek({(topic, 0): 6})))
    source = opened.enter_context(closing(sources[0]))

    assert offsets(read(source, 4)) == [6, 7, 8, 9]


def test_a_failure_inside_on_revoked_reaches_the_caller(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """A snapshot that could not be written must stop the service, not be logged by the client and forgotten."""
    create_topic(topic, 2)

    def revoked(_: Collection[Partition]) -> None:
        raise TransportError("disk full")

    first = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic, on_revoked=revoked)))
    second = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))

    with pytest.raises(TransportError, match="disk full"):
        share_out(first, second)


@pytest.mark.parametrize("on_lost", ["stop", "earliest", "latest"])
def test_records_that_are_deleted_before_a_running_member_read_them_are_not_passed_over_in_silence(
    kafka: KafkaSettings,
    topic: str,
    create_topic: CreateTopic,
    opened: ExitStack,
    capsys: pytest.CaptureFixture[str],
    on_lost: OnLostOffset,
) -> None:
    """A service that is behind by more than the topic keeps: a client goes on with what there is, and says nothing."""
    create_topic(topic)
    fill(kafka, topic, 50)
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic, on_lost_offset=on_lost)))
    read(source, 50)
    source.pause([(topic, 0)])
    until = time.monotonic() + 2
    while time.monotonic() < until:  # what is being fetched comes to its end
        assert not source.poll(10, 0.1)
    fill(kafka, topic, 100, begin=50)
    with closing(KafkaAdminClient(bootstrap_servers=kafka.servers)) as admin:
        admin.delete_records({TopicPartition(topic, 0): 120})
    source.resume([(topic, 0)])

    if on_lost == "stop":
        with pytest.raises(TransportError, match=r"read up to offset 50, but holds 120 to 150.*on_lost_offset"):
            read(source, 1)
        return
    if on_lost == "earliest":
        assert offsets(read(source, 30)) == list(range(120, 150))
    else:
        until = time.monotonic() + WAIT_SECONDS
        while source.assigned()[topic, 0] < 150 and time.monotonic() < until:
            assert not source.poll(10, 0.1)
        fill(kafka, topic, 1)
        assert offsets(read(source, 1)) == [150]
    assert "records were lost" in capsys.readouterr().out


def test_output_topics_get_as_many_partitions_as_the_input(kafka: KafkaSettings, topic: str) -> None:
    """A task's predictions stay in one partition, the same one as its events."""
    create_topics(kafka, {topic: 3, f"{topic}-there": 1})
    outputs = [f"{topic}-there", f"{topic}-new", f"{topic}-newer"]

    partitions = [ensure_topics(kafka, topic, outputs) for _ in range(2)]

    assert partitions == [3, 3]
    assert ensure_topics(kafka, f"{topic}-new", []) == 3
    assert ensure_topics(kafka, f"{topic}-there", []) == 1


def test_a_missing_input_topic_is_named_with_what_to_do(kafka: KafkaSettings, topic: str) -> None:
    """The most common mistake of a first start."""
    with pytest.raises(TransportError, match=f"topic '{topic}' does not exist on {kafka.bootstrap_servers}; create it"):
        ensure_topics(kafka, topic, ["out"])


def test_sending_to_a_missing_topic_says_so_in_time(kafka: KafkaSettings, topic: str, opened: ExitStack) -> None:
    """`simulate --to` a topic that is not there must not wait for ever."""
    quick = kafka.model_copy(update={"connect_timeout_seconds": 1.0})
    sink = opened.enter_context(closing(adapters(quick).sink(quick, {"in": topic})))

    with pytest.raises(TransportError, match=f"topic '{topic}'"):
        sink.send([Message("in", b"1")])
    with pytest.raises(TransportError, match="no topic for channel 'other'; wanted one of in"):
        sink.send([Message("other", b"1")])


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens, and nobody can while the test runs."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def kafka_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "kafka" in thread.name}


def test_an_unreachable_broker_is_one_clear_error_in_time(closed_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """The second most common mistake; the client's own answer is a page of reconnects, and a thread that never ends."""
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{closed_port}", connect_timeout_seconds=0.5)
    before = kafka_threads()

    for connect in (
        lambda: adapters(settings).source(settings, "t", "g"),
        lambda: adapters(settings).sink(settings, {"in": "t"}),
        lambda: ensure_topics(settings, "t", []),
    ):
        with pytest.raises(
            TransportError,
            match=rf"no broker answers on 127\.0\.0\.1:{closed_port} within 0\.5 s \(Connection refused\)",
        ):
            connect()

    assert not kafka_threads() - before
    assert not caplog.records


def test_a_broker_that_refuses_us_is_one_error_without_the_secret(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A password in a log outlives the log's readers."""
    secret = "hunter2-and-more"  # noqa: S105 (nobody's)
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="someone",
        sasl_password=secret,
        connect_timeout_seconds=1.0,
    )
    caplog.set_level(logging.DEBUG)
    before = kafka_threads()

    with pytest.raises(TransportError, match="does not let us in") as raised:
        adapters(settings).source(settings, "t", "g")

    assert not kafka_threads() - before
    assert secret not in f"{raised.value} {raised.value.__cause__!r} {settings!r} {settings} {caplog.text}"


def test_settings_that_are_refused_do_not_repeat_the_secret() -> None:
    """pydantic shows the input of what it refuses, and the input holds the password."""
    with pytest.raises(ValidationError) as raised:
        KafkaSettings.model_validate({"security_protocol": "SASL_SSL", "sasl_password": "hunter2", "no_such": 1})
    with pytest.raises(ValidationError) as incomplete:
        KafkaSettings.model_validate({"security_protocol": "SASL_SSL", "sasl_password": "hunter2"})

    assert "hunter2" not in f"{raised.value}{incomplete.value}"
    assert "sasl_username" in str(incomplete.value)


@pytest.mark.parametrize("servers", ["localhost", "localhost:", ":9092", "localhost:99999", "a:1,,b:2", ""])
def test_an_address_without_host_and_port_is_refused(servers: str) -> None:
    """The client would quietly take another port."""
    with pytest.raises(ValidationError, match="wanted host:port"):
        KafkaSettings(bootstrap_servers=servers)


def test_a_message_that_the_topic_refuses_fails_this_flush_and_all_later_ones(
    kafka: KafkaSettings, topic: str, opened: ExitStack
) -> None:
    """It is lost: committing offsets behind it would make the loss final."""
    create_topics(kafka.model_copy(update={"max_message_bytes": 2048}), {topic: 1})
    sink = adapters(kafka).sink(kafka, {"in": topic})
    sink.send([Message("in", b"x" * 10_000), Message("in", b"good")])

    for _ in range(2):
        with pytest.raises(TransportError, match=rf"\d messages refused, the first by topic '{topic}'"):
            sink.flush(WAIT_SECONDS)

    with pytest.raises(TransportError, match="refused"):
        sink.close()
    sink.close()


def test_a_message_longer_than_the_sink_sends_is_refused_at_once(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """The message names the cause; the broker would only close the connection."""
    sink = opened.enter_context(closing(adapters(kafka).sink(kafka, {"in": create_topic(topic)})))

    with pytest.raises(TransportError, match="does not take a message"):
        sink.send([Message("in", b"x" * (kafka.max_message_bytes + 1))])


def test_a_dead_letter_of_a_mebibyte_fits(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, read_all: ReadAll, opened: ExitStack
) -> None:
    """A dead letter is its record and some headers: the longest record a broker takes must not stop the service."""
    sink = opened.enter_context(closing(adapters(kafka).sink(kafka, {"dead-letters": create_topic(topic)})))

    sink.send([Message("dead-letters", b"x" * 2**20, headers=(("reason", b"y" * 500),))])
    sink.flush(WAIT_SECONDS)

    assert len(read_all(topic, 1)[0].value) == 2**20


def test_a_broker_that_stands_still_fails_the_flush_in_time_and_loses_nothing(
    kafka: KafkaSettings,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    broker: RunningBroker,
    opened: ExitStack,
) -> None:
    """A flush that waits for ever cannot be stopped, one that returns early lies."""
    if broker.process is None or broker.process.pid is None:
        pytest.skip("this broker is not ours to pause")
    sink = opened.enter_context(closing(adapters(kafka).sink(kafka, {"in": create_topic(topic)})))
    sink.send([Message("in", b"before")])
    sink.flush(WAIT_SECONDS)
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        time.sleep(0.2)  # until all its threads stand still
        sink.send([Message("in", b"meanwhile")])

        with pytest.raises(TransportError, match=r"not acknowledged within 0\.3 s"):
            sink.flush(0.3)
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)

    sink.flush(WAIT_SECONDS)
    assert [record.value for record in read_all(topic, 2)] == [b"before", b"meanwhile"]


@pytest.mark.parametrize(("codec", "package"), [("snappy", "python-snappy"), ("lz4", "lz4"), ("zstd", "zstandard")])
def test_records_of_any_compression_are_read_or_it_is_said_what_to_install(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack, codec: str, package: str
) -> None:
    """A topic of somebody else's producer: "cannot be read" alone would have one look at broker and network first."""
    create_topic(topic)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers, "compression.type": codec})
    for _ in range(10):
        producer.produce(topic, b"x" * 500)
    producer.flush(WAIT_SECONDS)
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic)))
    tables = opened.enter_context(closing(adapters(kafka).tables(kafka, {"state": topic})))
    tables.begin("state", 0)

    if kafka.client == "confluent" or getattr(kafka_codec, f"has_{codec}")():
        assert len(read(source, 10)) == 10
        return
    with pytest.raises(TransportError, match=rf"compressed with {codec}.*pip install {package},"):
        read(source, 10)
    with pytest.raises(TransportError, match=rf"compressed with {codec}.*pip install {package},") as caught:
        _poll_all(tables)
    assert not isinstance(caught.value, TransactionError)  # asking again would not help


def _poll_all(tables: ChangelogReader) -> None:
    for _ in range(100):
        tables.poll(0.1)

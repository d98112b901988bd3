"""The broker that `make broker` and these tests start themselves."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka import KafkaConsumer, TopicPartition

from deploy.broker import Broker, BrokerError, _welcome
from streammeta.transport.base import Message
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import RunningBroker


@pytest.fixture(autouse=True)
def _ours(broker: RunningBroker) -> None:
    if broker.process is None:
        pytest.skip("another broker was given: the jars of our own may not be there")


@pytest.fixture
def own() -> Iterator[Broker]:
    """A second broker, to be killed at will."""
    with Broker() as started:
        yield started


def test_a_killed_broker_comes_back_where_it_was_with_what_it_had(own: Broker) -> None:
    """Tests of faults kill it; if it came back empty, they would prove nothing."""
    address, settings = own.bootstrap, KafkaSettings(bootstrap_servers=own.bootstrap)
    create_topics(settings, {"kept": 1})
    with closing(KafkaSink(settings, {"in": "kept"})) as sink:
        sink.send([Message("in", b"still here")])
        sink.flush(30)
    before = own.pid

    own.kill()
    assert own.pid is None
    own.restart()

    assert own.bootstrap == address
    assert own.pid not in (None, before)
    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    with closing(consumer):
        consumer.assign([TopicPartition("kept", 0)])
        assert next(consumer).value == b"still here"


def test_a_port_in_use_is_named(broker: RunningBroker) -> None:
    """`make broker` twice: the second must say why it does not start."""
    port = int(broker.bootstrap.rpartition(":")[2])

    with pytest.raises(BrokerError, match=rf"port {port} on 127\.0\.0\.1 cannot be had"):
        Broker(port=port).start()


def test_a_broker_that_does_not_come_up_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """Without it there is only a timeout to go by."""
    broken = Broker(data=tmp_path, settings={"log.retention.ms": "soon"}, start_seconds=30)

    with pytest.raises(BrokerError, match="soon"):
        broken.start()

    assert broken.pid is None
    broken.close()


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """The process is gone in the end, also where the test fails."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_what_to_do_next_and_ends_cleanly(number: signal.Signals) -> None:
    """What a newcomer tries first must not leave a Java process and its data behind."""
    command = [sys.executable, "-m", "deploy.broker", "--port", "0", "--topic", "tried", "--partitions", "3"]
    root = Path(__file__).parents[2]
    as_typed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    with (
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, preexec_fn=as_typed) as process,  # noqa: PLW1509
        ended(process),
    ):
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        address = lines[0].split("listens on ")[1].split(". ")[0]
        data = Path(lines[0].split("Data: ")[1].split(",")[0])
        consumer = KafkaConsumer(bootstrap_servers=address)
        with closing(consumer):
            assert consumer.partitions_for_topic("tried") == {0, 1, 2}

        os.kill(process.pid, number)
        status = process.wait(30)

    assert status == 0
    assert not data.exists()
    assert f"--to kafka://{address}/tried" in "".join(lines)


def test_what_it_advises_reads_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    """With another port or topic, a service that was started as advised would wait for another broker."""
    broker = SimpleNamespace(bootstrap="127.0.0.1:9192", data="/data")

    _welcome(broker, argparse.Namespace(topic="orders", data=None))  # type: ignore[arg-type]
    other = capsys.readouterr().out
    broker.bootstrap = "127.0.0.1:9092"
    _welcome(broker, argparse.Namespace(topic="events", data=None))  # type: ignore[arg-type]

    names = "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS=localhost:9192 STREAMMETA_INPUT__TOPIC=orders "
    assert f"  {names}.venv/bin/streammeta run\n" in other
    assert "  .venv/bin/streammeta run\n" in capsys.readouterr().out

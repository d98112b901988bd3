"""A broker that asks for the client's certificate, and has no other way in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.broker import Broker
from streammeta.errors import TransportError
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import CLIENTS
from tests.broker.test_security import Secured, free_ports, transact
from tests.certificates import authority, signed

pytestmark = pytest.mark.usefixtures("broker")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("mutual")
    root, stranger = authority(directory), authority(directory, "stranger")
    server, client = signed(directory, "server", root), signed(directory, "meta", root)
    store = directory / "store.pem"
    store.write_text(server.key.read_text() + server.certificate.read_text())
    plain, closed, controller = free_ports(3)
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{closed},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{closed}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURED:SSL,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.name.secured.ssl.client.auth": "required",
        "listener.name.secured.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(root.certificate),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with Broker(port=plain, settings=settings) as broker:
        yield Secured(
            KafkaSettings(bootstrap_servers=broker.bootstrap),
            KafkaSettings(
                bootstrap_servers=f"127.0.0.1:{closed}",
                security_protocol="SSL",
                ssl_cafile=str(root.certificate),
                ssl_certfile=str(client.certificate),
                ssl_keyfile=str(client.key),
            ),
            stranger.certificate,
        )


@pytest.fixture(params=CLIENTS)
def closed(request: pytest.FixtureRequest, secured: Secured) -> KafkaSettings:
    return secured.closed.model_copy(update={"client": request.param})


def test_the_certificates_name_is_the_user_for_every_connection_of_a_transaction(
    secured: Secured, closed: KafkaSettings, topic: str
) -> None:
    """With ACLs for this user alone: a connection that showed no certificate would be refused."""
    transact(secured, closed, topic)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ssl_certfile": None, "ssl_keyfile": None}, "ssl_certfile"),
        ({"ssl_cafile": "stranger"}, "its certificate is not trusted"),
    ],
)
def test_who_shows_no_certificate_or_trusts_another_is_told_so(
    secured: Secured, closed: KafkaSettings, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """A handshake that fails is "no broker available" in the words of a client."""
    if "ssl_cafile" in changes:
        changes = {"ssl_cafile": str(secured.wrong_authority)}
    settings = KafkaSettings.model_validate(closed.model_dump() | {"connect_timeout_seconds": 3.0} | changes)

    with pytest.raises(TransportError) as caught:
        adapters(settings).tables(settings, {"state": "state"})

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)

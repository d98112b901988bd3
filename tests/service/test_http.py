import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from streammeta.errors import ConfigError, TransportError
from streammeta.service.http import Health, HttpServer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock, stall_seconds=60)


@pytest.fixture
def server(health: Health) -> Iterator[HttpServer]:
    registry = CollectorRegistry()
    Counter("streammeta_things_total", "Things.", registry=registry).inc(3)
    with HttpServer("127.0.0.1", 0, registry, health) as serving:
        yield serving


def get(server: HttpServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    request = urllib.request.Request(server.url + path, method=method)  # noqa: S310 the address is our own
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as err:
        with err:
            return err.code, err.headers["Content-Type"], err.read().decode()


def test_metrics_page_is_what_prometheus_parses(server: HttpServer) -> None:
    """A page that Prometheus cannot read is no page: the service would be blind."""
    status, content_type, body = get(server, "/metrics?name[]=x")

    families = {family.name: family.samples[0].value for family in text_string_to_metric_families(body)}
    assert (status, families["streammeta_things"]) == (200, 3.0)
    assert content_type.startswith("text/plain")


def test_alive_until_the_loop_stands_still(server: HttpServer, health: Health, clock: Clock) -> None:
    """An orchestrator restarts what hangs, and only that."""
    assert get(server, "/livez")[0] == 200

    clock.now = 61.0
    status, content_type, body = get(server, "/livez")
    health.turned()
    after = get(server, "/livez")[0]

    assert (status, content_type, after) == (503, "application/json", 200)
    assert json.loads(body) == {
        "status": "failing",
        "reason": "the loop has not turned for 61 s, wanted at most 60 s",
    }


def test_ready_only_while_restored_and_reading(server: HttpServer, health: Health) -> None:
    """Ready too early, and a rollout takes the old workers away before the new ones read."""
    reasons = [get(server, "/readyz")]
    health.restored()
    reasons.append(get(server, "/readyz"))
    health.reading(3)
    reasons.append(get(server, "/readyz"))
    health.stopping()
    reasons.append(get(server, "/readyz"))

    assert [status for status, _, _ in reasons] == [503, 503, 200, 503]
    told = [json.loads(body)["reason"] for _, _, body in reasons]
    assert told[0] == "restoring the saved state"
    assert told[1].startswith("no partition is assigned")
    assert told[2] == "state restored, reading 3 partition(s)"
    assert told[3].startswith("stopping")


def test_index_names_the_pages_and_other_pages_are_not_there(server: HttpServer) -> None:
    """Someone who opens the port in a browser finds the rest from there."""
    assert "/metrics" in get(server, "/")[2]

    status, _, body = get(server, "/etc/passwd")

    assert status == 404
    assert json.loads(body)["pages"] == ["/", "/metrics", "/livez", "/readyz"]


def test_head_answers_without_a_body(server: HttpServer) -> None:
    """Load balancers probe with HEAD."""
    status, _, body = get(server, "/livez", method="HEAD")

    assert (status, body) == (200, "")


def test_a_port_in_use_is_told_with_what_to_do(health: Health) -> None:
    """The commonest start-up failure of all gets one clear line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(TransportError, match=rf"127\.0\.0\.1:{port} is in use .* \[http\] port"):
            HttpServer("127.0.0.1", port, CollectorRegistry(), health)


def test_an_address_of_another_machine_is_a_configuration_error(health: Health) -> None:
    """Exit status 2 says: fix the settings; no restart will help."""
    with pytest.raises(ConfigError, match=r"\[http\] host is '192\.0\.2\.1'"):
        HttpServer("192.0.2.1", 0, CollectorRegistry(), health)


def test_closed_twice_frees_the_port_for_the_next(health: Health) -> None:
    """A restart in the same process, or a test, can listen where the last one did."""
    first = HttpServer("127.0.0.1", 0, CollectorRegistry(), health)
    port = first.port
    first.close()
    first.close()

    with HttpServer("127.0.0.1", port, CollectorRegistry(), health) as second:
        assert get(second, "/livez")[0] == 200


def test_a_client_that_hangs_up_does_not_disturb_the_next(server: HttpServer) -> None:
    """Scrapers time out and go; the server stays."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as rude:
        rude.sendall(b"GET /metrics HT")

    assert get(server, "/livez")[0] == 200


def test_silent_clients_take_no_more_than_a_bounded_number_of_threads_and_probes_are_answered(
    server: HttpServer,
) -> None:
    """Whoever opens connections and says nothing must neither exhaust the process nor have it restarted."""
    before = threading.active_count()
    with ExitStack() as opened:
        for _ in range(200):
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        most = threading.active_count()
        for _ in range(5):
            assert get(server, "/livez")[0] == 200
            most = max(most, threading.active_count())

    assert most - before <= 16
    assert get(server, "/metrics")[0] == 200


def test_alive_and_not_ready_while_parts_are_prepared(server: HttpServer, health: Health, clock: Clock) -> None:
    """A broker may be just coming back: an orchestrator that restarts the service meanwhile makes it worse."""
    health.preparing("compiled parts")
    clock.now = 200.0
    preparing = [get(server, page) for page in ("/livez", "/readyz")]
    clock.now = 2_000.0
    hanging = get(server, "/livez")[0]
    health.turned()
    clock.now += 61.0

    assert [(status, json.loads(body)["reason"]) for status, _, body in preparing] == [
        (200, "preparing: compiled parts"),
        (503, "preparing: compiled parts"),
    ]
    assert hanging == 503
    assert get(server, "/livez")[0] == 503  # from the first turn on the loop's own limit holds


def test_every_loop_must_turn_and_what_it_is_for_must_work(server: HttpServer, health: Health, clock: Clock) -> None:
    """The loop that sends records on can stand still, or fail again and again, beside one that turns."""
    health.restored()
    health.reading(1)
    health.turned("repartition")
    ready = get(server, "/readyz")[0]
    health.failing("repartition: no partition 4", "repartition")
    failing = get(server, "/readyz")
    health.working("repartition")
    works_again = get(server, "/readyz")[0]
    clock.now = 61.0
    health.turned()
    stands = get(server, "/livez")
    health.ended("repartition")

    assert (ready, failing[0], works_again) == (200, 503, 200)
    assert json.loads(failing[2])["reason"] == "repartition: no partition 4"
    assert stands[0] == 503
    assert "the repartition loop has not turned for 61 s" in json.loads(stands[2])["reason"]
    assert get(server, "/livez")[0] == 200

"""The parts of the compose file as processes of this machine, where no container engine is: a real Kafka, the simulated
stream, the service, and Prometheus, which scrapes it and answers the queries of the dashboards.
"""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.check.conftest import ROOT
from deploy.check.test_dashboards import FILES, queries

COMPOSE = ROOT / "deploy/compose.yaml"
PROMETHEUS = ROOT / "deploy/compose/prometheus.yml"
RULES = ROOT / "deploy/prometheus/streammeta.rules.yaml"
_BIN = ROOT / ".venv/bin"
_SECONDS = 120.0  # for one step, on a slow machine; each takes a few


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def started(
    log: Path, *command: object, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the repository's root, ended by SIGTERM; what it says is in ``log``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMMETA_")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(one) for one in command], cwd=ROOT, env=clean | (environment or {}), stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(what: str, found: Callable[[], Any], log: Path) -> Any:
    """What ``found`` returns, when it is something."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        try:
            if answer := found():
                return answer
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come within {_SECONDS:g} s; {log.name}: {log.read_text()[-2000:]}")


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 of this machine
        return json.load(answer)


def scraping(address: str) -> str:
    """Prometheus' configuration, with a place of this machine for the names that the engine resolves."""
    settings = yaml.safe_load(PROMETHEUS.read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(RULES)]
    (job,) = settings["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [address]}]
    return yaml.safe_dump(settings)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, tool) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """Where Prometheus is, the member, and the folder of the logs."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    folder = tmp_path_factory.mktemp("parts")
    assert tool("prometheus", "--version").returncode == 0
    with ExitStack() as running:
        log = folder / "kafka.log"
        running.enter_context(started(log, _BIN / "python", "-m", "deploy.broker", "--port", "0", "--topic", "other"))
        kafka = wait_for("the broker", lambda: re.search(r"listens on (localhost:\d+)", log.read_text()), log)[1]

        command = [one.replace("kafka:9092", kafka) for one in services["producer"]["command"]]
        running.enter_context(started(folder / "producer.log", _BIN / "streammeta", *command))
        wait_for("the topic", lambda: _has_topic(kafka), folder / "producer.log")

        http, at = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        given = services["streammeta"]["environment"]
        environment = {name: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for name, value in given.items()}
        environment |= {"STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": kafka}
        environment |= dict(zip(("STREAMMETA_HTTP__HOST", "STREAMMETA_HTTP__PORT"), http.split(":"), strict=True))
        member = running.enter_context(
            started(
                folder / "member.log",
                _BIN / "streammeta",
                *services["streammeta"]["command"],
                environment=environment,
            )
        )
        wait_for("readiness", lambda: get(f"http://{http}/readyz")["status"] == "ok", folder / "member.log")

        (folder / "prometheus.yml").write_text(scraping(http))
        options = f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"
        log = folder / "prometheus.log"
        running.enter_context(
            started(log, ROOT / ".tools/deploy/bin/prometheus", *options, f"--web.listen-address={at}")
        )
        learned = 'sum(streammeta_events_total{fate="learned"}) > 500'
        wait_for("what was learned", lambda: values(at, learned), log)
        wait_for("recorded series", lambda: values(at, "streammeta:busy_ratio"), log)
        yield at, member, folder


def _has_topic(kafka: str) -> bool:
    code = (
        "import sys; from kafka import KafkaAdminClient as A; a = A(bootstrap_servers=sys.argv[1]); "
        "found = 'events' in a.list_topics(); a.close(); sys.exit(not found)"
    )
    return subprocess.run([_BIN / "python", "-c", code, kafka], timeout=60, check=False).returncode == 0


def values(at: str, query: str) -> list[Any]:
    answer = get(f"http://{at}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def test_prometheus_finds_the_service_and_all_its_rules_can_be_evaluated(parts) -> None:
    at, _, _ = parts

    targets = get(f"http://{at}/api/v1/targets")["data"]["activeTargets"]
    groups = get(f"http://{at}/api/v1/rules")["data"]["groups"]

    assert [(one["health"], one["labels"]["job"]) for one in targets] == [("up", "streammeta")]
    broken = [(rule["name"], rule["lastError"]) for group in groups for rule in group["rules"] if rule.get("lastError")]
    assert sum(len(group["rules"]) for group in groups) > 20
    assert broken == []


@pytest.mark.parametrize("board", FILES, ids=lambda board: board.stem)
def test_prometheus_answers_every_query_of_a_dashboard_and_most_have_a_line(board: Path, parts) -> None:
    """A query that parses may still ask for labels that no series has: then its panel stays empty for ever."""
    at, _, _ = parts

    found = {one: bool(values(at, one)) for one in queries(board.read_text())}

    assert len(found) > 10
    empty = [one for one, has_line in found.items() if not has_line]
    assert len(empty) < len(found) / 3, empty


def test_the_member_ends_in_order_when_it_is_stopped(parts) -> None:
    _, member, folder = parts

    member.send_signal(signal.SIGTERM)

    assert member.wait(30) == 0, (folder / "member.log").read_text()[-2000:]

"""What the doctor says of a cluster: each rule on facts made by hand."""

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streammeta import cli
from streammeta.app import doctor
from streammeta.app.doctor import Finding, examine, judge
from streammeta.app.serve import serve
from streammeta.config import Settings
from streammeta.errors import ConfigError, TransportError
from streammeta.transport.kafka.cluster import Cluster, Topic
from tests.formats.registry_server import RegistryServer, registry_server

SAFE = {
    "min.insync.replicas": "2",
    "max.message.bytes": "8388608",
    "retention.ms": "604800000",
    "cleanup.policy": "delete",
}
TABLE = {**SAFE, "cleanup.policy": "compact"}
RING = {**SAFE, "cleanup.policy": "compact,delete"}
LIMITS = {
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "60000",
    "offsets.retention.minutes": "10080",
}


def healthy() -> Cluster:
    names = ("predictions", "signals", "dead-letters")
    topics = {"events": Topic(4, 3, configs=SAFE)} | {f"app-{name}": Topic(4, 3, configs=SAFE) for name in names}
    tables = {"app-state": Topic(4, 3, configs=TABLE), "app-weights": Topic(1, 3, configs=TABLE)}
    tables["app-episodes"] = Topic(4, 3, configs=RING)
    return Cluster(3, LIMITS, topics | tables)


def settings(**kafka: object) -> Settings:
    return Settings(app={"name": "app"}, kafka=kafka)


def bad(cluster: Cluster, chosen: Settings | None = None) -> list[Finding]:
    return [one for one in judge(chosen or settings(), cluster) if one.level != "ok"]


def with_topic(name: str, **changes: object) -> Cluster:
    cluster = healthy()
    topic = cluster.topics[name]
    if "configs" in changes:
        changes["configs"] = {**topic.configs, **changes["configs"]}  # type: ignore[dict-item]
    return replace(cluster, topics={**cluster.topics, name: replace(topic, **changes)})


def test_a_healthy_cluster_has_nothing_to_complain_of() -> None:
    """Warnings about nothing teach people not to read them."""
    assert bad(healthy()) == []


@pytest.mark.parametrize(
    ("cluster", "level", "what", "found", "advice"),
    [
        (with_topic("events", replicas=1), "warning", "topic events", "one replica", "3 replicas"),
        (with_topic("events", configs={"min.insync.replicas": "1"}), "warning", "topic events", "is 1", "to 2"),
        (with_topic("events", configs={"min.insync.replicas": "3"}), "warning", "topic events", "3 of 3", "one replica more"),
        (with_topic("events", offline=2), "failure", "topic events", "2 partition", "bring the brokers back"),
        (with_topic("events", configs={"retention.ms": "3600000"}), "warning", "topic events", "1.0 hours", "retention.ms"),
        (with_topic("app-state", partitions=6), "failure", "topic app-state", "6 partition(s), wanted 4", r"\[app\] name"),
        (with_topic("app-weights", partitions=4), "failure", "topic app-weights", "4 partition(s), wanted 1", "name"),
        (with_topic("app-state", configs={"cleanup.policy": "delete"}), "failure", "topic app-state", "'delete'", "compact"),
        (with_topic("app-episodes", configs={"cleanup.policy": "delete"}), "warning", "topic app-episodes", "'delete'", "compact,delete"),
        (with_topic("app-signals", configs={"cleanup.policy": "compact"}), "warning", "topic app-signals", "'compact'", "delete"),
        (with_topic("app-state", configs={"max.message.bytes": "1000"}), "failure", "topic app-state", "is 1000", "raise"),
        (with_topic("events", rights=frozenset({"DESCRIBE"})), "failure", "topic events", "lacks READ", "ACL"),
        (with_topic("app-state", rights=frozenset({"READ"})), "failure", "topic app-state", "lacks WRITE", "ACL"),
        (replace(healthy(), configs={**LIMITS, "offsets.retention.minutes": "60"}), "warning", "offsets.retention", "60", "raise"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once_with_what_to_do(
    cluster: Cluster, level: str, what: str, found: str, advice: str
) -> None:
    """One cause, one finding: a list of ten for one mistake is not read."""
    (one,) = bad(cluster)

    assert one.level == level
    assert what in one.what
    assert found in one.found
    assert re.search(advice, one.advice)


def test_a_missing_input_topic_is_a_failure_and_missing_outputs_are_made_by_the_service() -> None:
    """A service does not start without the first; it makes the others, where it may."""
    empty = Cluster(3, LIMITS, {})

    (one,) = bad(empty)
    (right,) = [found for found in bad(replace(empty, rights=frozenset({"DESCRIBE"}))) if found.level == "warning"]

    assert (one.level, one.found) == ("failure", "it does not exist")
    assert "app-state" in right.advice
    assert "begin with app-" in right.advice


@pytest.mark.parametrize(("seconds", "level"), [(5.0, "failure"), (6.0, None), (60.0, None), (61.0, "failure")])
def test_a_session_timeout_that_the_broker_refuses_is_found(seconds: float, level: str | None) -> None:
    """Else the service starts, joins, and is refused."""
    found = bad(healthy(), settings(session_timeout_seconds=seconds))

    assert [one.level for one in found] == ([level] if level else [])


def test_an_input_with_one_partition_is_warned_of() -> None:
    """All the work is one member's, and it cannot be changed later."""
    topics = {name: replace(topic, partitions=1) for name, topic in healthy().topics.items()}

    (one,) = bad(replace(healthy(), topics=topics))

    assert (one.what, one.found) == ("topic events", "one partition")


def test_a_static_member_with_a_short_session_is_warned() -> None:
    """Its restart would move its partitions after all."""
    (one,) = bad(healthy(), settings(group_instance_id="a", session_timeout_seconds=10))

    assert "45" in one.advice


def test_a_broker_that_does_not_answer_is_a_finding_and_the_machine_is_looked_at_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All mistakes at once, not one a day."""

    def nobody(*_: object, **__: object) -> Cluster:
        raise TransportError("kafka: no broker answers")

    monkeypatch.setattr(doctor, "look", nobody)
    chosen = Settings(memory={"spill_directory": str(tmp_path / "nowhere")})

    found = examine(chosen)

    assert [(one.level, one.what) for one in found] == [
        ("failure", "broker"),
        ("ok", "settings"),
        ("warning", "[memory] spill_directory"),
    ]


def test_a_broker_too_old_for_exactly_once_is_a_failure_and_its_version_is_said() -> None:
    """It would be the first commit that says it, in the words of a protocol."""
    assert bad(replace(healthy(), version=(2, 5))) == []
    (old,) = bad(replace(healthy(), version=(2, 4)))

    assert (old.level, old.what) == ("failure", "broker")
    assert "version 2.4" in old.found
    assert "2.5" in old.advice


@pytest.mark.parametrize(("newest", "said"), [(None, 0), (1e9 - 5, 0), (1e9 + 30, 0), (1e9 + 3600, 1)])
def test_records_of_the_future_are_a_clock_that_is_wrong(newest: float | None, said: int) -> None:
    """Retention goes by these times, and labels in a topic of their own wait by them."""
    found = judge(settings(), with_topic("events", newest=newest), now=1e9)

    assert sum(one.level == "warning" and "3600 s from now" in one.found for one in found) == said
    assert sum(one.level != "ok" for one in found) == said


def test_each_registry_is_asked_once_and_what_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that cannot ask for schemas learns nothing; the doctor is who is asked first."""

    def nobody(*_: object, **__: object) -> Cluster:
        raise TransportError("kafka: no broker answers")

    monkeypatch.setattr(doctor, "look", nobody)
    with registry_server(RegistryServer()) as known:
        there = {"url": known.url, "timeout_seconds": 0.2}
        wrong = {"url": f"{known.url}/api", "timeout_seconds": 0.2}
        found = {
            one.what: (one.level, one.found)
            for one in examine(
                Settings(
                    input={"format": "json-schema", "registry": there},
                    labels={"registry": there},
                    output={"registry": wrong},
                )
            )
        }
    away = examine(Settings(input={"format": "json-schema", "registry": there}))

    assert found["[input.registry] url"] == ("ok", f"{known.url} answers")
    assert "[labels.registry] url" not in found
    assert found["[output.registry] url"][0] == "failure"
    assert "404" in found["[output.registry] url"][1]
    (gone,) = [one.found for one in away if one.what == "[input.registry] url"]
    assert "is it running there?" in gone


UPDATES = {"share": "updates", "trainer": "separate"}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"meta": {"share": "updates"}}, "start `streammeta train`"),
        ({"meta": UPDATES, "app": {"kind": "decision"}}, 'wanted "episodes"'),
        ({"kafka": {"group_instance_id": "trainer"}}, "is the name of the trainer"),
    ],
)
def test_what_run_refuses_is_a_failure_here_too(
    sections: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said ok, and the service ended at its start."""
    monkeypatch.setattr(doctor, "look", lambda *_, **__: healthy())

    (one,) = [one for one in examine(Settings.model_validate(sections)) if one.what == "settings"]

    assert (one.level, said in one.found) == ("failure", True)
    with pytest.raises(ConfigError, match=re.escape(said)):
        serve(Settings.model_validate(sections), threading.Event())


@pytest.mark.parametrize(
    ("privacy", "level", "said"), [({}, "ok", "15 changes"), ({"epsilon": 0.01}, "failure", "none")]
)
def test_how_long_a_budget_lasts_is_said(
    privacy: dict[str, float], level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "look", lambda *_, **__: healthy())
    settings = Settings.model_validate({"meta": UPDATES | {"privacy": privacy}})

    (one,) = [one for one in examine(settings) if one.what == "[meta.privacy] epsilon"]

    assert (one.level, said in one.found) == (level, True)


def test_the_commands_status_says_whether_something_must_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a pipeline that deploys: 1 on a failure, 0 with warnings alone."""
    findings = [Finding("ok", "a", "b"), Finding("warning", "c", "d", "e")]
    monkeypatch.setattr(doctor, "examine", lambda _settings: findings)

    warned = CliRunner().invoke(cli.app, ["doctor"])
    findings.append(Finding("failure", "f", "g", "h"))
    failed = CliRunner().invoke(cli.app, ["doctor", "--json"])

    assert (warned.exit_code, failed.exit_code) == (0, 1)
    assert "warning  c: d; e\n" in warned.output
    assert '"level": "failure"' in failed.output


def joining(**topics: Topic) -> tuple[Settings, Cluster]:
    """A service whose labels name an id only, and a cluster that has all its topics; those given replace some."""
    between = {"returns": Topic(2, 3, configs=SAFE)} | {
        f"app-{name}": Topic(4, 3, configs=SAFE) for name in ("repartition", "ids")
    }
    chosen = Settings(app={"name": "app"}, input={"repartition": True}, labels={"topic": "returns", "join": "id"})
    found = healthy()
    return chosen, replace(found, topics={**found.topics, **between, **{f"app-{k}": v for k, v in topics.items()}})


def test_topics_and_groups_on_the_way_of_a_record_are_looked_at_where_it_goes_there() -> None:
    """Else the first label shows the right that is missing."""
    chosen, cluster = joining()

    assert bad(cluster, chosen) == []
    assert doctor._topics(chosen)[-2:] == ["app-repartition", "app-ids"]
    assert doctor._groups(chosen) == ["app", "app-repartition", "app-repartition/labels", "app-repartition/ids"]
    assert (doctor._groups(settings()), doctor._between(settings())) == (["app"], [])


@pytest.mark.parametrize(
    ("topic", "level", "found", "advice"),
    [
        (Topic(4, 3, configs=TABLE), "failure", "'compact'", "before they are read; set cleanup.policy to delete"),
        (Topic(4, 3, configs={**SAFE, "retention.ms": "3600000"}), "warning", "1.0 hours", "labels that come later"),
        (Topic(4, 3, configs=SAFE, rights=frozenset({"WRITE"})), "failure", "lacks READ", "ACL"),
    ],
)
def test_ids_that_would_go_too_soon_are_said(topic: Topic, level: str, found: str, advice: str) -> None:
    """A label whose event is gone from NAME-ids is learned by nobody after a takeover."""
    chosen, cluster = joining(ids=topic)

    (one,) = bad(cluster, chosen)

    assert (one.level, one.what) == (level, "topic app-ids")
    assert found in one.found
    assert advice in one.advice


def test_a_topic_of_labels_that_is_not_there_is_a_failure() -> None:
    """As without events: the service does not start."""
    chosen, cluster = joining()

    (one,) = bad(replace(cluster, topics={k: v for k, v in cluster.topics.items() if k != "returns"}), chosen)

    assert (one.level, one.what, one.found) == ("failure", "topic returns", "it does not exist")

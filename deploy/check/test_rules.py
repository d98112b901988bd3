"""The alerts and recording rules, by promtool."""

import shutil
from pathlib import Path

import pytest
import yaml

from deploy.check.conftest import ROOT

FOLDER = ROOT / "deploy/prometheus"


def test_promtool_takes_the_rules(tool) -> None:
    done = tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", FOLDER / "streammeta.rules.yaml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_otherwise(tool) -> None:
    done = tool("promtool", "test", "rules", FOLDER / "streammeta.rules.test.yaml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_tests_name_every_rule() -> None:
    """A rule without a test would pass the one above."""
    groups = yaml.safe_load((FOLDER / "streammeta.rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    tests = yaml.safe_load((FOLDER / "streammeta.rules.test.yaml").read_text())["tests"]
    fires = {one["alertname"] for test in tests for one in test.get("alert_rule_test", []) if one["exp_alerts"]}
    asked = " ".join(one["expr"] for test in tests for one in test.get("promql_expr_test", []))

    assert fires == {rule["alert"] for rule in rules if "alert" in rule}
    assert all(rule["record"] in asked for rule in rules if "record" in rule)


BROKEN = {
    "another threshold": ("streammeta_stuck_partitions > 0", "streammeta_stuck_partitions > 3"),
    "another label": ('result="failed"}[10m])) > 3', 'result="fail"}[10m])) > 3'),
    "another time": ("record: streammeta:lag_records", "record: streammeta:lag_record"),
    "nobody who trains": ("(streammeta_trains >= 0) == 0", "(streammeta_trains > 0) == 0"),
    "no expression": ("expr: streammeta:busy_ratio > 0.9", "expr: streammeta:busy_ratio >"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_fails_the_check(change: tuple[str, str], tool, tmp_path: Path) -> None:
    for path in FOLDER.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    rules = tmp_path / "streammeta.rules.yaml"
    assert change[0] in rules.read_text()
    rules.write_text(rules.read_text().replace(*change))
    # the day-long series of the other tests say nothing about these changes
    tests = tmp_path / "streammeta.rules.test.yaml"
    short = yaml.safe_load(tests.read_text())
    short["tests"] = [one for one in short["tests"] if not _long(one)]
    tests.write_text(yaml.safe_dump(short))

    assert tool("promtool", "test", "rules", tests).returncode != 0


def _long(test: dict) -> bool:
    return any("x1500" in one["values"] for one in test["input_series"])


def test_prometheus_takes_the_configuration_of_the_compose_file(tool, tmp_path: Path) -> None:
    """With its paths as they are in the container."""
    text = (ROOT / "deploy/compose/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/", f"{FOLDER}/"))

    done = tool("promtool", "check", "config", tmp_path / "prometheus.yml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"), [("type: A", "type: B"), ("job_name", "job"), ("streammeta.rules", "no.rules")]
)
def test_a_broken_configuration_of_prometheus_fails_the_check(right: str, wrong: str, tool, tmp_path: Path) -> None:
    text = (ROOT / "deploy/compose/prometheus.yml").read_text().replace("/etc/prometheus/", f"{FOLDER}/")
    assert right in text
    (tmp_path / "prometheus.yml").write_text(text.replace(right, wrong))

    assert tool("promtool", "check", "config", tmp_path / "prometheus.yml").returncode != 0

"""Rules, dashboards and pages name what exists; the tools' own checks of them are `make deploy-check`."""

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy import metrics_table
from deploy.grafana.generate import DASHBOARDS, FOLDER, dashboard, queries, text
from streammeta.service.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "deploy/prometheus/streammeta.rules.yaml").read_text()
RULE_TESTS = (ROOT / "deploy/prometheus/streammeta.rules.test.yaml").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
NAMES = re.compile(r"\b(?:streammeta|process)_[a-z_]+\b")


def known() -> set[str]:
    """Every series' name that a process serves."""
    families = list(Metrics(CollectorRegistry()).registry.collect())
    names = {sample.name for family in families for sample in family.samples}
    histograms = {family.name for family in families if family.type == "histogram"}
    return names | {f"{name}_bucket" for name in histograms}


def test_the_table_of_metrics_is_complete_and_says_what_the_code_says() -> None:
    """A metric that is documented nowhere is watched by nobody. Make it again: python -m deploy.metrics_table."""
    page = metrics_table.PAGE.read_text(encoding="utf-8")

    assert metrics_table.BEGIN + metrics_table.table() + metrics_table.END in page, "run python -m deploy.metrics_table"


def test_rules_name_metrics_that_exist() -> None:
    """A rule over a name that nobody sets never fires, and nobody sees that it does not."""
    assert set(NAMES.findall(RULES)) - known() == set()
    assert len(ALERTS) >= 15


def test_recorded_series_that_a_rule_reads_are_recorded() -> None:
    """The same for the names with a colon."""
    recorded = set(re.findall(r"record: (\S+)", RULES))

    assert set(re.findall(r"\bstreammeta:[a-z0-9_:]+\b", RULES)) == recorded


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_and_has_a_section_in_the_runbook_that_it_links(alert: str) -> None:
    """An alert at night without a word on what to do wakes people for nothing."""
    (rule,) = re.findall(rf"- alert: {alert}\n(?:        .*\n|\n)*", RULES)
    (section,) = re.findall(rf"^## {alert}\n((?:(?!## ).*\n)*)", RUNBOOK, re.MULTILINE)

    assert f"runbook_url: docs/runbook.md#{alert.lower()}\n" in rule
    assert re.search(r"severity: (warning|critical)", rule)
    assert all(f"**{word}**" in section for word in ("Means", "Look at", "Do"))
    assert re.search(rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels", RULE_TESTS), "promtool never sees it fire"


def test_the_runbook_has_no_section_without_an_alert() -> None:
    """A section that nothing leads to was forgotten when its alert got another name."""
    assert set(re.findall(r"^## (\w+)\n", RUNBOOK, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_the_dashboards_file_is_what_the_code_writes(board) -> None:
    """Make them again: python -m deploy.grafana.generate."""
    assert (FOLDER / f"{board.uid}.json").read_text(encoding="utf-8") == text(board)


def test_there_is_no_dashboard_that_no_code_writes() -> None:
    """It would stay as it is for ever."""
    assert {path.stem for path in FOLDER.glob("*.json")} == {board.uid for board in DASHBOARDS}


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_every_query_names_metrics_that_exist(board) -> None:
    """A panel without data looks like a service without trouble."""
    for query in queries(board):
        named = set(NAMES.findall(query))
        assert named - known() == set(), query
        assert named or "up{" in query, query


def test_every_metric_of_a_service_is_on_a_dashboard() -> None:
    """What is measured can be looked at."""
    shown = " ".join(query for board in DASHBOARDS for query in queries(board))
    ours = {
        name for name in known() if name.startswith("streammeta_") and not name.endswith(("_created", "_sum", "_count"))
    }

    assert {name for name in ours if name not in shown} == set()


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_panels_have_ids_units_words_and_places_of_their_own(board) -> None:
    """Grafana draws panels of one place over each other, and links to an id."""
    panels = dashboard(board)["panels"]
    pictures = [panel for panel in panels if panel["type"] != "row"]
    cells = Counter(
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    )

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in pictures}) == len(pictures)
    assert set(cells.values()) == {1}
    assert max(x for x, _ in cells) < 24
    for panel in pictures:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith(".")
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])

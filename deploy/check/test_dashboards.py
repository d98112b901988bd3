"""Every query of the dashboards, by the parser of Prometheus' language; tests/deploy holds that its metrics exist."""

import json

import promql_parser
import pytest

from deploy.check.conftest import ROOT

FILES = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*", "$job": ".*"}


def queries(text: str) -> list[str]:
    found = [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", [])]
    for name, value in VARIABLES.items():
        found = [query.replace(name, value) for query in found]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_can_be_parsed(path) -> None:
    found = queries(path.read_text())

    assert len(found) > 15
    for query in found:
        promql_parser.parse(query)
        assert "$" not in query, "a variable that no dashboard has"


def test_a_broken_query_fails_the_check() -> None:
    text = FILES[0].read_text().replace("sum by", "sum of")

    with pytest.raises(ValueError, match=r"unexpected|invalid"):
        list(map(promql_parser.parse, queries(text)))

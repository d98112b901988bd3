"""The Grafana dashboards as code: `python -m deploy.grafana.generate` writes them to deploy/grafana/dashboards/.

A test holds that the files are what this writes, and that every query names metrics that exist.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.grafana.boards import DASHBOARDS, Dashboard, Panel

__all__ = ["FOLDER", "dashboard", "main", "queries", "text"]

FOLDER = Path(__file__).with_name("dashboards")
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SELECT = 'namespace=~"$namespace", job=~"$job"'
_WIDTH, _HEIGHT = 8, 8  # of a panel; a row of Grafana's grid is 24 wide


def queries(board: Dashboard) -> list[str]:
    """Every query of a dashboard, as Prometheus would get it, with Grafana's variables still in it."""
    return [
        query.replace("SEL", _SELECT)
        for section in board.sections
        for panel in section.panels
        for query, _ in panel.lines
    ]


def dashboard(board: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for section in board.sections:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": section.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
                "panels": [],
            }
        )
        top += 1
        stat = all(panel.kind == "stat" for panel in section.panels)
        width, height = (24 // len(section.panels), 4) if stat else (_WIDTH, _HEIGHT)
        for at, panel in enumerate(section.panels):
            place = {"x": at * width % 24, "y": top + at * width // 24 * height, "w": width, "h": height}
            panels.append(_panel(panel, len(panels) + 1, place))
        top += -(-len(section.panels) * width // 24) * height
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["streammeta"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    colours: Sequence[str] = ("orange", "red")
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": bound} for colour, bound in zip(colours, panel.bounds, strict=False)]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": query.replace("SEL", _SELECT),
                "legendFormat": legend,
            }
            for at, (query, legend) in enumerate(panel.lines)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    datasource = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    labels = [
        {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": f"label_values(streammeta_build_info, {name})", "refId": name},
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",  # also where the label is missing, as outside Kubernetes
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }
        for name in ("namespace", "job")
    ]
    return [datasource, *labels]


def text(board: Dashboard) -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(board), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for board in DASHBOARDS:
        (FOLDER / f"{board.uid}.json").write_text(text(board), encoding="utf-8")


if __name__ == "__main__":
    main()

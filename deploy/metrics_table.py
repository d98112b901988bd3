"""The table of all metrics for docs/monitoring.md, from the registry: `python -m deploy.metrics_table` writes it there.

A test holds that the page has this table, so a new metric is documented by its own help text.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry

from streammeta.service.metrics import Metrics

__all__ = ["PAGE", "main", "table"]

PAGE = Path(__file__).parents[1] / "docs" / "monitoring.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"
_OWN = {"le", "quantile"}  # labels of the client's, not ours


def table() -> str:
    """One row a metric: its name, type, labels and meaning."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in sorted(Metrics(CollectorRegistry()).registry.collect(), key=lambda one: one.name):
        if not family.name.startswith("streammeta_"):
            continue
        name = {"counter": family.name + "_total", "info": family.name + "_info"}.get(family.type, family.name)
        labels = sorted({label for sample in family.samples for label in sample.labels} - _OWN)
        shown = ", ".join(f"`{label}`" for label in labels) or "none"
        rows.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()

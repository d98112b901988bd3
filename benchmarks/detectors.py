"""How soon each detector finds true drifts, and how often it cries wolf, on streams whose drifts are known.

    python -m benchmarks.detectors [--scenarios sea,stagger,random-rbf] [--events 20000] [--seeds 0,1,2]
                                   [--set NAME=VALUE] [--markdown OUT]

Every detector watches the same learner on the same events; its signals make that learner begin again, so the error of
the whole stands beside. Found: a signal within 100 events of the task after a change, of all changes that were found or
missed, over all seeds; false alarms and errors are means over seeds.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, get_args

from streammeta.config import Settings
from streammeta.engine.drift import DetectorName
from streammeta.review.study import Plan, opened, run
from streammeta.service import log

__all__ = ["main"]

_HEAD = ("detector", "found", "median delay", "missed", "false alarms in 1,000", "error")


def main(arguments: list[str] | None = None) -> int:
    """Run it."""
    options = _options(arguments)
    parts = []
    for name in options.scenarios:
        rows = [_row(detector, name, options) for detector in options.detectors]
        drifts = rows[0][1]
        title = f"{name}: {options.events:,} events, {drifts:,} true drifts over {len(options.seeds)} seeds"
        parts.append("\n".join([title, "", *_markdown([cells for cells, _ in rows])]))
        print(parts[-1], end="\n\n", flush=True)
    if options.markdown is not None:
        options.markdown.write_text("\n\n".join(parts) + "\n", "utf-8")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    parser.add_argument("--scenarios", type=names, default=["sea", "stagger", "random-rbf"])
    parser.add_argument("--detectors", type=names, default=list(get_args(DetectorName)))
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in names(text)], default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], help="a setting of the scenarios: name=value")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(arguments)


def _row(detector: str, scenario: str, options: argparse.Namespace) -> tuple[tuple[str, ...], int]:
    """One detector's line, and how many true drifts there were."""
    runs = list(_runs(detector, scenario, options))
    found = [figures["detection"] for figures in runs]
    delays = [int(delay) for one in found for delay, count in one["delays"].items() for _ in range(count)]
    hits, missed = sum(one["found"] for one in found), sum(one["missed"] for one in found)
    cells = (
        detector,
        f"{hits / (hits + missed):.0%}" if hits + missed else "-",
        f"{median(delays):.0f}" if delays else "-",
        str(missed),
        f"{mean(one['false_alarms_per_1000_labels'] for one in found):.2f}",
        f"{mean(figures['learners']['streammeta']['error'] for figures in runs):.4f}",
    )
    return cells, sum(one["true_drifts"] for one in found)


def _runs(detector: str, scenario: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    settings = Settings.model_validate({"drift": {"detector": detector}})
    chosen = dict(pair.split("=", 1) for pair in options.set)
    for seed in options.seeds:
        with opened(Plan(scenario, limit=options.events, options=chosen), settings, seed=seed) as ready:
            yield run(ready)


def _markdown(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(_HEAD)} |"
    yield f"|---|{'---:|' * (len(_HEAD) - 1)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    log.configure("warning")
    sys.exit(main())

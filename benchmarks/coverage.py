"""How many labels lie in the intervals of 90 %, on every stream with a target: recalibrated, and as the Gaussian says.

    python -m benchmarks.coverage [--only NAME …] [--level 0.9] [--seeds 0] [--markdown OUT]

The streams of benchmarks/suite with the defaults, each event alone. The first 1,000 events do not count (of a stream
with fewer than 2,000: the first half). By the Gaussian of the prediction an interval is as wide as its variance says.
"""

import argparse
import sys
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch

from benchmarks.suite.catalogue import Stream, chosen
from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.event import Event, Label, Origin

__all__ = ["main"]

_WARM, _ENOUGH = 1_000, 100  # events that do not count; labels of a task of which the share is shown
_HEAD = ("stream", "half", "events", "tasks", "Gaussian, %", "inside, %", "below, %", "above, %", "tasks, %", "width")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each stream; exit status 1 where more or fewer labels than wanted, by 2 points, lie inside."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="streams, families or halves; may be repeated")
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--markdown", type=Path, help="the same as a table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows, far = [_HEAD, ("---",) * len(_HEAD)], False
    for stream in chosen(options.only or ["all"]):
        if stream.kind == "regression" and stream.is_here:
            for seed in options.seeds:
                row, is_far = _row(stream, seed, options.level)
                far |= is_far
                rows.append(row)
                print(", ".join(f"{name} {value}" for name, value in zip(_HEAD, row, strict=True)), flush=True)
    if options.markdown:
        options.markdown.write_text("".join(f"| {' | '.join(row)} |\n" for row in rows))
    return int(far)


def _row(stream: Stream, seed: int, level: float) -> tuple[tuple[str, ...], bool]:
    """A stream's line, and whether its share is far from the one wanted after 1,000 events."""
    outcomes = _outcomes(stream, seed, level)
    tasks = np.array([one.event.task for one in outcomes])
    begin = _WARM if len(outcomes) >= 2 * _WARM else len(outcomes) // 2
    y, mean, spread, lower, upper = np.array([_numbers(one) for one in outcomes]).T
    half = NormalDist().inv_cdf(0.5 + level / 2) * spread
    gaussian, below, above = np.abs(y - mean) <= half, y < lower, y > upper
    inside, late = ~(below | above), slice(begin, None)
    shares = [
        float(inside[late][of].mean()) for task in np.unique(tasks) if (of := tasks[late] == task).sum() >= _ENOUGH
    ]
    row = (
        *(stream.name, stream.half, f"{len(y):,}", f"{len(set(tasks))}"),
        *(f"{100 * one[late].mean():.1f}" for one in (gaussian, inside, below, above)),
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f}" if len(shares) > 1 else "",
        f"{float(np.median((upper - lower)[late] / np.maximum(2 * half[late], 1e-300))):.2f}",
    )
    return row, len(y) >= 2 * _WARM and abs(float(inside[late].mean()) - level) > 0.02


def _numbers(outcome: Outcome) -> tuple[float, ...]:
    """Label, mean, standard deviation and bounds."""
    assert outcome.interval is not None  # the settings say so
    return float(outcome.event.y or 0), float(outcome.prediction or 0), sqrt(outcome.variance or 0), *outcome.interval


def _outcomes(stream: Stream, seed: int, level: float) -> list[Outcome]:
    """Of each label, in order, with what was predicted when its event came."""
    table, delay = stream.make(stream.events, seed), stream.delay
    engine = Engine(EngineSettings(kind="regression", seed=seed, interval=level))
    names, found = table.columns, list[Outcome]()
    tasks = table.tasks or [""] * len(table.ys)
    for i, (x, task, y) in enumerate(zip(table.xs.tolist(), tasks, table.ys.tolist(), strict=True)):
        features = {name: value for name, value in zip(names, x, strict=True) if value == value}  # noqa: PLR0124  NaN
        origin, label = Origin("coverage", 0, i), None if delay else y
        found += engine.step([Event(features, task, origin, y=label, id=str(i))])
        if delay and i >= delay:
            found += engine.step([Label(str(i - delay), table.ys[i - delay].item(), tasks[i - delay], origin)])
    return [one for one in found if one.event.y is not None]


if __name__ == "__main__":
    sys.exit(main())

"""The mean error over the first 20 and the first 100 events, from ten places of each stream, beside quick peers.

    python -m benchmarks.first_events [--only NAME …] [--starts 10] [--markdown OUT]

The streams of benchmarks/suite but those whose labels come 100 events late. A learner begins with nothing at each of
the places, which are evenly spread over the stream; seeds are 0, 1, …. A peer has its best wiring at each length (with
the task as a feature or without), and "best peer" is the best of all in hindsight, for each figure.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.peers import river_runner, streammeta_runner
from benchmarks.peers.prequential import Job, Learner, Rows, prequential
from benchmarks.suite.catalogue import Stream, chosen

__all__ = ["main"]

_FIRST = (20, 100)
_PEERS = {
    "classification": ("last label", "River logistic regression", "River HAT", "River ARF", "River AMF", "River kNN"),
    "regression": ("last label", "River linear, Adam", "River Bayesian linear", "River HAT regressor"),
}
_Errors = npt.NDArray[np.float64]  # [2]: mean over the first 20 and the first 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each stream, and on how many streammeta is ahead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="streams, families or halves; may be repeated")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--markdown", type=Path, help="the same as a table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    head = ("stream", "half", *(part for n in _FIRST for part in (f"streammeta, {n}", f"best peer, {n}", "who")))
    rows, ahead, count = [head, ("---",) * len(head)], np.zeros(len(_FIRST), np.int64), 0
    for stream in chosen(options.only or ["all"]):
        if stream.is_here and stream.delay < _FIRST[-1]:
            found = dict(_errors(stream, options.starts))
            row, is_ahead = _row(stream, found)
            ahead, count = ahead + is_ahead, count + 1
            rows.append(row)
            print(", ".join(f"{name} {value}" for name, value in zip(head, row, strict=True)), flush=True)
    for n, times in zip(_FIRST, ahead.tolist(), strict=True):
        print(f"first {n}: streammeta is ahead of every peer, or equal, on {times} of {count} streams")
    if options.markdown:
        options.markdown.write_text("".join(f"| {' | '.join(row)} |\n" for row in rows))
    return 0


def _row(stream: Stream, found: Mapping[str, _Errors]) -> tuple[tuple[str, ...], npt.NDArray[np.bool_]]:
    """A stream's line, and at which lengths streammeta is ahead of every peer."""
    digits = 1 if stream.kind == "classification" else 3
    own, row, ahead = found["streammeta"], [stream.name, stream.half], []
    for k in range(len(_FIRST)):
        peer = min((name for name in found if name != "streammeta"), key=lambda name: found[name][k])
        row += [f"{own[k]:.{digits}f}", f"{found[peer][k]:.{digits}f}", peer]
        ahead.append(own[k] <= found[peer][k])
    return tuple(row), np.array(ahead)


def _errors(stream: Stream, starts: int) -> Iterator[tuple[str, _Errors]]:
    """Mean errors by learner."""
    table = stream.make(stream.events, 0)
    names, last = [name.partition(":")[0] for name in table.columns], max(len(table.ys) - _FIRST[-1], 0)
    tasks = table.tasks or [""] * len(table.ys)
    parts = []
    for at in np.linspace(0, last, starts).astype(int).tolist():
        until = at + _FIRST[-1]
        parts.append(Rows(names, table.xs[at:until], tasks[at:until], table.ys[at:until], table.categories))
    yield "streammeta", _mean(stream, streammeta_runner.make, "streammeta", "native", parts)
    for name in _PEERS[stream.kind]:
        wirings = ("global", "tag") if table.tasks and name != "last label" else ("global",)
        wirings = ("global", "per-task") if table.tasks and name == "last label" else wirings
        yield name, np.min([_mean(stream, river_runner.make, name, one, parts) for one in wirings], axis=0)


def _mean(
    stream: Stream, make: Callable[[Job, Rows], Learner], name: str, wiring: str, parts: Sequence[Rows]
) -> _Errors:
    """The mean over starts of the errors over the first events: per cent wrong, or the mean absolute error."""
    found = []
    for seed, rows in enumerate(parts):
        job = Job("", name, wiring, stream.kind, None, stream.delay, seed, float("inf"), {})
        said = prequential(make(job, rows), rows, delay=stream.delay)["predictions"]
        predicted = np.array([np.nan if one is None else one for one in said], np.float64)
        if stream.kind == "classification":
            errors = 100.0 * ~(predicted == rows.ys)
        else:
            errors = np.abs(np.nan_to_num(predicted) - rows.ys)
        found.append([errors[:n].mean() for n in _FIRST])
    return np.mean(found, axis=0)


if __name__ == "__main__":
    sys.exit(main())

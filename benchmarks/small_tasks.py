"""Tasks of a few events each: how soon what they have in common is known in a new one.

    python -m benchmarks.small_tasks [--tasks 500] [--events 3000] [--markdown OUT]

y = w · x + a task's own offset + noise, of five features; its sign, where classes are asked for. Offsets are none, or
as spread out as a feature; a task has some six events. The learners: defaults, defaults without the linear expert,
without any expert, and River's linear models of all tasks and of each. Error in per cent, or mean absolute error; what
noise alone makes is the truth.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streammeta import MetaClassifier, MetaRegressor

__all__ = ["main"]

_FEATURES, _NOISE = 5, 0.3
_EXPERTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "without linear": {"learner": {"experts": ["nearest", "gaussian_process", "forest", "persistence"]}},
    "without experts": {"learner": {"experts": []}},
}


class _Row(NamedTuple):
    x: dict[str, float]
    task: str
    y: float
    truth: float  # without the noise


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each kind of tasks and of label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--markdown", type=Path, help="the same as a table")
    options = parser.parse_args(arguments)
    names = [*_EXPERTS, "River, one model", "River, a model a task", "the truth"]
    table = [("stream", *names), ("---",) * (1 + len(names))]
    for kind in ("classification", "regression"):
        for spread in (0.0, 1.0):
            streams = [_stream(options.tasks, options.events, spread, seed) for seed in range(options.seeds)]
            errors = [np.mean([_error(name, kind, rows) for rows in streams]) for name in names]
            digits = 1 if kind == "classification" else 3
            about = f"{kind}, {'a task has its own offset' if spread else 'one rule for all'}"
            table.append((about, *(f"{error:.{digits}f}" for error in errors)))
            print(", ".join(f"{head} {value}" for head, value in zip(table[0], table[-1], strict=True)), flush=True)
    if options.markdown:
        options.markdown.write_text("".join(f"| {' | '.join(row)} |\n" for row in table))
    return 0


def _stream(tasks: int, events: int, spread: float, seed: int) -> list[_Row]:
    random = np.random.default_rng(seed)
    w, offsets = random.normal(size=_FEATURES), spread * random.normal(size=tasks)
    of, xs = random.integers(tasks, size=events), random.normal(size=(events, _FEATURES))
    truth = xs @ w + offsets[of]
    ys = truth + _NOISE * random.normal(size=events)
    return [
        _Row({f"f{d}": value for d, value in enumerate(x)}, f"t{task}", y, true)
        for x, task, y, true in zip(xs.tolist(), of.tolist(), ys.tolist(), truth.tolist(), strict=True)
    ]


def _error(name: str, kind: str, rows: Sequence[_Row]) -> float:
    """Of predictions before learning, of all events."""
    if name == "the truth":
        return _mean(kind, [(row.truth, row.y) for row in rows])
    models: dict[str, Any] = {}
    make, has_tasks = _maker(name, kind)
    found = []
    for x, task, y, _ in rows:
        of, features = (task, x) if name == "River, a model a task" else ("", x | {"task": task} if has_tasks else x)
        if of not in models:
            models[of] = make()
        model = models[of]
        label: bool | float = y > 0 if kind == "classification" else y
        said = model.predict_one(dict(features))
        found.append((0.0 if said is None else float(said), y))
        model.learn_one(dict(features), label)
    return _mean(kind, found)


def _mean(kind: str, found: Sequence[tuple[float, float]]) -> float:
    """Of predictions and labels; a prediction of a class is 1 or 0, or the truth's number."""
    if kind == "classification":
        return 100 * float(np.mean([(said > 0) != (y > 0) for said, y in found]))
    return float(np.mean([abs(said - y) for said, y in found]))


def _maker(name: str, kind: str) -> tuple[Callable[[], Any], bool]:
    """Who makes a learner, and whether it is given the task as a feature."""
    if name in _EXPERTS:
        of_kind = MetaClassifier if kind == "classification" else MetaRegressor
        return lambda: of_kind(task="task", settings=_EXPERTS[name]), True
    # imported by who wants it: all of River takes more than a second
    from river import linear_model, preprocessing  # noqa: PLC0415

    model = linear_model.LogisticRegression if kind == "classification" else linear_model.BayesianLinearRegression
    return lambda: preprocessing.StandardScaler() | model(), False


if __name__ == "__main__":
    sys.exit(main())

"""A stream as arrays: what generators make and what runners read from a file."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.peers.prequential import CATEGORY
from streammeta.simulators import simulate

__all__ = ["Table", "from_scenario", "write"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Events in their order."""

    xs: Floats  # [N, D]; NaN: missing; a category is its number
    ys: Floats  # [N]; classes are numbered from 0
    tasks: list[str] | None = None  # [N]; None: an untagged stream
    names: list[str] | None = None  # [D]; None: x0, x1, …
    categories: tuple[int, ...] = ()  # the columns that are categories
    due: npt.NDArray[np.int64] | None = None  # [N] the row before which each label is known; None: see ``Stream.delay``

    @property
    def columns(self) -> list[str]:
        """The header's names of the features."""
        names = self.names or [f"x{d}" for d in range(self.xs.shape[1])]
        return [f"{name}{CATEGORY}" if d in self.categories else name for d, name in enumerate(names)]


def from_scenario(name: str, events: int, seed: int, **settings: object) -> Table:
    """A stream of ``streammeta simulate``, without its truth."""
    samples = list(simulate(name, events=events, seed=seed, **settings))
    names = list(samples[0].x)
    tasks = [sample.task for sample in samples]
    xs = np.array([[float(sample.x.get(one, np.nan)) for one in names] for sample in samples])  # type: ignore[arg-type]
    ys = np.array([float(sample.y) for sample in samples])
    return Table(xs, ys, tasks if len(set(tasks)) > 1 else None, names)


def write(table: Table, path: Path) -> None:
    """As recorded files are: features, the task where there are several, when the label is due, the label."""
    with path.open("w", newline="") as lines:
        out = csv.writer(lines)
        has_due = table.due is not None
        out.writerow([*table.columns, *(["task"] if table.tasks else []), *(["due"] if has_due else []), "y"])
        tasks, due = (
            table.tasks or [""] * len(table.ys),
            [0] * len(table.ys) if table.due is None else table.due.tolist(),
        )
        for x, task, before, y in zip(table.xs.tolist(), tasks, due, table.ys.tolist(), strict=True):
            numbers = ("" if value != value else value for value in x)  # noqa: PLR0124  NaN
            out.writerow([*numbers, *([task] if table.tasks else []), *([before] if has_due else []), y])

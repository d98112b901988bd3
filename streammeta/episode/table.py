"""Episodes from any table with a task column: a stretch of a task's rows, the first to adapt on, the rest to judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from streammeta.engine.features import FeatureSpace
from streammeta.episode.family import Draw, Family
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Event
from streammeta.formats.fields import Fields
from streammeta.meta.base import Kind
from streammeta.meta.catalogue import Problem
from streammeta.meta.learner import Examples, TaskBatch
from streammeta.transport.file import FileSource

__all__ = ["Table", "folds", "read_table", "table"]

_POLLED = 10_000


class Table(NamedTuple):
    """Labelled rows in the order they came; a row's features may be missing (NaN)."""

    name: str
    kind: Kind
    x: torch.Tensor  # [n, D] float64, as far from zero as they came
    y: torch.Tensor  # [n] class index (int64), or [n, 1] target (float32)
    task: torch.Tensor  # [n] int64, from 0
    classes: tuple[int | float | str, ...]  # what a class index means; empty for a regression


def read_table(
    file: Path, kind: Kind, *, limit: int | None = None, max_features: int = 256, fields: Fields | None = None
) -> Table:
    """A recorded stream, as `replay` reads it, as a table; rows without a label, or unreadable, are left out.

    Args:
        file: its path.
        kind: of the label.
        limit: read no more rows.
        max_features: in all.
        fields: which columns or fields are what; None: `task`, `y`, and all others are features.

    Raises:
        TransportError: the file cannot be read.
        ConfigError: no row in it has a label, or a regression's label is no number.
    """
    source, decoder, space = FileSource(file, limit=limit, fields=fields), Decoder(), FeatureSpace(max_features)
    filled, labels, tasks = [], [], []
    while not source.exhausted:
        for record in source.poll(_POLLED, 0.0):
            try:
                event = decoder.decode(record)
                if not isinstance(event, Event) or event.y is None:
                    continue
                filled.append(space.read(event.x, event.origin))
            except EventError:
                continue
            labels.append(event.y)
            tasks.append(event.task)
    source.close()
    if not labels or (kind == "regression" and any(isinstance(y, str) for y in labels)):
        raise ConfigError(f"{file}: wanted rows with labels, for a regression numbers; got {len(labels)} labelled rows")
    names = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    classes = () if kind == "regression" else tuple(dict.fromkeys(labels))  # numbered as the engine does
    index = {label: i for i, label in enumerate(classes)}
    y = torch.tensor([index[label] for label in labels]) if classes else torch.tensor(labels, dtype=torch.float32)
    x = torch.from_numpy(np.array(space.table(filled)))
    of = torch.tensor([names[task] for task in tasks])
    return Table(file.name, kind, x, y if classes else y.unsqueeze(1), of, classes)


def table(rows: Table, held_out: Sequence[int]) -> Family:
    """The tasks ``held_out`` to test, the others to train; numbers are normalized by the training tasks' rows.

    A missing feature is its mean. A task with fewer rows than asked for fills less of its support and query.
    """
    testing = torch.isin(rows.task, torch.tensor(list(held_out)))
    if testing.all() or not testing.any():
        found = f"{len(held_out)} of {int(rows.task.max()) + 1} tasks held out"
        raise ConfigError(f"table {rows.name}: got {found}; wanted some, not all")
    known = rows.x[~testing]
    mean = known.nanmean(0)
    spread = (known - mean).square().nanmean(0).sqrt()
    x = ((rows.x - mean) / torch.where(spread > 0, spread, 1)).nan_to_num(0.0).clamp(-10, 10).float()
    y = rows.y
    if rows.kind == "regression":
        y = (y - y[~testing].mean()) / y[~testing].std().clamp(min=1e-12)
    problem = Problem(rows.kind, inputs=x.shape[1], outputs=len(rows.classes) or 1)
    draws = [_drawing(x, y, _rows_of(rows.task, of)) for of in (~testing, testing)]
    return Family(rows.name, problem, *draws)


def folds(rows: Table, n: int, *, seed: int = 0) -> list[Family]:
    """N families that hold out another n-th of the tasks each, for cross-validation."""
    tasks = int(rows.task.max()) + 1
    if not 2 <= n <= tasks:
        raise ConfigError(f"table {rows.name}: got {n} folds; wanted 2 to {tasks}, the number of tasks")
    order = torch.randperm(tasks, generator=torch.Generator().manual_seed(seed))
    return [table(rows, order[k::n].tolist()) for k in range(n)]


def _rows_of(task: torch.Tensor, where: torch.Tensor) -> list[torch.Tensor]:
    """Row numbers of each task there, in order; tasks with a single row can teach nothing."""
    each = [torch.nonzero((task == t) & where).squeeze(1) for t in sorted(set(task[where].tolist()))]
    return [rows for rows in each if len(rows) > 1]


def _drawing(x: torch.Tensor, y: torch.Tensor, tasks: Sequence[torch.Tensor]) -> Draw:
    def draw(generator: torch.Generator, count: int, support: int, query: int) -> TaskBatch:
        size = support + query
        index = torch.zeros(count, size, dtype=torch.int64)
        mask = torch.zeros(count, size)
        for i, chosen in enumerate(torch.randint(len(tasks), (count,), generator=generator).tolist()):
            rows = tasks[chosen]
            begin = int(torch.randint(max(len(rows) - size, 0) + 1, (1,), generator=generator))
            stretch = rows[begin : begin + size]
            adapting = min(support, len(stretch) - 1)  # one row at least is left to judge
            places = torch.cat([torch.arange(adapting), support + torch.arange(len(stretch) - adapting)])[:size]
            stretch = stretch[: len(places)]
            index[i, places], mask[i, places] = stretch, 1.0
        every = Examples(x[index], y[index], mask)
        return TaskBatch(
            Examples(*(part[:, :support] for part in every)), Examples(*(part[:, support:] for part in every))
        )

    return draw

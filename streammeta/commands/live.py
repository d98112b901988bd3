"""How a run shows itself while it goes on: a live table on a terminal, a plain line every few seconds elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from streammeta.engine import Outcome
from streammeta.report import Tally
from streammeta.service.turn import Observe

__all__ = ["shown"]

_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 5.0
_Row = tuple[str, str]


class _Screen(Protocol):
    every_seconds: float

    def show(self, fraction: float | None, rows: Sequence[_Row]) -> None: ...


class _Other(Protocol):
    """A learner that runs beside streammeta."""

    name: str
    failed: str | None

    @property
    def error(self) -> float | None: ...


@contextmanager
def shown(
    tally: Tally,
    fraction: Callable[[], float | None],
    *,
    title: str,
    console: Console,
    clock: Callable[[], float],
    beside: Sequence[_Other] = (),
) -> Iterator[Observe]:
    """While open, the observer it yields keeps people informed; the last thing that is shown is how it ended.

    Args:
        tally: the figures; somebody else feeds it, before this observer.
        fraction: how much of the input was read, from 0 to 1; None where nobody knows.
        title: what runs.
        console: where to show it.
        clock: monotonic seconds.
        beside: other learners, whose errors are shown too.
    """
    begun = clock()
    due = begun
    events_then, then = 0, begun
    rate = 0.0

    def observe(outcomes: Sequence[Outcome], rejected: int) -> None:  # noqa: ARG001 the tally has counted them
        nonlocal due, events_then, then, rate
        now = clock()
        if now < due:
            return
        due = now + screen.every_seconds
        if now > then:
            rate = (tally.events - events_then) / (now - then)
        events_then, then = tally.events, now
        show(rate)

    def show(rate: float | None) -> None:
        screen.show(fraction(), [*_rows(tally, rate), *_others(tally, beside)])

    if not console.is_terminal:
        screen: _Screen = _Lines(console, title)
        yield observe
        show(None)
        return
    table = _Table(title)
    screen = table
    with Live(console=console, refresh_per_second=4, transient=True, get_renderable=table.drawn):
        yield observe


def _rows(tally: Tally, rate: float | None) -> list[_Row]:
    rows = [("events", f"{tally.events:,}")]
    if rate is not None:
        rows.append(("events/s", f"{rate:,.0f}"))
    if tally.error is not None:
        name = "accuracy" if tally.kind == "classification" else "mean absolute error"
        rows.append((name, f"{1 - tally.error if tally.kind == 'classification' else tally.error:.4f}"))
    rows += [("drifts", f"{tally.drifts:,}"), ("rejected", f"{tally.rejected:,}")]
    first = [(f"error at label {age}", mean) for age, mean in tally.by_age.means().items() if mean is not None]
    return rows + [(name, f"{mean:.3f}") for name, mean in first]


def _others(tally: Tally, beside: Sequence[_Other]) -> list[_Row]:
    rows = []
    for other in beside:
        if other.failed is not None:
            rows.append((other.name, "failed"))
        elif other.error is not None:
            rows.append((other.name, f"{1 - other.error if tally.kind == 'classification' else other.error:.4f}"))
    return rows


class _Lines:
    every_seconds = _LINE_SECONDS

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title

    def show(self, fraction: float | None, rows: Sequence[_Row]) -> None:
        read = [] if fraction is None else [("read", f"{fraction:.0%}")]
        summary = ", ".join(f"{name} {value}" for name, value in [*read, *rows] if not name.startswith("error at"))
        self._console.print(f"{self._title}: {summary}", highlight=False, markup=False, soft_wrap=True)


class _Table:
    every_seconds = _REDRAW_SECONDS

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: Sequence[_Row] = ()
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        )
        self._bar: TaskID = self._progress.add_task(title, total=None)

    def show(self, fraction: float | None, rows: Sequence[_Row]) -> None:
        self._rows = rows
        if fraction is not None:
            self._progress.update(self._bar, total=1.0, completed=fraction)

    def drawn(self) -> Group:
        table = Table(show_header=False, box=None)
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._rows:
            table.add_row(name, value)
        return Group(self._progress, table)

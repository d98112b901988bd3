"""A replay in a notebook: run it, then look at frames and pictures.

>>> import streammeta
>>> result = streammeta.replay("stagger", limit=600, seed=1)
>>> result.figures["events"]
600
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import structlog

from streammeta.config import Settings, load
from streammeta.engine import Outcome
from streammeta.errors import ConfigError
from streammeta.event import Event
from streammeta.formats.fields import make_fields
from streammeta.report import Figures
from streammeta.review.comparison import STREAMMETA
from streammeta.review.paired import Paired, compare
from streammeta.review.study import Plan, Stream, check_used, opened, run
from streammeta.review.trace import decode_errors
from streammeta.transport.delayed_labels import Delay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Review", "replay"]

_SCORES = {
    "classification": ("accuracy", "kappa", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
    "decision": ("mean_reward", "mae"),
}
_PREDICTED = ("task", "id", "time", "prediction", "probability", "deviation", "label", "error")


def replay(  # noqa: PLR0913 each is a word of the command, too
    stream: Stream,
    *,
    against: Sequence[str] = (),
    kind: str | None = None,
    seed: int | None = None,
    limit: int | None = None,
    label_delay: Delay | str = 0,
    settings: Settings | Path | None = None,
    label: str | None = None,
    task: str | Sequence[str] | None = None,
    id: str | Sequence[str] | None = None,
    time: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    missing: Sequence[str] | None = None,
    **more: Any,  # noqa: ANN401 fields of Plan
) -> "Review":
    """Run a recorded or simulated stream through the service's own loop, beside other learners.

    Args:
        stream: a file (.csv, .jsonl, .parquet, .xlsx …), a folder or pattern of files, a data frame, or a scenario's
            name.
        against: River's models to run on the same events: "river:forest.ARFClassifier".
        kind: "classification" or "regression"; None: by the settings, or by the first labels.
        seed: fixes every random choice.
        limit: stop after this number of records.
        label_delay: labels come this number of events late, or this time: "1h", timedelta(hours=1).
        settings: of streammeta, or a TOML file with them.
        label: the column or field with the label, `y` unless the settings say another; in JSON a dotted path, as for
            the next three.
        task: that with the task's tag; several are joined.
        id: that with the event's id; several are joined.
        time: that with the time stamp.
        include: only these are features: names or patterns.
        exclude: these are none.
        missing: values that stand for a missing one: "-999", or in one column only, "insulin=0".
        **more: of `Plan`: `learners`, `wiring`, `speed`, `options` of a scenario.

    Raises:
        ConfigError: a name or a setting is not known.
        TransportError: the file cannot be read.
        EventError: none of its records can be used.
    """
    known = settings if isinstance(settings, Settings) else load(settings)
    fields = make_fields(
        known.input.fields, label=label, task=task, id=id, time=time, include=include, exclude=exclude, missing=missing
    )
    plan = Plan(stream, against=against, limit=limit, label_delay=label_delay, fields=fields, **more)
    seen = _Predictions()
    with _quiet(), opened(plan, known, kind=kind, seed=seed) as ready:
        figures = run(ready, observers=[seen.observe])
    check_used(figures)
    return Review(figures, seen.columns)


class _Predictions:
    """What was predicted of each event when it came; a late label fills in the row of its event."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in _PREDICTED}
        self._waiting: dict[tuple[str, str], int] = {}  # rows, by task and id

    def observe(self, outcomes: Sequence[Outcome], rejected: int) -> None:  # noqa: ARG002 the tally counts them
        """Add a step's outcomes."""
        for outcome in outcomes:
            event = outcome.event
            if isinstance(event, Event):
                self._add(event, outcome)
            elif (row := self._waiting.pop((event.task, event.id), None)) is not None:
                self.columns["label"][row], self.columns["error"][row] = event.y, outcome.error

    def _add(self, event: Event, outcome: Outcome) -> None:
        if event.y is None and event.id is not None:
            self._waiting[event.task, event.id] = len(self.columns["task"])
        probability = max(outcome.probabilities.values()) if outcome.probabilities else None
        deviation = None if outcome.variance is None else outcome.variance**0.5
        said = (outcome.prediction, probability, deviation)
        for name, value in zip(
            _PREDICTED, (event.task, event.id, event.ts, *said, event.y, outcome.error), strict=True
        ):
            self.columns[name].append(value)


@dataclass(frozen=True, repr=False)
class Review:
    """What came of a replay.

    Frames are pandas' where pandas is installed, else polars'.
    """

    figures: Figures  # as `streammeta replay --json` writes them
    seen: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # columns of ``predictions``

    def __repr__(self) -> str:
        f, classify = self.figures, self.figures["kind"] == "classification"
        scores = _SCORES[f["kind"]]
        beside = [(name, one["error"]) for name, one in f["learners"].items() if name != STREAMMETA]
        beside += [(name, one["error"]) for name, one in f["guesses"].items()]
        others = (f"{name} {1 - e if classify else e:.4f}" for name, e in beside if e is not None)
        known = (f"{name.replace('_', ' ')} {f[name]:.4f}" for name in scores if f[name] is not None)
        counts = f"{f['events']:,} events of {f['tasks']:,} tasks, {f['labelled']:,} labels"
        return "\n".join(
            (
                f"{f['stream']['name']}: {f['kind']}, {counts}; {f['status']}",
                ", ".join(known) or "no label came",
                f"beside ({'accuracy' if classify else 'mae'}): {', '.join(others) or 'nothing'}",
                f"{f['rejected']:,} records set aside, {f['drifts']:,} drifts signalled",
                "frames: learners, tasks, predictions, errors, by_age, drifts; .plot(), .html(FILE), .json(FILE)",
            )
        )

    @cached_property
    def tasks(self) -> Any:  # noqa: ANN401 a frame
        """One row a task, the worst first (a thousand at most): events, labels, mean error, drifts signalled."""
        return _frame(self.figures["worst_tasks"], ("task", "events", "labels", "error", "drifts"))

    @cached_property
    def predictions(self) -> Any:  # noqa: ANN401 a frame
        """One row an event, as it was predicted when it came; without rows where only the figures are known."""
        columns = {name: list(self.seen.get(name, ())) for name in _PREDICTED}
        return nw.from_dict(columns, backend=_backend()).to_native()

    @cached_property
    def learners(self) -> Any:  # noqa: ANN401 a frame
        """One row a learner: its figures, and what the paired test says of it against streammeta."""
        pairs = {pair["b"]: pair for pair in self.figures["paired"]}
        rows = []
        for name, one in self.figures["learners"].items():
            single = {key: value for key, value in one.items() if value is None or isinstance(value, int | float)}
            pair = pairs.get(name, {})
            rows.append({"learner": name, **single, "p": pair.get("p"), "verdict": pair.get("verdict", "")})
        return _frame(rows)

    @cached_property
    def errors(self) -> Any:  # noqa: ANN401 a frame
        """One row a label, one column a learner: 0 or 1, or the absolute error."""
        errors = {name: decode_errors(one["errors"]) for name, one in self.figures["learners"].items()}
        count = self.figures["labels_seen"]["count"]
        whole = {name: values for name, values in errors.items() if len(values) == count}
        return nw.from_dict({"label": range(count), **whole}, backend=_backend()).to_native()

    @cached_property
    def by_age(self) -> Any:  # noqa: ANN401 a frame
        """Mean error of each learner at the n-th event of a task, and after its concept truly changed."""
        return _frame(
            [
                {"learner": name, "events": age, "error": one["error_by_age"][age], "after_drift": after}
                for name, one in self.figures["learners"].items()
                for age, after in one["error_after_true_drift"].items()
            ]
        )

    @cached_property
    def drifts(self) -> Any:  # noqa: ANN401 a frame
        """Where drifts were signalled, and truly were (where the stream says), by labels seen until then."""
        marks: Mapping[str, Sequence[int]] = self.figures["drift_marks"]
        rows = [{"label": at, "what": what} for what, places in marks.items() for at in places]
        return _frame(sorted(rows, key=lambda row: row["label"]), ("label", "what"))

    def compare(self, other: "Review", *, learner: str = STREAMMETA) -> Paired:
        """A paired test of a learner in this replay against the same one in another replay of the same stream."""
        (found,) = compare(self.figures, other.figures, learner=learner)
        return found

    def plot(self, name: str = "error") -> "Figure":
        """One of the report's pictures, as a Matplotlib figure: "error", "age", "drift", "calibration" and so on."""
        from streammeta.review.canvas import draw  # noqa: PLC0415  matplotlib writes into the home of who imports it
        from streammeta.review.picture import PICTURES  # noqa: PLC0415

        pictures = {picture.name: picture for picture in PICTURES}
        if name not in pictures:
            raise ConfigError(f"plot: no picture {name!r}; wanted one of {', '.join(pictures)}")
        figure = draw(pictures[name], self.figures)
        if figure is None:
            raise ConfigError(f"plot: this replay has nothing to draw for {name!r}")
        return figure

    def html(self, path: Path | str) -> Path:
        """Write the report as one HTML file."""
        from streammeta.review.page import write_page  # noqa: PLC0415

        write_page(self.figures, Path(path))
        return Path(path)

    def png(self, folder: Path | str) -> list[Path]:
        """Write the pictures into a folder."""
        from streammeta.review.picture import write_png  # noqa: PLC0415

        return write_png(self.figures, Path(folder))

    def json(self, path: Path | str) -> Path:
        """Write the figures, as `streammeta replay --json` and `streammeta compare` know them."""
        Path(path).write_text(json.dumps(self.figures, indent=2, allow_nan=False) + "\n", "utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        """In a notebook, the report itself, in a frame of its own so that its style stays there."""
        from streammeta.review.page import page  # noqa: PLC0415

        source = page(self.figures).replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{source}" style="width: 100%; height: 40rem; border: 0" title="streammeta"></iframe>'


@contextmanager
def _quiet() -> Iterator[None]:
    """No lines of progress, unless the caller has set up logs: a notebook wants results."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.reset_defaults()


def _backend() -> Literal["pandas", "polars"]:
    if find_spec("pandas") is not None:
        return "pandas"
    if find_spec("polars") is not None:
        return "polars"
    raise ConfigError("data frames need pandas or polars; install streammeta[frames]")


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> Any:  # noqa: ANN401 a frame of the installed kind
    """Of rows; ``names`` are columns that are there without a row, too."""
    names = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return nw.from_dict(columns, backend=_backend()).to_native()

"""A report's pictures: each a function from the report's figures to a drawing, or to nothing where there is nothing.

They are drawn once, for PNG and for HTML.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from streammeta.errors import TransportError
from streammeta.report import AGES, Figures
from streammeta.review.canvas import INK, PALETTE, Picture, draw
from streammeta.review.trace import decode_errors

__all__ = ["PICTURES", "smoothed", "write_png"]

_POINTS = 120  # of a curve over time
_MOST_LINES = 60  # drifts drawn one by one; more are drawn as how many there were
_LONGEST_NAME = 50  # characters in a legend
_LEGEND_ROW = 0.17  # inches of a row of it; beyond two they make the picture higher
_GUESS_STYLES: Final = ("dotted", (0, (4, 2)))  # of what one would say without learning
_MEMORY_COLOURS: Final = PALETTE[:3:-1]  # none of the first learners'
_DAY = 86_400.0
_TIME_FORMATS: Final = ((60 * _DAY, "%b %Y"), (2 * _DAY, "%d %b %Y"), (3_600.0, "%d %b %H:%M"), (-1.0, "%H:%M:%S"))


def write_png(figures: Figures, folder: Path) -> list[Path]:
    """All pictures as PNG files, named after what they show.

    Raises:
        TransportError: the folder cannot be written to.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in PICTURES:
            figure = draw(picture, figures)
            if figure is not None:
                figure.suptitle(picture.title, fontsize=10, color=INK)
                path = folder / f"{picture.name}.png"
                figure.savefig(path, dpi=200, facecolor="white")
                written.append(path)
    except OSError as err:
        raise TransportError(f"--pictures {folder}: cannot be written ({err}); name another folder") from err
    return written


def smoothed(errors: Sequence[float], points: int = _POINTS, window: int = 5) -> tuple[list[int], list[float]]:
    """Labels, and mean errors over what came before them: at most ``points`` places, ``window`` of them at a time.

    >>> smoothed([1.0, 0.0, 0.0, 0.0], points=4, window=2)
    ([1, 2, 3, 4], [1.0, 0.5, 0.0, 0.0])
    """
    values = np.asarray(errors, np.float64)
    if not values.size:
        return [], []
    cuts = np.unique(np.linspace(0, values.size, min(points, values.size) + 1).astype(int))
    known = np.isfinite(values)
    sums, counts = (np.add.reduceat(part, cuts[:-1]) for part in (np.where(known, values, 0.0), known.astype(float)))
    sums, counts = (np.convolve(part, np.ones(window))[: len(part)] for part in (sums, counts))
    means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return cuts[1:].tolist(), means.tolist()


def _learners(figures: Figures) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Name, colour and figures of every learner."""
    return [(name, PALETTE[at % len(PALETTE)], one) for at, (name, one) in enumerate(figures["learners"].items())]


def _what(figures: Figures) -> str:
    return "share of wrong labels" if figures["kind"] == "classification" else "mean absolute error"


def _over_time(axes: Axes, figures: Figures) -> bool:
    labels = figures["labels_seen"]["count"]
    if labels < 2:
        return False
    for style, (name, guess) in zip(_GUESS_STYLES, figures["guesses"].items(), strict=True):
        xs, ys = smoothed(decode_errors(guess["errors"]).tolist())
        axes.plot(xs, ys, color=INK, linewidth=0.9, linestyle=style, alpha=0.75, label=name)
    for name, colour, one in reversed(_learners(figures)):  # streammeta's on top
        xs, ys = smoothed(decode_errors(one["errors"]).tolist())
        axes.plot(xs, ys, color=colour, label=name)
    _mark_drifts(axes, figures["drift_marks"], labels)
    axes.set(ylabel=_what(figures), xlim=(0, labels), ylim=(0, None))
    _along_labels(axes, figures)
    _legend(axes)
    return True


def _mark_drifts(axes: Axes, marks: Mapping[str, Sequence[int]], labels: int) -> None:
    """True changes as lines from the top, signalled ones as ticks at the bottom; many of them as shares of height."""
    for name, top, colour in (("true", True, INK), ("signalled", False, PALETTE[0])):
        at = marks[name]
        if not at:
            continue
        if len(at) > _MOST_LINES:
            counts, edges = np.histogram(at, bins=_POINTS // 2, range=(0, labels))
            heights = 0.12 * counts / counts.max()
        else:
            edges, heights = np.array([*at, 0.0]), np.full(len(at), 1.0 if top else 0.06)
        ends = (1 - heights, np.ones(len(heights))) if top else (np.zeros(len(heights)), heights)
        axes.vlines(
            edges[:-1],
            *ends,
            transform=axes.get_xaxis_transform(),
            color=colour,
            linewidth=0.8,
            alpha=0.7,
            linestyle=(0, (2, 2)) if top and len(at) <= _MOST_LINES else "solid",
            label=f"{name} drift",
        )


def _by_age(axes: Axes, figures: Figures) -> bool:
    return _curve(axes, figures, "error_by_age", "event of its task", first_too=False)


def _after_drift(axes: Axes, figures: Figures) -> bool:
    return _curve(axes, figures, "error_after_true_drift", "event after the concept of its task changed")


def _curve(axes: Axes, figures: Figures, which: str, label: str, *, first_too: bool = True) -> bool:
    """Mean errors by buckets of age."""
    if figures["tasks"] < 2 and not first_too:  # one task has one first event
        return False
    drawn = False
    for name, colour, one in reversed(_learners(figures)):
        points = [(at, one[which][age]) for at, age in enumerate(AGES) if one[which][age] is not None]
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=name)
            drawn = True
    axes.set_xticks(range(len(AGES)), AGES)
    axes.set(xlabel=label, ylabel=_what(figures), ylim=(0, None))
    _legend(axes)
    return drawn


def _calibration(axes: Axes, figures: Figures) -> bool:
    classify, drawn = figures["kind"] == "classification", False
    for name, colour, one in reversed(_learners(figures)):
        if one["calibration"]:
            axes.plot(
                one["calibration"]["said"],
                one["calibration"]["was"],
                color=colour,
                marker="o",
                markersize=3,
                label=name,
            )
            drawn = True
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    said, was = ("confidence", "share that was right") if classify else ("said to lie inside", "share that did")
    axes.set(xlabel=said, ylabel=was, xlim=(0, 1), ylim=(0, 1))
    _legend(axes)
    return drawn


def _delays(axes: Axes, figures: Figures) -> bool:
    delays = figures.get("detection", {}).get("delays", {})
    if not delays:
        return False
    values = np.repeat([int(delay) for delay in delays], list(delays.values()))
    axes.hist(values, bins=list(range(0, 105, 5)), color=PALETTE[0])
    axes.set(xlabel="events of the task from the change to the signal", ylabel="drifts found", xlim=(0, 100))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return True


def _mixture(axes: Axes, figures: Figures) -> bool:
    return _inside(axes, figures, "mixture_weights", "weight in the mixture")


def _memories(axes: Axes, figures: Figures) -> bool:
    drawn = _inside(axes, figures, "memory_events", "events remembered")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # matplotlib's own would be markup
    axes.yaxis.set_minor_formatter(NullFormatter())
    return drawn


def _inside(axes: Axes, figures: Figures, which: str, label: str) -> bool:
    """What the learner reports of its heads, over time."""
    progress = figures["progress"]
    shown = [
        (x, values) for x, values in zip(progress["labels"], progress["learner"].get(which, []), strict=False) if values
    ]
    if len(shown) < 2:
        return False
    names = ("shortest", "longest")
    heads = np.array([values for _, values in shown])
    for at, values in enumerate(heads.T):
        name = {0: names[0], heads.shape[1] - 1: names[1]}.get(at, f"memory {at + 1}")
        axes.plot([x for x, _ in shown], values, color=_MEMORY_COLOURS[at % len(_MEMORY_COLOURS)], label=name)
    axes.set(ylabel=label)
    _along_labels(axes, figures)
    _legend(axes)
    return True


def _speed(axes: Axes, figures: Figures) -> bool:
    progress = figures["progress"]
    events, seconds = np.array(progress["events"]), np.array(progress["seconds"])
    if len(events) < 3:
        return False
    spans = np.diff(seconds)
    axes.plot(progress["labels"][1:], np.diff(events) / np.maximum(spans, 1e-9), color=PALETTE[0])
    axes.set(ylabel="events/s", ylim=(0, None))
    axes.yaxis.set_major_formatter(_whole)
    _along_labels(axes, figures)
    return True


def _memory(axes: Axes, figures: Figures) -> bool:
    progress = figures["progress"]
    if len(progress["labels"]) < 3:
        return False
    axes.plot(progress["labels"], np.array(progress["resident_bytes"]) / 2**20, color=PALETTE[0])
    axes.set(ylabel="MiB, all learners together", ylim=(0, None))
    _along_labels(axes, figures)
    return True


def _along_labels(axes: Axes, figures: Figures) -> None:
    """How many labels came until then; and when that was, where events have times."""
    times = figures["label_times"]
    axes.set_xlabel("labels" if times is None else "labels, and when they came (UTC)")
    axes.xaxis.set_major_locator(MaxNLocator(5 if times is None else 3, integer=True))
    axes.xaxis.set_major_formatter(_whole if times is None else _Moments(times["labels"], times["seconds"]))


def _whole(at: float, _: object) -> str:
    return f"{at:,.0f}"


class _Moments(Formatter):
    """A number of labels, and under it the time at which it was reached."""

    def __init__(self, labels: Sequence[int], seconds: Sequence[float]) -> None:
        self._labels, self._seconds = labels, seconds
        span = seconds[-1] - seconds[0]
        self._format = next(form for least, form in _TIME_FORMATS if span >= least)

    def __call__(self, at: float, pos: object = None) -> str:
        if not 0 <= at <= self._labels[-1]:
            return ""
        moment = datetime.fromtimestamp(float(np.interp(at, self._labels, self._seconds)), UTC)
        return f"{_whole(at, pos)}\n{moment:{self._format}}"


def _legend(axes: Axes) -> None:
    """Above the drawing, where it hides nothing; names in the order of the report's table."""
    handles, names = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if len(names) > 1 and figure is not None:
        short = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names]
        columns = 1 if max(map(len, short)) > _LONGEST_NAME // 2 else 2
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + _LEGEND_ROW * max(0, -(-len(short) // columns) - 2))
        figure.legend(handles[::-1], short[::-1], loc="outside upper left", ncols=columns)


PICTURES: Final = (
    Picture(
        "error",
        "Error over time",
        "Mean error over the last 4 % of the run. Dashed lines: a task's concept truly changed (where the stream "
        "says); ticks at the bottom: a drift was signalled. Where there are many, bars count them. Thin: what one "
        "would say without learning.",
        _over_time,
    ),
    Picture(
        "age",
        "Error by age of a task",
        "Mean error at the n-th event of a task, over all tasks: how soon a new task is predicted well.",
        _by_age,
    ),
    Picture(
        "drift",
        "Error after a drift",
        "Mean error at the n-th event after a task's concept truly changed: how soon a learner is back.",
        _after_drift,
    ),
    Picture(
        "delay",
        "Delay of drift signals",
        "How many events of the task it took to signal a true change, for the changes that were found.",
        _delays,
    ),
    Picture(
        "calibration",
        "Calibration",
        "Whether predictions came true as often as they said they would; on the dashed line they did.",
        _calibration,
    ),
    Picture(
        "mixture",
        "Weights of the memories",
        "How much each memory counts in streammeta's mixture, the mean over tasks.",
        _mixture,
    ),
    Picture(
        "memories",
        "Length of the memories",
        "How long each memory of streammeta's remembers; it is learned.",
        _memories,
    ),
    Picture(
        "speed", "Throughput", "Events a second of streammeta's own loop, the other learners' time left out.", _speed
    ),
    Picture("memory", "Memory", "Resident memory of the whole process.", _memory),
)

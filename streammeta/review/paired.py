"""Is one learner better than another on the same events, or was it luck? A paired test over events.

Errors of neighbouring events are not independent (both learners err after the same drift), so a test that takes them
one by one is far too sure of itself. The differences d_t = error of A − error of B are averaged in 30 blocks of
consecutive events, and Student's t is taken over the blocks (batch means):

    mean ± t₀.₉₇₅(29) · s / √30        s: standard deviation of the block means

It holds where dependence has died out within a block, a thirtieth of the run.

Source: Schmeiser (1982), Batch size effects in the analysis of simulation output, Operations Research 30 (10 to 30
batches).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.table import Table
from scipy import stats

from streammeta.errors import ConfigError
from streammeta.report import Figures, cell
from streammeta.review.trace import decode_errors

__all__ = ["Paired", "compare", "lines", "paired", "read_report", "table", "within"]

_BLOCKS: Final = 30
_LEAST_IN_A_BLOCK: Final = 5
_ALPHA: Final = 0.05
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """Learner A against learner B on the same events."""

    a: str
    b: str
    error_a: float  # mean over the events that both predicted
    error_b: float
    events: int
    only_a_wrong: int | None  # classes: events where B alone was right
    only_b_wrong: int | None
    low: float | None  # 95 % confidence interval of error_a − error_b; None: too few events to decide
    high: float | None
    p: float | None  # of a difference at least as large if there were none

    @property
    def difference(self) -> float:
        """Mean error of A minus that of B; below 0 where A is better."""
        return self.error_a - self.error_b

    @property
    def verdict(self) -> str:
        """What may be said."""
        if self.p is None:
            return f"too few events to decide ({self.events:,}, wanted {_BLOCKS * _LEAST_IN_A_BLOCK})"
        if self.p >= _ALPHA:
            return "no difference shown"
        return f"{self.a if self.difference < 0 else self.b} is better"

    def figures(self) -> Figures:
        """Ready for JSON."""
        return {**asdict(self), "difference": self.difference, "verdict": self.verdict}


def paired(a: str, errors_a: _Doubles, b: str, errors_b: _Doubles) -> Paired:
    """Compare errors [N] of two learners on the same N labels; NaN where one predicted nothing.

    >>> one, other = np.tile([0.0, 0.0, 1.0, 0.0], 100), np.tile([0.0, 1.0, 1.0, 0.0], 100)
    >>> paired("A", one, "B", other).verdict
    'A is better'

    Raises:
        ConfigError: they have not as many labels.
    """
    if len(errors_a) != len(errors_b):
        raise ConfigError(f"compare: {a} has {len(errors_a):,} labels, {b} has {len(errors_b):,}; wanted the same run")
    both = np.isfinite(errors_a) & np.isfinite(errors_b)
    one, other = errors_a[both], errors_b[both]
    classes = bool(np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all())
    low, high, p = _test(one - other)
    return Paired(
        a,
        b,
        float(one.mean()) if one.size else math.nan,
        float(other.mean()) if one.size else math.nan,
        int(both.sum()),
        int((one > other).sum()) if classes else None,
        int((one < other).sum()) if classes else None,
        low,
        high,
        p,
    )


def _test(differences: _Doubles) -> tuple[float | None, float | None, float | None]:
    """95 % interval of the mean, and p of a mean of 0; None where there are too few."""
    if len(differences) < _BLOCKS * _LEAST_IN_A_BLOCK:
        return None, None, None
    means = np.array([block.mean() for block in np.array_split(differences, _BLOCKS)])
    mean, spread = float(differences.mean()), float(means.std(ddof=1) / math.sqrt(_BLOCKS))
    if spread == 0:  # the same in every block
        return mean, mean, float(mean == 0)
    half = float(stats.t.ppf(1 - _ALPHA / 2, _BLOCKS - 1)) * spread
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean / spread), _BLOCKS - 1))


def within(report: Figures, against: str = "streammeta") -> list[Paired]:
    """One learner of a report against every other one of the same report."""
    learners = report["learners"]
    ours = decode_errors(learners[against]["errors"])
    return [
        paired(against, ours, name, decode_errors(figures["errors"]))
        for name, figures in learners.items()
        if name != against and figures["errors"]["count"] == len(ours)
    ]


def compare(
    report_a: Figures, report_b: Figures, *, learner: str | None = None, other: str | None = None
) -> list[Paired]:
    """Learners of one report against those of another one, about the same events.

    Args:
        report_a: as `streammeta replay --json` writes it.
        report_b: another one.
        learner: compare this one of A; None: every one that both have.
        other: with this one of B; None: the one of the same name.

    Raises:
        ConfigError: they are about different events, or have no such learner.
    """
    seen_a, seen_b = report_a["labels_seen"], report_b["labels_seen"]
    if seen_a != seen_b:
        raise ConfigError(
            f"compare: A has {seen_a['count']:,} labels and B {seen_b['count']:,}, and they are not the same ones in "
            "the same order; wanted two replays of one stream with the same --limit and --label-delay"
        )
    in_a, in_b = report_a["learners"], report_b["learners"]
    names = [learner] if learner is not None else [name for name in in_a if name in in_b]
    pairs = [(name, other or name) for name in names]
    for name, there, which in [(n, in_a, "A") for n, _ in pairs] + [(n, in_b, "B") for _, n in pairs]:
        if name not in there:
            raise ConfigError(f"compare: {which} has no learner {name!r}; wanted one of {', '.join(there)}")
    return [
        paired(f"A: {one}", decode_errors(in_a[one]["errors"]), f"B: {two}", decode_errors(in_b[two]["errors"]))
        for one, two in pairs
    ]


def read_report(path: Path) -> Figures:
    """A report that `streammeta replay --json` wrote.

    Raises:
        ConfigError: it is none, or has no single errors.
    """
    wanted = "wanted a file that `streammeta replay --json FILE` wrote"
    try:
        report = json.loads(path.read_text("utf-8"))
        learners: Mapping[str, Any] = report["learners"]
        for figures in learners.values():
            decode_errors(figures["errors"])
        if not {"count", "sha256"} <= report["labels_seen"].keys():
            raise ValueError("no fingerprint of the labels")  # noqa: TRY301 reported below like the rest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"{path}: not a report that can be compared ({err!r}); {wanted}") from err
    return dict(report)


def table(pairs: Sequence[Paired]) -> Table:
    """The comparisons, for a terminal."""
    shown = Table(title="Paired over events", title_justify="left")
    for name in ("A", "B", "error of A", "error of B", "A − B, 95 %", "p", "events", ""):
        shown.add_column(name, justify="left" if name in ("A", "B", "") else "right")
    for pair in pairs:
        errors = (f"{pair.error_a:.4f}", f"{pair.error_b:.4f}")
        names = cell(pair.a), cell(pair.b)
        shown.add_row(*names, *errors, _interval(pair), _p(pair), f"{pair.events:,}", pair.verdict)
    return shown


def lines(pairs: Sequence[Paired]) -> list[str]:
    """The comparisons as plain lines."""
    return [
        f"{pair.a} {pair.error_a:.4f}, {pair.b} {pair.error_b:.4f}: difference {_interval(pair)}, p {_p(pair)}, "
        f"{pair.events:,} events: {pair.verdict}"
        for pair in pairs
    ]


def _interval(pair: Paired) -> str:
    if pair.low is None or pair.high is None:
        return f"{pair.difference:+.4f}"
    return f"{pair.difference:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}]"


def _p(pair: Paired) -> str:
    return "-" if pair.p is None else "< 0.0001" if pair.p < 1e-4 else f"{pair.p:.4f}"

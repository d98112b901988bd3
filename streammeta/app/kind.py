"""What to predict, where nobody says: by the first labels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.config import Settings
from streammeta.engine.settings import AppKind
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Event, Feature, LabelValue, Record
from streammeta.formats.moment import order_of
from streammeta.formats.refusal import Refusals

__all__ = ["ChosenKind", "choose_kind", "resolve_kind"]

_MOST_CLASSES = 50  # whole numbers with more distinct values are taken for a regression target
_FEW_CLASSES = 7  # with fewer, they are classes
_MOST_TEXTS = 100  # classes
_FEWEST_EACH = 3  # labels of a class; with fewer, whole numbers are no classes
_FEW_TEXTS = 0.1  # of labels that are numbers else: markers of missing ones
_ORDERS = 200  # tried beside the one of the numbers
_MOST_FEATURES = 200
_SHOWN = 12  # names that a message lists
_Floats: TypeAlias = npt.NDArray[np.float64]


class ChosenKind(NamedTuple):
    """What to predict, and why that."""

    kind: AppKind
    reason: str


class _Seen(NamedTuple):
    """A label, and the features of its event."""

    y: LabelValue
    x: Mapping[str, Feature] | Sequence[float | None]


def resolve_kind(
    settings: Settings,
    *,
    kind: AppKind | Literal["auto"] | None,
    seed: int | None,
    first: Callable[[], Iterable[Record]],
    decoder: Decoder | None = None,
    label: str = "y",
) -> tuple[Settings, str]:
    """The settings for a replay, and why what is predicted is predicted.

    Args:
        settings: from file and environment.
        kind: wins over them; "auto", or None where they do not say either: chosen by the first labels.
        seed: wins over them, unless None.
        first: the first records.
        decoder: reads them; None: one with default settings.
        label: the field with the label, for messages.
    """
    if kind is not None and kind != "auto":
        chosen = ChosenKind(kind, "as asked for")
    elif kind is None and "kind" in settings.app.model_fields_set:
        chosen = ChosenKind(settings.app.kind, "as the configuration says")
    else:
        chosen = choose_kind(first(), decoder, label)
    changes = {"kind": chosen.kind} | ({} if seed is None else {"seed": seed})
    return settings.model_copy(update={"app": settings.app.model_copy(update=changes)}), chosen.reason


def choose_kind(records: Iterable[Record], decoder: Decoder | None = None, label: str = "y") -> ChosenKind:
    """Classification or regression, from the labels of a stream's first records.

    Text is classes, fractions are a target. Whole numbers are classes where they are few; else they are a target where
    their order means something: where it follows the features (a permutation test), where they are as frequent as
    counts are, where they are far apart, or where they are many.

    Args:
        records: the first of the stream.
        decoder: reads them; None: one with default settings.
        label: the field with the label, for messages.

    Raises:
        ConfigError: no record has a label, or none can be used; the message says why. Or they are hundreds of texts.
    """
    decoder, refusals, seen, count = decoder or Decoder(), Refusals(), list[_Seen](), 0
    flags = decoder.flags
    without: dict[str, None] = {}  # names of features where there is no label
    for count, record in enumerate(records, 1):  # noqa: B007 it is the number of records at the end
        try:
            event = decoder.decode(record)
        except EventError as err:  # the run itself will count it
            refusals.add(str(err))
            continue
        if event.y is not None:
            seen.append(_Seen(event.y, event.x if isinstance(event, Event) else {}))
        elif isinstance(event, Event) and isinstance(event.x, Mapping) and len(without) < _SHOWN:
            without |= dict.fromkeys(event.x)
    if seen:
        chosen = _choose(seen)
        return ChosenKind(chosen.kind, chosen.reason + _mixture(seen, decoder.flags - flags, chosen.kind))
    wanted = "say --kind classification or regression"
    if not count:
        raise ConfigError(
            f"--kind auto: there are no records to choose by: no row but a header, or nothing at all; {wanted}"
        )
    why = "; ".join(refusals.lines(3))
    if refusals.count == count:
        raise ConfigError(f"--kind auto: none of the first {count:,} records can be used: {why}")
    there = f" (they have {', '.join(list(without)[:_SHOWN])})" if without else ""
    raise ConfigError(
        f"--kind auto: the first records have no label `{label}`{there}; name its column or field with --label, or "
        + wanted
        + (f"; {refusals.count:,} of the first {count:,} cannot be used: {why}" if why else "")
    )


def _mixture(seen: Sequence[_Seen], flags: int, kind: AppKind) -> str:
    """What is odd about labels of several types, which are classes of their own each; "" where they are of one."""
    texts = sum(isinstance(one.y, str) for one in seen)
    numbers = len(seen) - texts - flags
    found = []
    if flags and (texts or any(one.y not in (0, 1) for one in seen)):
        found.append(f"{flags:,} are true or false, which are 1 and 0")
    alike = _alike({one.y for one in seen if isinstance(one.y, str)})
    if alike:
        found.append(f"{' and '.join(map(repr, alike))} are different classes")
    if kind == "classification" and texts and texts < len(seen):
        found.append(f"{texts:,} are text" + (f" and {numbers:,} numbers" if numbers else ""))
    return f"; of these labels {', '.join(found)}: is one of these a mistake?" if found else ""


def _alike(texts: set[str]) -> Sequence[str]:
    """Two texts that differ in capitals or spaces only; none where there are none such."""
    known: dict[str, str] = {}
    for text in sorted(texts):
        first = known.setdefault(" ".join(text.casefold().split()), text)
        if first != text:
            return first, text
    return ()


def _choose(seen: Sequence[_Seen]) -> ChosenKind:
    where = f"in the first {len(seen):,} labels"
    texts = [one.y for one in seen if isinstance(one.y, str)]
    numbers = [one for one in seen if not isinstance(one.y, str)]
    if texts and not (len(texts) <= _FEW_TEXTS * len(seen) and len({one.y for one in numbers}) > _MOST_CLASSES):
        distinct = len(set(texts))
        if distinct > 1 and len(texts) == len(seen) and order_of(texts) not in (None, "clock"):
            raise ConfigError(
                f"--kind auto: the labels are dates as text {where}, such as {texts[0]!r:.60}; wanted a target "
                "(seconds since 1970) or classes; name another --label, or overrule this with --kind classification"
            )
        if distinct > _MOST_TEXTS and distinct > len(texts) / 10:
            raise ConfigError(
                f"--kind auto: {distinct} different texts {where}, such as {texts[0]!r:.60}, are hardly classes; name "
                "another --label, or overrule this with --kind classification"
            )
        return ChosenKind("classification", f"{texts[0]!r:.60} {where} is text")
    but = f"; {texts[0]!r:.60} is text: is it --missing?" if texts else ""
    fractions = [one.y for one in numbers if isinstance(one.y, float)]
    if fractions:
        found = next((one for one in fractions if not one.is_integer()), None)
        large = f"about {fractions[0]:.4g} {where} is 2^53 or beyond, where numbers share floats: classes want text"
        why = large if found is None else f"{found} {where} is not a whole number"
        return ChosenKind("regression", why + but)
    distinct = len({one.y for one in numbers})
    if distinct > _MOST_CLASSES:
        return ChosenKind("regression", f"{distinct} different whole numbers {where}, more than {_MOST_CLASSES}{but}")
    if distinct == 1 and len(seen) > 1:
        return ChosenKind("classification", f"all of the first {len(seen):,} labels are {seen[0].y}; is --label right?")
    if distinct >= _FEW_CLASSES:
        y = np.array([one.y for one in numbers], dtype=np.float64)
        is_rare = len(seen) < _FEWEST_EACH * distinct
        why = "are hardly classes" if is_rare else _order_means_something(y, _numbers(numbers))
        if why:
            return ChosenKind("regression", f"{distinct} different whole numbers {where} {why}; --kind overrules this")
    return ChosenKind("classification", f"{distinct} different whole numbers {where}, at most {_MOST_CLASSES}")


def _order_means_something(y: _Floats, x: _Floats) -> str:
    """Why whole numbers y [N], with features x [N, D], are amounts and no codes of classes; "" where they are codes."""
    values, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(values) >= 10 and values[-1] - values[0] > 3 * len(values):
        return f"are spread from {values[0]:.0f} to {values[-1]:.0f}"
    if _are_counts(values, counts):
        return "rise and fall in frequency as counts do"
    if _follows(values, codes, x):
        return "follow the features in their order"
    return ""


def _are_counts(values: _Floats, counts: npt.NDArray[np.intp]) -> bool:
    """Whether frequencies rise to one peak inside and fall from it, but for chance, down to a thin tail."""
    whole = np.zeros(int(values[-1] - values[0]) + 1)
    whole[(values - values[0]).astype(int)] = counts
    peak = int(whole.argmax())
    steps = np.diff(whole)
    slack = 3.0 * np.sqrt(whole[1:] + whole[:-1])
    is_smooth = bool((steps[:peak] >= -slack[:peak]).all() and (steps[peak:] <= slack[peak:]).all())
    turns = int((steps[:peak] < 0).sum() + (steps[peak:] > 0).sum())
    has_gaps = len(values) < len(whole)  # in the tail: codes have none
    is_inside = peak > 0 or (values[0] == 0 and has_gaps)
    return is_smooth and is_inside and turns <= len(values) / 4 and min(counts) <= 0.05 * whole[peak]


def _follows(values: _Floats, codes: npt.NDArray[np.intp], x: _Floats) -> bool:
    """Whether a linear model of the features explains the numbers better than it does in any other order of them."""
    if x.shape[1] == 0 or len(codes) < 5 * x.shape[1]:
        return False
    basis, _ = np.linalg.qr(np.column_stack([np.ones(len(x)), x]))
    random = np.random.default_rng(0)

    def explained(numbers: _Floats) -> float:
        centred = numbers[codes] - numbers[codes].mean()
        return float(np.sum((basis.T @ centred) ** 2) / np.sum(centred**2))

    others = np.array([explained(random.permutation(values)) for _ in range(_ORDERS)])
    found = explained(values)
    return bool(found > others.max() and found - others.mean() > 4 * others.std() and found > 0.1)


def _numbers(seen: Sequence[_Seen]) -> _Floats:
    """The numeric features [N, D], in spreads from their means; missing ones are the mean."""
    named = [one.x for one in seen if isinstance(one.x, Mapping)]
    if len(named) < len(seen):
        return np.zeros((len(seen), 0))
    kinds = {name: type(value) for x in named for name, value in x.items() if isinstance(value, int | float)}
    names = sorted(kinds)[:_MOST_FEATURES]
    table = np.array(
        [[v if isinstance(v := x.get(n), int | float) else np.nan for n in names] for x in named], dtype=float
    )
    table = table.reshape(len(seen), len(names))
    spread = np.nanstd(table, axis=0)
    table = table[:, spread > 0]
    scaled: _Floats = (table - np.nanmean(table, axis=0)) / np.nanstd(table, axis=0)
    return np.nan_to_num(scaled)

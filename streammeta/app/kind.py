"""What to predict, where nobody says: by the first labels."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from streammeta.config import Settings
from streammeta.engine import Kind
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, LabelValue, Record
from streammeta.formats.refusal import Refusals

__all__ = ["ChosenKind", "choose_kind", "resolve_kind"]

_MOST_CLASSES = 50  # whole numbers with more distinct values are taken for a regression target


class ChosenKind(NamedTuple):
    """What to predict, and why that."""

    kind: Kind
    reason: str


def resolve_kind(
    settings: Settings,
    *,
    kind: Kind | Literal["auto"] | None,
    seed: int | None,
    first: Callable[[], Iterable[Record]],
    decoder: Decoder | None = None,
) -> tuple[Settings, str]:
    """The settings for a replay, and why what is predicted is predicted.

    Args:
        settings: from file and environment.
        kind: wins over them; "auto", or None where they do not say either: chosen by the first labels.
        seed: wins over them, unless None.
        first: the first records.
        decoder: reads them; None: one with default settings.
    """
    if kind is not None and kind != "auto":
        chosen = ChosenKind(kind, "as asked for")
    elif kind is None and "kind" in settings.app.model_fields_set:
        chosen = ChosenKind(settings.app.kind, "as the configuration says")
    else:
        chosen = choose_kind(first(), decoder)
    changes = {"kind": chosen.kind} | ({} if seed is None else {"seed": seed})
    return settings.model_copy(update={"app": settings.app.model_copy(update=changes)}), chosen.reason


def choose_kind(records: Iterable[Record], decoder: Decoder | None = None) -> ChosenKind:
    """Classification or regression, from the labels of a stream's first records.

    Args:
        records: the first of the stream.
        decoder: reads them; None: one with default settings.

    Raises:
        ConfigError: no record has a label, or none can be used; the message says why.
    """
    decoder, refusals, labels, count = decoder or Decoder(), Refusals(), list[LabelValue](), 0
    for count, record in enumerate(records, 1):  # noqa: B007 it is the number of records at the end
        try:
            y = decoder.decode(record).y
        except EventError as err:  # the run itself will count it
            refusals.add(str(err))
            continue
        if y is not None:
            labels.append(y)
    if labels:
        return _choose(labels)
    wanted = "wanted --kind classification or regression"
    if not count:
        raise ConfigError(f"--kind auto: there are no records to choose by; {wanted}")
    why = "; ".join(refusals.lines(3))
    if refusals.count == count:
        raise ConfigError(f"--kind auto: none of the first {count:,} records can be used: {why}")
    raise ConfigError(
        f"--kind auto: the first records have no label `y`; name its column or field with --label, or {wanted}"
        + (f"; {refusals.count:,} of the first {count:,} cannot be used: {why}" if why else "")
    )


def _choose(labels: Sequence[LabelValue]) -> ChosenKind:
    seen = f"in the first {len(labels):,} labels"
    texts = [y for y in labels if isinstance(y, str)]
    if texts:
        return ChosenKind("classification", f"{texts[0]!r:.60} {seen} is text")
    fractions = [y for y in labels if isinstance(y, float)]
    if fractions:
        return ChosenKind("regression", f"{fractions[0]} {seen} is not a whole number")
    distinct = len(set(labels))
    if distinct > _MOST_CLASSES:
        return ChosenKind("regression", f"{distinct} different whole numbers {seen}, more than {_MOST_CLASSES}")
    return ChosenKind("classification", f"{distinct} different whole numbers {seen}, at most {_MOST_CLASSES}")

"""What to predict, where nobody says: by the first labels."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from streammeta.config import Settings
from streammeta.engine import Kind
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, LabelValue, Record

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
) -> tuple[Settings, str]:
    """The settings for a replay, and why what is predicted is predicted.

    Args:
        settings: from file and environment.
        kind: wins over them; "auto", or None where they do not say either: chosen by the first labels.
        seed: wins over them, unless None.
        first: the first records.
    """
    if kind is not None and kind != "auto":
        chosen = ChosenKind(kind, "as asked for")
    elif kind is None and "kind" in settings.app.model_fields_set:
        chosen = ChosenKind(settings.app.kind, "as the configuration says")
    else:
        chosen = choose_kind(first())
    changes = {"kind": chosen.kind} | ({} if seed is None else {"seed": seed})
    return settings.model_copy(update={"app": settings.app.model_copy(update=changes)}), chosen.reason


def choose_kind(records: Iterable[Record]) -> ChosenKind:
    """Classification or regression, from the labels of a stream's first records.

    Raises:
        ConfigError: no record has a label.
    """
    labels = list(_labels(records))
    if not labels:
        raise ConfigError(
            "--kind auto: the first records have no label `y`; wanted --kind classification or regression"
        )
    return _choose(labels)


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


def _labels(records: Iterable[Record]) -> Iterator[LabelValue]:
    decoder = Decoder()
    for record in records:
        try:
            y = decoder.decode(record).y
        except EventError:  # the run itself will count it
            continue
        if y is not None:
            yield y

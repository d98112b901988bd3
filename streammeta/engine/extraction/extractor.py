"""Events with the features that are made for them."""

from collections.abc import Mapping, Sequence

import structlog
from msgspec.structs import replace

from streammeta.engine.columns import Column, Columns
from streammeta.engine.extraction.encoder import Encoder
from streammeta.engine.extraction.rolling import Rolling
from streammeta.engine.extraction.settings import FeatureSettings
from streammeta.engine.extraction.text import TextHash
from streammeta.errors import EventError
from streammeta.event import Event, Feature, LabelValue, Origin

__all__ = ["Extractor"]

_log = structlog.get_logger(__name__)
_SHOWN = 100  # characters of a name that a message repeats
_LOOKED_AT = 1_000  # events after which it is said that a feature was never made


class Extractor:
    """Makes features of others.

    Args:
        settings: which.
        classify: labels are classes.
        seed: fixes how text is hashed.

    Raises:
        ConfigError: there is no such encoder.

    Attributes:
        columns: what a task's row has for it.
        has_past: whether what it makes depends on what came before.
        needs_label_times: whether a label's event has to be remembered with its time until the label comes.
    """

    def __init__(self, settings: FeatureSettings, *, classify: bool, seed: int) -> None:
        self._rolling = Rolling(settings.rolling, classify=classify)
        self._texts = {name: TextHash(name, settings.text_width, seed) for name in settings.text}
        self._encoders = {name: Encoder(name, path) for name, path in settings.encoders.items()}
        self._categories = frozenset(settings.categories)
        self._of_numbers = {name: f"{name}.*" for name in (*self._texts, *self._encoders)}
        self._awaited = {*self._rolling.names, *self._of_numbers.values(), *self._categories}
        self._events = 0
        self.columns: Mapping[str, Column] = self._rolling.columns
        self.has_past = bool(settings.rolling)
        self.needs_label_times = self._rolling.needs_label_times

    @property
    def made(self) -> list[str]:
        """What is made, in order: the names of features, and of many numbers made of one feature "NAME.*"."""
        return sorted([*self._rolling.names, *self._of_numbers.values()])

    @property
    def never_made(self) -> list[str]:
        """Those of them that no event has had since this process began, in order.

        What they are made of never came or is misspelt, is a text where numbers are wanted, or events have no time.
        """
        return sorted(self._awaited)

    @classmethod
    def of(cls, settings: FeatureSettings, *, classify: bool, seed: int) -> "Extractor | None":
        """What makes features; None where none are made."""
        return None if settings.is_empty else cls(settings, classify=classify, seed=seed)

    def extracted(self, event: Event, x: Mapping[str, Feature], columns: Columns, row: int) -> Event:
        """The event with all its features; nothing is remembered.

        Args:
            event: as it came.
            x: its features by name.
            columns: of the task table.
            row: the task's; −1: it has none yet.

        Raises:
            EventError: it brings a feature that is made here, or an encoder cannot make numbers of what it has.
        """
        made = self._numbers(x, event.origin) if self._texts or self._encoders else {}
        taken = self._rolling.names.intersection(x) or made.keys() & x.keys()
        if taken:
            raise EventError(
                f"{event.origin}: the event brings feature {min(taken)[:_SHOWN]!r}, which [features] makes; "
                "rename it, leave it out ([input.fields] exclude), or do not make it"
            )
        if self._texts or self._encoders:
            made |= {name: one for name, one in x.items() if name not in self._texts and name not in self._encoders}
        else:
            made.update(x)
        for name in self._categories:
            made |= self._category(name, x.get(name))
        past = self._rolling.features(columns, row, event.ts)
        if self._awaited:
            self._awaited.difference_update(past)
        return replace(event, x=made | past, came=event.x)

    def _category(self, name: str, value: Feature) -> dict[str, Feature]:
        """A number as the text that names it; what is none stays what it is."""
        if value is not None:
            self._awaited.discard(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return {name: _as_text(value)} if is_number else {}

    def _numbers(self, x: Mapping[str, Feature], at: Origin) -> dict[str, Feature]:
        """The numbers that texts are made to, and what encoders make, by name."""
        found: dict[str, Feature] = {}
        for name, place in self._of_numbers.items():
            if (value := x.get(name)) is not None:
                text = self._texts.get(name)
                found |= _named(name, text(_as_text(value)) if text else self._encoders[name](value, at))
                self._awaited.discard(place)
        return found

    def remember(self, columns: Columns, row: int, event: Event) -> None:
        """An event of this row came; ``event`` as ``extracted`` gave it, with its label, if it has one."""
        assert isinstance(event.x, Mapping)  # it was extracted
        self._events += 1
        if self._events == _LOOKED_AT and self._awaited:
            _log.warning(
                "features that no event has had yet",
                features=self.never_made,
                events=_LOOKED_AT,
                remedy="what they are made of never came (is its name right?), is text where numbers are wanted, or "
                "events have no time",
            )
        self._rolling.remember(columns, row, event.x, event.ts)
        if event.y is not None:
            self._rolling.remember_label(columns, row, event.y, event.ts)

    def remember_label(self, columns: Columns, row: int, y: LabelValue, ts: float | None) -> None:
        """The label of an event of this row came late; ``ts``: the event's time."""
        self._rolling.remember_label(columns, row, y, ts)


def _named(name: str, numbers: Sequence[float]) -> dict[str, Feature]:
    """Numbers made of one feature, by name: the place of each of how many."""
    width = len(numbers)
    return {f"{name}.{i}of{width}": one for i, one in enumerate(numbers)}


def _as_text(value: Feature) -> str:
    """A number as people write it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)

"""Events with the features that are made for them."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from streammeta.engine.columns import Column, Columns
from streammeta.engine.extraction.encoder import Encoder
from streammeta.engine.extraction.rolling import Rolling
from streammeta.engine.extraction.settings import FeatureSettings
from streammeta.engine.extraction.text import TextHash
from streammeta.errors import EventError
from streammeta.event import Event, Feature, LabelValue, Origin

__all__ = ["Extractor"]

_SHOWN = 100  # characters of a name that a message repeats


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
        self._never_there = {*self._rolling.features_used, *self._texts, *self._encoders}
        self.columns: Mapping[str, Column] = self._rolling.columns
        self.has_past = bool(settings.rolling)
        self.needs_label_times = self._rolling.needs_label_times

    @property
    def made(self) -> list[str]:
        """What is made, in order: the names of features, and of many numbers made of one feature "NAME.*"."""
        return sorted([*self._rolling.names, *(f"{name}.*" for name in (*self._texts, *self._encoders))])

    @property
    def never_there(self) -> list[str]:
        """The features that others are made of and that no event had since this process began, in order."""
        return sorted(self._never_there)

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
        return replace(event, x=made | self._rolling.features(columns, row, event.ts), came=event.x)

    def _numbers(self, x: Mapping[str, Feature], at: Origin) -> dict[str, Feature]:
        """The numbers that texts are made to, and what encoders make, by name."""
        found: dict[str, Feature] = {}
        for name, hashed in self._texts.items():
            if (value := x.get(name)) is not None:
                found |= _named(name, hashed(_as_text(value)))
        for name, encoder in self._encoders.items():
            if (value := x.get(name)) is not None:
                found |= _named(name, encoder(value, at))
        return found

    def remember(self, columns: Columns, row: int, event: Event) -> None:
        """An event of this row came; ``event`` as ``extracted`` gave it, with its label, if it has one."""
        assert isinstance(event.x, Mapping)  # it was extracted
        if self._never_there:
            came = event.came if isinstance(event.came, Mapping) else event.x
            self._never_there = {name for name in self._never_there if came.get(name) is None}
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

"""Events with the features that are made for them."""

from collections.abc import Mapping

from msgspec.structs import replace

from streammeta.engine.columns import Column, Columns
from streammeta.engine.extraction.rolling import Rolling
from streammeta.engine.extraction.settings import FeatureSettings
from streammeta.errors import EventError
from streammeta.event import Event, Feature, LabelValue

__all__ = ["Extractor"]

_SHOWN = 100  # characters of a name that a message repeats


class Extractor:
    """Makes features of others.

    Args:
        settings: which.
        classify: labels are classes.

    Attributes:
        columns: what a task's row has for it.
        needs_label_times: whether a label's event has to be remembered with its time until the label comes.
    """

    def __init__(self, settings: FeatureSettings, *, classify: bool) -> None:
        self._rolling = Rolling(settings.rolling, classify=classify)
        self.columns: Mapping[str, Column] = self._rolling.columns
        self.needs_label_times = self._rolling.needs_label_times

    @property
    def made(self) -> list[str]:
        """The names of the features that are made, in order."""
        return sorted(self._rolling.names)

    @property
    def never_there(self) -> list[str]:
        """The features that others are made of and that no event had since this process began, in order."""
        return sorted(self._rolling.never_there)

    @classmethod
    def of(cls, settings: FeatureSettings, *, classify: bool) -> "Extractor | None":
        """What makes features; None where none are made."""
        return None if settings.is_empty else cls(settings, classify=classify)

    def extracted(self, event: Event, x: Mapping[str, Feature], columns: Columns, row: int) -> Event:
        """The event with all its features; nothing is remembered.

        Args:
            event: as it came.
            x: its features by name.
            columns: of the task table.
            row: the task's; −1: it has none yet.

        Raises:
            EventError: it brings a feature that is made here.
        """
        taken = self._rolling.names.intersection(x)
        if taken:
            raise EventError(
                f"{event.origin}: the event brings feature {min(taken)[:_SHOWN]!r}, which [features] rolling makes; "
                "rename it, leave it out ([input.fields] exclude), or do not make it"
            )
        return replace(event, x={**x, **self._rolling.features(columns, row, event.ts)}, came=event.x)

    def remember(self, columns: Columns, row: int, event: Event) -> None:
        """An event of this row came; ``event`` as ``extracted`` gave it, with its label, if it has one."""
        assert isinstance(event.x, Mapping)  # it was extracted
        self._rolling.remember(columns, row, event.x, event.ts)
        if event.y is not None:
            self._rolling.remember_label(columns, row, event.y, event.ts)

    def remember_label(self, columns: Columns, row: int, y: LabelValue, ts: float | None) -> None:
        """The label of an event of this row came late; ``ts``: the event's time."""
        self._rolling.remember_label(columns, row, y, ts)

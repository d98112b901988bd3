"""Which features are made of others: `[features]`."""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, Field, field_validator, model_validator

__all__ = ["LABEL", "FeatureSettings", "RollingSettings", "Statistic"]

LABEL: Final = "label"  # in `of`: the task's labels, not a feature
_FIELD: Final = "field:"  # before a feature of that very name
_MOST_EVENTS: Final = 1_000
_LONGEST_NAME: Final = 200
_TEXT_WIDTH: Final = 64
_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
Statistic: TypeAlias = Literal["lag", "mean", "min", "max", "std", "sum", "count", "since"]
_OF_WINDOW: Final = frozenset({"mean", "min", "max", "std", "sum", "count"})
_Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]


class RollingSettings(BaseModel, frozen=True, extra="forbid"):
    """Features of what a task's own events before had in one feature, or of its labels."""

    of: _Name = Field(description='A feature; or "label": labels known by then ("field:label": a feature so called).')
    make: tuple[Statistic, ...] = Field(
        description='"lag", "mean", "min", "max", "std", "sum", "count" (of values in it), "since" (seconds since '
        "the last).",
    )
    lags: tuple[Annotated[int, Field(ge=1, le=_MOST_EVENTS)], ...] = Field(
        (1,), description='Which values "lag" gives, counted back: 1 is the last one.'
    )
    events: int = Field(10, ge=1, le=_MOST_EVENTS, description="The window: the last values, at most so many.")
    seconds: float | None = Field(
        None, gt=0, le=1e10, description="Only those of so many seconds before the event; None: however old."
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        for option in ("make", "lags"):
            given = getattr(self, option)
            if not given:
                raise ValueError(f"{option}: is empty of {self.of!r}; wanted at least one")
            if len(set(given)) < len(given):
                raise ValueError(f"{option}: got {list(given)} of {self.of!r}; wanted each once")
        if "lags" in self.model_fields_set and "lag" not in self.make:
            raise ValueError(f"lags: is not used of {self.of!r}, as make has no 'lag'; add it, or leave lags out")
        for option in ("events", "seconds"):
            if option in self.model_fields_set and not _OF_WINDOW.intersection(self.make):
                raise ValueError(
                    f"{option}: is not used of {self.of!r}, as make has none of {', '.join(sorted(_OF_WINDOW))}; add "
                    f"one, or leave {option} out"
                )
        return self

    @property
    def is_of_labels(self) -> bool:
        """Whether it is of labels."""
        return self.of == LABEL

    @property
    def feature(self) -> str:
        """The name of the feature that it is of."""
        return self.of.removeprefix(_FIELD)

    @property
    def window(self) -> str:
        """The window, as it stands in the names of features: "10" values, or "3600s"."""
        return f"{self.events}" if self.seconds is None else f"{self.seconds:.12g}s"

    @property
    def values(self) -> int:
        """How many values have to be remembered."""
        window = self.events if _OF_WINDOW.intersection(self.make) else 1
        return max(window, max(self.lags) if "lag" in self.make else 1)

    def names(self) -> Iterator[tuple[str, Statistic, int]]:
        """Each feature that is made: its name, which statistic, and which lag (0: of none)."""
        for statistic in self.make:
            if statistic == "lag":
                yield from ((f"{self.of}.lag_{lag}", statistic, lag) for lag in self.lags)
            elif statistic == "since":
                yield f"{self.of}.since", statistic, 0
            else:
                yield f"{self.of}.{statistic}_{self.window}", statistic, 0


class FeatureSettings(BaseModel, frozen=True, extra="forbid"):
    """Features made of others; by default none."""

    rolling: tuple[RollingSettings, ...] = Field(
        (),
        description="Of a task's own past, strictly before the event, each a table: "
        '{ of = "amount", make = ["lag", "mean", "count", "since"], events = 10 } makes amount.lag_1, amount.mean_10, '
        'amount.count_10, amount.since. of = "label": of the labels known by then. Beside these make has "min", '
        '"max", "std", "sum"; lags = [1, 7] says which values back; seconds = 3600 keeps the window (of at most events '
        "values) to the last hour.",
    )

    categories: tuple[_Name, ...] = Field(
        (),
        description="Features whose numbers are names (a shop's, a zip code): each is a category's value, as text is.",
    )
    text: tuple[_Name, ...] = Field(
        (),
        description="Features that are text of many words, rather than a category: each becomes text_width numbers, by "
        "hashing the 3 to 5 characters in a row that it has.",
    )
    text_width: int = Field(_TEXT_WIDTH, ge=4, le=1_024, description="Numbers that each such text becomes.")
    encoders: dict[_Name, str] = Field(
        {},
        description="Features of which a function of yours makes numbers, as many each time: a table "
        '{ photo = "mypackage.module:function" }. It gets what the record has: text, for an image in base64.',
    )

    @field_validator("rolling")
    @classmethod
    def _makes_each_once(cls, value: tuple[RollingSettings, ...]) -> tuple[RollingSettings, ...]:
        names = [name for one in value for name, *_ in one.names()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"rolling: {twice!r} is made twice; wanted each feature once (windows in seconds are named by these "
                "alone)"
            )
        of_made = next((one.of for one in value if one.feature in names), None)
        if of_made is not None:
            raise ValueError(f"rolling: {of_made!r} is made here itself; wanted a feature that events bring")
        return value

    @field_validator("encoders")
    @classmethod
    def _are_paths(cls, value: dict[str, str]) -> dict[str, str]:
        for name, path in value.items():
            if not _PATH.fullmatch(path):
                raise ValueError(f"encoders: got {path!r} for {name!r}; wanted 'package.module:function'")
        return value

    @model_validator(mode="after")
    def _makes_numbers_of_each_once(self) -> Self:
        numbers = [*self.text, *self.encoders]
        named = [*numbers, *self.categories]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"text: got {twice!r} twice, in text, encoders or categories; wanted each once")
        rolling = next((one.of for one in self.rolling if not one.is_of_labels and one.feature in numbers), None)
        if rolling is not None:
            raise ValueError(
                f"rolling: {rolling!r} is in text or encoders, which make many numbers of it; wanted another"
            )
        if self.text_width != _TEXT_WIDTH and not self.text:
            raise ValueError("text_width: is not used, as text names no feature; leave it out")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is made."""
        return not (self.rolling or self.text or self.encoders or self.categories)

    @property
    def long_texts(self) -> frozenset[str]:
        """The features whose texts may be of any length, as far as a record may."""
        return frozenset((*self.text, *self.encoders))

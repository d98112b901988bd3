"""Where a record has what streammeta needs, and which of the rest are features: `[input.fields]`.

One mapping for topics, files and data frames: task, label, id and time by their names or dotted paths, features by
patterns, and the values that stand for a missing one.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, Field, ValidationError, model_validator

from streammeta.errors import ConfigError, TransportError

__all__ = ["FIELD", "HEADER", "JOINT", "KEY", "OPTIONS", "Fields", "check_columns", "fits", "make_fields"]

_Name: TypeAlias = str | tuple[str, ...]
_TimeFeature: TypeAlias = Literal["hour", "weekday", "month", "elapsed"]

OPTIONS = ("task", "label", "id", "time")
JOINT = "/"  # the parts of a joined task or id
KEY, HEADER, FIELD = "key", "header:", "field:"  # places that are no plain field


class Fields(BaseModel, frozen=True, extra="forbid"):
    """Which fields of a record, columns of a file or frame are what; with none of these, the shape of the README."""

    task: _Name = Field(
        "task",
        description='The field with the task\'s tag: a name, a dotted path ("store.id"), "key" (the record\'s key), '
        '"key.id" (a field of the key, where that is JSON), '
        '"header:NAME", "field:key" for a field of that name, or several of these, joined with "/".',
    )
    label: str = Field("y", min_length=1, description="The field with the label, named likewise.")
    id: _Name = Field("id", description="The field with the event's id, by which a late label finds it.")
    time: str = Field(
        "ts",
        min_length=1,
        description="The field with the time: ISO 8601 text, or seconds, milli-, micro- or nanoseconds since 1970.",
    )
    include: tuple[str, ...] = Field((), description='Only these are features: names or patterns ("size.*"); [] = all.')
    exclude: tuple[str, ...] = Field((), description="These are no features, though included: names or patterns.")
    missing: tuple[str, ...] = Field(
        (), description='Values that stand for a missing one: "-999", or in one field only: "insulin=0".'
    )
    time_features: tuple[_TimeFeature, ...] = Field(
        (),
        description='Features made of the time, in UTC: "hour", "weekday" (0: Monday), "month"; "elapsed": seconds '
        "since the task's event before, by name TIME.elapsed.",
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for option in ("task", "id"):
            if not getattr(self, option) or not all(self.names(option)):
                raise ValueError(f"{option}: is empty; wanted the name of a field, or several names")
        for option in ("task", "id", "time"):
            if self.label in self.names(option):
                raise ValueError(f"label and {option} both name {self.label!r}; a label that stands there is no secret")
        return self

    def names(self, option: str) -> tuple[str, ...]:
        """The fields that make up the task, label, id or time; one, unless they are joined."""
        found: _Name = getattr(self, option)
        return (found,) if isinstance(found, str) else found

    def check_rows(self) -> None:
        """Refuse what rows of a file or frame cannot have.

        Raises:
            ConfigError: a field stands in a record's key or headers.
        """
        for option in OPTIONS:
            for name in self.names(option):
                if name == KEY or name.startswith(HEADER):
                    raise ConfigError(
                        f"--{option} {name}: what is replayed has no keys or headers; name a column or field "
                        f"({FIELD}{name} is one of this very name)"
                    )

    @property
    def is_default(self) -> bool:
        """Whether records have the shape of the README."""
        return self == Fields()


def make_fields(base: Fields, **options: Any) -> Fields:  # noqa: ANN401 what a caller or a command line gives
    """The mapping of a configuration with options that win over it; None leaves what was.

    Raises:
        ConfigError: an option cannot be used.
    """
    given = {
        name: tuple(one) if isinstance(one, list | set) else one for name, one in options.items() if one is not None
    }
    try:
        return Fields.model_validate({**dict(base), **given})
    except ValidationError as err:
        found = err.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"][:1]))
        raise ConfigError(f"fields {where}: {found['msg'].removeprefix('Value error, ')}".replace(" :", ":")) from err


def check_columns(columns: Sequence[str], fields: Fields, at: str, *, nested: Sequence[str] = ()) -> None:
    """Refuse a table that has nothing of what a mapping asks for.

    Args:
        columns: their names.
        fields: the mapping.
        at: where the table is, for messages.
        nested: the dotted names of what is inside of columns of objects.

    Raises:
        TransportError: the columns are none, have a name twice, or lack one; the message lists them.
    """
    twice = {name for name in columns if columns.count(name) > 1}
    if not columns or twice:
        found = f"the names {', '.join(sorted(twice))} more than once" if twice else "nothing"
        raise TransportError(f"{at}: the header row has {found}; wanted one name a column, each once")
    there = f"the header row has {', '.join(columns)}"
    known, usual = {*columns, *nested}, Fields()
    for option in OPTIONS:
        for name in fields.names(option):
            if getattr(fields, option) != getattr(usual, option) and name.removeprefix(FIELD) not in known:
                raise TransportError(f"{at}: no column {name!r} for --{option}; {there}")
    for option in ("include", "exclude"):
        for pattern in getattr(fields, option):
            if not any(fits([column], [pattern]) or pattern.startswith(f"{column}.") for column in known):
                raise TransportError(f"{at}: no column fits {pattern!r} of --{option}; {there}")
    for marker in fields.missing:
        name, equals, _ = marker.partition("=")
        if equals and name not in known:
            raise TransportError(f"{at}: no column {name!r} for --missing {marker}; {there}")


def fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether one of these names is, or fits, one of the patterns."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns for name in names)

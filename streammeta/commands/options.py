"""Options that several commands have, and what they say together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streammeta.errors import ConfigError

if TYPE_CHECKING:
    from streammeta.config import Settings
    from streammeta.formats.fields import Fields

__all__ = [
    "FILE_WIDTH",
    "Config",
    "Exclude",
    "Id",
    "Include",
    "Json",
    "Kind",
    "Label",
    "Missing",
    "Partitions",
    "Rate",
    "Seed",
    "Speed",
    "Task",
    "Time",
    "To",
    "mapping",
    "pair",
]

FILE_WIDTH = 160  # columns of a table that goes to a file or a pipe

Config = Annotated[Path | None, typer.Option(help="A TOML file; `streammeta config` prints one with every setting.")]
Kind = Annotated[
    Literal["auto", "classification", "regression", "decision"] | None,
    typer.Option(help="What to predict. By default as the configuration says, else chosen by the first labels."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Fixes every random choice.")]
To = Annotated[str, typer.Option(help="FILE (.jsonl, .jsonl.gz), kafka://host:port/topic, or - for standard output.")]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="Of the Kafka topic, when it has to be created; 4 when not given.")
]
Rate = Annotated[float | None, typer.Option(min=0.001, help="Events a second; as fast as it goes when not given.")]
Speed = Annotated[
    float | None,
    typer.Option(min=0.001, help="1: at the pace of the time stamps, 10: ten times as fast; not given: all at once."),
]
Label = Annotated[str | None, typer.Option(help="The column or field with the label; in JSON a dotted path. [y]")]
Task = Annotated[
    list[str] | None, typer.Option(help="The column or field with the task's tag; repeated, they are joined. [task]")
]
Id = Annotated[list[str] | None, typer.Option("--id", help="The column or field with the event's id; likewise. [id]")]
Time = Annotated[str | None, typer.Option("--time", help="The column or field with the time stamp. [ts]")]
Include = Annotated[
    list[str] | None, typer.Option(help="Only these are features: a name or pattern ('size.*'). May be repeated.")
]
Exclude = Annotated[list[str] | None, typer.Option(help="These are no features. May be repeated.")]
Missing = Annotated[
    list[str] | None,
    typer.Option(help="A value that stands for a missing one: -999, or in one column, insulin=0. May be repeated."),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the report there as JSON; - for standard output.")]


def mapping(
    settings: "Settings",
    label: str | None,
    task: list[str] | None,
    id_: list[str] | None,
    time_: str | None,
    include: list[str] | None,
    exclude: list[str] | None,
    missing: list[str] | None,
) -> "Fields":
    """The mapping of the configuration, with the command's options."""
    from streammeta.formats.fields import make_fields

    base, given = settings.input.fields, {"include": include, "exclude": exclude, "missing": missing}
    return make_fields(base, label=label, task=task or None, id=id_ or None, time=time_, **given)


def pair(setting: str) -> tuple[str, str]:
    """The name and the value of a setting on the command line; raises ConfigError."""
    name, equals, value = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting}: wanted name=value, as in --set drift=gradual")
    return name, value

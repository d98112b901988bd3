"""The commands `init` and `config`: a configuration from a stream, and one with every setting."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streammeta.commands.options import Config, Exclude, Include, Label, Missing, Time
from streammeta.errors import ConfigError, TransportError
from streammeta.service import log

if TYPE_CHECKING:
    from streammeta.formats.survey import Choice

__all__ = ["config", "init"]


def init(
    stream: Annotated[str, typer.Argument(help="A file, folder or pattern, or kafka://host:port/topic.")],
    *,
    label: Label = None,
    task: Annotated[str | None, typer.Option(help="The field with the task's tag; '' for none.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The field with the event's id; '' for none.")] = None,
    time_: Time = None,
    include: Include = None,
    exclude: Exclude = None,
    missing: Missing = None,
    to: Annotated[Path, typer.Option(help="Write the configuration there; - for standard output.")] = Path(
        "streammeta.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write it though a file is there.")] = False,
    config: Config = None,
) -> None:
    """Look at a file's or topic's first records, say what is in them, and write the configuration that reads them."""
    from streammeta.commands.init import draft
    from streammeta.config import load

    log.configure("warning")
    if to != Path("-") and to.exists() and not force:
        raise ConfigError(f"--to {to}: is there already; name another file, or give --force")
    given = {"label": label, "task": task, "id": id_, "time": time_}
    ask = _ask if sys.stdin.isatty() and stream != "-" else None
    fixed = {option: name for option, name in given.items() if name is not None}
    features = {"include": include or (), "exclude": exclude or (), "missing": missing or ()}
    made = draft(stream, load(config), fixed=fixed, ask=ask, **features)
    for line in made.lines:
        typer.echo(line, err=True)
    for line in made.unsure:
        typer.echo(f"not sure: {line}", err=True)
    if to == Path("-"):
        typer.echo(made.toml, nl=False)
        return
    try:
        to.write_text(made.toml, "utf-8")
    except OSError as err:
        raise TransportError(f"--to {to}: cannot be written ({err.strerror}); name another file") from err
    typer.echo(f"configuration written to {to}; next: streammeta {made.command} --config {to}", err=True)


def config() -> None:
    """Print an example configuration: every setting with its default."""
    from streammeta.config import example

    typer.echo(example(), nl=False)


def _ask(option: str, choice: "Choice") -> str:
    """Which field it is, where that is not sure."""
    others = ", ".join((choice.name, *choice.others[:15]))
    return str(typer.prompt(f"{option} ({choice.reason}): one of {others}", default=choice.name, err=True))

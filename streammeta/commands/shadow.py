"""The command `shadow`: parse, call the library, show what it returns."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["shadow"]


def shadow(
    other: Annotated[str, typer.Argument(help="The [app] name of another application on the same input.")],
    *,
    config: Annotated[Path | None, typer.Option(help="The application's TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Does another application on the same input predict better, or was it luck? A paired test over their events.

    Run one with other settings beside the one in use, under another [app] name: it predicts into topics of its own,
    which nobody needs to read, and disturbs nothing.
    """
    from streammeta.app import shadow as library
    from streammeta.config import load
    from streammeta.review.paired import lines, paired

    settings = load(config)
    errors = library.shadow(settings, other)
    pair = paired(settings.app.name, errors.ours, other, errors.theirs)
    if as_json:
        typer.echo(json.dumps(pair.figures()))
        return
    for line in lines([pair]):
        typer.echo(line)

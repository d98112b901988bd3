"""The commands `dead-letters list`, `show` and `retry`: parse, call the library, show what it returns."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from streammeta.errors import ConfigError

__all__ = ["commands"]

commands = typer.Typer(
    help="What was set aside, and why; and what can be learned now, sent again, each once.", no_args_is_help=True
)
_SHOWN = 300  # characters of a record on a line
_MOST_LINES = 20  # of what could not be sent

_Config = Annotated[Path | None, typer.Option(help="The service's TOML file.")]
_Json = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]
_Which = Annotated[list[str] | None, typer.Argument(help="Letters, PARTITION/OFFSET; none: all.")]
_Reason = Annotated[str, typer.Option(help="Only those whose reason holds this text.")]


@commands.command(name="list")
def list_(config: _Config = None, *, as_json: _Json = False) -> None:
    """Reasons, how often each, since when, and how many of them were sent again already."""
    from streammeta.app.dead_letters import kinds
    from streammeta.config import load
    from streammeta.report import printable

    found = kinds(load(config))
    if as_json:
        fields = ("reason", "first", "waiting", "retried", "since", "until")
        typer.echo(json.dumps([{name: getattr(kind, name) for name in fields} for kind in found]))
        return
    for kind in found:
        between = f"{_time(kind.since)} to {_time(kind.until)}"
        sent = f", {kind.retried:,} sent again" if kind.retried else ""
        typer.echo(f"{kind.waiting:,} waiting{sent} · {between} · first {kind.first}: {printable(kind.reason)}")
    waiting, retried = sum(kind.waiting for kind in found), sum(kind.retried for kind in found)
    typer.echo(f"{waiting:,} dead letters wait, {retried:,} were sent again")


@commands.command()
def show(
    which: _Which = None,
    *,
    reason: _Reason = "",
    limit: Annotated[int, typer.Option(min=0, help="Number of letters to show; 0: all.")] = 20,
    retried: Annotated[bool, typer.Option("--retried", help="Also those that were sent again already.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a line, which `retry --mended` takes back when mended.")
    ] = False,
    config: _Config = None,
) -> None:
    """The records themselves, each with its reason and where it came from."""
    from streammeta.app.dead_letters import choose, letters
    from streammeta.config import load
    from streammeta.report import printable

    found = letters(load(config), choose(which or [], reason), retried=retried)
    for letter in islice(found, limit or None):
        if as_json:
            typer.echo(json.dumps(letter.figures(), ensure_ascii=False))
            continue
        value = (letter.record.value or b"").decode(errors="backslashreplace")
        typer.echo(f"{letter.name}  {_time(letter.set_aside_at)}  from {letter.origin}")
        typer.echo(f"    {printable(letter.reason)}")
        cut = f"… ({len(value):,} characters)" if len(value) > _SHOWN else ""
        typer.echo(f"    {printable(value[:_SHOWN])}{cut}")


@commands.command()
@commands.command("replay", hidden=True)  # what others call it
def retry(
    which: _Which = None,
    *,
    reason: _Reason = "",
    every: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    mended: Annotated[
        Path | None, typer.Option(help="Lines of `show --json` with other values: those letters, with these values.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    config: _Config = None,
) -> None:
    """Send letters to the input topic again, each once. Exit status 1 where some could not be."""
    from streammeta.app.dead_letters import choose, read_mended
    from streammeta.app.dead_letters import retry as send_again
    from streammeta.config import load

    if sum((bool(which or reason), every, mended is not None)) != 1:
        raise ConfigError("dead-letters retry: wanted letters (0/12 …) or --reason TEXT, or --all, or --mended FILE")
    values = {} if mended is None else read_mended(mended)
    names = [f"{partition}/{offset}" for partition, offset in values] if mended is not None else which or []
    if mended is not None and not names:
        raise ConfigError(f"--mended {mended}: has no letter; wanted lines of `dead-letters show --json`")
    found = send_again(load(config), choose(names, reason), values, send=not dry_run)
    typer.echo(f"{found.sent:,} {'would be ' if dry_run else ''}sent again, {found.before:,} were already")
    _say_refused((f"{letter.name}: would be set aside again: {why}" for letter, why in found.refused))
    _say_refused((f"{partition}/{offset}: no such dead letter (any more)" for partition, offset in found.absent))
    if found.refused or found.absent:
        raise typer.Exit(1)


def _say_refused(lines: Iterable[str]) -> None:
    every = list(lines)
    for line in every[:_MOST_LINES]:
        typer.echo(line, err=True)
    if len(every) > _MOST_LINES:
        typer.echo(f"and {len(every) - _MOST_LINES:,} more", err=True)


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

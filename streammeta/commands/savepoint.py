"""The commands `savepoint` and `restore`: parse, call the library, show what it returns."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streammeta.errors import ConfigError

if TYPE_CHECKING:
    from streammeta.app.savepoint import Start

__all__ = ["restore", "save"]

_Config = Annotated[Path | None, typer.Option(help="The application's TOML file.")]
_NAMED = ("saved", "earliest", "latest")


def save(
    folder: Annotated[Path, typer.Argument(help="Where it goes; it must not be there yet.")], *, config: _Config = None
) -> None:
    """Write what an application knows into a folder, as of one moment; the service runs on meanwhile."""
    from streammeta.app.savepoint import savepoint
    from streammeta.config import load

    made = savepoint(load(config), folder)
    size = made.weights.bytes + sum(table.bytes for table in made.state.values())
    typer.echo(
        f"{folder}: {made.tasks:,} tasks, theta {_version(made.theta_version)}, {len(made.state)} partition(s), "
        f"{size:,} bytes; read up to {_offsets(made.offsets)}"
    )


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `streammeta savepoint` made.")],
    *,
    config: _Config = None,
    begin: Annotated[
        str, typer.Option("--from", help="Where to begin to read: saved, earliest, latest, or a time (ISO 8601).")
    ] = "saved",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
) -> None:
    """Let a new application begin with a savepoint. Its name or its broker must be another than the saved one's."""
    from streammeta.app.savepoint import restore as restore_it
    from streammeta.config import load

    settings = load(config)
    found, offsets = restore_it(settings, folder, _start(begin), write=not dry_run)
    done = "could begin" if dry_run else "begins"
    typer.echo(
        f"{settings.app.name} {done} with {found.tasks:,} tasks and theta {_version(found.theta_version)} of "
        f"{found.application}, made {found.made_at}; reads on at {_offsets(offsets)}"
    )


def _start(text: str) -> "Start":
    from streammeta.app.savepoint import Start

    if text in _NAMED:
        return Start(**{text: True})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        wanted = f"{', '.join(_NAMED)}, or a time as 2026-11-26T08:00:00Z"
        raise ConfigError(f"--from {text}: wanted {wanted}") from err
    return Start(since=(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _version(theta: int | None) -> str:
    return "not there yet" if theta is None else f"{theta:,}"


def _offsets(offsets: Mapping[int, int]) -> str:
    """By partition, a bounded text."""
    pairs = [f"{number}/{offset}" for number, offset in sorted(offsets.items())]
    return (", ".join(pairs[:8]) + (", …" if pairs[8:] else "")) or "the beginning"

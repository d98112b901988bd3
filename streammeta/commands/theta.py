"""The commands `theta list`, `show`, `diff`, `rollback`, `pin`, `release`, `export` and `import`."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streammeta.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from streammeta.app.theta import Version

__all__ = ["commands"]

commands = typer.Typer(
    help="What all tasks share, as something one operates: its versions, and which of them is in force.",
    no_args_is_help=True,
)
_Config = Annotated[Path | None, typer.Option(help="The service's TOML file.")]
_Json = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]
_Number = Annotated[int, typer.Argument(help="A version that `streammeta theta list` names.")]


@commands.command(name="list")
def list_(config: _Config = None, *, as_json: _Json = False) -> None:
    """Versions that can be gone back to, the newest first: when each was made, from what, and how it did."""
    from streammeta.app.theta import read, versions
    from streammeta.config import load

    found = versions(read(load(config)))
    if as_json:
        typer.echo(json.dumps([one.figures() for one in found]))
        return
    if not found:
        typer.echo("nothing is published yet")
    for one in found:
        typer.echo(_line(one))


@commands.command()
def show(version: _Number, *, config: _Config = None, as_json: _Json = False) -> None:
    """One version: where it comes from, what it was learned from, its arrays."""
    from streammeta.app.theta import read, versions
    from streammeta.config import load

    found = next((one for one in versions(read(load(config))) if one.weights.version == version), None)
    if found is None:
        raise ConfigError(f"θ version {version}: is not kept (any more); see `streammeta theta list`")
    figures = found.figures() | {
        "arrays": {
            name.removeprefix("theta."): list(array.shape)
            for name, array in found.weights.arrays.items()
            if name.startswith("theta.")
        }
    }
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        typer.echo(f"{name}: {_time(value) if name == 'made' and isinstance(value, float) else value}")


@commands.command()
def diff(first: _Number, second: _Number, *, config: _Config = None) -> None:
    """How far two versions are apart, array by array."""
    from streammeta.app.theta import differences, read
    from streammeta.config import load

    for name, apart, norm in differences(read(load(config)), first, second):
        share = f" ({apart / norm:.2%} of it)" if norm else ""
        typer.echo(f"{name}: {apart:.4g} apart, norm {norm:.4g}{share}")


@commands.command()
def rollback(version: _Number, *, config: _Config = None) -> None:
    """Go back to a version, as a new one. It stays in force, and nobody trains, until `streammeta theta release`."""
    _pin(version, config, "is back")


@commands.command()
def pin(*, config: _Config = None) -> None:
    """Let the version in force stay: nobody trains until `streammeta theta release`."""
    _pin(None, config, "stays")


@commands.command()
def release(
    *,
    config: _Config = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Go on from the version before the pin, not from the pinned one.")
    ] = False,
) -> None:
    """Let training go on, from the pinned version."""
    from streammeta.app.theta import read, released, write
    from streammeta.config import load

    settings = load(config)
    published = read(settings)
    write(settings, released(published, time.time(), discard=discard))
    typer.echo(f"{settings.app.name}: released as version {published.newest + 1}; training goes on from it")


@commands.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where it goes; it must not be there yet.")],
    *,
    version: Annotated[int | None, typer.Option(min=0, help="By default the one in force.")] = None,
    config: _Config = None,
) -> None:
    """Write a version to a file, for `streammeta theta import` elsewhere."""
    from streammeta.app import theta
    from streammeta.config import load

    made = theta.export(theta.read(load(config)), version, file)
    typer.echo(f"{file}: θ version {made.version}")


@commands.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `streammeta theta export` wrote.")],
    *,
    config: _Config = None,
) -> None:
    """Let a θ from a file be in force, until `streammeta theta release`. Members refuse one that is clearly worse."""
    from streammeta.app.theta import read, take_in, write
    from streammeta.config import load

    settings = load(config)
    try:
        value = file.read_bytes()
    except OSError as err:
        raise TransportError(f"{file}: cannot be read ({err})") from err
    published = read(settings)
    write(settings, take_in(published, value, str(file), time.time()))
    typer.echo(f"{settings.app.name}: {file} is in force as version {published.newest + 1}, and pinned")


def _pin(version: int | None, config: Path | None, what: str) -> None:
    from streammeta.app.theta import pinned, read, write
    from streammeta.config import load

    settings = load(config)
    published = read(settings)
    if published.theta is None:
        raise ConfigError(f"{settings.app.name}: nothing is published yet, so that there is nothing to pin")
    write(settings, pinned(published, version, time.time()))
    of = published.theta.version if version is None else version
    typer.echo(
        f"{settings.app.name}: θ version {of} {what} as version {published.newest + 1}, and is pinned; "
        "`streammeta theta release` lets training go on from it"
    )


def _line(one: "Version") -> str:
    about, state = one.weights.about, "pinned" if one.pinned else "in force" if one.in_force else "kept"
    loss = ""
    if about.loss is not None and about.loss_before is not None:
        loss = f" · loss {about.loss:.4f} on {about.judged:,} newest events, {about.loss_before:.4f} of the one before"
    of = f" · {about.provenance} of {about.of}" if about.of is not None else ""
    learned = f"{one.weights.shared['updates']:,} meta-updates, {one.weights.counts.get('seen', 0):,} events"
    return f"{one.weights.version} {state} · {_time(about.made)} by {about.by or '?'} · {learned}{loss}{of}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else "?"

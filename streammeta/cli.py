"""The command line: each command by its name. What a command parses, does and shows is in ``streammeta.commands``.

Each command imports the part of the library that it calls: PyTorch, River and matplotlib take seconds, which neither
`--help` should cost nor a service that has to be back quickly.
"""

import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from streammeta.commands import (
    configure,
    dead_letters,
    explain,
    meta,
    replay,
    savepoint,
    send,
    serve,
    shadow,
    tasks,
    theta,
)
from streammeta.errors import ConfigError, StreammetaError
from streammeta.service import log

__all__ = ["app", "main"]

app = typer.Typer(
    help="Meta-learning on event streams: every task learned from a handful of events, and again after every drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> NoReturn:
    """Run the command line. What streammeta raises on purpose is shown in one line, without a traceback."""
    try:
        app()
    except StreammetaError as err:
        log.fatal(str(err), name="streammeta")
        sys.exit(2 if isinstance(err, ConfigError) else 1)
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        log.fatal("this command wants PyTorch, which is not installed; install torch", name="streammeta")
        sys.exit(2)
    sys.exit(0)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"streammeta {version('streammeta')}")
        raise typer.Exit


@app.callback()
def _always(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Options of the program itself."""


app.command()(serve.run)
app.command()(serve.train)
app.command()(replay.replay)
app.command()(replay.compare)
app.command()(replay.demo)
app.command(name="simulate")(send.simulate_)
app.command(name="play")(send.play_)
app.command()(configure.init)
app.command()(tasks.inspect)
app.command()(tasks.forget)
app.command()(serve.doctor)
app.command()(explain.explain)
app.command(name="savepoint")(savepoint.save)
app.command()(savepoint.restore)
app.add_typer(dead_letters.commands, name="dead-letters")
app.add_typer(theta.commands, name="theta")
app.command()(shadow.shadow)
app.command(name="meta-train")(meta.train)
app.command(name="meta-eval")(meta.evaluate)
app.command()(configure.config)

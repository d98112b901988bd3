"""The commands `run`, `train` and `doctor`: a service, its trainer, and whether it would run well."""

import json
from typing import Annotated

import typer

from streammeta.commands.options import Config
from streammeta.service import log

__all__ = ["doctor", "run", "train"]


def run(
    config: Config = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether it would start and run well, as `doctor` does.")
    ] = False,
) -> None:
    """Serve a Kafka topic: predict, learn, publish predictions and drift signals, until SIGTERM or SIGINT.

    SIGHUP reads the settings again: what can change while it runs holds at once, the log names what cannot.
    """
    from streammeta.app.reload import Reload
    from streammeta.app.serve import serve
    from streammeta.app.stopping import hangups, stop_on_signals
    from streammeta.config import load

    if check:
        doctor(config)
        return
    settings = load(config)
    log.configure(
        settings.log.level, settings.log.format, app=settings.app.name, member=settings.kafka.group_instance_id
    )
    with stop_on_signals() as stop, hangups() as asked:
        serve(settings, stop, Reload(asked, lambda: load(config)))


def train(config: Config = None) -> None:
    """Learn what tasks share from the labelled events of all members, and publish it, until SIGTERM or SIGINT.

    For [meta] trainer = "separate", which members are to have, too. One at a time: who starts last goes on.
    """
    from streammeta.app.stopping import stop_on_signals
    from streammeta.app.train import train
    from streammeta.config import load

    settings = load(config)
    log.configure(settings.log.level, settings.log.format, app=settings.app.name, member="trainer")
    with stop_on_signals() as stop:
        train(settings, stop)


def doctor(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Would a service with these settings run well on this broker? Exit status 1 when it would not."""
    from streammeta.app.doctor import examine
    from streammeta.config import load

    findings = examine(load(config))
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in findings]))
    for one in () if as_json else findings:
        typer.echo(f"{one.level:8} {one.what}: {one.found}" + (f"; {one.advice}" if one.advice else ""))
    if any(one.level == "failure" for one in findings):
        raise typer.Exit(1)

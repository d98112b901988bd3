"""The commands `simulate` and `play`: events into a file or a topic, at a pace."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streammeta.commands.options import (
    Config,
    Exclude,
    Id,
    Include,
    Label,
    Missing,
    Partitions,
    Rate,
    Speed,
    Task,
    Time,
    To,
    mapping,
    pair,
)
from streammeta.errors import ConfigError
from streammeta.service import log

if TYPE_CHECKING:
    from streammeta.commands.produce import Pace, Sendable

__all__ = ["play_", "simulate_"]

_PARTITIONS = 4  # of a topic that has to be created


def simulate_(
    name: Annotated[str | None, typer.Argument(help="A scenario; see --list.")] = None,
    *,
    events: Annotated[int | None, typer.Option(min=0, help="How many; endless when not given.")] = None,
    to: To = "-",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same stream.")] = 0,
    tasks: Annotated[int | None, typer.Option(min=1, help="Number of tasks.")] = None,
    rate: Rate = None,
    speed: Speed = None,
    partitions: Partitions = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the scenario: name=value.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Write there where each task's concept changed, which records do not say.")
    ] = None,
    config: Config = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the scenarios and their settings.")] = False,
) -> None:
    """Send a simulated stream of drifting tasks somewhere."""
    from streammeta.simulators import SCENARIOS, noted, simulate, with_late_labels

    if list_ or name is None:
        given: dict[str, object] = {
            "--events": events,
            "--tasks": tasks,
            "--rate": rate,
            "--speed": speed,
            "--partitions": partitions,
        }
        given |= {"--set": set_, "--truth": truth, "--config": config, "--to": None if to == "-" else to}
        unused = [option for option, value in given.items() if value is not None] + ["--seed"] * (seed != 0)
        if unused:
            raise ConfigError(f"simulate: {unused[0]} without a scenario to send; name one of {', '.join(SCENARIOS)}")
        if name is not None and name not in SCENARIOS:
            raise ConfigError(f"simulate --list {name}: there is none of that name; there are {', '.join(SCENARIOS)}")
        for each in SCENARIOS if name is None else (name,):
            scenario = SCENARIOS[each]
            typer.echo(f"{each} ({scenario.kind}): {scenario.summary}")
            known = (f"{key}={field.default}" for key, field in scenario.settings.model_fields.items())
            typer.echo("    --set " + ", ".join(known))
        return
    chosen = dict(pair(one) for one in set_ or [])
    if tasks is not None and "tasks" in chosen:
        raise ConfigError(f"--tasks {tasks} and --set tasks={chosen['tasks']}: wanted one of them")
    chosen |= {} if tasks is None else {"tasks": str(tasks)}
    samples = simulate(name, events=events, seed=seed, **chosen)
    records = with_late_labels(samples if truth is None else noted(samples, truth))
    _send("simulate", records, to, config, partitions=partitions, pace=_pace(rate, speed))


def play_(
    file: Annotated[str, typer.Argument(help="Recorded events: a file, a folder or a pattern, as of replay.")],
    *,
    label: Label = None,
    task: Task = None,
    id_: Id = None,
    time_: Time = None,
    include: Include = None,
    exclude: Exclude = None,
    missing: Missing = None,
    to: To = "-",
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after this number of records.")] = None,
    rate: Rate = None,
    speed: Speed = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Send a recorded file somewhere: at its own pace, faster, or all at once."""
    from streammeta.commands.player import play
    from streammeta.config import load

    fields = mapping(load(config), label, task, id_, time_, include, exclude, missing)
    records = play(file, limit=limit, fields=fields)
    _send("play", records, to, config, partitions=partitions, pace=_pace(rate, speed))


def _pace(rate: float | None, speed: float | None) -> "Pace | None":
    from streammeta.commands.produce import at_own_pace, at_rate

    if rate is not None and speed is not None:
        raise ConfigError(f"--rate {rate} and --speed {speed}: wanted one of them")
    if rate is not None:
        return at_rate(rate)
    return None if speed is None else at_own_pace(speed)


def _send(
    what: str,
    records: "Iterable[Sendable]",
    to: str,
    config: Path | None,
    *,
    partitions: int | None,
    pace: "Pace | None",
) -> None:
    from rich.console import Console

    from streammeta.app.stopping import stop_on_signals
    from streammeta.commands.produce import produce
    from streammeta.config import load

    if partitions is not None and not to.startswith("kafka:"):
        raise ConfigError(f"--partitions {partitions}: is for a Kafka topic, and --to is {to}; leave it out")
    settings = load(config)
    log.configure(settings.log.level, settings.log.format)
    with stop_on_signals() as stop:
        sent = produce(records, to, kafka=settings.kafka, partitions=partitions or _PARTITIONS, pace=pace, stop=stop)
    Console(stderr=True).print(f"{what}: {sent:,} events sent to {to}", highlight=False, soft_wrap=True)

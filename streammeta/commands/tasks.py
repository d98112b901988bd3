"""The commands `inspect` and `forget`: the tasks of a service or of a snapshot."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from streammeta.commands.options import FILE_WIDTH, Config
from streammeta.errors import ConfigError

__all__ = ["forget", "inspect"]


def inspect(
    snapshot: Annotated[
        Path | None, typer.Argument(help="A snapshot's file; without it, the service's own tasks, from Kafka.")
    ] = None,
    sort: Annotated[
        Literal["error", "age", "drift"], typer.Option(help="Worst, oldest or last drifted first.")
    ] = "error",
    limit: Annotated[int, typer.Option(min=0, help="Number of tasks to show; 0: all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
    config: Config = None,
) -> None:
    """List the tasks of a service: how old they are, how wrong their predictions are, when they last drifted."""
    from rich.console import Console

    from streammeta import report
    from streammeta.app.inspection import ORDERS, inspect, inspect_service
    from streammeta.config import load

    if snapshot is not None and config is not None:
        raise ConfigError(f"--config {config}: a snapshot has its own settings; leave out one of the two")
    found = inspect_service(load(config)) if snapshot is None else inspect(snapshot)
    every = sorted(found, key=ORDERS[sort], reverse=True)
    tasks = every[: limit or None]
    if as_json:
        typer.echo(json.dumps([report.task_figures(task) for task in tasks]))
        return
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    console.print(report.task_table(tasks, total=len(every)))


def forget(
    task: Annotated[str, typer.Argument(help="The task's tag.")],
    *,
    state: Annotated[
        Path | None, typer.Option(help="Of a replay that does not run now: the folder of `replay --state`.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait until the service has done it; 0: only ask.")
    ] = 30.0,
    config: Config = None,
) -> None:
    """Have a task forgotten: by the service, whether it runs now or later, or in a replay's state.

    What all tasks share keeps what it learned of it. Exit status 1 while the service has not come so far.
    """
    from streammeta.app.forgetting import ask_to_forget, forget_in_snapshot
    from streammeta.config import load

    if state is not None:
        if config is not None:
            raise ConfigError(f"--config {config}: a replay's state has its own settings; leave out one of the two")
        found = forget_in_snapshot(state, task)
        if not found:
            typer.echo(f"{state}: there is no task {task!r}; nothing was changed", err=True)
            raise typer.Exit(1)
        typer.echo(f"{state}: task {task!r} is forgotten" + (f" in {found} partitions" if found > 1 else ""))
        return
    asked = ask_to_forget(load(config), task, wait_seconds=wait)
    typer.echo(f"asked to forget task {task!r}, in {asked.partitions} partition(s) of {asked.topic}")
    if not asked.waiting:
        typer.echo("the service has come past it in all of them: what it knew of that task is forgotten")
        return
    for number, count in sorted(asked.waiting.items()):
        typer.echo(f"partition {number}: {count:,} offsets to go; done when the service comes so far", err=True)
    raise typer.Exit(1)

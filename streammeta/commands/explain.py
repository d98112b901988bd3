"""The command `explain`: parse, call the library, show what it returns."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streammeta.errors import ConfigError

if TYPE_CHECKING:
    from streammeta.app.explanation import Explanation

__all__ = ["explain"]

_SHOWN = 20  # features on a terminal


def explain(
    event: Annotated[str, typer.Argument(help="A record, as JSON; - reads it from standard input.")],
    *,
    state: Annotated[
        Path | None, typer.Option(help="A folder of `replay --state`; without it, the service's own state, from Kafka.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The service's TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Why would this event be predicted so? What each feature contributes, and how its task stands."""
    from streammeta.app.explanation import explain as explained
    from streammeta.app.explanation import read_event
    from streammeta.app.inspection import engine_of_snapshot
    from streammeta.app.parts import decoder
    from streammeta.app.savepoint import engine_of_service
    from streammeta.config import load

    if state is not None and config is not None:
        raise ConfigError(f"--config {config}: a snapshot has its own settings; leave out one of the two")
    settings = load(config)
    read = read_event(sys.stdin.read() if event == "-" else event, decoder(settings))
    if state is not None:
        with closing(engine_of_snapshot(state)) as engine:
            found = explained(engine, read)
    else:
        with engine_of_service(settings) as engine:
            found = explained(engine, read)
    if as_json:
        typer.echo(json.dumps(found.figures()))
    else:
        _show(found)


def _show(found: "Explanation") -> None:
    from streammeta.report import printable

    prediction = printable(str(found.prediction))
    of = f"probability of {prediction}" if found.of == "probability" else "mean"
    typer.echo(f"prediction {prediction}: {of} {found.predicted:.4g}, without any feature {found.without_features:.4g}")
    for one in found.contributions[:_SHOWN]:
        doubt = f" ± {one.error:.2g}" if one.error else ""
        typer.echo(f"  {one.contribution:+.4f}{doubt}  {printable(f'{one.feature} = {one.value}')}")
    if len(found.contributions) > _SHOWN:
        rest = sum(one.contribution for one in found.contributions[_SHOWN:])
        typer.echo(f"  {rest:+.4f}  {len(found.contributions) - _SHOWN} other features together")
    if found.is_new:
        typer.echo(f"task {found.task!r} is new: this is what all tasks share")
        return
    errors = [f"{one:.3g}" if one is not None else "not known" for one in (found.recent_error, found.median_error)]
    typer.echo(
        f"task {found.task!r}: {found.labelled:,} labels, {found.drifts} drifts, recent error {errors[0]}; the median "
        f"of all tasks is {errors[1]}"
    )

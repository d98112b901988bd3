"""The command `explain`: parse, call the library, show what it returns."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streammeta.errors import ConfigError

if TYPE_CHECKING:
    from streammeta.app.explanation import DecisionExplanation, Explanation
    from streammeta.engine import Engine
    from streammeta.event import Event
    from streammeta.service.contributions import Contribution

__all__ = ["explain"]

_SHOWN = 20  # features on a terminal


def explain(
    event: Annotated[
        str,
        typer.Argument(
            help="A record, as JSON whatever the topic's format (CSV: a row); - reads it from standard input."
        ),
    ],
    *,
    state: Annotated[
        Path | None, typer.Option(help="A folder of `replay --state`; without it, the service's own state, from Kafka.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The service's TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Why would this event be predicted, or decided, so? What each feature contributes, and how its task stands."""
    from streammeta.app.explanation import read_event
    from streammeta.app.inspection import engine_of_snapshot
    from streammeta.app.parts import decoder
    from streammeta.app.savepoint import engine_of_service
    from streammeta.config import load

    if state is not None and config is not None:
        raise ConfigError(f"--config {config}: a snapshot has its own settings; leave out one of the two")
    settings = load(config)
    reader = decoder(settings, as_json=settings.input.format != "csv")
    read = read_event(sys.stdin.read() if event == "-" else event, reader)
    if state is not None:
        with closing(engine_of_snapshot(state)) as engine:
            _explain(engine, read, as_json=as_json)
    else:
        with engine_of_service(settings) as engine:
            _explain(engine, read, as_json=as_json)


def _explain(engine: "Engine", event: "Event", *, as_json: bool) -> None:
    from streammeta.app.explanation import explain, explain_decision

    if engine.settings.decide is None:
        found = explain(engine, event)
        typer.echo(json.dumps(found.figures())) if as_json else _show(found)
    else:
        from streammeta.decisions.engine import DecisionEngine

        assert isinstance(engine, DecisionEngine)  # its settings say so
        decision = explain_decision(engine, event)
        typer.echo(json.dumps(decision.figures())) if as_json else _show_decision(decision)


def _show_decision(found: "DecisionExplanation") -> None:
    from streammeta.report import printable

    typer.echo("action: expected reward, probability of being chosen, rewards learned")
    for one in found.actions:
        typer.echo(f"  {printable(one.action)}: {one.expected:.4g}, {one.propensity:.1%}, {one.labelled:,}")
    best, without = printable(found.best), found.without_features
    typer.echo(f"{best}: expected reward {found.predicted:.4g}, without any feature {without:.4g}")
    _show_contributions(found.contributions)
    if found.is_new:
        typer.echo(f"task {found.task!r} is new: this is what all tasks share")


def _show(found: "Explanation") -> None:
    from streammeta.report import printable

    prediction = printable(str(found.prediction))
    of = f"probability of {prediction}" if found.of == "probability" else "mean"
    typer.echo(f"prediction {prediction}: {of} {found.predicted:.4g}, without any feature {found.without_features:.4g}")
    if found.interval is not None:
        typer.echo("interval {:.4g} to {:.4g}".format(*found.interval))
    _show_contributions(found.contributions)
    if found.is_new:
        typer.echo(f"task {found.task!r} is new: this is what all tasks share")
        return
    errors = [f"{one:.3g}" if one is not None else "not known" for one in (found.recent_error, found.median_error)]
    typer.echo(
        f"task {found.task!r}: {found.labelled:,} labels, {found.drifts} drifts, recent error {errors[0]}; the median "
        f"of all tasks is {errors[1]}"
    )


def _show_contributions(all_of_them: "list[Contribution]") -> None:
    from streammeta.report import printable

    for one in all_of_them[:_SHOWN]:
        doubt = f" ± {one.error:.2g}" if one.error else ""
        typer.echo(f"  {one.contribution:+.4f}{doubt}  {printable(f'{one.feature} = {one.value}')}")
    if len(all_of_them) > _SHOWN:
        rest = sum(one.contribution for one in all_of_them[_SHOWN:])
        typer.echo(f"  {rest:+.4f}  {len(all_of_them) - _SHOWN} other features together")

"""The commands `replay`, `compare` and `demo`: streams beside other learners, and the reports of it."""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import typer

from streammeta.commands.options import (
    FILE_WIDTH,
    Config,
    Exclude,
    Id,
    Include,
    Json,
    Kind,
    Label,
    Missing,
    Seed,
    Speed,
    Task,
    Time,
    mapping,
    pair,
)
from streammeta.errors import ConfigError, TransportError
from streammeta.service import log

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streammeta.config import Settings
    from streammeta.event import Record
    from streammeta.report import Figures
    from streammeta.review.study import Opened
    from streammeta.transport.file import FileSource

__all__ = ["compare", "demo", "replay"]


def replay(
    stream: Annotated[
        str,
        typer.Argument(
            help="Recorded events: a file (.csv, .tsv, .jsonl, also .gz, .bz2, .xz, .zst; .parquet, .feather, .xlsx), "
            "a folder, a quoted pattern, s3:// and the like, - for standard input; or a scenario's name."
        ),
    ],
    *,
    config: Config = None,
    label: Label = None,
    task: Task = None,
    id_: Id = None,
    time_: Time = None,
    include: Include = None,
    exclude: Exclude = None,
    missing: Missing = None,
    kind: Kind = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after this number of records.")] = None,
    seed: Seed = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Run this beside it: river:forest.ARFClassifier. May be repeated.")
    ] = None,
    learner: Annotated[
        list[str] | None, typer.Option(help="Another method of ours, or a TOML file with settings. May be repeated.")
    ] = None,
    wiring: Annotated[
        Literal["tag", "global", "per-task"],
        typer.Option(help="How River's models know tasks: as a feature, not at all, or a model each."),
    ] = "tag",
    label_delay: Annotated[str, typer.Option(help="Labels come so late: 100 (events), 90s, 30m, 1h, 2d.")] = "0",
    speed: Speed = None,
    interval: Annotated[
        float | None,
        typer.Option(help="Predict intervals that this share of labels lies in (0.9); reports coverage and width."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="True concept changes, as `simulate --truth` wrote them: scores detection."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the scenario: name=value.")] = None,
    as_decisions: Annotated[
        bool,
        typer.Option(
            "--as-decisions", help="Choose a class for each event; only whether it was the right one is learned."
        ),
    ] = False,
    decide: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="What a policy would have earned on logged decisions (JSON lines with `x`, `action`, `propensity`, "
            "`y`): inverse_gap, thompson, upper_confidence, epsilon_greedy, greedy, uniform or always:ACTION.",
        ),
    ] = None,
    json_to: Json = None,
    html: Annotated[Path | None, typer.Option(help="Write the report with pictures there, as one HTML file.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Write the pictures into this folder, as PNG.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write predictions, signals and dead letters to this folder.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Keep the state in this folder, and go on from it: Ctrl-C stops, the same command resumes."),
    ] = None,
) -> None:
    """Run recorded or simulated events through the service's own loop, beside other learners, and report."""
    from streammeta.config import load
    from streammeta.review import scoreboard, study

    settings = load(config)
    log.configure("warning", settings.log.format)
    if decide is not None:
        _judge(stream, settings, decide, limit, json_to)
        return
    plan = study.Plan(
        stream,
        against=against or (),
        learners=learner or (),
        wiring=wiring,
        limit=limit,
        label_delay=label_delay,
        speed=speed,
        truth=truth,
        state=state,
        as_decisions=as_decisions,
        interval=interval,
        fields=mapping(settings, label, task, id_, time_, include, exclude, missing),
        options=dict(pair(one) for one in set_ or []),
    )
    figures = _run(study.opened(plan, settings, kind=kind, seed=seed), out)
    figures = {"file": stream, "command": _repeated(figures), **figures}
    _show(figures, json_to, board=scoreboard)
    _draw(figures, html, pictures)
    study.check_used(figures)


def _run(plan: AbstractContextManager["Opened"], out: Path | None) -> "Figures":
    """Run what a plan opens, shown live on a terminal; what Kafka would get goes to the folder ``out``, if any."""
    from rich.console import Console

    from streammeta.app.stopping import stop_on_signals
    from streammeta.commands.live import shown
    from streammeta.review import study
    from streammeta.transport.file import FileSink

    console = Console(stderr=True)
    with plan as ready, stop_on_signals() as stop:
        console.print(f"{ready.name}: {ready.settings.app.kind} ({ready.kind_reason})", highlight=False, soft_wrap=True)
        if ready.description:
            console.print(f"{ready.name}: {ready.description}", highlight=False, soft_wrap=True)
        for (name, _), row in ready.begun.positions.items():
            console.print(f"goes on at row {row:,} of {name}", highlight=False, soft_wrap=True)
        baselines = ready.comparison.traces[1:]
        with (
            shown(
                ready.tally, ready.fraction, title="replay", console=console, clock=time.monotonic, beside=baselines
            ) as live,
            nullcontext() if out is None else closing(FileSink(out, append=bool(ready.begun.positions))) as sink,
        ):
            return study.run(ready, sink=sink, observers=[live], stop=stop)


def _draw(figures: "Figures", html: Path | None, pictures: Path | None) -> None:
    """Write a report with pictures as one HTML file, and the pictures as files, where that is wanted."""
    from streammeta.review.page import write_page
    from streammeta.review.picture import write_png

    if html is not None:
        write_page(figures, html)
    if pictures is not None:
        write_png(figures, pictures)
    for written in (html, pictures):
        if written is not None:
            typer.echo(f"report written to {written}", err=True)


def _judge(stream: str, settings: "Settings", policy: str, limit: int | None, json_to: Path | None) -> None:
    """Judge a policy on a log of decisions, and say what it would have earned."""
    from streammeta.app.parts import decoder
    from streammeta.decisions.logged import judge_policy
    from streammeta.transport.file import FileSource

    if not Path(stream).exists():
        raise ConfigError(f"--decide {policy}: {stream} is no file; wanted a log of decisions (.jsonl)")
    app = settings.app.model_copy(update={"kind": "decision"})
    meta = settings.meta.model_copy(update={"mode": "off" if settings.meta.mode == "off" else "sync"})
    chosen = settings.model_copy(update={"app": app, "meta": meta}).engine()
    with closing(FileSource(stream, limit=limit)) as source:
        found = judge_policy(_records(source), chosen, policy, decoder(settings))
    for line in found.lines():
        typer.echo(line, err=str(json_to) == "-")
    if json_to is not None:
        text = json.dumps({"file": stream, **found.figures()}, indent=2)
        typer.echo(text) if str(json_to) == "-" else json_to.write_text(text + "\n")


def _records(source: "FileSource") -> Iterator["Record"]:
    """All records of a file."""
    while not source.exhausted:
        yield from source.poll(1_000, 0.0)


def compare(
    a: Annotated[Path, typer.Argument(help="A report that `streammeta replay --json` wrote.")],
    b: Annotated[Path | None, typer.Argument(help="Another one, of the same stream; none: the learners of A.")] = None,
    *,
    learner: Annotated[str | None, typer.Option(help="Compare this learner of A.")] = None,
    other: Annotated[str | None, typer.Option(help="With this one of B; by default the one of the same name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Is one learner better than another, or was it luck? A paired test over the events of two replays, or of one."""
    from rich.console import Console

    from streammeta.review import paired as comparison
    from streammeta.review.comparison import STREAMMETA

    if b is None and other is not None:
        raise ConfigError(f"--other {other}: is a learner of B, and there is no B; name its report, or leave it out")
    report_a = comparison.read_report(a)
    if b is None:
        pairs = comparison.within(report_a, learner or STREAMMETA)
    else:
        pairs = comparison.compare(report_a, comparison.read_report(b), learner=learner, other=other)
    if as_json:
        typer.echo(json.dumps([pair.figures() for pair in pairs]))
        return
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    if console.is_terminal:
        console.print(comparison.table(pairs))
    for line in () if console.is_terminal else comparison.lines(pairs):
        typer.echo(line)


def demo(
    events: Annotated[int, typer.Option(min=1, help="Events in all.")] = 40_000,
    seconds: Annotated[float, typer.Option(min=1, help="Stop after so long, if that is sooner.")] = 75.0,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every random choice.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where /metrics is served; 0: any free port.")] = 0,
    json_to: Json = Path("out/demo.json"),
) -> None:
    """Show it: simulated tasks that drift, through the service's own loop, beside two models that do not adapt."""
    from prometheus_client import CollectorRegistry
    from rich.console import Console

    from streammeta.app.kind import resolve_kind
    from streammeta.app.stopping import stop_on_signals
    from streammeta.commands import demo as demonstration
    from streammeta.commands.live import shown
    from streammeta.config import load
    from streammeta.report import Tally
    from streammeta.service.http import Health, HttpServer
    from streammeta.service.metrics import Metrics

    log.configure("warning")
    console = Console(stderr=True)
    settings, _ = resolve_kind(load(), kind="classification", seed=seed, first=list)
    metrics, health, tally = Metrics(CollectorRegistry()), Health(time.monotonic), Tally(settings.engine().kind)
    comparison = demonstration.Comparison(
        demonstration.stream(events, seed), demonstration.baselines(), warm_up=events // 2, seconds=seconds
    )
    with HttpServer("127.0.0.1", port, metrics.registry, health) as server, stop_on_signals() as stop:
        console.print(f"demo: metrics at {server.url}/metrics while it runs", highlight=False, soft_wrap=True)
        with shown(tally, lambda: tally.events / events, title="demo", console=console, clock=time.monotonic) as live:
            figures = demonstration.run(
                settings, comparison, tally, observers=[live], stop=stop, metrics=metrics, health=health
            )
    _show(figures, json_to, board=demonstration)


class _Board(Protocol):
    """Shows learners side by side."""

    def tables(self, figures: "Figures") -> "RenderableType": ...
    def lines(self, figures: "Figures") -> Iterator[str]: ...


def _show(figures: "Figures", json_to: Path | None, board: _Board) -> None:
    """Show a report: tables on a terminal, plain lines elsewhere; and write it as JSON."""
    from rich.console import Console

    from streammeta import report

    if json_to is not None:
        _write_json(figures, json_to)
    if json_to == Path("-"):
        return
    console = Console()
    if console.is_terminal:
        console.print(report.tables(figures))
        console.print(board.tables(figures))
    else:
        for line in [*report.lines(figures), *board.lines(figures)]:
            typer.echo(line)
    if json_to is not None:
        typer.echo(f"report written to {json_to}", err=True)


def _repeated(figures: "Figures") -> str:
    """The command that makes this report again: with the variables that were set, and where it was stopped its end."""
    secrets = ("PASSWORD", "TOKEN")
    variables = [
        f"{name}={shlex.quote(value)}"
        for name, value in sorted(os.environ.items())
        if name.startswith("STREAMMETA_") and not any(secret in name for secret in secrets)
    ]
    words = list(sys.argv[1:])
    if figures["stopped"] and figures["stream"]["resumed_at"] is None:
        if "--limit" in words:
            del words[words.index("--limit") : words.index("--limit") + 2]
        words += ["--limit", str(figures["records"])]
    return " ".join([*variables, shlex.join(["streammeta", *words])])


def _write_json(figures: "Figures", path: Path) -> None:
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    if path == Path("-"):
        typer.echo(text, nl=False)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as err:
        raise TransportError(f"--json {path}: cannot be written ({err}); name another file") from err

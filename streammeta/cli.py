"""The command line: parse, call the library, show what it returns.

Each command imports the part of the library that it calls: PyTorch, River and matplotlib take seconds, which neither
`--help` should cost nor a service that has to be back quickly.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, Protocol

import typer

from streammeta.commands import dead_letters, shadow, theta
from streammeta.commands import explain as explain_command
from streammeta.commands import meta as meta_commands
from streammeta.commands import savepoint as savepoint_commands
from streammeta.errors import ConfigError, StreammetaError, TransportError
from streammeta.service import log

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streammeta.commands.produce import Pace, Sendable
    from streammeta.config import Settings
    from streammeta.formats.fields import Fields
    from streammeta.formats.survey import Choice
    from streammeta.report import Figures

__all__ = ["app", "main"]

app = typer.Typer(
    help="Meta-learning on event streams: every task learned from a handful of events, and again after every drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_PARTITIONS = 4  # of a topic that has to be created
_FILE_WIDTH = 160  # columns of a table that goes to a file or a pipe

_Config = Annotated[Path | None, typer.Option(help="A TOML file; `streammeta config` prints one with every setting.")]
_Kind = Annotated[
    Literal["auto", "classification", "regression"] | None,
    typer.Option(help="What to predict. By default as the configuration says, else chosen by the first labels."),
]
_Seed = Annotated[int | None, typer.Option(min=0, help="Fixes every random choice.")]
_To = Annotated[str, typer.Option(help="FILE (.jsonl, .jsonl.gz), kafka://host:port/topic, or - for standard output.")]
_Partitions = Annotated[
    int | None, typer.Option(min=1, help="Of the Kafka topic, when it has to be created; 4 when not given.")
]
_Rate = Annotated[float | None, typer.Option(min=0.001, help="Events a second; as fast as it goes when not given.")]
_Speed = Annotated[
    float | None,
    typer.Option(min=0.001, help="1: at the pace of the time stamps, 10: ten times as fast; not given: all at once."),
]
_Label = Annotated[str | None, typer.Option(help="The column or field with the label; in JSON a dotted path. [y]")]
_Task = Annotated[
    list[str] | None, typer.Option(help="The column or field with the task's tag; repeated, they are joined. [task]")
]
_Id = Annotated[list[str] | None, typer.Option("--id", help="The column or field with the event's id; likewise. [id]")]
_Time = Annotated[str | None, typer.Option("--time", help="The column or field with the time stamp. [ts]")]
_Include = Annotated[
    list[str] | None, typer.Option(help="Only these are features: a name or pattern ('size.*'). May be repeated.")
]
_Exclude = Annotated[list[str] | None, typer.Option(help="These are no features. May be repeated.")]
_Missing = Annotated[
    list[str] | None,
    typer.Option(help="A value that stands for a missing one: -999, or in one column, insulin=0. May be repeated."),
]
_Json = Annotated[Path | None, typer.Option("--json", help="Write the report there as JSON; - for standard output.")]


def main() -> NoReturn:
    """Run the command line. What streammeta raises on purpose is shown in one line, without a traceback."""
    try:
        app()
    except StreammetaError as err:
        log.fatal(str(err), name="streammeta")
        sys.exit(2 if isinstance(err, ConfigError) else 1)
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


@app.command()
def run(
    config: _Config = None,
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


@app.command()
def train(config: _Config = None) -> None:
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


@app.command()
def replay(
    stream: Annotated[
        str,
        typer.Argument(
            help="Recorded events: a file (.csv, .tsv, .jsonl, also .gz, .bz2, .xz, .zst; .parquet, .feather, .xlsx), "
            "a folder, a quoted pattern, - for standard input; or a scenario's name."
        ),
    ],
    *,
    config: _Config = None,
    label: _Label = None,
    task: _Task = None,
    id_: _Id = None,
    time_: _Time = None,
    include: _Include = None,
    exclude: _Exclude = None,
    missing: _Missing = None,
    kind: _Kind = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after this number of records.")] = None,
    seed: _Seed = None,
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
    speed: _Speed = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="True concept changes, as `simulate --truth` wrote them: scores detection."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the scenario: name=value.")] = None,
    json_to: _Json = None,
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
    from rich.console import Console

    from streammeta.app.stopping import stop_on_signals
    from streammeta.commands.live import shown
    from streammeta.config import load
    from streammeta.review import scoreboard, study
    from streammeta.review.page import write_page
    from streammeta.review.picture import write_png
    from streammeta.review.study import Plan, opened
    from streammeta.transport.file import FileSink

    settings = load(config)
    log.configure("warning", settings.log.format)
    console = Console(stderr=True)
    plan = Plan(
        stream,
        against=against or (),
        learners=learner or (),
        wiring=wiring,
        limit=limit,
        label_delay=label_delay,
        speed=speed,
        truth=truth,
        state=state,
        fields=_fields(settings, label, task, id_, time_, include, exclude, missing),
        options=dict(_pair(one) for one in set_ or []),
    )
    with opened(plan, settings, kind=kind, seed=seed) as ready, stop_on_signals() as stop:
        console.print(f"{ready.name}: {ready.tally.kind} ({ready.kind_reason})", highlight=False, soft_wrap=True)
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
            figures = study.run(ready, sink=sink, observers=[live], stop=stop)
    figures = {"file": stream, "command": _repeated(figures), **figures}
    if html is not None:
        write_page(figures, html)
    if pictures is not None:
        write_png(figures, pictures)
    _show(figures, json_to, board=scoreboard)
    for written in (html, pictures):
        if written is not None:
            typer.echo(f"report written to {written}", err=True)
    study.check_used(figures)


@app.command()
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
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    if console.is_terminal:
        console.print(comparison.table(pairs))
    for line in () if console.is_terminal else comparison.lines(pairs):
        typer.echo(line)


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1, help="Events in all.")] = 40_000,
    seconds: Annotated[float, typer.Option(min=1, help="Stop after so long, if that is sooner.")] = 75.0,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every random choice.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where /metrics is served; 0: any free port.")] = 0,
    json_to: _Json = Path("out/demo.json"),
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
    metrics, health, tally = Metrics(CollectorRegistry()), Health(time.monotonic), Tally(settings.app.kind)
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


@app.command(name="simulate")
def simulate_(
    name: Annotated[str | None, typer.Argument(help="A scenario; see --list.")] = None,
    *,
    events: Annotated[int | None, typer.Option(min=0, help="How many; endless when not given.")] = None,
    to: _To = "-",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same stream.")] = 0,
    tasks: Annotated[int | None, typer.Option(min=1, help="Number of tasks.")] = None,
    rate: _Rate = None,
    speed: _Speed = None,
    partitions: _Partitions = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the scenario: name=value.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Write there where each task's concept changed, which records do not say.")
    ] = None,
    config: _Config = None,
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
    chosen = dict(_pair(one) for one in set_ or [])
    if tasks is not None and "tasks" in chosen:
        raise ConfigError(f"--tasks {tasks} and --set tasks={chosen['tasks']}: wanted one of them")
    chosen |= {} if tasks is None else {"tasks": str(tasks)}
    samples = simulate(name, events=events, seed=seed, **chosen)
    records = with_late_labels(samples if truth is None else noted(samples, truth))
    _send("simulate", records, to, config, partitions=partitions, pace=_pace(rate, speed))


@app.command(name="play")
def play_(
    file: Annotated[str, typer.Argument(help="Recorded events: a file, a folder or a pattern, as of replay.")],
    *,
    label: _Label = None,
    task: _Task = None,
    id_: _Id = None,
    time_: _Time = None,
    include: _Include = None,
    exclude: _Exclude = None,
    missing: _Missing = None,
    to: _To = "-",
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after this number of records.")] = None,
    rate: _Rate = None,
    speed: _Speed = None,
    partitions: _Partitions = None,
    config: _Config = None,
) -> None:
    """Send a recorded file somewhere: at its own pace, faster, or all at once."""
    from streammeta.commands.player import play
    from streammeta.config import load

    fields = _fields(load(config), label, task, id_, time_, include, exclude, missing)
    records = play(file, limit=limit, fields=fields)
    _send("play", records, to, config, partitions=partitions, pace=_pace(rate, speed))


@app.command()
def init(
    stream: Annotated[str, typer.Argument(help="A file, folder or pattern, or kafka://host:port/topic.")],
    *,
    label: _Label = None,
    task: Annotated[str | None, typer.Option(help="The field with the task's tag; '' for none.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The field with the event's id; '' for none.")] = None,
    time_: _Time = None,
    to: Annotated[Path, typer.Option(help="Write the configuration there; - for standard output.")] = Path(
        "streammeta.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write it though a file is there.")] = False,
    config: _Config = None,
) -> None:
    """Look at a file's or topic's first records, say what is in them, and write the configuration that reads them."""
    from streammeta.commands.init import draft
    from streammeta.config import load

    log.configure("warning")
    if to != Path("-") and to.exists() and not force:
        raise ConfigError(f"--to {to}: is there already; name another file, or give --force")
    given = {"label": label, "task": task, "id": id_, "time": time_}
    ask = _ask if sys.stdin.isatty() and stream != "-" else None
    fixed = {option: name for option, name in given.items() if name is not None}
    made = draft(stream, load(config), fixed=fixed, ask=ask)
    for line in made.lines:
        typer.echo(line, err=True)
    for line in made.unsure:
        typer.echo(f"not sure: {line}", err=True)
    if to == Path("-"):
        typer.echo(made.toml, nl=False)
        return
    try:
        to.write_text(made.toml, "utf-8")
    except OSError as err:
        raise TransportError(f"--to {to}: cannot be written ({err.strerror}); name another file") from err
    typer.echo(f"configuration written to {to}; next: streammeta {made.command} --config {to}", err=True)


@app.command()
def inspect(
    snapshot: Annotated[
        Path | None, typer.Argument(help="A snapshot's file; without it, the service's own tasks, from Kafka.")
    ] = None,
    sort: Annotated[
        Literal["error", "age", "drift"], typer.Option(help="Worst, oldest or last drifted first.")
    ] = "error",
    limit: Annotated[int, typer.Option(min=0, help="Number of tasks to show; 0: all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
    config: _Config = None,
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
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    console.print(report.task_table(tasks, total=len(every)))


@app.command()
def forget(
    task: Annotated[str, typer.Argument(help="The task's tag.")],
    *,
    state: Annotated[
        Path | None, typer.Option(help="Of a replay that does not run now: the folder of `replay --state`.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait until the service has done it; 0: only ask.")
    ] = 30.0,
    config: _Config = None,
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


@app.command()
def doctor(
    config: _Config = None,
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


app.command(name="explain")(explain_command.explain)
app.command(name="savepoint")(savepoint_commands.save)
app.command(name="restore")(savepoint_commands.restore)
app.add_typer(dead_letters.commands, name="dead-letters")
app.add_typer(theta.commands, name="theta")
app.command(name="shadow")(shadow.shadow)
app.command(name="meta-train")(meta_commands.train)
app.command(name="meta-eval")(meta_commands.evaluate)


@app.command()
def config() -> None:
    """Print an example configuration: every setting with its default."""
    from streammeta.config import example

    typer.echo(example(), nl=False)


def _fields(
    settings: "Settings",
    label: str | None,
    task: list[str] | None,
    id_: list[str] | None,
    time_: str | None,
    include: list[str] | None,
    exclude: list[str] | None,
    missing: list[str] | None,
) -> "Fields":
    """The mapping of the configuration, with the command's options."""
    from streammeta.formats.fields import make_fields

    base, given = settings.input.fields, {"include": include, "exclude": exclude, "missing": missing}
    return make_fields(base, label=label, task=task or None, id=id_ or None, time=time_, **given)


def _ask(option: str, choice: "Choice") -> str:
    """Which field it is, where that is not sure."""
    others = ", ".join((choice.name, *choice.others[:15]))
    return str(typer.prompt(f"{option} ({choice.reason}): one of {others}", default=choice.name, err=True))


def _pair(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting}: wanted name=value, as in --set drift=gradual")
    return name, value


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

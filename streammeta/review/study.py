"""A replay from start to end, for the command and for notebooks: open a stream, run the learners, report."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from river.utils import dataframe

from streammeta.app.inspection import snapshot_path, state_held
from streammeta.app.kind import resolve_kind
from streammeta.app.parts import decoder, new_engine, restored_engine
from streammeta.app.replay import Begun, replay
from streammeta.config import Settings, load
from streammeta.decisions.tally import DecisionTally
from streammeta.engine import Kind
from streammeta.engine.settings import INTERVAL_LEVELS
from streammeta.errors import ConfigError, EventError, TransportError
from streammeta.event import Origin, Record
from streammeta.formats.fields import Fields, check_columns
from streammeta.formats.mapping import Mapper, encode_row
from streammeta.formats.storage import is_address
from streammeta.report import Figures, Tally
from streammeta.review import paired
from streammeta.review.baseline import Baseline, EngineBaseline, RiverBaseline, Wiring, river_model
from streammeta.review.comparison import STREAMMETA, Comparison
from streammeta.service.turn import Observe
from streammeta.simulators import SCENARIOS, Sample, read_truth, simulate, with_late_labels
from streammeta.transport.base import Sink, Source
from streammeta.transport.delayed_labels import Delay, DelayedLabelSource, parse_delay
from streammeta.transport.file import STANDARD_INPUT, FileSource
from streammeta.transport.memory import MemorySource

__all__ = ["Opened", "Plan", "check_used", "opened", "run"]

Stream: TypeAlias = str | Path | Any  # a file, a scenario's name, or a data frame
_SCENARIO_EVENTS = 20_000  # where nobody says how many
_MOST_REASONS = 5  # shown
_PEEKED = 1_000  # records by which the kind is chosen


@dataclass(frozen=True)
class Plan:
    """What to replay, and beside what."""

    stream: Stream
    against: Sequence[str] = ()  # "river:EXPRESSION"
    learners: Sequence[str] = ()  # other methods or settings of streammeta: a name, or a TOML file
    wiring: Wiring = "tag"  # how River's models learn of tasks
    limit: int | None = None  # records
    label_delay: Delay | str = 0
    speed: float | None = None  # None: as fast as it goes
    options: Mapping[str, Any] = field(default_factory=dict)  # of a scenario
    state: Path | None = None  # the directory in which the state is kept, to go on from
    fields: Fields | None = None  # which columns or fields are what; None: as the settings say
    as_decisions: bool = False  # classes are actions, of which the right one is rewarded
    interval: float | None = None  # level of the intervals of a regression; None: as the settings say
    truth: Path | None = None  # where concepts of a recorded stream truly changed; a scenario knows it itself


class _Found(NamedTuple):
    """A stream, and what is known of it beforehand."""

    name: str
    source: Source
    first: Callable[[], Iterable[Record]]  # its first records
    fraction: Callable[[], float | None]  # of it that was read
    drifted: set[int] | None = None  # numbers of the events with true drifts; grows ahead of the reading
    kind: Kind | None = None
    description: Callable[[], str] = str  # how a file is written, where that had to be found out


class Opened(NamedTuple):
    """A replay that is ready to run."""

    plan: Plan
    settings: Settings
    kind_reason: str
    description: str  # how a file is written, where that had to be found out
    name: str
    source: Source
    fraction: Callable[[], float | None]
    tally: Tally
    comparison: Comparison
    begun: Begun  # the engine, and where it goes on


@contextmanager
def opened(plan: Plan, settings: Settings, *, kind: Any = None, seed: int | None = None) -> Iterator[Opened]:  # noqa: ANN401
    """Open the stream and make the learners; everything is closed at the end.

    Args:
        plan: what to do.
        settings: of streammeta; where events come from does not matter.
        kind: "classification" or "regression"; "auto", or None where the settings do not say: by the first labels.
        seed: wins over the settings.

    Raises:
        ConfigError: a name or a setting is not known.
        TransportError: the file cannot be read.
    """
    fields = settings.input.fields if plan.fields is None else plan.fields
    _check(plan, settings, fields)
    _check_state(plan)
    delay = parse_delay(plan.label_delay) if isinstance(plan.label_delay, str) else plan.label_delay
    found = _find(plan, fields, settings.app.seed if seed is None else seed)
    settings = _as_read(settings)
    with closing(found.source), nullcontext() if plan.state is None else state_held(plan.state):
        wanted = found.kind if kind in (None, "auto") and found.kind is not None else kind
        read = decoder(settings)
        settings, reason = resolve_kind(
            settings, kind=wanted, seed=seed, first=found.first, decoder=read, label=fields.label
        )
        if plan.interval is not None:
            settings = _with_intervals(settings, plan.interval)
        if plan.as_decisions:
            settings = _deciding(settings, plan, fields)
        if settings.app.kind == "decision" and (plan.against or plan.learners):
            raise ConfigError("--against, --learner: predict labels, and this replay decides; leave them out")
        source = DelayedLabelSource(found.source, read, label_delay=delay, speed=plan.speed)
        tally, begun = _tally(settings), _begun(plan, settings, found.source)
        baselines = [*_learners(plan, settings), *_river(plan, settings)]
        comparison = Comparison(tally, baselines, drifted=found.drifted, look=begun.engine.look)
        reason = "as the scenario is" if wanted == found.kind is not None else reason
        about = found.description()
        yield Opened(plan, settings, reason, about, found.name, source, found.fraction, tally, comparison, begun)


def _with_intervals(settings: Settings, level: float) -> Settings:
    """The settings with intervals of this level."""
    least, most = INTERVAL_LEVELS
    if not least <= level <= most:
        raise ConfigError(f"--interval {level}: wanted the share of labels inside, {least} to {most}, such as 0.9")
    if settings.app.kind != "regression":
        raise ConfigError(
            f"--interval {level}: is of a predicted target, and this is a {settings.app.kind}; leave it out"
        )
    return settings.model_copy(update={"output": settings.output.model_copy(update={"interval": level})})


def _deciding(settings: Settings, plan: Plan, fields: Fields) -> Settings:
    """The settings for a labelled stream as decisions: its classes are the actions, and the right one is rewarded."""
    if settings.app.kind == "regression":
        raise ConfigError(
            f"--as-decisions: wanted a stream with classes, and its kind is {settings.app.kind!r}; overrule that "
            "with --kind classification"
        )
    actions = settings.decide.actions or _classes(plan, fields, settings)
    if len(actions) < 2:
        raise ConfigError(f"--as-decisions: the stream has the classes {list(actions)}; wanted two or more")
    how = settings.decide.model_copy(update={"actions": actions, "rewards": "label"})
    app = settings.app.model_copy(update={"kind": "decision"})
    return settings.model_copy(update={"app": app, "decide": how})


def _classes(plan: Plan, fields: Fields, settings: Settings) -> tuple[str, ...]:
    """Every class of a stream as text, in order: it is read to its end for that."""
    if str(plan.stream) == STANDARD_INPUT:
        raise ConfigError("--as-decisions: standard input cannot be read twice; name the classes in [decide] actions")
    read, found = decoder(settings), set[str]()
    with closing(_find(plan, fields, settings.app.seed).source) as source:
        while not source.exhausted:
            for record in source.poll(_PEEKED, 0.0):
                with suppress(EventError):  # the run itself will count it
                    y = read.decode(record).y
                    if y is not None:
                        found.add(str(y))
    return tuple(sorted(found))


def _tally(settings: Settings) -> Tally:
    return DecisionTally() if settings.app.kind == "decision" else Tally(settings.app.kind)


def check_used(figures: Figures) -> None:
    """Raise where a replay could use none of its records.

    Raises:
        EventError: with the commonest reasons and their counts.
    """
    if figures["rejected"] and not figures["events"]:
        why = "\n".join(f"{one['count']:,} × {one['reason']}" for one in figures["rejected_reasons"][:_MOST_REASONS])
        raise EventError(f"{figures['stream']['name']}: all {figures['rejected']:,} records were set aside:\n{why}")


def _check(plan: Plan, settings: Settings, fields: Fields) -> None:
    """Refuse what this stream cannot honour, rather than drop it."""
    is_scenario = isinstance(plan.stream, str) and not Path(plan.stream).exists() and plan.stream in SCENARIOS
    if settings.input.task_from != "field":
        raise ConfigError(
            f"[input] task_from = {settings.input.task_from!r}: what is replayed has no keys or headers; name the "
            "field with the tag `task` and set task_from = 'field' (STREAMMETA_INPUT__TASK_FROM=field) for the replay"
        )
    if plan.wiring != "tag" and not plan.against:
        raise ConfigError(f"--wiring {plan.wiring}: is for River's models; name one with --against, or leave it out")
    if plan.truth is not None and (is_scenario or not isinstance(plan.stream, str | Path)):
        found = "a scenario knows its own concept changes" if is_scenario else "a frame has no file beside it"
        raise ConfigError(f"--truth {plan.truth}: {found}; leave it out")
    if is_scenario and not fields.is_default:
        raise ConfigError(
            "[input.fields], --label, --task, --id, --time and their like: a scenario's events have their own names; "
            "leave these out"
        )
    if plan.options and not isinstance(plan.stream, str | Path):
        raise ConfigError(f"options {', '.join(plan.options)}: are settings of a scenario, and this is a frame")


def _as_read(settings: Settings) -> Settings:
    """The settings for what a source has mapped already."""
    return settings.model_copy(update={"input": settings.input.as_mapped()})


def _check_state(plan: Plan) -> None:
    """Refuse what a replay that goes on could not do as if it had never stopped."""
    if plan.state is None:
        return
    if not isinstance(plan.stream, str | Path) or not Path(plan.stream).exists():
        raise ConfigError(f"--state {plan.state}: wanted a recorded file, which is there when the replay goes on")
    beside = {
        "--against": plan.against,
        "--learner": plan.learners,
        "--truth": plan.truth,
        "--label-delay": plan.label_delay not in (0, "0"),
    }
    for option, is_given in beside.items():
        if is_given:
            raise ConfigError(f"--state {plan.state}: cannot go on with {option}, which is not kept; leave out one")


def _begun(plan: Plan, settings: Settings, source: Source) -> Begun:
    """The engine, and where it goes on: as its state says, or from the beginning."""
    if plan.state is None:
        return Begun(new_engine(settings), {})
    snapshot = snapshot_path(plan.state)
    engine, positions = restored_engine(settings, snapshot)
    if positions and positions.keys() != source.assigned().keys():
        engine.close()
        names = ", ".join(topic for topic, _ in positions)
        raise ConfigError(f"--state {plan.state}: is of {names}, and this is {plan.stream}; name another directory")
    return Begun(engine, positions, snapshot)


def run(
    ready: Opened, *, sink: Sink | None = None, observers: Sequence[Observe] = (), stop: threading.Event | None = None
) -> Figures:
    """Run it to its end; the report, ready for JSON."""
    figures = replay(
        ready.settings,
        ready.source,
        sink,
        ready.tally,
        observers=[ready.comparison.observe, *observers],
        stop=stop,
        begun=ready.begun,
    )
    seen, plan = ready.comparison.figures(), ready.plan
    figures["events_per_second"] = seen["learners"][STREAMMETA]["events_per_second"]  # without the baselines' time
    about = {
        "name": ready.name,
        "limit": plan.limit,
        "label_delay": str(plan.label_delay),
        "speed": plan.speed,
        "wiring": plan.wiring if plan.against else None,
        "options": dict(plan.options),
        "resumed_at": next(iter(ready.begun.positions.values()), None),
    }
    stopped = stop is not None and stop.is_set()
    whole = {"stream": about, "stopped": stopped, "status": _status(ready, figures, stopped), **figures, **seen}
    return whole | {"paired": [pair.figures() for pair in paired.within(whole)]}


def _status(ready: Opened, figures: Figures, stopped: bool) -> str:
    """Whether the report is of all that was asked for."""
    if not stopped:
        return "finished"
    read = ready.fraction()
    return f"stopped after {figures['records']:,} records" + ("" if read is None else f", {read:.0%} of {ready.name}")


def _find(plan: Plan, fields: Fields, seed: int) -> _Found:
    stream = plan.stream
    if not isinstance(stream, str | Path):
        return _frame(stream, plan.limit, fields)
    if not Path(stream).exists() and str(stream) in SCENARIOS:
        return _scenario(str(stream), plan, seed)
    if plan.options:
        raise ConfigError(f"--set: {stream} is no scenario, and has no settings; wanted one of {', '.join(SCENARIOS)}")
    if not _is_recorded(stream):
        raise ConfigError(f"replay {stream}: no such file, and no such scenario; wanted one of {', '.join(SCENARIOS)}")
    drifted = None if plan.truth is None else {drift.event for drift in read_truth(plan.truth)}
    source = FileSource(stream, limit=plan.limit, fields=fields)
    ((name, _),) = source.assigned()
    return _Found(
        name,
        source,
        lambda: source.peek(_PEEKED),
        lambda: source.fraction_read,
        drifted,
        description=lambda: source.description,
    )


def _scenario(name: str, plan: Plan, seed: int) -> _Found:
    """A simulated stream; it says where its drifts are."""
    events = _SCENARIO_EVENTS if plan.limit is None else plan.limit
    samples = simulate(name, events=events, seed=seed, **plan.options)  # a wrong setting is found here
    drifted: set[int] = set()
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        for sample in with_late_labels(samples):
            if isinstance(sample, Sample):
                if sample.drifted:
                    drifted.add(read)
                read += 1
            yield Record(
                sample.to_json(), Origin(name, 0, 0), timestamp=sample.ts if isinstance(sample, Sample) else None
            )

    source = MemorySource(records(), topic=name, forget_committed=True)
    return _Found(name, source, list, lambda: read / max(events, 1), drifted, SCENARIOS[name].kind)


def _is_recorded(stream: Path | str) -> bool:
    """Whether this looks like a file, a folder, a pattern, an address or standard input; else a misspelt scenario."""
    looks = is_address(stream) or has_magic(str(stream)) or str(stream) == STANDARD_INPUT
    return looks or Path(stream).exists() or bool(Path(stream).suffix)


def _frame(frame: Any, limit: int | None, fields: Fields) -> _Found:  # noqa: ANN401 any frame that narwhals knows
    """A data frame: columns `task`, `y`, optionally `id` and `ts`; all others are features."""
    try:
        table = dataframe.into_frame(frame)
    except TypeError as err:
        raise ConfigError(
            f"replay: got a {type(frame).__name__}, wanted a file, a scenario's name or a data frame"
        ) from err
    if fields.label not in table.columns:
        raise ConfigError(
            f"replay: the frame has columns {table.columns} and none called {fields.label!r}; wanted one called `y` "
            "with the labels, or label= with its name"
        )
    fields.check_rows()
    try:
        check_columns(list(map(str, table.columns)), fields, "replay: the frame")
    except TransportError as err:
        raise ConfigError(str(err)) from err
    mapper, rows = Mapper(fields, nests=False), list[bytes]()
    for number, row in enumerate(table.rows(named=True)[:limit]):
        at = f"replay: row {number} of the frame"
        try:
            rows.append(encode_row(mapper, {str(name): value for name, value in row.items()}, at))
        except EventError as err:
            raise ConfigError(str(err)) from err
    source = MemorySource(rows, topic="frame")

    def fraction() -> float:
        ((_, offset),) = source.assigned().items()
        return offset / max(len(rows), 1)

    return _Found(
        "frame", source, lambda: [Record(row, Origin("frame", 0, i)) for i, row in enumerate(rows[:_PEEKED])], fraction
    )


def _river(plan: Plan, settings: Settings) -> Iterator[Baseline]:
    for text in plan.against:
        package, _, expression = text.partition(":")
        if package != "river" or not expression:
            raise ConfigError(f"--against {text}: wanted river: and a model, such as river:forest.ARFClassifier")
        yield RiverBaseline(text, river_model(expression, settings.app.seed), settings.engine().kind, plan.wiring)


def _learners(plan: Plan, settings: Settings) -> Iterator[Baseline]:
    fixed = {"kind": settings.engine().kind, "seed": settings.app.seed}
    for text in plan.learners:
        name = f"{STREAMMETA}:{text}"
        try:
            if Path(text).suffix == ".toml":
                other = load(Path(text)).engine().model_copy(update=fixed)
                yield EngineBaseline(name, other, f"streammeta with the settings of {Path(text).name}")
            else:
                learner = settings.learner.model_copy(update={"method": text})
                other = settings.engine().model_copy(update={"learner": learner})
                yield EngineBaseline(name, other, f"streammeta with [learner] method = {text!r}")
        except ConfigError as err:
            raise ConfigError(f"--learner {text}: {err}") from err

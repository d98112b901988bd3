"""A replay from start to end, for the command and for notebooks: open a stream, run the learners, report."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
from river.utils import dataframe

from streammeta.app.kind import resolve_kind
from streammeta.app.parts import new_engine
from streammeta.app.replay import replay
from streammeta.config import Settings, load
from streammeta.engine import Engine, Kind
from streammeta.errors import ConfigError
from streammeta.event import Decoder, Origin, Record
from streammeta.report import Figures, Tally
from streammeta.review import paired
from streammeta.review.baseline import Baseline, EngineBaseline, RiverBaseline, Wiring, river_model
from streammeta.review.comparison import STREAMMETA, Comparison
from streammeta.service.turn import Observe
from streammeta.simulators import SCENARIOS, Sample, read_truth, simulate, with_late_labels
from streammeta.transport.base import Sink, Source
from streammeta.transport.delayed_labels import Delay, DelayedLabelSource, parse_delay
from streammeta.transport.file import FileSource
from streammeta.transport.memory import MemorySource

__all__ = ["Opened", "Plan", "opened", "run"]

Stream: TypeAlias = str | Path | Any  # a file, a scenario's name, or a data frame
_SCENARIO_EVENTS = 20_000  # where nobody says how many
_PEEKED = 1_000  # records by which the kind is chosen
_JSON = msgspec.json.Encoder()


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
    truth: Path | None = None  # where concepts of a recorded stream truly changed; a scenario knows it itself


class _Found(NamedTuple):
    """A stream, and what is known of it beforehand."""

    name: str
    source: Source
    first: Callable[[], Iterable[Record]]  # its first records
    fraction: Callable[[], float | None]  # of it that was read
    drifted: set[int] | None = None  # numbers of the events with true drifts; grows ahead of the reading
    kind: Kind | None = None


class Opened(NamedTuple):
    """A replay that is ready to run."""

    plan: Plan
    settings: Settings
    kind_reason: str
    name: str
    source: Source
    fraction: Callable[[], float | None]
    tally: Tally
    comparison: Comparison
    engine: Engine


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
    delay = parse_delay(plan.label_delay) if isinstance(plan.label_delay, str) else plan.label_delay
    found = _find(plan, settings.app.seed if seed is None else seed)
    try:
        wanted = found.kind if kind in (None, "auto") and found.kind is not None else kind
        settings, reason = resolve_kind(settings, kind=wanted, seed=seed, first=found.first)
        decoder = Decoder(max_record_bytes=settings.input.max_record_bytes)
        source = DelayedLabelSource(found.source, decoder, label_delay=delay, speed=plan.speed)
        tally, engine = Tally(settings.app.kind), new_engine(settings)
        baselines = [*_learners(plan, settings), *_river(plan, settings)]
        comparison = Comparison(tally, baselines, drifted=found.drifted, look=engine.look)
        reason = "as the scenario is" if wanted == found.kind is not None else reason
        yield Opened(plan, settings, reason, found.name, source, found.fraction, tally, comparison, engine)
    finally:
        found.source.close()


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
        engine=ready.engine,
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
    }
    whole = {"stream": about, **figures, **seen}
    return whole | {"paired": [pair.figures() for pair in paired.within(whole)]}


def _find(plan: Plan, seed: int) -> _Found:
    stream = plan.stream
    if not isinstance(stream, str | Path):
        return _frame(stream, plan.limit)
    if not Path(stream).exists() and str(stream) in SCENARIOS:
        return _scenario(str(stream), plan, seed)
    if plan.options:
        raise ConfigError(f"--set: {stream} is no scenario, and has no settings; wanted one of {', '.join(SCENARIOS)}")
    if not Path(stream).exists() and not Path(stream).suffix:
        raise ConfigError(f"replay {stream}: no such file, and no such scenario; wanted one of {', '.join(SCENARIOS)}")
    drifted = None if plan.truth is None else {drift.event for drift in read_truth(plan.truth)}
    source = FileSource(Path(stream), limit=plan.limit)
    return _Found(Path(stream).name, source, lambda: source.peek(_PEEKED), lambda: source.fraction_read, drifted)


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


def _frame(frame: Any, limit: int | None) -> _Found:  # noqa: ANN401 any frame that narwhals knows
    """A data frame: columns `task`, `y`, optionally `id` and `ts`; all others are features."""
    try:
        table = dataframe.into_frame(frame)
    except TypeError as err:
        raise ConfigError(
            f"replay: got a {type(frame).__name__}, wanted a file, a scenario's name or a data frame"
        ) from err
    if "y" not in table.columns:
        raise ConfigError(f"replay: the frame has columns {table.columns}, wanted one called `y` with the labels")
    rows = table.rows(named=True)[:limit]
    source = MemorySource([_row(row) for row in rows], topic="frame")

    def fraction() -> float:
        ((_, offset),) = source.assigned().items()
        return offset / max(len(rows), 1)

    return _Found(
        "frame", source, lambda: [Record(_row(row), Origin("frame", 0, 0)) for row in rows[:_PEEKED]], fraction
    )


def _row(row: Mapping[str, Any]) -> bytes:
    """A row as a record; NaN is missing, and times are ISO 8601."""
    known = {name: _plain(value) for name, value in row.items()}
    about = {name: known.pop(name) for name in ("task", "y", "id", "ts") if name in known}
    return _JSON.encode({**about, "x": known})


def _plain(value: Any) -> Any:  # noqa: ANN401 a cell
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value  # noqa: PLR0124 NaN is the only value that differs from itself


def _river(plan: Plan, settings: Settings) -> Iterator[Baseline]:
    for text in plan.against:
        package, _, expression = text.partition(":")
        if package != "river" or not expression:
            raise ConfigError(f"--against {text}: wanted river: and a model, such as river:forest.ARFClassifier")
        yield RiverBaseline(text, river_model(expression, settings.app.seed), settings.app.kind, plan.wiring)


def _learners(plan: Plan, settings: Settings) -> Iterator[Baseline]:
    fixed = {"kind": settings.app.kind, "seed": settings.app.seed}
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

"""Rolling features: what a task's own events before had, against a plain reading of the stream; part of the state."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from streammeta.config import load
from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError
from streammeta.estimator import MetaRegressor
from streammeta.event import Event, Feature, Label, LabelValue, Origin
from streammeta.service.contributions import contributions
from tests.engine.handover.test_handover import SMALL, Log, moved, same, write
from tests.engine.test_corrections import in_order

ALL = ("lag", "mean", "min", "max", "std", "sum", "count", "since")
WANTED: list[dict[str, Any]] = [
    {"of": "amount", "make": ALL, "lags": (1, 3), "events": 4},
    {"of": "amount", "make": ("mean", "count"), "events": 6, "seconds": 120.0},
    {"of": "rare", "make": ("lag", "mean", "since")},
    {"of": "colour", "make": ("lag", "count", "mean")},
    {"of": "label", "make": ALL, "lags": (1, 2), "events": 3},
    {"of": "label", "make": ("count",), "seconds": 90.0},
]


def settings(kind: str = "classification", rolling: Sequence[dict[str, Any]] = WANTED, **others: Any) -> EngineSettings:
    given = {"kind": kind, "features": {"rolling": rolling}}
    return EngineSettings.model_validate(SMALL.model_dump(exclude_unset=True) | given | others)


ON = settings()


def stream(count: int, kind: str = "classification", tasks: int = 3, seed: int = 1) -> list[Event | Label]:
    """Events and late labels of several tasks: values missing, out of order in time, some far from others, ids twice."""
    draw, given, open_ids = random.Random(seed), list[Event | Label](), list[tuple[str, str, LabelValue]]()
    for i in range(count):
        at, now = Origin("t", 0, len(given)), 1.7e9 + 40.0 * i + draw.choice((0.0, 0.0, -300.0, 7.25))
        x: dict[str, Feature] = {"amount": draw.choice((1.7e9 + 60 * i, float(i % 5), -2.5e38, i % 2 == 0))}
        if draw.random() < 0.15:
            x["rare"] = draw.gauss(0, 1)
        if draw.random() < 0.9:
            x["colour"] = draw.choice(("red", "blue", "", "a colour whose name is longer than what a ring holds", None))
        y: LabelValue = draw.choice((0, 1, "two")) if kind == "classification" else draw.gauss(0, 3)
        task, how = f"s{draw.randrange(tasks)}", draw.random()
        ts = None if draw.random() < 0.05 else now
        if how < 0.4:
            given.append(Event(x, task, at, y=y, ts=ts))
        elif how < 0.8:
            given.append(Event(x, task, at, id=f"e{i}", ts=ts))
            open_ids.append((f"e{i}", task, y))
            if draw.random() < 0.1:  # the same id again: the label is the later one's
                given.append(Event(x, task, Origin("t", 0, len(given)), id=f"e{i}", ts=now + 5.0))
        else:
            given.append(Event(x, task, at, ts=ts))
        if len(open_ids) > 3:
            id_, of, late = open_ids.pop(draw.randrange(len(open_ids)))
            given.append(Label(id_, late, of, Origin("t", 0, len(given))))
    return given


def reference(given: Sequence[Event | Label], kind: str, rolling: Sequence[dict[str, Any]]) -> list[dict[str, Feature]]:
    """What each event should have, read off the list of all that came before it, with Python's own statistics."""
    found: list[dict[str, Feature]] = []
    past: dict[str, list[tuple[dict[str, Feature], float | None]]] = defaultdict(list)  # events of each task
    labels: dict[str, list[tuple[LabelValue, float | None]]] = defaultdict(list)  # in the order they became known
    times: dict[tuple[str, str], float | None] = {}
    for one in given:
        if isinstance(one, Label):
            labels[one.task].append((one.y, times[one.task, one.id]))
            continue
        x: dict[str, Feature] = {}
        for how in rolling:
            if how["of"] == "label":
                values: list[tuple[Any, float | None]] = list(labels[one.task])
            else:
                values = [(e[how["of"]], ts) for e, ts in past[one.task] if e.get(how["of"]) is not None]
            x |= dict(_of(how, values[::-1], one.ts, is_class=how["of"] == "label" and kind == "classification"))
        found.append(x)
        assert isinstance(one.x, dict)
        past[one.task].append((one.x, one.ts))
        if one.y is not None:
            labels[one.task].append((one.y, one.ts))
        if one.id is not None:
            times[one.task, one.id] = one.ts
    return found


def _of(how: dict[str, Any], newest: list[tuple[Any, float | None]], now: float | None, *, is_class: bool) -> Any:
    of, seconds, events = how["of"], how.get("seconds"), how.get("events", 10)
    for lag in how.get("lags", (1,)) if "lag" in how["make"] else ():
        if len(newest) >= lag:
            value = newest[lag - 1][0]
            yield f"{of}.lag_{lag}", str(value) if is_class or isinstance(value, str) else float(value)
    if "since" in how["make"] and newest and now is not None and newest[0][1] is not None:
        yield f"{of}.since", max(0.0, now - newest[0][1])
    window = newest[:events]
    if seconds is not None:
        if now is None:
            return
        window = [(value, ts) for value, ts in window if ts is not None and now - ts < seconds]
    name = f"{events}" if seconds is None else f"{seconds:g}s"
    numbers = [float(value) for value, _ in window if not isinstance(value, str)]
    made: dict[str, Any] = {"count": float(len(window))}
    if numbers:
        made |= {"mean": math.fsum(numbers) / len(numbers), "sum": math.fsum(numbers)}
        made |= {"min": min(numbers), "max": max(numbers)}
    if len(numbers) > 1:
        made["std"] = statistics.stdev(numbers)
    for what in how["make"]:
        if made.get(what) is not None and abs(made[what]) < 3e38:
            yield f"{of}.{what}_{name}", made[what]


def made(outcomes: Sequence[Outcome]) -> list[dict[str, Feature]]:
    """The features that were made for each event."""
    events = [one.event for one in outcomes if isinstance(one.event, Event) and one.rejected is None]
    return [{name: value for name, value in e.x.items() if name not in e.came} for e in events]  # type: ignore


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_event_has_what_the_list_of_all_before_it_says(kind: str, seed: int) -> None:
    """Truth: no window, no ring, no rounding on the way. A label that is not known yet must not be in it."""
    given = stream(400, kind, seed=seed)

    found = made(in_order(Engine(settings(kind)), given, poll=7))

    wanted = reference(given, kind, WANTED)
    long = "a colour whose name is longer than what a ring holds"
    for one, other in zip(found, wanted, strict=True):
        if other.get("colour.lag_1") == long:  # its beginning and a hash
            name = one.pop("colour.lag_1")
            assert isinstance(name, str)
            assert name[:23] == other.pop("colour.lag_1")[:23]  # type: ignore[index]
            assert len(name.encode()) == 32
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12)), name


def test_sums_are_exact_so_a_large_number_keeps_its_last_digits() -> None:
    """A running sum of 1.7e9s drifts, and float32 loses the minute in a time stamp."""
    engine = Engine(settings(rolling=[{"of": "at", "make": ["lag", "mean", "sum"], "events": 3}]))
    given: list[Event | Label] = [Event({"at": 1.7e9 + 60 * i}, "s", Origin("t", 0, i), y=i % 2) for i in range(2_000)]

    last = made(in_order(engine, given))[-1]

    assert last == {"at.lag_1": 1.7e9 + 60 * 1998, "at.mean_3": 1.7e9 + 60 * 1997, "at.sum_3": 3 * (1.7e9 + 60 * 1997)}


@pytest.mark.parametrize("memory", [MemorySettings(window=40), MemorySettings(window=40, max_tasks=2)])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_polls_the_spill_a_move_and_a_restore_change_nothing(kind: str, memory: MemorySettings) -> None:
    """Exactly once with the state: predictions to the bit, whoever has the task."""
    chosen = settings(kind, memory=memory.model_dump())
    given = stream(500, kind, tasks=5)
    whole = in_order(Engine(chosen), given)
    for poll in (1, 3, 16):
        assert all(map(same, whole, in_order(Engine(chosen), given, poll)))
    stays, log = Engine(chosen), Log()
    handover = stays.handover()
    for begin in range(0, 250, 25):
        in_order(stays, given[begin : begin + 25])
        write(log, handover)
    goes, restored = moved(stays, log, chosen), Engine.restore(chosen, stays.snapshot())

    rest = in_order(stays, given[250:])

    assert all(map(same, rest, whole[250:]))
    assert all(map(same, rest, in_order(goes, given[250:])))
    assert all(map(same, rest, in_order(restored, given[250:])))


def test_while_theta_changes_polls_change_nothing() -> None:
    """Slots of features that are made come in the order of events, and so do the weights that θ gets for them."""
    chosen, given = settings(meta={"mode": "sync", "every_events": 32}), stream(300, tasks=4)

    runs = [in_order(Engine(chosen), given, poll) for poll in (1, 3, 16, 1_000)]

    assert max(one.theta_version for one in runs[0]) > 3
    for other in runs[1:]:
        assert all(map(same, runs[0], other))


def test_asked_alone_an_event_has_the_same_features_and_nothing_is_remembered() -> None:
    """River's `predict_one`, and `streammeta explain`."""
    engine, given = Engine(ON), stream(120)
    for one in given:
        if isinstance(one, Event):
            (asked, again), (done,) = engine.predict([one, one]), engine.step([one])
            assert asked.event == again.event == replace(done.event, y=asked.event.y)
        else:
            engine.step([one])


def test_an_event_refused_is_not_remembered() -> None:
    """What is set aside did not happen."""
    engine = Engine(settings(rolling=[{"of": "amount", "make": ["lag", "count"]}]))
    given: list[Event | Label] = [
        Event({"amount": 1.0}, "s", Origin("t", 0, 0)),
        Event({"amount": 2.0, "b": math.inf}, "s", Origin("t", 0, 1)),
        Event({"amount": 3.0}, "s", Origin("t", 0, 2)),
    ]

    assert made(in_order(engine, given))[-1] == {"amount.lag_1": 1.0, "amount.count_10": 1.0}


def test_a_task_that_was_forgotten_begins_again() -> None:
    """Its past is personal data, too."""
    engine = Engine(settings(rolling=[{"of": "amount", "make": ["lag"]}]))
    events = [Event({"amount": float(i)}, "s", Origin("t", 0, i)) for i in range(3)]
    engine.step(events[:2])

    assert engine.forget(0, "s")

    assert made(engine.step(events[2:])) == [{}]


def test_a_feature_that_is_made_must_not_be_brought() -> None:
    """Which of the two would count? The event is refused, and says why."""
    engine = Engine(settings(rolling=[{"of": "amount", "make": ["lag"]}]))
    clash = Event({"amount": 1.0, "amount.lag_1": 2.0}, "s", Origin("t", 0, 0))

    (done,), (asked,) = engine.step([clash]), engine.predict([clash])

    assert done.rejected is not None
    assert done.rejected == asked.rejected
    assert "t/0/0: the event brings feature 'amount.lag_1', which [features] makes; rename it" in done.rejected


def test_features_without_names_are_called_by_their_places() -> None:
    """Lists still have to be of one width."""
    engine = Engine(settings(rolling=[{"of": "1", "make": ["lag"]}]))
    rows = ([1.0, 2.0], [3.0, 4.0], [5.0])
    given: list[Event | Label] = [Event(x, "s", Origin("t", 0, i), y=0) for i, x in enumerate(rows)]

    _, second, third = in_order(engine, given)

    assert second.event.x == {"0": 3.0, "1": 4.0, "1.lag_1": 2.0}  # type: ignore[union-attr]
    assert third.rejected is not None
    assert "`x` has 1 numbers, wanted 2" in third.rejected


def test_settings_may_change_under_the_state(linear_tasks: Any) -> None:
    """A longer window begins with what is there, a shorter one keeps the newest; switched off it goes."""
    short, long = ([{"of": "a", "make": ["lag", "count"], "lags": [n], "events": n}] for n in (2, 4))
    events = linear_tasks(120, tasks=3)
    for before, after, known in ((short, long, 2.0), (long, short, 2.0), (short, [], None), ([], short, 0.0)):
        old, log = Engine(settings(rolling=before)), Log()
        in_order(old, events[:60])
        write(log, old.handover())
        for other in (
            moved(old, log, settings(rolling=after)),
            Engine.restore(settings(rolling=after), old.snapshot()),
        ):
            done = in_order(other, events[60:])
            assert all(one.rejected is None for one in done)
            if after:
                first = made(done)[0]
                assert first[f"a.count_{after[0]['events']}"] == known  # type: ignore[index]


def test_a_river_estimator_makes_them_too() -> None:
    """The same engine under another interface."""
    model = MetaRegressor(task="shop", settings={"features": {"rolling": [{"of": "label", "make": ["lag"]}]}})
    for i in range(60):  # the label is the last one's opposite: only its past says it
        model.learn_one({"shop": "a", "one": 1.0}, 1.0 if i % 2 else -1.0)

    assert model.predict_one({"shop": "a", "one": 1.0}) == pytest.approx(-1.0, abs=0.2)


def test_contributions_have_them_and_add_up() -> None:
    """They are features as the others: each explains its part."""
    engine = Engine(settings("regression", [{"of": "label", "make": ["lag"]}]))
    for i in range(80):
        engine.step([Event({"a": 0.5}, "s", Origin("t", 0, i), y=1.0 if i % 2 else -1.0)])

    found = contributions(engine, Event({"a": 0.5}, "s", Origin("t", 0, 80)))

    assert found is not None
    assert {one.feature for one in found.features} == {"a", "label.lag_1"}
    total = sum(one.contribution for one in found.features)
    assert total == pytest.approx(found.predicted - found.without_features)


def test_another_members_episodes_have_theirs_already() -> None:
    """A trainer elsewhere learns from what was learned here: it must not make them again of a past that it lacks."""
    member, trainer = Engine(ON), Engine(ON)
    member.write_episodes()
    member.step([one for one in stream(400, tasks=2) if isinstance(one, Event) and one.y is not None])

    outcomes = [
        o for one in member.changed_episodes() for o in trainer.observe_episode(*one[:2], one[2] or b"", "here")
    ]

    assert len(outcomes) >= 32
    assert [one.rejected for one in outcomes] == [None] * len(outcomes)
    assert all(isinstance(one.event, Event) and one.event.came is None for one in outcomes)
    known = {slot.name for slot in trainer.memory.features.slots}
    assert {"amount.mean_4", "label.lag_1", "colour.lag_1"} <= known


def test_what_is_never_made_is_said_once() -> None:
    """A name that is misspelt, a mean of text, a time that no event has: silence would look like a feature of no use."""
    rolling: list[dict[str, Any]] = [
        {"of": "amount", "make": ["lag", "since"]},
        {"of": "amuont", "make": ["lag"]},
        {"of": "label", "make": ["mean", "lag"]},
    ]
    engine = Engine(settings(rolling=rolling))
    events = [Event({"amount": 1.0}, f"s{i % 9}", Origin("t", 0, i), y=("yes", "no")[i % 2]) for i in range(1_100)]

    with capture_logs() as logs:
        engine.step(events)

    wanted = ["amount.since", "amuont.lag_1", "label.mean_10"]
    assert engine.memory.extractor is not None
    assert engine.memory.extractor.never_made == wanted
    assert [one["features"] for one in logs if one["event"] == "features that no event has had yet"] == [wanted]


def test_features_are_made_of_what_records_have(tmp_path: Path) -> None:
    """One that the mapping leaves out would never be there, and nobody would see why."""
    file = tmp_path / "streammeta.toml"
    rolling = 'rolling = [{ of = "price", make = ["lag"] }, { of = "ts.hour", make = ["lag"] }]'
    file.write_text(f'[input.fields]\nexclude = ["pr*"]\ntime_features = ["hour"]\n[features]\n{rolling}\n')

    with pytest.raises(ConfigError) as caught:
        load(file)

    assert str(caught.value).splitlines() == [
        f"{file}: [features] rolling: 'price' is no feature by [input.fields] include and exclude; take it in there, or "
        "leave it out here"
    ]


@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_wrong_table_among_several_is_named_by_its_place(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of five tables: a message about "rolling" alone says little."""
    file, wrong = (
        tmp_path / "streammeta.toml",
        '[{"of": "a", "make": ["lag"]}, {"of": "b", "make": ["mean"], "event": 3}]',
    )
    if place == "environment":
        monkeypatch.setenv("STREAMMETA_FEATURES__ROLLING", wrong)
        file.write_text("")
    else:
        file.write_text("[features]\nrolling = " + wrong.replace('":', '" ='))

    with pytest.raises(ConfigError) as caught:
        load(file)

    where = "environment STREAMMETA_FEATURES__ROLLING" if place == "environment" else str(file)
    assert str(caught.value) == f"{where}: [features.rolling.1] event: no such setting; did you mean events?"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"of": "a", "make": ["median"]}, "make"),
        ({"of": "a", "make": []}, "make: is empty of 'a'; wanted at least one"),
        ({"of": "a", "make": ["mean"], "events": 0}, "events"),
        ({"of": "a", "make": ["lag"], "events": 5}, "events: is not used of 'a'"),
        ({"of": "a", "make": ["mean"], "lags": [2]}, "lags: is not used of 'a'"),
        ({"of": "a", "make": ["mean"], "seconds": -1.0}, "seconds"),
        ({"of": "a.mean_10", "make": ["mean"]}, "'a.mean_10' is made here itself"),
        ({"of": "a", "make": ["mean"]}, "'a.mean_10' is made twice"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(given: dict[str, Any], wanted: str) -> None:
    """Before the first event, by its name."""
    with pytest.raises((ConfigError, ValueError), match=wanted):
        settings(rolling=[{"of": "a", "make": ["mean"]}, given])

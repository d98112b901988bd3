"""Scale does not matter: multiply a task's features or targets, add any constant, and predictions follow."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.moments import no_sums
from streammeta.engine.scale import SINCE, SPREAD, shared_scale
from streammeta.engine.sums import observed
from streammeta.event import Event, Label, Origin

Unit = tuple[float, float]  # value → factor · value + offset


def stream(
    n: int,
    *,
    x: Sequence[Unit] = ((1.0, 0.0),),
    y: Sequence[Unit] = ((1.0, 0.0),),
    tasks: int = 4,
    classify: bool = False,
    change: Callable[[int, int], Unit] = lambda _i, _task: (1.0, 0.0),
) -> list[Event]:
    """Linear tasks, each in units of its own; ``change`` says which further unit event i of a task has."""
    random = np.random.default_rng(5)
    slopes = random.normal(size=(tasks, 3)) + np.array([2.0, -1.0, 0.5])
    events = []
    for i in range(n):
        task, z = int(random.integers(tasks)), random.normal(size=3)
        value = float(10 + z @ slopes[task] + 0.05 * random.normal())
        (fx, ox), (fy, oy), (factor, offset) = x[task % len(x)], y[task % len(y)], change(i, task)
        features = {name: float(v * fx * factor + ox + offset) for name, v in zip("abc", z, strict=True)}
        label = int(value > 10) if classify else value * fy + oy
        events.append(Event(features, f"t{task}", Origin("scales", 0, i), y=label))
    return events


def engine(kind: str = "regression", **more: object) -> Engine:
    learner = {"members": 2, "hidden": 16, "encoded": 8}
    return Engine(EngineSettings.model_validate({"kind": kind, "learner": learner, **more}))


def run(one: Engine, events: Sequence[Event | Label], poll: int = 50) -> list[Outcome]:
    outcomes = []
    for begin in range(0, len(events), poll):
        outcomes += one.step(events[begin : begin + poll])
    return outcomes


def errors(outcomes: Sequence[Outcome], y: Sequence[Unit] = ((1.0, 0.0),), age: int = 10) -> float:
    """Mean error from the task's label number ``age`` on, in the unit of the plain stream."""
    found = [
        outcome.error / abs(y[int(outcome.event.task[1:]) % len(y)][0])  # type: ignore[union-attr]
        for outcome in outcomes
        if outcome.error is not None and outcome.age >= age
    ]
    return float(np.mean(found))


APART = ((1e-3, 0.0), (1.0, 0.0), (1e3, 0.0))
FAR = ((1.0, 0.0), (1.0, 1e9), (-1.0, -1e9))
TINY = ((1e-12, 0.0), (-1e-9, 0.0), (-1.0, 0.0))


@pytest.mark.parametrize("units", [APART, FAR, TINY], ids=["apart", "far", "tiny"])
@pytest.mark.parametrize("what", ["x", "y", "both"])
def test_tasks_in_units_of_their_own_are_predicted_as_in_one(units: Sequence[Unit], what: str) -> None:
    """One affine normalization for all tasks had errors of 147 spreads where this one has 0.06."""
    x, y = (units if what in ("x", "both") else ((1.0, 0.0),)), (units if what in ("y", "both") else ((1.0, 0.0),))

    plain = errors(run(engine(), stream(700)))
    apart = errors(run(engine(), stream(700, x=x, y=y)), y)

    assert apart < 1.25 * plain + 0.03


def test_classes_of_tasks_in_units_of_their_own() -> None:
    """A feature 160 times larger in half of the tasks left the other half at chance."""
    plain = errors(run(engine("classification"), stream(800, classify=True)))
    apart = errors(run(engine("classification"), stream(800, x=((1.0, 0.0), (160.0, 0.0)), classify=True)))

    assert plain < 0.1
    assert apart < plain + 0.03


@pytest.mark.parametrize("factor", [1e9, 100.0, 0.01])
def test_a_target_in_another_unit_is_predicted_in_it_after_ten_labels(factor: float) -> None:
    """A target multiplied by 100 had predictions of 15,400 for targets of 100 to 300."""
    events = stream(500, tasks=1)
    changed = [replace(e, y=e.y * (factor if i >= 300 else 1.0)) for i, e in enumerate(events)]  # type: ignore[operator]

    outcomes = run(engine(), changed)

    after = [o.error / factor for o in outcomes[310:]]  # type: ignore[operator]
    assert np.mean(after[:40]) < 0.5
    assert max(after[:40]) < 3.0
    largest = max(abs(float(o.prediction)) for o in outcomes[300:])  # type: ignore[arg-type]
    assert largest < 3 * max(abs(float(e.y)) for e in changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("tasks", [1, 30])
def test_targets_far_from_zero_are_expected_there_from_the_second_label_on(tasks: int) -> None:
    """Labels of a million: only the first of a service's life may be predicted as 0, whosever task the next is."""
    events = stream(30, y=((1.0, 1e6),), tasks=tasks)

    gaps = [abs(o.prediction - float(e.y)) for o, e in zip(run(engine(), events, 1), events, strict=True)]  # type: ignore[operator, arg-type]

    assert gaps[0] > 999_000
    assert max(gaps[1:]) < 40  # labels are within 10 of their mean


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_a_mean_of_few_labels_that_may_be_zero_is_taken_for_less(factor: float) -> None:
    """The same in every unit: labels about zero are not expected where a few of them happened to lie."""
    random, nothing = np.random.default_rng(2), no_sums(1)
    labels = factor * random.normal(size=(200, 4))

    sums = [nothing._replace(target=observed(nothing.target, few[:, None])) for few in labels]
    said = np.abs([float(shared_scale(one, np.zeros(1, np.bool_)).y_shift[0]) for one in sums])

    means = np.abs(labels.mean(1))
    assert (said <= means).all()
    assert said.mean() < 0.8 * means.mean()


def test_a_task_whose_unit_changes_leaves_the_others_alone() -> None:
    """The shared scale moves with it: everybody else must be looked at again before that does harm."""
    events = stream(900, change=lambda i, task: (1e3, 0.0) if i >= 500 and task == 0 else (1.0, 0.0))

    plain, outcomes = run(engine(), stream(900)), run(engine(), events)

    others = [i for i in range(520, 900) if events[i].task != "t0"]
    changed = [i for i in range(500, 900) if events[i].task == "t0"][10:]
    for places in (others, changed):
        usual = np.mean([plain[i].error for i in places])  # type: ignore[arg-type]
        assert np.mean([outcomes[i].error for i in places]) < 1.5 * usual + 0.05  # type: ignore[arg-type]


def test_a_time_stamp_keeps_what_it_says() -> None:
    """1.7e9 + 60 a as float32 has steps of 128: R² was −0.01 where a linear model has 0.9997."""
    random, events = np.random.default_rng(0), []
    for i in range(1_200):
        a = random.normal()
        events.append(Event({"t": 1.7e9 + 60 * a}, "", Origin("stamps", 0, i), y=float(3 * a + 0.05 * random.normal())))

    outcomes = run(engine(), events)[200:]

    ys = np.array([float(o.event.y) for o in outcomes])  # type: ignore[arg-type]
    rest = np.array([float(o.error) for o in outcomes])  # type: ignore[arg-type]
    assert 1 - (rest**2).sum() / ((ys - ys.mean()) ** 2).sum() > 0.998


def test_the_level_across_tasks_is_still_seen() -> None:
    """Where the absolute level decides for all tasks alike, a view of the task's own would hide it."""
    random, events = np.random.default_rng(1), []
    levels = random.normal(0, 2, size=60)
    for i in range(1_500):
        task = int(random.integers(60))
        value = float(levels[task] + random.normal())
        events.append(Event({"a": value}, f"t{task}", Origin("levels", 0, i), y=int(value > 0)))

    outcomes = run(engine("classification"), events)

    young = [o.error for o in outcomes[500:] if o.age < 5]
    assert np.mean(young) < 0.12  # type: ignore[arg-type]
    assert np.mean([o.error for o in outcomes[500:]]) < 0.05  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_polls_change_no_bit_where_tasks_get_views_of_their_own(kind: str) -> None:
    """Views, births and changes of unit come at a task's own labels, whatever they came with."""
    classify = kind == "classification"
    events = stream(
        400,
        x=(*APART, *FAR),
        y=((1.0, 0.0),),
        classify=classify,
        tasks=6,
        change=lambda i, _t: (50.0 if i > 300 else 1.0, 0.0),
    )
    events = [replace(e, x=dict(e.x) | ({"late": float(i)} if i > 60 else {})) for i, e in enumerate(events)]

    whole = run(engine(kind), events, 400)
    for poll in (1, 7):
        parts = run(engine(kind), events, poll)
        assert [(o.prediction, o.loss, o.variance) for o in parts] == [
            (o.prediction, o.loss, o.variance) for o in whole
        ]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_predict_says_what_step_will_say_and_a_snapshot_goes_on_to_the_bit(kind: str) -> None:
    """A view of the task's own is state like another."""
    events = stream(420, x=(*APART, *FAR), y=APART, classify=kind == "classification", tasks=6)
    one = engine(kind)
    run(one, events[:300])
    assert (one.memory.tasks.columns["scale.x"][:, SPREAD] > 0).any()

    again = Engine.restore(one.settings, one.snapshot())

    for event in events[300:]:
        (foreseen,), (outcome,), (other,) = one.predict([event]), one.step([event]), again.step([event])
        assert foreseen.prediction == outcome.prediction == other.prediction
        assert foreseen.variance == outcome.variance == other.variance
        assert outcome.loss == other.loss


def test_late_labels_are_judged_by_what_was_predicted_and_learned_in_the_view_of_now() -> None:
    """Between an event and its label the task may have got a view of its own."""
    events, late = stream(500, y=((1.0, 0.0), (1e3, 1e6)), tasks=2), list[Event | Label]()
    for i, event in enumerate(events):
        late.append(replace(event, y=None, id=str(i)))
        if i >= 20:
            late.append(Label(str(i - 20), events[i - 20].y, events[i - 20].task, Origin("scales", 0, i)))  # type: ignore[arg-type]

    outcomes = [o for o in run(engine(), late) if o.error is not None]

    units = {"t0": 1.0, "t1": 1e3}
    tasks = [events[i].task for i in range(len(outcomes))]
    found = [o.error / units[task] for o, task in zip(outcomes, tasks, strict=True)][100:]  # type: ignore[operator]
    assert math.isfinite(max(found))
    assert np.mean(found) < 0.5


@pytest.mark.parametrize("what", ["a", "y"])
@pytest.mark.parametrize("absurd", [1e30, -1e9])
def test_one_absurd_number_is_not_the_measure_of_those_after_it(what: str, absurd: float) -> None:
    """It lay in the task's window, so that its spread became 1e28 and the task was predicted within 1e28."""
    units = ((1.0, 0.0), (1e3, 50.0))  # the second task has views of its own
    plain = stream(600, x=units, y=units, tasks=2)
    at = next(i for i, event in enumerate(plain) if event.task == "t1" and i >= 300)
    bad = replace(plain[at], y=absurd) if what == "y" else replace(plain[at], x={**plain[at].x, "a": absurd})

    undisturbed = run(engine(), plain)
    disturbed = run(engine(), [*plain[:at], bad, *plain[at + 1 :]])

    assert errors(disturbed[at + 1 :], units) < 1.1 * errors(undisturbed[at + 1 :], units) + 0.01


def test_a_scale_that_one_task_made_fits_it() -> None:
    """A stream alone is measured by all that it has seen: its level may wander (elec2: 0.4 points)."""
    events = stream(900, tasks=1, classify=True, change=lambda i, _task: (1.0, 0.02 * i))
    one = engine("classification")

    run(one, events[:800])

    assert not (one.memory.tasks.columns["scale.x"][0, SPREAD] > 0).any()
    run(one, [replace(event, task="t1", x={k: 1e3 * v for k, v in event.x.items()}) for event in events[800:]])
    assert (one.memory.tasks.columns["scale.x"][1, SPREAD, :3] > 0).all()


def test_what_stands_still_far_away_is_no_unit() -> None:
    """A date, a version: every fourth event began another unit, so the task was derived anew each time (elec2)."""
    random, days = np.random.default_rng(3), [0.0] * 30 + [0.01, -0.01] * 40 + [5.0] * 60
    events = [
        Event({"day": day, "a": float(a)}, "t", Origin("steps", 0, i), y=int(a > 0))
        for i, (day, a) in enumerate(zip(days, random.normal(size=len(days)), strict=True))
    ]
    one = engine("classification")

    run(one, events)

    assert not one.memory.tasks.columns["scale.x"][0, SINCE].any()


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("seed", range(4))
def test_when_a_feature_gets_own_views_does_not_depend_on_polls(kind: str, seed: int) -> None:
    """The events after it in its poll were kept without what float32 leaves out; one by one they are kept with it."""
    random = np.random.default_rng(seed)
    x = [(10.0 ** random.integers(-2, 3), 10.0 ** random.integers(0, 9) * random.normal()) for _ in range(6)]
    y = [(10.0 ** random.integers(-3, 4), random.normal()) for _ in range(6)]
    events = stream(420, x=x, y=y, tasks=6, classify=kind == "classification")

    alone, *others = (run(engine(kind), events, poll) for poll in (1, 3, 50, 420))

    for other in others:
        assert [repr(one) for one in other] == [repr(one) for one in alone]


def test_a_level_whose_spread_is_not_known_yet_depends_on_no_poll() -> None:
    """A new column of serial numbers or times: the first task that finds its spread changes what all others see."""
    random, events = np.random.default_rng(3), list[Event]()
    for i in range(400):
        x = {"a": random.normal()} | ({"late": 1e7 + 1e-6 * random.normal()} if i > 150 else {})
        events.append(Event(x, f"t{random.integers(100)}", Origin("x", 0, i), y=int(x["a"] > 0)))
    alone, *others = (run(Engine(EngineSettings()), events, poll) for poll in (1, 64, 400))

    for other in others:
        assert [repr(one) for one in other] == [repr(one) for one in alone]


def test_experts_count_from_the_first_labels_in_any_unit() -> None:
    """Two errors before a unit was known counted as a hundred of the learner's variances, for all tasks and long."""
    settings = EngineSettings.model_validate(
        {"kind": "regression", "learner": {"experts": ["gaussian_process", "forest"]}, "meta": {"mode": "off"}}
    )
    errors: dict[float, list[float]] = {1.0: [], 1e6: []}
    for seed in range(4):
        random = np.random.default_rng(seed)
        xs = random.normal(size=(60, 4))
        ys = xs[:, 0] + 0.3 * random.normal(size=60)
        rows = list(zip(xs.tolist(), ys.tolist(), strict=True))
        for unit, found in errors.items():
            events = [Event(x, f"t{i % 5}", Origin("x", 0, i), y=unit * y) for i, (x, y) in enumerate(rows)]
            found += [(one.error or 0.0) / unit for one in run(Engine(settings), events)[1:]]

    assert np.mean(errors[1e6]) < 1.05 * np.mean(errors[1.0])  # it was 1.16


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e-30, 1e30])
def test_a_snapshot_of_targets_in_any_unit_can_be_read(unit: float) -> None:
    """The square of a mean of 1e-170 is no number but 0: the scale was NaN, and what it was saved in was refused."""
    events = stream(60, y=((unit, 0.0),))
    before, stays = engine(), engine()
    run(before, events[:30])

    after = Engine.restore(before.settings, before.snapshot())

    run(stays, events[:30])
    foreseen = [one.prediction for one in run(after, events[30:])]
    assert foreseen == [one.prediction for one in run(stays, events[30:])]
    assert all(prediction is not None and math.isfinite(prediction) for prediction in foreseen)


@pytest.mark.parametrize("unit", [1e-15, 1e-30, 1e8])
def test_experts_are_asked_of_targets_in_any_unit(unit: float) -> None:
    """Femtofarads have a variance of 1e-30: taken for the least there is, it made all experts look alike."""
    random = np.random.default_rng(0)
    xs, noise = random.normal(size=(600, 2)), 0.1 * random.normal(size=600)
    ys = np.where(xs[:, 0] > 0, 1.0, -1.0) * np.where(xs[:, 1] > 0, 2.0, 0.5) + noise  # edges: for trees
    errors = []
    for factor in (1e3, unit):
        made = zip(xs.tolist(), (factor * ys).tolist(), strict=True)
        events = [Event({"a": a, "b": b}, "t", Origin("x", 0, i), y=y) for i, ((a, b), y) in enumerate(made)]
        outcomes = run(Engine(EngineSettings(kind="regression")), events)
        errors.append(np.mean([outcome.error or 0.0 for outcome in outcomes[300:]]) / factor)
        assert outcomes[-1].loss == pytest.approx(said_loss(outcomes[-1]))

    assert errors[1] == pytest.approx(errors[0], rel=0.03)


def said_loss(outcome: Outcome) -> float:
    """−log N(y; mean, variance)."""
    assert isinstance(outcome.prediction, float)
    assert isinstance(outcome.event, Event)
    assert outcome.variance is not None
    gap = float(outcome.event.y) - outcome.prediction  # type: ignore[arg-type]
    return 0.5 * (gap**2 / outcome.variance + math.log(2 * math.pi * outcome.variance))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_another_task_s_own_view_changes_no_bit_of_this_one(kind: str) -> None:
    """Who shares an engine with whom is the affair of the group: predictions may not depend on it (θ and scale fixed)."""
    plain = stream(400, tasks=2, classify=kind == "classification")
    units = ((1.0, 0.0), (1.0, 0.0), (1e4, 30.0))
    both = stream(400, x=units, tasks=3, classify=kind == "classification")
    one, other = (engine(kind, meta={"mode": "off"}) for _ in range(2))
    run(one, plain[:200])
    snapshot = one.snapshot()
    other = Engine.restore(one.settings, snapshot)
    for each in (one, other):
        each.memory.shared.next_scaling = 2**62  # never: the scale stays
    strangers = [replace(event, origin=Origin("x", 1, i)) for i, event in enumerate(both) if event.task == "t2"]

    run(other, strangers)
    assert other.memory.shared.own
    alone, beside = run(one, plain[200:]), run(other, plain[200:])

    assert [o.prediction for o in alone] == [o.prediction for o in beside]
    assert [o.probabilities or o.variance for o in alone] == [o.probabilities or o.variance for o in beside]


@pytest.mark.parametrize("experts", [[], ["forest", "persistence"]])
@pytest.mark.parametrize("jump", [100.0, -1e4, 1e9])
def test_targets_that_were_all_the_same_and_jump_are_predicted_within_what_they_were(
    jump: float, experts: list[str]
) -> None:
    """θ was trained on them without a unit, and when they got one it answered in that: 3,665 times the jump."""
    random, one = np.random.default_rng(3), engine(learner={"experts": experts})
    events = [
        Event({"a": float(random.normal())}, "t", Origin("scales", 0, i), y=7.0 if i < 300 else jump)
        for i in range(500)
    ]

    said = [float(o.prediction) / jump for o in run(one, events)[301:]]  # type: ignore[arg-type]

    assert min(said) > -0.5
    assert max(said) < 2.5
    assert abs(said[-1] - 1) < 0.05


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("is_late", [True, False])
@pytest.mark.parametrize("unit", [(1e-3, 5e3), (1.0, 0.0), (1e3, 5e3)])
def test_a_feature_that_says_something_late_is_learned_from_within_a_hundred_events(
    kind: str, is_late: bool, unit: Unit
) -> None:
    """The later it came, the longer it said nothing: until the stream was a quarter longer. Polls change no bit of it."""
    random, (factor, offset) = np.random.default_rng(4), unit
    z, noise = random.normal(size=(2, 2200))
    z[:2000] = 0.0  # till then all the same
    events = []
    for i in range(2200):
        x = {"a": float(noise[i])} | ({} if is_late and i < 2000 else {"z": float(offset + factor * z[i])})
        y = noise[i] + 3 * z[i]
        events.append(Event(x, "t", Origin("scales", 0, i), y=int(y > 0) if kind == "classification" else float(y)))

    outcomes = run(engine(kind, learner={"experts": []}), events)

    wrong = [o.error for o in outcomes[2100:]]
    assert np.mean(wrong) < (0.15 if kind == "classification" else 0.6)  # type: ignore[arg-type]  # chance: 0.4 and 2.4
    again = run(engine(kind, learner={"experts": []}), events, poll=701)
    assert [(o.prediction, o.probabilities) for o in outcomes] == [(o.prediction, o.probabilities) for o in again]

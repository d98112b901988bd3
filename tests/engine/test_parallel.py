"""Engines in several processes that learn one θ, each from tasks of its own: as one that has all of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.parallel import Names, Parallel
from streammeta.engine.sampling import dealt
from streammeta.engine.tasks import MemorySettings
from streammeta.event import Event, Origin
from streammeta.meta.base import Episodes, Gradient, Theta
from streammeta.meta.settings import Kind

KINDS: list[Kind] = ["classification", "regression"]
KNOWN = (["a", "b"], ["u", "v"]), (["c", "b", "d"], ["w", "v", "u"])  # features and classes of two processes


class Alone:
    """No other process; or others that found this gradient."""

    def __init__(self, slopes: Theta | None = None) -> None:
        self._slopes = slopes

    def over_all(self, gradient: Gradient, scored: npt.NDArray[np.float64]) -> Gradient:
        slopes = self._slopes
        assert scored.shape == (5,)
        return gradient if slopes is None else lambda *_: (0.5, slopes)

    def total(self, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return vector


def settings(kind: Kind) -> EngineSettings:
    meta = {"mode": "background", "tasks": 6, "length": 24}
    return EngineSettings.model_validate({"kind": kind, "meta": meta})


def learned(kind: Kind, features: Sequence[str], classes: Sequence[str], seed: int) -> Engine:
    """An engine that has tasks with these features and classes; one feature is far larger in some of the tasks."""
    random, engine = np.random.default_rng(seed), Engine(settings(kind))
    events = []
    for i in range(900):
        task = i % 9
        x = random.normal(size=len(features))
        total = float(x.sum() * (1 if task % 2 else -1))
        y = classes[int(total > 0) + int(total > 1.5) if len(classes) > 2 else int(total > 0)]
        values = {name: float(v) for name, v in zip(features, x, strict=True)}
        values[features[0]] *= 1_000.0 if task % 3 == 0 else 1.0  # so that it gets own views
        event = Event(values, f"t{task}", Origin("in", seed, i), y=y if kind == "classification" else total)
        events.append(event)
    for begin in range(0, len(events), 50):
        engine.step(events[begin : begin + 50])
    return engine


def pair(kind: Kind) -> tuple[Engine, Parallel, Engine, Parallel]:
    """A leader and another one, with features and a class that only the other knows; the other follows."""
    one, other = (learned(kind, *known, number) for number, known in enumerate(KNOWN))
    leader, follower = one.parallel(), other.parallel()
    names = follower.new_names()
    assert names is not None
    leader.know(names)
    theta = leader.new_theta()
    assert theta is not None
    follower.follow(theta)
    return one, leader, other, follower


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_follower_draws_means_the_same_in_the_leaders_order(kind: Kind) -> None:
    """Features and classes have other numbers in each process; one mixed up would teach noise, and no error say so."""
    one, leader, other, follower = pair(kind)
    gradient = one.memory.method.gradient
    for seed in range(4):  # then θ alone has changed, and follows by a shorter way
        leader.learn(leader.draw(seed, 0, [0, 1, 2]), Alone())
        follower.follow(leader.new_theta() or b"")
    assert [s.name for s in one.memory.features.slots] == ["a", "b", "c", "d"]
    assert [s.name for s in other.memory.features.slots] == ["b", "c", "d", "a"]
    assert set(one.memory.shared.own) != set(other.memory.shared.own)

    in_order = follower.draw(7, 1, [0, 2, 3, 5])

    own = other.parallel().draw(7, 1, [0, 2, 3, 5])  # nobody leads this one: its own order
    assert own.x.tobytes() != in_order.x.tobytes()
    assert own.scored.tobytes() == in_order.scored.tobytes()
    here, there = gradient(other.meta_state.theta, own, "cpu"), gradient(one.meta_state.theta, in_order, "cpu")
    assert there[0] == pytest.approx(here[0], rel=1e-6)
    norms = [
        float(np.sqrt(sum(np.square(p, dtype=np.float64).sum() for p in found[1].values()))) for found in (here, there)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_one_process_are_in_the_theta_of_all_and_said_once(kind: Kind) -> None:
    """θ has weights for what any rank has seen; and nothing goes over the wire that is known."""
    one, leader, other, follower = pair(kind)

    assert follower.new_names() is None
    assert leader.new_theta() is None
    shapes = [{name: p.shape for name, p in engine.meta_state.theta.items()} for engine in (one, other)]
    assert shapes[0] == shapes[1]
    if kind == "classification":
        assert sorted(map(str, one.memory.labels.classes)) == ["u", "v", "w"]
        assert one.memory.labels.classes != other.memory.labels.classes
    one.step([Event({"e": 1.0}, "t0", Origin("in", 0, 900))])
    assert leader.new_theta() is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_follower_has_the_leaders_normalization(kind: Kind) -> None:
    """Windows are raw: under another scale the same events would be other ones."""
    one, _, other, _ = pair(kind)
    scales = []
    for engine in (one, other):
        shared = engine.memory.shared.frame.shared
        names = [slot.name for slot in engine.memory.features.slots]
        scales.append({name: (shared.shift[i], shared.gain[i]) for i, name in enumerate(names)})
    assert scales[0] == scales[1]


def test_a_step_of_the_leader_reaches_the_follower_by_name() -> None:
    """They would drift apart, each learning something else."""
    one, leader, other, follower = pair("classification")
    before = {name: p.copy() for name, p in other.meta_state.theta.items()}

    leader.learn(leader.draw(3, 0, [0, 1, 2]), Alone())
    theta = leader.new_theta()
    assert theta is not None
    follower.follow(theta)

    assert other.stats().theta_version == one.stats().theta_version == 1
    assert any((other.meta_state.theta[name] != p).any() for name, p in before.items())
    flat = [np.sort(np.concatenate([p.ravel() for p in e.meta_state.theta.values()])) for e in (one, other)]
    assert flat[0].tobytes() == flat[1].tobytes()


def test_an_engine_without_tasks_draws_nothing_and_still_leads() -> None:
    """Rank 0's own partitions may be silent while the others' are not."""
    engine = Engine(settings("classification"))
    leader, other = engine.parallel(), learned("classification", ["a", "b"], ["u", "v"], 0)
    names = other.parallel().new_names()
    assert names is not None
    leader.know(names)

    assert (leader.drawable, other.parallel().drawable) == (0, 9)
    nothing = leader.draw(1, 0, [])
    assert nothing.x.shape == (engine.memory.method.members, 0, 24, 2 + len(other.memory.shared.own))
    slopes = {name: np.ones_like(p) for name, p in engine.meta_state.theta.items()}
    leader.learn(nothing, Alone(slopes))  # what the others found
    assert engine.stats().theta_version == 1


def test_what_the_leader_has_no_capacity_for_is_left_out() -> None:
    """Of a feature or class too many there is no weight: its events must not count as another class's."""
    few = {"max_features": 3, "max_classes": 2}
    one = Engine(settings("classification").model_copy(update={"memory": MemorySettings.model_validate(few)}))
    other = learned("classification", *KNOWN[1], 1)
    leader, follower = one.parallel(), other.parallel()
    names = follower.new_names()
    assert names is not None
    leader.know(Names([("z", None, 1)], None, ["q"], []))
    leader.know(names)

    follower.follow(leader.new_theta() or b"")

    assert one.memory.features.slots[0].name == "z"
    assert len(one.memory.features) == 3
    assert len(one.memory.labels.classes) == 2
    assert follower.new_names() is not None  # with "z" and "q"
    assert follower.new_names() is None  # and never again, though the leader cannot take them
    drawn, own = follower.draw(2, 1, [0, 1, 2]), other.parallel().draw(2, 1, [0, 1, 2])
    kept = one.memory.labels.classes[1]
    number = other.memory.labels.classes.index(kept)
    assert drawn.scored.sum() == (own.scored * (own.y == number)).sum() > 0
    assert set(drawn.y[drawn.valid > 0].tolist()) == {1}
    assert drawn.x.shape[-1] == one.memory.shared.frame.inputs
    value, _ = one.memory.method.gradient(one.meta_state.theta, drawn, "cpu")
    assert np.isfinite(value)


def test_segments_are_dealt_by_how_many_tasks_each_process_has() -> None:
    """By process, a task among few would be learned from far more often than one among many."""
    random = np.random.default_rng(0)
    counts = np.zeros(3)
    for _ in range(500):
        places = dealt(8, [30, 0, 10], random)
        assert sorted(place for one in places for place in one) == list(range(8))
        counts += [len(one) for one in places]
    assert counts.tolist() == [3000, 0, 1000]
    rare = np.mean([len(dealt(1, [3, 1], random)[1]) for _ in range(4_000)])
    assert rare == pytest.approx(0.25, abs=0.03)
    assert dealt(4, [0, 0], random) == [[], []]


def test_each_process_gets_segments_that_start_cold_as_often_as_others() -> None:
    """Else the tasks of one rank would only ever teach how to go on, and those of another how to begin."""
    random = np.random.default_rng(1)
    cold = np.mean([[sum(place < 1 for place in one) for one in dealt(2, [1, 1], random)] for _ in range(2_000)], 0)
    assert cold.tolist() == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_several_processes_make_the_gradient_of_all_segments(kind: Kind) -> None:
    """What over_all adds up, without the wire: weighted by scored events it is the gradient of the union."""
    one, leader, _, follower = pair(kind)
    parts = [leader.draw(5, 0, [0, 3, 4]), follower.draw(5, 1, [1, 2, 5])]
    union = Episodes(*(np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True)))
    gradient, theta = one.memory.method.gradient, one.meta_state.theta

    value, slopes = gradient(theta, union, "cpu")

    weights = np.array([part.scored.sum((1, 2)) for part in parts], np.float64)
    weights /= weights.sum(0)
    found = [gradient(theta, part, "cpu") for part in parts]
    assert np.isfinite(value)
    for name, wanted in slopes.items():
        shape = (-1, *[1] * (wanted.ndim - 1))
        own = sum(f[1][name] * w.reshape(shape) for f, w in zip(found, weights, strict=True))
        assert np.abs(own - wanted).max() < 1e-6 * max(1.0, np.abs(wanted).max())


def test_meta_updates_are_due_by_the_events_of_all_but_none_for_those_of_a_pin() -> None:
    """θ learns as often as one process's would; and an hour without training brings no hour of updates at its end."""
    engine = Engine(settings("classification"))
    leader = engine.parallel()
    assert [leader.count(10, 10, 16), leader.count(10, 10, 16), leader.count(40, 40, 16)] == [0, 1, 2]
    engine.adopt(None, train=False)
    assert leader.count(4_000, 4_000, 16) == 0
    engine.adopt(None, train=True)
    assert leader.count(16, 16, 16) <= 2

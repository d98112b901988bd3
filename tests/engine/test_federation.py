"""Members that keep their events: what they send, what it depends on, and what a trainer takes."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.federation import Federation, Work
from streammeta.engine.update import Update, decode_update, encode_update
from streammeta.engine.weights import Weights
from streammeta.errors import SnapshotError
from streammeta.event import Event, Origin
from tests.meta.test_federated import NoNoise


def settings(**meta: Any) -> EngineSettings:
    chosen = {"trainer": "separate", "share": "updates", "local_steps": 2, "privacy": {"noise_multiplier": 0.0}} | meta
    return EngineSettings.model_validate({"meta": chosen, "learner": {"experts": ()}})


PRIVATE = {"privacy": {"noise_multiplier": 1.0, "sample_rate": 1.0, "task_norm": 0.25}}


def events(tasks: Sequence[str], count: int = 20, *, names: str = "ab", seed: int = 0) -> list[Event]:
    found = []
    for task in tasks:
        draw = np.random.default_rng((seed, *task.encode()))
        for i in range(count):
            x = {name: float(draw.normal()) for name in names}
            y = "yes" if sum(x.values()) > 0 else "no"
            found.append(Event(x, task, Origin("in", 0, i), y=y))
    return found


def member(tasks: Sequence[str], chosen: EngineSettings, **options: Any) -> Engine:
    engine = Engine(chosen)
    engine.adopt(None, train=False)
    engine.step(events(tasks, **options))
    return engine


def finished(parts: Generator[None, None, Work | None]) -> Work | None:
    while True:
        try:
            next(parts)
        except StopIteration as end:
            found: Work | None = end.value
            return found


class Led:
    """A trainer, as far as its mathematics goes."""

    def __init__(self, chosen: EngineSettings) -> None:
        self.engine = Engine(chosen)
        self.federation = self.engine.federation()
        self.note()

    @property
    def published(self) -> Weights:
        return self.engine.shared_weights()

    def note(self) -> None:
        self.federation.published(self.published.version, self.published.shared["theta_id"])

    def know(self, one: Federation) -> None:
        """The first round: names only."""
        work = one.begin(self.published, [0])
        assert work is not None
        update, _ = work()
        assert not update.delta
        self.federation.know(update)
        self.engine.count_versions_from(self.engine.memory.shared.version + 1)
        self.note()


def sent(led: Led, one: Federation) -> Update:
    work = one.begin(led.published, [0])
    assert work is not None
    update, done = work()
    one.finish(done)
    return decode_update(encode_update(update), "here")


def test_what_a_member_sends_are_names_and_a_change_of_theta() -> None:
    """Looked for in the record itself: no value of any event, no tag of a task, no normalization."""
    chosen = settings()
    led, engine = Led(chosen), member(["t1", "t2"], chosen)
    one = engine.federation()
    led.know(one)

    update = sent(led, one)

    assert [slot[0] for slot in update.slots] == ["a", "b"]
    assert set(update.classes) == {"yes", "no"}
    assert (update.partitions, update.weight) == ([0], 2)
    data = encode_update(update)
    for event in events(["t1", "t2"]):
        for value in event.x.values():  # type: ignore[union-attr]
            assert np.float64(value).tobytes() not in data
            assert np.float32(value).tobytes() not in data
    assert b"t1" not in data
    assert update.delta.keys() == led.engine.meta_state.theta.keys()


def test_a_private_update_says_nothing_of_how_many_tasks_there_are() -> None:
    """A count is data too; and a member without any task sends noise of the same form."""
    chosen = settings(**PRIVATE)
    led, engine = Led(chosen), member(["t1", "t2"], chosen)
    led.know(engine.federation())

    update, nothing = (sent(led, one.federation()) for one in (engine, member([], chosen)))

    assert (update.weight, nothing.weight) == (0, 0)
    assert update._replace(delta={}, width=None) == nothing._replace(delta={}, width=None)
    assert np.linalg.norm(np.concatenate([p.ravel() for p in nothing.delta.values()])) > 0.1


def test_a_tasks_segments_are_the_same_whatever_other_tasks_there_are() -> None:
    """What all tasks share, as their mean, would carry one task into the others' gradients: the clip would be no bound."""
    chosen = settings(**PRIVATE, local_steps=1)
    led = Led(chosen)
    few, many = member(["t1", "t2"], chosen), member(["t1", "t2"], chosen)
    many.step([Event({"a": 1e6, "b": -1e6}, "t3", Origin("in", 0, i), y="yes") for i in range(20)])
    led.know(few.federation())

    found = [one.federation(NoNoise()).begin(led.published, [0]) for one in (few, many)]

    steps = [work.steps[0] for work in found if work is not None]
    assert [step.x.shape[1] for step in steps] == [2, 3]
    for name, few_have, many_have in zip(steps[0]._fields, *steps, strict=True):
        np.testing.assert_array_equal(few_have, many_have[:, :2], err_msg=name)


@pytest.mark.parametrize(("unit", "level"), [(1e-9, 0.0), (1e12, 0.0), (1.0, 1e9)], ids=str)
def test_private_segments_of_targets_are_the_same_in_any_unit(unit: float, level: float) -> None:
    """Amounts in another currency, levels far from 0: what is learned of them is how they vary."""
    chosen = settings(**PRIVATE, local_steps=1).model_copy(update={"kind": "regression"})
    led, found = Led(chosen), []
    for to, offset in ((1.0, 0.0), (unit, level)):
        engine, draw = member([], chosen), np.random.default_rng(0)
        for i in range(20):
            a, y = float(draw.normal()), float(draw.normal())
            engine.step([Event({"a": to * a}, "t1", Origin("in", 0, i), y=to * y + offset)])
        if not found:
            led.know(engine.federation())
        work = engine.federation(NoNoise()).begin(led.published, [0])
        assert work is not None
        found.append(work.steps[0])

    assert np.unique(found[0].y).size > 5
    for name, plain, other in zip(found[0]._fields, *found, strict=True):
        np.testing.assert_allclose(plain, other, rtol=1e-3, atol=1e-3, err_msg=name)


def test_a_round_of_no_changes_leaves_theta_as_it_is() -> None:
    """Nights come when no member has anything to say."""
    led = Led(settings())
    before = led.engine.meta_state

    led.federation.step([])

    assert led.engine.meta_state is before


def test_changes_are_matched_by_the_names_of_features_and_classes() -> None:
    """Members see features and classes in orders of their own; a mean over other features would be nonsense."""
    chosen = settings(outer_rate=1.0, outer_momentum=0.0)
    led, engine = Led(chosen), member(["t1"], chosen)
    one = engine.federation()
    led.know(one)
    update, before = sent(led, one), led.engine.meta_state.theta
    led.federation.know(update._replace(new_slots=[("c", None, 1)], new_classes=["maybe"]))
    twisted = update._replace(
        slots=[update.slots[1], update.slots[0]],
        delta=update.delta | {"w1": update.delta["w1"][:, ::-1], "v": update.delta["v"][:, ::-1]},
    )

    led.federation.step([twisted])

    after = led.engine.meta_state.theta
    np.testing.assert_allclose(after["w1"][:, :2] - before["w1"], update.delta["w1"], atol=1e-6)
    assert after["w0"].shape[2] == 3
    assert not after["w0"][..., 2].any()


@pytest.mark.parametrize("reason", ["settings", "version", "shape", "numbers"])
def test_an_update_that_does_not_fit_is_refused_for_its_reason(reason: str) -> None:
    """Before anything of it is used."""
    chosen = settings()
    led, engine = Led(chosen), member(["t1"], chosen)
    one = engine.federation()
    led.know(one)
    update = sent(led, one)
    bad = {name: p.copy() for name, p in update.delta.items()}
    bad["w1"][0, 0, 0] = np.nan
    wrong = {
        "settings": update._replace(settings=update.settings | {"learner.hidden": 7}),
        "version": update._replace(theta_id=update.theta_id ^ 1),
        "shape": update._replace(delta={**update.delta, "w1": update.delta["w1"][:, :1]}),
        "numbers": update._replace(delta=bad),
    }

    assert led.federation.refusal(update) is None
    assert led.federation.refusal(wrong[reason]) == reason


def test_where_changes_are_private_one_without_noise_is_refused() -> None:
    """A member with other settings would send what its tasks say, for all readers, and nobody would know."""
    chosen = settings(**PRIVATE)
    led, private, open_ = Led(chosen), *(member(["t1"], one).federation() for one in (chosen, settings()))
    led.know(private)

    assert led.federation.refusal(sent(led, private)) is None
    assert led.federation.refusal(sent(led, open_)) == "settings"


def test_an_update_of_long_ago_is_refused() -> None:
    """θ has gone on; a change that was found from a θ of another time points anywhere."""
    chosen = settings()
    led, engine = Led(chosen), member(["t1"], chosen)
    one = engine.federation()
    led.know(one)
    update = sent(led, one)

    refused = []
    for _ in range(5):
        refused.append(led.federation.refusal(update))
        led.federation.step([update])
        led.note()

    assert refused == [None, None, None, None, "version"]


def test_a_poisoned_update_moves_theta_by_no_more_than_the_clip() -> None:
    """A member may be taken over: what it sends is finite, of the right shape, and huge."""
    chosen = settings(update_norm=0.5, outer_rate=1.0, outer_momentum=0.0)
    led, engine = Led(chosen), member(["t1"], chosen)
    one = engine.federation()
    led.know(one)
    poison = {name: np.full_like(p, 1e30) for name, p in sent(led, one).delta.items()}
    before = led.engine.meta_state.theta

    led.federation.step([sent(led, one)._replace(delta=poison)])

    moved = [np.square(led.engine.meta_state.theta[name] - p).sum() for name, p in before.items()]
    assert np.sqrt(sum(moved)) <= 0.5 * (1 + 1e-3)


def test_where_changes_are_private_no_member_has_more_weight_by_saying_so() -> None:
    """A weight is a count of the data, or a lie: by it, one member could have all of the mean."""
    chosen = settings(**PRIVATE, outer_rate=1.0, outer_momentum=0.0)
    led, engine = Led(chosen), member(["t1"], chosen)
    one = engine.federation()
    led.know(one)
    update, before = sent(led, one), led.engine.meta_state.theta
    nothing = {name: np.zeros_like(p) for name, p in update.delta.items()}

    led.federation.step([update, update._replace(delta=nothing, weight=10**9)])

    after = led.engine.meta_state.theta
    np.testing.assert_allclose(after["w1"] - before["w1"], update.delta["w1"] / 2, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_damaged_update_is_an_error_that_says_where(cut: int) -> None:
    """It came from a topic."""
    chosen = settings()
    led, engine = Led(chosen), member(["t1"], chosen)
    one = engine.federation()
    led.know(one)

    with pytest.raises(SnapshotError, match=r"^here: "):
        decode_update(encode_update(sent(led, one))[:cut], "here")


def test_targets_and_their_units_stay_with_the_member() -> None:
    """A regression, with targets in millions: what is sent is of the size of θ."""
    chosen = settings(**PRIVATE).model_copy(update={"kind": "regression"})
    led, engine = Led(chosen), Engine(chosen)
    engine.adopt(None, train=False)
    draw = np.random.default_rng(0)
    engine.step(
        [Event({"a": float(a)}, "t", Origin("in", 0, i), y=1e6 * a) for i, a in enumerate(draw.normal(size=30))]
    )
    one = engine.federation()
    led.know(one)

    update = sent(led, one)

    assert all(np.isfinite(p).all() and np.abs(p).max() < 1 for p in update.delta.values())


def test_what_is_drawn_in_parts_leaves_out_tasks_that_went_meanwhile() -> None:
    """With many tasks it takes seconds, and nobody may be held up; a partition may go to another member in between."""
    chosen = settings(**PRIVATE, local_steps=1)
    led, engine = Led(chosen), member([f"t{i}" for i in range(40)], chosen)
    led.know(engine.federation())
    parts = engine.federation(NoNoise()).begin_in_parts(led.published, [0])

    next(parts)
    engine.handover().forget(0)
    work = finished(parts)

    assert work is not None
    assert 0 < work.steps[0].x.shape[1] < 40

"""The online forest: right where concepts have edges, saved to the bit, and nothing damaged reaches compiled code."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.experts import Mixture
from streammeta.engine.experts.base import Case
from streammeta.engine.experts.forest import Forest
from streammeta.engine.handover import Change
from streammeta.engine.outcome import Signal
from streammeta.engine.partitioned import Renumbering
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from streammeta.meta.settings import Kind
from streammeta.testing.expert import check_expert

SAME = Renumbering(np.arange(2), np.arange(2), same=True)
SMALL = {"hidden": 8, "encoded": 4, "memories": [20.0], "members": 2}


def settings(kind: Kind = "classification", experts: Sequence[str] = ("forest",)) -> EngineSettings:
    return EngineSettings.model_validate(
        {"kind": kind, "learner": SMALL | {"experts": list(experts)}, "meta": {"mode": "off"}}
    )


def squares(count: int, kind: Kind = "classification", tasks: int = 3, seed: int = 0, late: int = 10**9) -> list[Event]:
    """Labels by a board of four squares; a third class and another feature come with event ``late``."""
    rng = np.random.default_rng(seed)
    events = []
    for i in range(count):
        x = rng.random(3)
        y = float((x[0] > 0.5) ^ (x[1] > 0.5))
        features = {"a": x[0], "b": x[1], "c": x[2]} | ({"late": float(i % 5)} if i >= late else {})
        if i >= late and i % 5 == 4:
            y = 2.0
        if i % 11 == 3:
            del features["c"]
        label = int(y) if kind == "classification" else y + 0.01 * x[2]
        task = int(rng.integers(tasks))
        events.append(Event(features, f"task-{task}", Origin("in", task % 2, i), y=label, id=f"e{i}"))
    return events


def accuracy(forest: Forest, xs: np.ndarray, ys: np.ndarray, partition: int = 0) -> float:
    """Prequential, over the second half."""
    right = []
    for x, y in zip(xs.astype(np.float32), ys, strict=True):
        case = Case(0, "", x, partition)
        said = forest.predict({}, case, 2)
        right.append(said is not None and said.argmax() == y)
        forest.learn({}, case, float(y))
    return float(np.mean(right[len(right) // 2 :]))


def test_two_thousand_million_labels_are_not_the_end() -> None:
    """Events are linked by 32 bits: beyond, trees split no more, and no later start could read the state."""
    rng = np.random.default_rng(1)
    xs = rng.random((6_000, 4))
    ys = ((xs[:, 0] > 0.5) ^ (xs[:, 1] > 0.3)).astype(float)
    forest, again = Forest("classification", 0), Forest("classification", 0)
    accuracy(forest, xs[:3_000], ys[:3_000])
    trees, later = forest.parts[0], 2**31 - 2**12
    for held in (trees.nodes[:, :, 2], trees.links):
        held[held >= 0] += later
    trees.ring.count += later

    assert accuracy(forest, xs[3_000:], ys[3_000:]) > 0.95
    again.take_partition(0, forest.partition(0), SAME, "state/0")
    ask = Case(0, "", xs[0].astype(np.float32))
    np.testing.assert_array_equal(again.predict({}, ask, 2), forest.predict({}, ask, 2))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_it_is_an_expert(kind: Kind) -> None:
    """What the mixture relies on: seeded, predicting changes nothing, saved to the bit."""
    check_expert(lambda: Forest(kind, 7), kind)


def test_a_concept_with_edges_is_learned_and_learned_again_when_it_turns_round() -> None:
    """Smooth heads lose ten points there; after the labels swap, trees must begin again and not average."""
    rng = np.random.default_rng(1)
    xs = rng.random((6_000, 4))
    ys = ((xs[:, 0] > 0.5) ^ (xs[:, 1] > 0.3)).astype(float)
    forest = Forest("classification", 0)
    assert accuracy(forest, xs[:3_000], ys[:3_000]) > 0.95
    assert accuracy(forest, xs[3_000:], 1 - ys[3_000:]) > 0.95


@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1e9, 1e16])
def test_edges_are_learned_in_any_unit(unit: float) -> None:
    """A variance floor of its own unit, 1e-12, kept trees from ever splitting targets in nanometres or picofarads."""
    rng, forest, errors = np.random.default_rng(2), Forest("regression", 0), []
    for _ in range(1_000):
        x = rng.random(3).astype(np.float32)
        y = unit * float(x[1] > 0.5)
        said = forest.predict({}, Case(0, "", x), 1)
        errors.append(0.5 if said is None else abs(said[0] - y) / unit)
        forest.learn({}, Case(0, "", x), y)
    assert np.mean(errors[500:]) < 0.1


@pytest.mark.parametrize("size", [1e18, 1e20, -3e38])
def test_one_huge_target_leaves_a_forest_that_can_be_restored(size: float) -> None:
    """Its square is no number in single precision: the state was then refused as damaged at every later start."""
    forest, again = Forest("regression", 0), Forest("regression", 0)
    for i, event in enumerate(squares(1_100, "regression")):  # past a copy, which is what is looked at
        x = np.array([event.x["a"], event.x["b"]], np.float32)
        forest.learn({}, Case(0, "", x), size if i == 100 else float(event.y or 0))
    again.take_partition(0, forest.partition(0), SAME, "state/0")
    ask = Case(0, "", np.array([0.2, 0.7], np.float32))
    assert again.predict({}, ask, 1) == forest.predict({}, ask, 1)


def test_a_mean_of_zero_is_an_opinion() -> None:
    """One by one it was taken for none, at once it was not."""
    forest = Forest("regression", 0)
    for i in range(20):
        forest.learn({}, Case(0, "", np.float32([i % 3])), 0.0)

    assert forest.predict({}, Case(0, "", np.float32([1])), 1) == [0.0]


def test_a_value_that_was_never_missing_is_not_taken_for_the_largest() -> None:
    """Where a missing one came with the largest in a split, it said what the largest says."""
    rng, forest = np.random.default_rng(6), Forest("regression", 0)
    for _ in range(1_500):
        x = rng.normal(size=2).astype(np.float32)
        forest.learn({}, Case(0, "", x), float(3 * x[0]))

    (largest,) = forest.predict({}, Case(0, "", np.float32([3.0, 0.0])), 1)  # type: ignore[misc]
    (missing,) = forest.predict({}, Case(0, "", np.float32([np.nan, 0.0])), 1)  # type: ignore[misc]

    assert largest > 4.0
    assert abs(missing) < 2.0


def test_targets_are_learned_in_their_own_unit() -> None:
    """A step of 1,000 at 0.5: the mean of its sides, whatever the unit."""
    rng = np.random.default_rng(2)
    forest, errors = Forest("regression", 0), []
    for _ in range(1_500):
        x = rng.random(3).astype(np.float32)
        y = 1_000.0 * (x[1] > 0.5) + 5_000.0
        said = forest.predict({}, Case(0, "", x), 1)
        errors.append(1_000.0 if said is None else abs(said[0] - y))
        forest.learn({}, Case(0, "", x), y)
    assert np.mean(errors[750:]) < 50


def test_trees_of_many_classes_have_fewer_nodes() -> None:
    """A partition's memory is bounded, however many classes there are."""
    forest, rng = Forest("classification", 0), np.random.default_rng(3)
    for i in range(3_000):
        x = rng.random(2).astype(np.float32)
        forest.learn({}, Case(0, "t", x), float(int(300 * x[0]) if i else 299))
    arrays = forest.partition(0)
    assert arrays["forest.counts"].shape[1:] == (64, 512)
    assert arrays["forest.trees"][:, 0].max() > 32


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_polls_and_snapshots_change_nothing(kind: Kind) -> None:
    """A service polls as it can and is restarted as it must. To the bit."""
    events = squares(400, kind, late=200)
    whole, engine, cut = Engine(settings(kind)), Engine(settings(kind)), []
    for at in range(0, 400, 80):
        cut += [one for i in range(at, at + 80, 5) for one in engine.step(events[i : i + 5])]
        engine = Engine.restore(settings(kind), engine.snapshot())
    assert [repr(one) for one in cut] == [repr(one) for one in whole.step(events)]


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("experts", [["forest"], ["nearest", "forest"]], ids="+".join)
def test_a_run_at_once_is_its_events_one_by_one(
    kind: Kind, experts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drifts, late labels, a class and a feature that come later, two partitions: the same to the bit."""
    turn = 1 if kind == "classification" else 20
    turned = [replace(event, y=turn - turn * (event.y or 0)) for event in squares(1_800, kind, late=1_200)[900:]]
    events = squares(900, kind) + turned
    items: list[Event | Label] = []
    for i, event in enumerate(events):
        items.append(replace(event, y=None) if i % 3 else event)
        if i >= 40 and (i - 40) % 3:
            late = events[i - 40]
            items.append(Label(late.id or "", late.y or 0, late.task, late.origin))
    at_once = Engine(settings(kind, experts)).step(items)
    monkeypatch.setattr(Mixture, "ask", lambda *_: None)
    one_by_one = Engine(settings(kind, experts)).step(items)
    assert [repr(one) for one in at_once] == [repr(one) for one in one_by_one]
    assert sum(one.signal is Signal.DRIFT for one in at_once if isinstance(one.event, Event)) > 0


def test_a_partition_of_another_member_gets_no_forest_here() -> None:
    """Who trains sees labels of all members; their partitions' forests are theirs."""
    engine = Engine(settings())
    engine.step([replace(event, origin=replace(event.origin, partition=-3)) for event in squares(40)])

    assert engine.memory.partitions.dump() == {}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_it_goes_where_its_partition_goes_to_the_bit_in_pieces_that_changed(kind: Kind) -> None:
    """Exactly once: whoever has the partition now predicts as the one before; a commit does not write it all again."""
    events = squares(700, kind, late=300)
    engine, log = Engine(settings(kind)), {0: {}, 1: {}}
    handover, sizes = engine.handover(), []
    for begin in range(0, 500, 20):
        engine.step(events[begin : begin + 20])
        changes = list(handover.changes())
        sizes.append(sum(len(change.value or b"") for change in changes if change.key.startswith(b"part:")))
        for partition, key, value in changes:
            log[partition][key] = value or b""
    rest = {number: engine.memory.partitions.of(number) for number in (0, 1)}
    assert np.median(sizes) < 2 * 2 * 8192  # of two partitions; all of it is 240 kB

    goes = Engine(settings(kind))
    goes.adopt(engine.shared_weights(), train=True)
    heard = {number: goes.add_sums(number, value, "weights/0") for number, value in engine.changed_sums()}
    for partition in (0, 1):
        list(goes.handover().take(partition, log[partition], f"state/{partition}"))
    goes.own_sums([0, 1], heard)
    for number, arrays in rest.items():
        taken = goes.memory.partitions.of(number)
        assert [name for name in arrays if arrays[name].tobytes() != taken[name].tobytes()] == []
    foreseen = zip(engine.predict(events[500:]), goes.predict(events[500:]), strict=True)
    assert all(one.prediction == other.prediction for one, other in foreseen)


def write(log: dict[bytes, bytes], changes: Iterable[Change]) -> None:
    """As compaction keeps them."""
    for _, key, value in changes:
        if value is None:
            log.pop(key, None)
        else:
            log[key] = value


@pytest.mark.parametrize("is_known_by_other_numbers", [False, True])
@pytest.mark.parametrize(
    ("kind", "experts"), [("regression", ()), ("classification", ("neighbours",)), ("classification", ("forest",))]
)
def test_what_another_process_wrote_of_a_forgotten_task_goes(
    kind: Kind, experts: Sequence[str], *, is_known_by_other_numbers: bool
) -> None:
    """Else `forget` says that it is done, and pieces of a forest that nobody had any more keep the task's numbers."""
    events = [replace(event, origin=Origin("in", 0, i)) for i, event in enumerate(squares(1_500, kind, tasks=2))]
    engine, log = Engine(settings(kind)), dict[bytes, bytes]()
    handover = engine.handover()
    engine.step(events)
    write(log, handover.changes())
    ring = [key for key in log if b":forest.x" in key]
    assert len(ring) > 1

    other = Event({"late": 1.0, "c": 0.1}, "task-9", Origin("in", 1, 0), y=2)
    goes = Engine(settings(kind, experts))
    goes.step([other] if is_known_by_other_numbers else [])
    goes.adopt(engine.shared_weights(), train=True)
    handover = goes.handover()
    list(handover.take(0, log, "state/0"))
    for task in ("task-0", "task-1"):
        assert goes.forget(0, task)
    write(log, [change for change in handover.changes() if change.partition == 0])

    assert [key for key in log if key.startswith((b"part:", b"task:", b"page:"))] == []


def test_late_labels_teach_it_and_count_as_they_were_predicted() -> None:
    """A label that comes later must not be predicted by a forest that has learned it."""
    events = squares(120)
    engine = Engine(settings())
    first = engine.step([replace(event, y=None) for event in events])
    again = engine.step([Label(event.id or "", event.y or 0, event.task, event.origin) for event in events])
    assert [one.probabilities for one in first] == [one.probabilities for one in again]
    assert engine.memory.partitions.of(0)["forest.since.count"][0] > 0


def test_numbers_of_another_process_become_those_of_this_one() -> None:
    """Features and classes that came in another order there: the same predictions here."""
    there, here = Forest("classification", 3), Forest("classification", 3)
    rng = np.random.default_rng(4)
    for _ in range(400):
        x = rng.random(2).astype(np.float32)
        there.learn({}, Case(0, "t", x), float(x[0] > 0.5))
    renumbering = Renumbering(np.array([1, 0]), np.array([1, 0]), same=False)
    here.take_partition(0, there.partition(0), renumbering, "state/0")
    for x in rng.random((20, 2)).astype(np.float32):
        one, other = there.predict({}, Case(0, "t", x), 2), here.predict({}, Case(0, "t", x[::-1].copy()), 2)
        np.testing.assert_array_equal(one, other[::-1])  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("nodes", (0, 0, 0), 99),
        ("nodes", (2, 0, 2), 10**6),
        ("links", (1, 5), 10**6),
        ("trees", (3, 0), 1e9),
        ("trees", (3, 4), 500.0),
        ("counts", (0, 0, 0), np.nan),
        ("y", (0,), 77.0),
        ("count", (0,), -4),
        ("moments", (3,), 50.0),
        ("since.y", (5,), 1e6),
        ("since.count", (0,), 3_000),
    ],
)
def test_damaged_trees_are_refused(name: str, place: tuple[int, ...], value: float) -> None:
    """What is read from a topic must not lead compiled code out of its arrays."""
    forest = Forest("classification", 3)
    for i in range(1_100):
        forest.learn({}, Case(0, "t", np.float32([i % 7, i % 3])), float(i % 7 > 3))
    arrays = {key: array.copy() for key, array in forest.partition(0).items()}
    arrays[f"forest.{name}"][place] = value
    with pytest.raises(SnapshotError, match=r"state/0: a forest with .* damaged"):
        forest.take_partition(0, arrays, SAME, "state/0")


def test_a_named_expert_does_not_switch_the_gaussians_off() -> None:
    """Where classes are many they help, whoever else takes part."""
    rng = np.random.default_rng(5)
    centres = 3 * rng.normal(size=(12, 3))
    events = [
        Event(
            dict(zip("abc", (centres[i % 12] + 0.3 * rng.normal(size=3)).tolist(), strict=True)),
            "t",
            Origin("in", 0, i),
            y=i % 12,
        )
        for i in range(300)
    ]
    engine = Engine(settings())
    engine.step(events[:8])
    assert engine.memory.tasks.columns["gaussian.mean"].size == 0
    engine.step(events[8:])
    assert engine.memory.tasks.columns["gaussian.count"].any()

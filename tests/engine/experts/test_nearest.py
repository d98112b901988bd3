"""The expert with a long memory."""

from contextlib import closing

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts.base import Cases
from streammeta.engine.experts.forest import Forest
from streammeta.engine.experts.nearest import Nearest
from streammeta.engine.moments import no_sums
from streammeta.engine.partitioned import Renumbering
from streammeta.engine.scale import SharedScale, shared_scale
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from streammeta.meta.base import Kind
from tests.engine.experts.stopping import stopped

Doubles = npt.NDArray[np.float64]
CLASSES = 3


def scale_of(D: int) -> SharedScale:
    """Every feature has mean 1 and spread 2."""
    return shared_scale(no_sums(D), np.zeros(D, np.bool_))._replace(shift=np.ones(D), gain=np.full(D, 0.5))


class Pair:
    """The expert and the forest that it reads from, as the mixture asks them."""

    def __init__(self, kind: Kind, D: int) -> None:
        self.kind, self.scale = kind, scale_of(D)
        self.forest = Forest(kind, 0)
        self.nearest = Nearest(kind, self.forest, lambda: self.scale)

    def run(self, xs: Doubles, ys: Doubles, asked: npt.NDArray[np.bool_] | None = None) -> Doubles:
        n, outputs = len(ys), CLASSES if self.kind == "classification" else 1
        rows, ones = np.zeros(n, np.int64), np.ones(n)
        asked = np.ones(n, np.bool_) if asked is None else asked
        of = xs.astype(np.float32), rows, ys, asked, 0 * ones, ones, rows, np.arange(n), np.full((n, 2), -1)
        cases = Cases(["t"] * n, *of, np.zeros((n, 0), np.int64))
        said = self.nearest.run(Columns(), cases, outputs)
        self.forest.run(Columns(), cases, outputs)
        return said


def by_definition(xs: Doubles, ys: Doubles, kind: Kind, begin: int = 0) -> Doubles:
    """What the docstring says, event by event; NaN rows where too few came before, and before the place ``begin``."""
    z = np.nan_to_num(((xs.astype(np.float32) - 1) * 0.5).astype(np.float32).clip(-6, 6))[:, :128]
    there = ~np.isnan(xs[:, :128])
    outputs = CLASSES if kind == "classification" else 1
    found, known = np.full((len(ys), outputs), np.nan), list[int]()
    pairs, evidence = np.zeros((3, z.shape[1])), np.zeros(5)
    for i, y in enumerate(ys):
        compared = there[i] & there[known[-4096:]].any(0)
        if len(known) >= 5 and compared.any() and (i >= begin or not np.isnan(y)):
            D = compared.sum()
            last = np.array(known[-min(4096, 131_072 // D) :])[::-1]
            w = feature_weights(pairs)
            gaps = (z[last] - z[i] * compared) ** 2
            away = np.sqrt(gaps @ (w / w[compared].mean())) + 1e-3 * np.sqrt(D)
            best = [np.argsort(away[:length], kind="stable")[:7] for length in (128, 256, 512, 1024, 4096)]
            labels = [ys[last[one]].astype(np.float32) for one in best]
            said = np.array([opinion(1 / away[one], of, outputs) for one, of in zip(best, labels, strict=True)])
            v = length_weights(evidence, kind)
            if i >= begin:
                found[i] = v @ said
            if not np.isnan(y):
                k = 4 - int(np.argmax(v[::-1]))  # the longest of several as good
                add_pairs(pairs, compared, gaps[best[k]], np.abs(labels[k] - np.float32(y)), kind)
                right = np.log(said[:, int(y)] + 0.02) if kind == "classification" else (said[:, 0] - y) ** 2
                evidence = 0.95 * evidence + right
        if not np.isnan(y):
            known.append(i)
    return found


def opinion(weights: Doubles, labels: npt.NDArray[np.float32], outputs: int) -> Doubles:
    """Class probabilities, or a mean [1], of neighbours with these weights and labels."""
    if outputs == 1:
        return np.array([(weights * labels).sum() / weights.sum()])
    return np.array([weights[labels == c].sum() / weights.sum() for c in range(outputs)])


def length_weights(evidence: Doubles, kind: Kind) -> Doubles:
    """Of the memory's lengths [5], by log likelihoods or squared errors lately."""
    logs = evidence
    if kind == "regression":
        logs = -10 * np.log(evidence / evidence.mean() + 1e-6) if evidence.any() else np.zeros(5)
    weights: Doubles = np.exp(logs - logs.max())
    return weights / weights.sum()


def feature_weights(pairs: Doubles) -> Doubles:
    """RELIEF's weights [D] of features, by what ``add_pairs`` has added up: each begins with ten that speak for neither."""
    n, same, other = pairs
    prior = np.where(same + other > 0, 10 * (same + other) / (2 * np.maximum(n, 1e-300)), 1)
    weights: Doubles = np.maximum((other + prior) / (same + prior) - 1, 0) + 0.05
    return weights


def add_pairs(
    pairs: Doubles, compared: npt.NDArray[np.bool_], gaps: Doubles, away: npt.NDArray[np.float32], kind: Kind
) -> None:
    """Add squared gaps [7, D] of neighbours whose label is so far away [7] to what is known of the features compared."""
    order = np.argsort(away, kind="stable")
    half = len(order) // 2
    same, other = (order[:half], order[len(order) - half :])
    if kind == "classification":
        same, other = np.flatnonzero(away == 0), np.flatnonzero(away > 0)
    if len(same) and len(other) and away.min() < away.max():
        news = np.stack([np.ones(gaps.shape[1]), gaps[same].mean(0), gaps[other].mean(0)])
        pairs[:, compared] = 0.998 * pairs[:, compared] + news[:, compared]


def stream(n: int, D: int, kind: Kind, seed: int) -> tuple[Doubles, Doubles]:
    """Some features and labels are missing."""
    random = np.random.default_rng(seed)
    xs = 1 + 2 * random.normal(size=(n, D))
    xs[random.random(xs.shape) < 0.1] = np.nan
    ys = random.integers(0, CLASSES, n).astype(np.float64) if kind == "classification" else random.normal(size=n)
    ys[random.random(n) < 0.2] = np.nan
    return xs, ys


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize(("n", "D"), [(300, 4), (2000, 140)], ids=["all", "the last, by some features"])
def test_it_says_what_the_nearest_said(kind: Kind, n: int, D: int) -> None:
    xs, ys = stream(n, D, kind, 0)
    said, expected = Pair(kind, D).run(xs, ys), by_definition(xs, ys, kind)

    spoke = ~np.isnan(expected[:, 0])
    np.testing.assert_allclose(said[spoke], expected[spoke], rtol=1e-4, atol=1e-5)
    silent = said[~spoke]
    assert (silent == 0).all() if kind == "classification" else np.isnan(silent).all()


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_run_cut_anywhere_is_the_same_to_the_bit_and_so_is_what_is_read_again(kind: Kind) -> None:
    """Over more events than the memory holds, with the scale changed in between, and one memory lost on the way."""
    xs, ys = stream(9000, 3, kind, 1)
    whole, cut = Pair(kind, 3), Pair(kind, 3)
    expected = np.concatenate([whole.run(xs[:5000], ys[:5000]), whole.run(xs[5000:], ys[5000:])])

    found, random, begin = [], np.random.default_rng(2), 0
    while begin < len(ys):
        end = min(begin + int(random.integers(1, 400)), len(ys))
        if random.random() < 0.1:  # as after a restore, or with another scale of the same numbers
            saved = cut.nearest.partition(0)
            cut.nearest.take_partition(0, saved, Renumbering(np.arange(0), np.arange(0), same=True), "here")
            cut.scale = scale_of(3)
        found.append(cut.run(xs[begin:end], ys[begin:end]))
        begin = end

    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_it_says_what_the_nearest_said_when_events_were_read_again_beyond_those_it_holds() -> None:
    """Places of a fresh memory were taken for events with all features: then nothing was said any more."""
    xs, ys = stream(11_000, 3, "classification", 8)  # with more than twice 4,096 labels
    xs = np.nan_to_num(xs, nan=1.0)
    pair, found, begin = Pair("classification", 3), [], 10_800
    for part in (slice(begin), slice(begin, 10_900), slice(10_900, 11_000)):
        found.append(pair.run(xs[part], ys[part]))
        pair.scale = scale_of(3)  # another of the same numbers: the memory is read again

    said, expected = np.concatenate(found)[begin:], by_definition(xs, ys, "classification", begin)[begin:]
    spoke = ~np.isnan(expected[:, 0])
    assert spoke.sum() > 190
    np.testing.assert_allclose(said[spoke], expected[spoke], rtol=1e-4, atol=1e-5)


def test_what_is_read_again_has_the_labels_that_were_added() -> None:
    """The forest keeps no target beyond 1e17; who added it himself remembered another one than who read it."""
    xs, ys = stream(300, 3, "regression", 4)
    ys *= 10.0 ** np.random.default_rng(5).integers(0, 30, len(ys))
    whole, cut = Pair("regression", 3), Pair("regression", 3)
    found = list[Doubles]()
    for at in range(0, 300, 20):
        cut.scale = scale_of(3)  # another of the same numbers: the memory is read again
        found.append(cut.run(xs[at : at + 20], ys[at : at + 20]))

    np.testing.assert_array_equal(np.concatenate(found), whole.run(xs, ys))
    assert np.nanmax(np.abs(np.concatenate(found))) < 1e17 < np.nanmax(np.abs(ys))


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("is_board", [False, True])
def test_irrelevant_features_count_little(kind: Kind, is_board: bool) -> None:
    """Two of 24 features are relevant; on a board neither is alone. With all alike, neighbours are hardly better than chance."""
    random = np.random.default_rng(6)
    xs = 1 + 2 * random.uniform(-1.7, 1.7, size=(3000, 24))
    a, b = ((xs[:, :2] - 1) / 2).T
    ys = ((a > 0) ^ (b > 0) if is_board else a + b > 0).astype(np.float64)
    pair = Pair(kind, 24)
    said = pair.run(xs, ys)
    wrong = np.abs((said.argmax(1) if kind == "classification" else said[:, 0]) - ys)

    assert np.nanmean(wrong[2000:]) < (0.1 if kind == "classification" else 0.25)
    weights = feature_weights(pairs_of(pair))
    assert weights[:2].min() > 3 * weights[2:].max()


def pairs_of(pair: Pair) -> Doubles:
    """As they are saved, behind the evidence of five lengths."""
    return pair.nearest.partition(0)["nearest.learned"][5:].reshape(3, -1)


def test_the_relevance_of_features_goes_to_their_new_places() -> None:
    xs, ys = stream(300, 4, "classification", 9)
    one, other = Pair("classification", 4), Pair("classification", 4)
    one.run(xs, ys)
    saved, pairs = one.nearest.partition(0), pairs_of(one)

    moved = Renumbering(np.array([2, -1, 0, 200]), np.arange(CLASSES), same=False)
    other.nearest.take_partition(0, saved, moved, "state/0")
    np.testing.assert_array_equal(pairs_of(other), np.stack([pairs[:, 2], np.zeros(3), pairs[:, 0]]).T)
    np.testing.assert_array_equal(other.nearest.partition(0)["nearest.learned"][:5], saved["nearest.learned"][:5])

    with pytest.raises(SnapshotError, match="state/0: neighbours of features that its schema does not have"):
        other.nearest.take_partition(0, saved, moved._replace(slots=np.arange(2)), "state/0")


@pytest.mark.parametrize(
    "learned",
    [
        np.full(11, np.nan),
        -np.ones(11),
        np.ones(10),
        np.ones((1, 11)),
        np.ones(11, np.float32),
        np.ones(5 + 3 * 129),
        np.array([0.0] * 5 + [0.0, 1.0, 1.0]),
    ],
    ids=["no numbers", "below zero", "another size", "a table", "single precision", "more features", "no pairs"],
)
def test_what_is_damaged_is_refused(learned: npt.NDArray[np.generic]) -> None:
    pair, same = Pair("classification", 2), Renumbering(np.arange(2), np.arange(2), same=True)
    with pytest.raises(SnapshotError, match="state/0: distances of neighbours that no events have: they are damaged"):
        pair.nearest.take_partition(0, {"nearest.learned": learned}, same, "state/0")


def test_a_feature_that_was_constant_for_very_long_has_the_weight_of_a_new_one() -> None:
    """Its sums are forgotten until they are the smallest number there is: once divided by nothing, it had all weight."""
    pair, other = Pair("classification", 3), Pair("classification", 3)
    xs, ys = stream(200, 3, "classification", 11)
    xs[:, 0] = 1.0
    for one, sums in ((pair, [0.0, 5e-324]), (other, [0.0, 0.0])):
        learned = np.concatenate([np.zeros(5), np.array([[500.0, 0, 0], [sums[0], 0, 0], [sums[1], 0, 0]]).ravel()])
        same = Renumbering(np.arange(3), np.arange(3), same=True)
        one.nearest.take_partition(0, {"nearest.learned": learned}, same, "state/0")

    np.testing.assert_array_equal(pair.run(xs, ys), other.run(xs, ys))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_after_a_drift_the_events_before_it_soon_count_no_more(kind: Kind) -> None:
    """With all of them alike every prediction would be of the concept before."""
    random = np.random.default_rng(10)
    xs = 1 + 2 * random.uniform(-1.7, 1.7, size=(4000, 3))
    ys = ((xs[:, 0] > 1) ^ (xs[:, 1] > 1)).astype(np.float64)
    ys[2000:] = 1 - ys[2000:]
    pair = Pair(kind, 3)
    said = pair.run(xs, ys)
    wrong = np.abs((said.argmax(1) if kind == "classification" else said[:, 0]) - ys)

    before, after = wrong[1500:2000].mean(), wrong[2150:2500].mean()
    assert before < 0.1
    assert after < 0.25


def test_it_has_as_many_events_as_the_forest() -> None:
    """Else each run would read all of them again."""
    pair = Pair("classification", 2)
    xs, ys = stream(50, 2, "classification", 3)
    for i in range(50):
        pair.run(xs[i : i + 1], ys[i : i + 1])

    memory = pair.nearest._of[0]
    assert memory.count == pair.forest.parts[0].ring.count == (~np.isnan(ys)).sum()


def test_a_forgotten_task_is_not_remembered() -> None:
    pair = Pair("classification", 2)
    xs, ys = stream(60, 2, "classification", 4)
    pair.run(xs, ys)
    for one in (pair.forest, pair.nearest):
        one.forget_task(0, "t")

    assert (pair.run(xs[:1], np.full(1, np.nan)) == 0).all()


def test_it_remembers_many_small_clusters_and_a_restore_remembers_the_same() -> None:
    """Sixty clusters of four classes: few events of each, and no smooth rule."""
    random = np.random.default_rng(5)
    centres, classes, of = random.random((60, 8)), random.integers(0, 4, 60), random.integers(0, 60, 1500)
    ys, xs = classes[of], centres[of] + 0.1 * random.normal(size=(1500, 8))
    events = [
        Event({f"f{d}": v for d, v in enumerate(x.tolist())}, "", Origin("in", i % 2, i), y=int(y), id=str(i))
        for i, (x, y) in enumerate(zip(xs, ys, strict=True))
    ]
    late = [Label(str(i), int(ys[i]), "", Origin("labels", i % 2, i)) for i in range(1500)]
    turns = [one for i in range(1500) for one in ([events[i]] if i % 3 else [_unlabelled(events[i]), late[i]])]
    experts, off = ["nearest", "forest", "persistence"], {"meta": {"mode": "off"}}
    settings = EngineSettings.model_validate(off | {"learner": {"experts": experts}})
    without = EngineSettings.model_validate(off | {"learner": {"experts": experts[1:]}})
    with closing(Engine(without)) as other:
        rest = other.step(turns)
    expected, found = stopped(settings, turns, after=1111)

    assert [one.probabilities for one in found] == [one.probabilities for one in expected]
    errors = [np.mean([one.error for one in every if one.error is not None][300:]) for every in (expected, rest)]
    assert errors[0] < 0.8 * errors[1]


def _unlabelled(event: Event) -> Event:
    return Event(event.x, event.task, event.origin, id=event.id)


def test_polls_change_no_bit_where_features_come_late() -> None:
    """A feature that a later event of the same poll brings makes events wider before that: it counted in distances."""
    random = np.random.default_rng(7)
    xs = random.normal(size=(400, 3))
    events = [
        Event(
            {"a": x[0], "b": 1e6 * x[1]} | ({"late": x[2]} if i > 60 else {}),
            f"t{i % 3}",
            Origin("in", 0, i),
            y=int((x[0] > 0) ^ (x[1] > 0)),
        )
        for i, x in enumerate(xs.tolist())
    ]
    settings = EngineSettings.model_validate({"learner": {"experts": ["nearest", "forest", "persistence"]}})
    found = []
    for poll in (400, 1, 7):
        with closing(Engine(settings)) as engine:
            outcomes = [one for i in range(0, 400, poll) for one in engine.step(events[i : i + poll])]
            found.append([one.probabilities for one in outcomes])

    assert found[1] == found[0]
    assert found[2] == found[0]

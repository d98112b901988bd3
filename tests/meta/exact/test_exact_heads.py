"""The default learner: the compiled recursion, its parallel form and its gradients must be one mathematics."""

import math

import numpy as np
import pytest
import torch

from streammeta.meta.autograd import EpisodeTensors, into_tensors
from streammeta.meta.base import Forget, Kind, Method, Phi, Scaling, Theta, Windows
from streammeta.meta.exact.heads import exact_heads
from streammeta.meta.names import Slot
from streammeta.meta.settings import LearnerSettings

KINDS: tuple[Kind, ...] = ("classification", "regression")
FEATURES, MEMBERS, MEMORIES = 4, 2, (5.0, 60.0)


def learner(kind: Kind, **changes: object) -> tuple[Method, Theta, int]:
    """A small method, a θ in which no part is zero, and its number of outputs."""
    settings = LearnerSettings.model_validate(
        {"members": MEMBERS, "hidden": 6, "encoded": 5, "memories": MEMORIES, "chunk": 1} | changes
    )
    method = exact_heads(settings, kind, seed=3)
    outputs = 3 if kind == "classification" else 1
    theta = method.grow(method.init(), slots(*[FEATURES] * FEATURES), range(outputs))
    random = np.random.default_rng(9)
    return (
        method,
        {name: p + np.float32(0.2) * random.standard_normal(p.shape, np.float32) for name, p in theta.items()},
        outputs,
    )


def slots(*fan_in: int) -> list[Slot]:
    return [Slot(f"x{i}", None, n) for i, n in enumerate(fan_in)]


def plain(features: int = FEATURES) -> Scaling:
    return Scaling(np.zeros(features, np.float32), np.ones(features, np.float32), 0.0, 1.0)


def stream(kind: Kind, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    xs = random.normal(size=(n, FEATURES)).astype(np.float32)
    ys = random.integers(0, 3, n) if kind == "classification" else random.normal(size=n)
    return xs, ys.astype(np.float32)


def fresh(method: Method, rows: int, outputs: int) -> Phi:
    return {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in method.phi_layout(3, outputs).items()}


def windows(xs: np.ndarray, ys: np.ndarray, since: int) -> Windows:
    """A window that was just filled."""
    return Windows(xs[None], ys[None], np.array([len(ys)]), np.array([since]))


def episodes(kind: Kind, xs: np.ndarray, ys: np.ndarray, dtype: torch.dtype = torch.float32) -> EpisodeTensors:
    """The same segment for each of two members."""
    x = torch.from_numpy(xs).to(dtype).expand(MEMBERS, 1, *xs.shape).contiguous()
    y = torch.from_numpy(ys).expand(MEMBERS, 1, -1).contiguous()
    ones = torch.ones(MEMBERS, 1, len(ys), dtype=dtype)
    return EpisodeTensors(x, y.long() if kind == "classification" else y.to(dtype), ones, ones)


def prequential_loss(method: Method, theta: Theta, kind: Kind, xs: np.ndarray, ys: np.ndarray, outputs: int) -> float:
    """The mean negative log-likelihood as the event path finds it, one event after the other."""
    weights, phi, row, total = method.compile(theta, plain()), fresh(method, 1, outputs), np.zeros(1, np.int64), 0.0
    for x, y in zip(xs, ys, strict=True):
        found = method.run(weights, phi, row, x[None], np.array([y], np.float32), outputs)
        if kind == "classification":
            total -= math.log(found.mean[0, int(y)])
        else:
            gap, variance = y - found.mean[0, 0], found.variance[0]
            total += 0.5 * (gap**2 / variance + math.log(2 * math.pi * variance))
    return float(total / len(ys))


def one_member(theta: Theta, e: int) -> Theta:
    return {name: p[e : e + 1] for name, p in theta.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_parallel_form_is_the_recursion(kind: Kind) -> None:
    """θ is trained through the one and served through the other: a difference would train another model than we run."""
    memories = MEMORIES if kind == "classification" else MEMORIES[:1]  # a mixture of Gaussians is none
    method, theta, outputs = learner(kind, memories=memories)
    alone = learner(kind, memories=memories, members=1)[0]
    xs, ys = stream(kind, 50)

    each = [prequential_loss(alone, one_member(theta, e), kind, xs, ys, outputs) for e in range(MEMBERS)]

    assert float(method.loss(into_tensors(theta), episodes(kind, xs, ys))) == pytest.approx(np.mean(each), rel=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 7])
def test_the_ensemble_predicts_the_mean_of_its_members(kind: Kind, size: int) -> None:
    """Seven members of three heads fill two blocks of lanes; none may hear another's features or evidence."""
    memories = (5.0, 20.0, 60.0)
    method, theta, outputs = learner(kind, members=size, memories=memories)
    alone = learner(kind, members=1, memories=memories)[0]
    xs, ys = stream(kind, 60)
    rows = np.zeros(60, np.int64)

    together = method.run(method.compile(theta, plain()), fresh(method, 1, outputs), rows, xs, ys, outputs)
    each = [
        alone.run(alone.compile(one_member(theta, e), plain()), fresh(alone, 1, outputs), rows, xs, ys, outputs)
        for e in range(size)
    ]

    mean = np.mean([one.mean for one in each], axis=0)
    np.testing.assert_allclose(together.mean, mean, rtol=2e-4, atol=2e-5)
    if kind == "regression":
        second = np.mean([one.variance + one.mean[:, 0] ** 2 for one in each], axis=0)
        np.testing.assert_allclose(together.variance, second - mean[:, 0] ** 2, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_gradients_are_those_of_finite_differences(kind: Kind, chunk: int) -> None:
    """OML, ANML and La-MAML shipped with silent gradient faults; ours is checked for every part of θ, in float64."""
    method, theta, _ = learner(kind, chunk=chunk)
    xs, ys = stream(kind, 11)
    names = list(theta)
    inputs = [torch.from_numpy(theta[name]).double().requires_grad_() for name in names]
    segment = episodes(kind, xs, ys, torch.float64)

    def loss(*parts: torch.Tensor) -> torch.Tensor:
        return method.loss(dict(zip(names, parts, strict=True)), segment)

    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_bits_in_any_company(kind: Kind) -> None:
    """The ground of 'no dependence on poll size'."""
    method, theta, outputs = learner(kind)
    weights = method.compile(theta, plain())
    xs, ys = stream(kind, 40)
    together, alone = fresh(method, 8, outputs), fresh(method, 8, outputs)
    rows = np.random.default_rng(1).integers(0, 8, 40)
    ys[::7] = np.nan  # some have no label yet

    at_once = method.run(weights, together, rows, xs, ys, outputs)
    for i in range(40):
        one = method.run(weights, alone, rows[i : i + 1], xs[i : i + 1], ys[i : i + 1], outputs)
        np.testing.assert_array_equal(one.mean[0], at_once.mean[i])
        assert one.variance[0] == at_once.variance[i]

    for name, array in together.items():
        np.testing.assert_array_equal(array, alone[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuilt_task_is_the_task_that_learned_event_by_event(kind: Kind) -> None:
    """After θ has changed, φ is derived again from the window: the same sums, or all of it would be wrong."""
    method, theta, outputs = learner(kind)
    weights, row = method.compile(theta, plain()), np.zeros(1, np.int64)
    xs, ys = stream(kind, 30)
    phi = fresh(method, 1, outputs)
    method.run(weights, phi, row.repeat(30), xs, ys, outputs)
    learned = {name: array.copy() for name, array in phi.items()}

    method.rebuild(weights, phi, row, windows(xs, ys, 30), outputs)

    np.testing.assert_allclose(phi["A"], learned["A"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(phi["B"], learned["B"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mix_restarts_the_slowest_head_and_reset_all(kind: Kind) -> None:
    """What a drift response forgets must be exactly what it says."""
    method, theta, outputs = learner(kind)
    weights, row = method.compile(theta, plain()), np.zeros(1, np.int64)
    xs, ys = stream(kind, 10)
    phi = fresh(method, 1, outputs)
    method.run(weights, phi, row.repeat(10), xs, ys, outputs)
    slow, others = weights.slow[0] == 0, weights.slow[0] == 1
    kept = phi["A"][..., others].copy()

    method.restart(weights, phi, row, Forget.PART)

    assert int(slow.sum()) == MEMBERS
    assert not phi["A"][..., slow].any()
    assert not phi["B"][..., slow].any()
    np.testing.assert_array_equal(phi["A"][..., others], kept)
    assert not phi["logw"].any()

    method.rebuild(weights, phi, row, windows(xs, ys, 0), outputs)
    assert not phi["A"][..., slow].any()  # nothing has come since the drift
    assert phi["A"][..., others].any()
    method.rebuild(weights, phi, row, windows(xs, ys, 4), outputs)
    last = fresh(method, 1, outputs)
    method.rebuild(weights, last, row, windows(xs[6:], ys[6:], 4), outputs)
    np.testing.assert_allclose(phi["A"][..., slow], last["A"][..., slow], rtol=1e-5)

    method.restart(weights, phi, row, Forget.ALL)
    assert not any(array.any() for array in phi.values())


@pytest.mark.parametrize("kind", KINDS)
def test_growing_changes_no_prediction(kind: Kind) -> None:
    """A feature or a class that appears late does no harm to what was learned."""
    method, theta, outputs = learner(kind)
    more = outputs + 2 if kind == "classification" else 1
    xs, ys = stream(kind, 12)
    wide = np.concatenate([xs, np.full((12, 2), np.nan, np.float32)], axis=1)
    bigger = method.grow(theta, slots(*[FEATURES] * FEATURES, FEATURES + 2, FEATURES + 2), range(more))

    narrow_loss = prequential_loss(method, theta, kind, xs, ys, outputs)
    weights, phi, row = method.compile(bigger, plain(FEATURES + 2)), fresh(method, 1, outputs), np.zeros(1, np.int64)
    unlabelled = np.full(1, np.nan, np.float32)
    first = method.run(weights, phi, row, wide[:1], unlabelled, outputs)
    same = method.run(method.compile(theta, plain()), phi, row, xs[:1], unlabelled, outputs)

    np.testing.assert_array_equal(first.mean, same.mean)
    assert bigger["w1"].shape == (MEMBERS, FEATURES + 2, 6)
    assert narrow_loss == prequential_loss(method, theta, kind, xs, ys, outputs)


def test_a_new_features_weights_depend_on_seed_and_name_alone() -> None:
    """Otherwise the order in which polls, or members, brought features would decide the model."""
    method = exact_heads(LearnerSettings(), "classification", seed=5)
    a, b, c = slots(2, 2, 3)

    at_once = method.grow(method.init(), [a, b, c], range(2))
    in_steps = method.grow(method.grow(method.init(), [a, b], ()), [a, b, c], range(2))
    otherwise = method.grow(method.init(), [c, a, b], range(2))

    assert all(np.array_equal(at_once[name], in_steps[name]) for name in at_once)
    assert np.array_equal(at_once["w1"], otherwise["w1"][:, [1, 2, 0]])
    assert not np.array_equal(at_once["w1"][:, 0], at_once["w1"][:, 1])


def test_a_missing_feature_is_its_mean() -> None:
    """A sensor that falls silent must not look like a sensor that says zero."""
    method, theta, outputs = learner("classification")
    scaling = plain()._replace(shift=np.full(FEATURES, 7.0, np.float32))
    weights, phi, row = method.compile(theta, scaling), fresh(method, 1, outputs), np.zeros(1, np.int64)
    known = np.array([[1.0, 7.0, 2.0, 3.0]], np.float32)
    missing = known.copy()
    missing[0, 1] = np.nan

    unlabelled = np.full(1, np.nan, np.float32)
    first, second = (method.run(weights, phi, row, x, unlabelled, outputs) for x in (known, missing))

    np.testing.assert_array_equal(first.mean, second.mean)


def test_short_segments_count_only_what_is_there() -> None:
    """Padding must be invisible, or young tasks would teach nonsense."""
    method, theta, _ = learner("classification", chunk=4)
    xs, ys = stream("classification", 20)
    whole = episodes("classification", xs, ys)
    mask = torch.cat([torch.ones(MEMBERS, 1, 13), torch.zeros(MEMBERS, 1, 7)], 2)
    padded = whole._replace(valid=mask, scored=mask)
    cut = episodes("classification", xs[:13], ys[:13])

    tensors = into_tensors(theta)
    torch.testing.assert_close(method.loss(tensors, padded), method.loss(tensors, cut))


def test_a_head_with_an_exact_linear_law_finds_it() -> None:
    """Ridge regression in closed form: with a weak prior and no forgetting, the weights are those of least squares."""
    method, theta, _ = learner("regression", memories=(5000.0,), members=1)
    theta |= {"log_precision": np.full_like(theta["log_precision"], -6.0)}
    theta |= {name: np.zeros_like(theta[name]) for name in ("u", "v", "w0")}
    weights, phi, row = method.compile(theta, plain()), fresh(method, 1, 1), np.zeros(1, np.int64)
    xs, _ = stream("regression", 400)
    hidden = np.tanh(xs @ theta["w1"][0] + theta["b1"][0])
    encoded = np.tanh(hidden @ theta["w2"][0] + theta["b2"][0]) @ theta["w3"][0]
    z = np.concatenate([encoded, np.ones((len(xs), 1), np.float32)], 1)
    truth = np.random.default_rng(1).normal(size=z.shape[1]).astype(np.float32)
    ys = z @ truth

    found = method.run(weights, phi, row.repeat(400), xs, ys, 1)

    assert abs(float(found.mean[-1, 0]) - ys[-1]) < 0.02

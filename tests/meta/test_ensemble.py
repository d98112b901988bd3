"""An ensemble is a method like any other."""

import numpy as np
import pytest
import torch

from streammeta.meta import Episodes, LearnerSettings, Method, ensemble, exact_heads
from streammeta.meta.base import Kind, Phi, Scaling, Segment
from streammeta.meta.ensemble import part_of

SMALL = LearnerSettings(hidden=5, encoded=4, memories=(5.0, 50.0))
SCALING = Scaling(np.zeros(2, np.float32), np.ones(2, np.float32), 0.0, 1.0)


def members(kind: Kind) -> list[Method]:
    return [exact_heads(SMALL, kind, seed) for seed in (1, 2, 3)]


def learned(method: Method, kind: Kind) -> tuple[Phi, tuple[object, ...]]:
    """φ of one row after thirty events, and what is then predicted."""
    outputs = 2 if kind == "classification" else 1
    theta = method.grow(method.init(), [2, 2], outputs)
    weights = method.compile(theta, SCALING)
    phi = {name: np.zeros((1, *shape), dtype) for name, (shape, dtype) in method.phi_layout(outputs).items()}
    random, row = np.random.default_rng(0), np.zeros(1, np.int64)
    xs = random.normal(size=(31, 2)).astype(np.float32)
    ys = (xs[:, 0] > 0).astype(np.float32)
    for x, y in zip(xs[:30], ys[:30], strict=True):
        work = method.predict(weights, phi, row, x[None], outputs)
        method.adapt(weights, phi, row, work, np.array([y]))
    copy = {name: array.copy() for name, array in phi.items()}
    method.rebuild(weights, copy, 0, Segment(xs[:30], ys[:30], 30), outputs)
    work = method.predict(weights, phi, row, xs[30:], outputs)
    return phi, (work.mean, work.variance, copy)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_it_predicts_the_mean_of_its_members(kind: Kind) -> None:
    """Every member learns as if it were alone; only what is said is mixed."""
    alone = [learned(member, kind) for member in members(kind)]

    phi, (mean, variance, rebuilt) = learned(ensemble(members(kind)), kind)

    np.testing.assert_allclose(mean, np.mean([said[0] for _, said in alone], axis=0), rtol=1e-6)
    for e, (own, (_, _, copy)) in enumerate(alone):
        for name, array in own.items():
            np.testing.assert_array_equal(phi[f"{e}.{name}"], array)
            np.testing.assert_array_equal(rebuilt[f"{e}.{name}"], copy[name])  # type: ignore[index,call-overload]
    if kind == "regression":
        means, variances = (np.array([said[i] for _, said in alone]).reshape(3) for i in (0, 1))
        assert float(variance[0]) == pytest.approx(  # type: ignore[index]
            float(np.mean(variances + means**2) - np.mean(means) ** 2), rel=1e-5
        )


def test_its_gradient_is_that_of_its_loss() -> None:
    """Members take their own segments; a mix-up would train one on another's gradient."""
    method = ensemble(members("classification"))
    random = torch.Generator().manual_seed(0)
    theta = {name: p.double() for name, p in method.grow(method.init(), [2, 2], 2).items()}
    ones = torch.ones(6, 8, dtype=torch.float64)
    x = torch.randn(6, 8, 2, generator=random, dtype=torch.float64)
    episodes = Episodes(x, (x[..., 0] > 0).long(), ones, ones)
    inputs = {name: p.clone().requires_grad_() for name, p in theta.items()}

    value, slopes = method.gradient(theta, episodes)
    loss = method.loss(inputs, episodes)
    wanted = torch.autograd.grad(loss, list(inputs.values()))

    assert float(value) == pytest.approx(float(loss.detach()))
    for name, right in zip(inputs, wanted, strict=True):
        torch.testing.assert_close(slopes[name], right, msg=name)


def test_one_member_is_itself() -> None:
    """No prefix, no copy, no cost."""
    (one,) = members("classification")[:1]

    assert ensemble([one]) is one


def test_each_member_has_its_own_part() -> None:
    """Prefixes must not run into each other when there are ten or more."""
    method = ensemble([exact_heads(SMALL, "classification", seed) for seed in range(11)])
    theta = method.grow(method.init(), [2, 2], 2)

    assert torch.equal(part_of(theta, 10)["w1"], theta["10.w1"])
    assert part_of(theta, 1).keys() == part_of(theta, 10).keys()
    assert not torch.equal(theta["1.w1"], theta["10.w1"])

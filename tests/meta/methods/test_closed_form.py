"""The closed-form heads against the formulas they come from, written out another way."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.svm import LinearSVC

from streammeta.meta.learner import TaskBatch, cross_entropy, examples, squared_error
from streammeta.meta.methods import alpaca, gaussian, prototypes, ridge, svm
from streammeta.model import Model

SAME = Model(lambda _: {"unused": torch.zeros(1)}, lambda _, x: x, 2, ())  # features are the inputs


def _start(learner, tasks: int = 1):
    theta = {n: p.double() for n, p in learner.init(torch.Generator()).items()}
    return theta, learner.start(theta, tasks)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ridge_is_the_papers_woodbury_solution():
    """W by sums and W by the Gram matrix are one W; if not, one event at a time would differ from all at once."""
    learner = ridge(SAME, squared_error, outputs=3, strength=0.7)
    theta, phi = _start(learner)
    x, y, new = _random(1, 5, 2), _random(1, 5, 3, seed=1), _random(1, 4, 2, seed=2)

    found = learner.predict(theta, learner.adapt(theta, phi, examples(x, y)), new).output[0]

    z, q = (torch.cat([of[0], torch.ones(len(of[0]), 1)], 1).double() for of in (x, new))
    strength = theta["log_strength"].exp()
    w = z.T @ torch.linalg.solve(z @ z.T + strength * torch.eye(5, dtype=torch.float64), y[0])
    torch.testing.assert_close(found, q @ w)


def test_ridge_takes_examples_one_at_a_time_as_well():
    """Streams bring one event at a time."""
    learner = ridge(SAME, cross_entropy, outputs=2)
    theta, phi = _start(learner)
    x, y = _random(1, 4, 2), torch.tensor([[0, 1, 1, 0]])

    one_by_one = phi
    for i in range(4):
        one_by_one = learner.adapt(theta, one_by_one, examples(x[:, i : i + 1], y[:, i : i + 1]))

    torch.testing.assert_close(one_by_one, learner.adapt(theta, phi, examples(x, y)))


def test_alpaca_is_the_posterior_of_bayesian_linear_regression():
    """Mean and variance by the textbook's joint Gaussian of all examples, conditioned directly."""
    learner = alpaca(SAME, noise=0.3)
    theta, phi = _start(learner)
    theta["mean"] = _random(2, 1, seed=5)
    phi = learner.start(theta, 1)
    x, y, new = _random(1, 6, 2), _random(1, 6, 1, seed=1), _random(1, 3, 2, seed=2)

    found = learner.predict(theta, learner.adapt(theta, phi, examples(x, y)), new)

    z, q, eye = x[0], new[0], torch.eye(6, dtype=torch.float64)
    prior = theta["root"] @ theta["root"].T + 1e-6 * torch.eye(2)
    spread = torch.linalg.inv(prior)  # of K, times S
    gain = q @ spread @ z.T @ torch.linalg.inv(z @ spread @ z.T + eye)
    mean = q @ theta["mean"] + gain @ (y[0] - z @ theta["mean"])
    noise = theta["log_noise"].exp()
    variance = noise * (1 + (q @ spread @ q.T - gain @ z @ spread @ q.T).diag())
    torch.testing.assert_close(found.output[0], mean)
    torch.testing.assert_close(found.variance[0, :, 0], variance)


def test_alpacas_loss_is_the_mean_over_every_context_length():
    """The running sums must end before the example that is predicted: one too far would let it see its own label."""
    learner = alpaca(SAME)
    theta, phi = _start(learner)
    x, y = _random(1, 5, 2), _random(1, 5, 1, seed=1)
    tasks = TaskBatch(examples(x[:, :2], y[:, :2]), examples(x[:, 2:], y[:, 2:]))

    losses = []
    for i in range(5):
        answer = learner.predict(theta, phi, x[:, i : i + 1])
        density = stats.norm(answer.output.item(), math.sqrt(answer.variance.item()))
        losses.append(-density.logpdf(y[0, i].item()))
        phi = learner.adapt(theta, phi, examples(x[:, i : i + 1], y[:, i : i + 1]))

    assert learner.loss(theta, tasks).item() == pytest.approx(np.mean(losses))


def test_prototypes_are_means_and_logits_are_squared_distances():
    """The formula of the paper, on numbers that can be checked in the head."""
    learner = prototypes(SAME, classes=2)
    theta, phi = _start(learner)
    support = examples(torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 5.0]]]).double(), torch.tensor([[0, 0, 1]]))

    logits = learner.predict(theta, learner.adapt(theta, phi, support), torch.tensor([[[1.0, 2.0]]]).double()).output

    assert logits.tolist() == [[[-4.0, -10.0]]]  # class means (1, 0) and (0, 5)


def test_gaussian_head_is_the_student_t_of_a_normal_gamma_posterior():
    """The predictive density by scipy, the posterior by one example at a time: counting and order-freedom in one."""
    learner = gaussian(SAME, classes=2)
    theta, phi = _start(learner)
    theta |= {"mean": torch.tensor([0.3, -0.2]).double(), "log_alpha": torch.tensor(0.4).double()}
    of_class = _random(3, 2)
    new = _random(1, 1, 2, seed=3)

    seen = learner.adapt(theta, phi, examples(of_class.unsqueeze(0), torch.tensor([[1, 1, 1]])))
    found = learner.predict(theta, seen, new).output[0, 0]

    expected = 0.0
    for d in range(2):
        mu, kappa = theta["mean"][d].item(), theta["log_kappa"].exp().item()
        alpha, beta = theta["log_alpha"].exp().item(), theta["log_beta"].exp().item()
        for z in of_class[:, d].tolist():
            beta += kappa * (z - mu) ** 2 / (2 * (kappa + 1))
            mu, kappa, alpha = (kappa * mu + z) / (kappa + 1), kappa + 1, alpha + 0.5
        t = stats.t(2 * alpha, loc=mu, scale=math.sqrt(beta * (kappa + 1) / (alpha * kappa)))
        expected += t.logpdf(new[0, 0, d].item())
    assert found[1].item() == pytest.approx(expected)


def test_svm_agrees_with_another_solver_of_the_same_machine():
    """scikit-learn's Crammer-Singer machine has no ridge in the dual, so a small one must come close to it."""
    x = torch.cat(
        [_random(8, 2, seed=k) * 0.4 + 2 * torch.tensor([math.cos(2 * k), math.sin(2 * k)]) for k in range(3)]
    )
    y = torch.arange(3).repeat_interleave(8)
    learner = svm(SAME, classes=3, slack=0.5, ridge=1e-3)
    theta, phi = _start(learner)
    theirs = LinearSVC(multi_class="crammer_singer", C=0.5, fit_intercept=False, tol=1e-8, max_iter=100_000)

    ours = learner.adapt(theta, phi, examples(x.unsqueeze(0), y.unsqueeze(0)))["W"][0]
    theirs.fit(x.numpy(), y.numpy())

    np.testing.assert_allclose(ours.numpy().T, theirs.coef_, atol=0.01)


def test_svm_keeps_the_newest_examples_it_has_room_for():
    """A stream has no end; memory must have one."""
    learner = svm(SAME, classes=2, capacity=3)
    theta, phi = _start(learner, tasks=2)
    for i in range(5):
        event = examples(torch.full((2, 1, 2), float(i + 1)).double(), torch.full((2, 1), i % 2))
        mask = torch.tensor([[1.0], [float(i < 2)]])  # the second task has two events only
        phi = learner.adapt(theta, phi, event._replace(mask=mask))

    assert phi["z"][0, :, 0].tolist() == [3.0, 4.0, 5.0]
    assert phi["z"][1][phi["mask"][1] > 0][:, 0].tolist() == [1.0, 2.0]

"""The contract checks pass what keeps the contract, and name what a broken one breaks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from streammeta.engine.experts.persistence import Persistence
from streammeta.meta.catalogue import Problem, build, methods_for
from streammeta.meta.learner import Learner
from streammeta.testing import check_expert, check_learner

CASES = [(kind, name) for kind in ("regression", "classification") for name in methods_for(kind)]


def learner(name: str, kind: str = "regression") -> Learner:
    return build(name, Problem(kind, inputs=1, outputs=1 if kind == "regression" else 2, hidden=(16, 16)))


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_method_of_ours_passes(kind: str, name: str) -> None:
    """A check that refuses what is right is of no use to others."""
    check_learner(learner(name, kind), kind)


def _changes_theta(good: Learner) -> Learner:
    def adapt(theta, phi, support):
        next(iter(theta.values())).add_(1.0)
        return good.adapt(theta, phi, support)

    return good._replace(adapt=adapt)


def _draws(good: Learner) -> Learner:
    def predict(theta, phi, x):
        said = good.predict(theta, phi, x)
        return said._replace(output=said.output + torch.rand(()))

    return good._replace(predict=predict)


def _one_output_too_many(good: Learner) -> Learner:
    def predict(theta, phi, x):
        said = good.predict(theta, phi, x)
        return said._replace(output=torch.cat([said.output, said.output], -1))

    return good._replace(predict=predict)


def _heeds_no_mask(good: Learner) -> Learner:
    return good._replace(
        adapt=lambda theta, phi, support: good.adapt(theta, phi, support._replace(mask=torch.ones_like(support.mask)))
    )


def _mixes_tasks(good: Learner) -> Learner:
    def predict(theta, phi, x):
        said = good.predict(theta, phi, x)
        return said._replace(output=said.output.mean(0, keepdim=True).expand_as(said.output))

    return good._replace(predict=predict)


def _learns_nothing(good: Learner) -> Learner:
    return good._replace(update=lambda state, _tasks: state)


def _leaves_nan(good: Learner) -> Learner:
    def update(state, tasks):
        after = good.update(state, tasks)
        return after._replace(theta={name: tensor * float("nan") for name, tensor in after.theta.items()})

    return good._replace(update=update)


BROKEN: dict[str, tuple[Callable[[Learner], Learner], str]] = {
    "changes θ": (_changes_theta, "changes its arguments"),
    "draws at random": (_draws, "give other results"),
    "one output too many": (_one_output_too_many, r"shape \(3, 4, 2\), wanted \(3, 4, 1\)"),
    "heeds no mask": (_heeds_no_mask, "otherwise than alone"),
    "mixes tasks": (_mixes_tasks, "otherwise than alone"),
    "learns nothing": (_learns_nothing, "leaves θ as it was"),
    "leaves NaN": (_leaves_nan, "not finite"),
}


@pytest.mark.parametrize(("broken", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_learner_is_found(broken: Callable[[Learner], Learner], message: str) -> None:
    """Each part of the contract, broken once."""
    with pytest.raises(AssertionError, match=message):
        check_learner(broken(learner("reptile")))


@pytest.mark.parametrize("make", [Persistence])
def test_an_expert_of_ours_passes(make) -> None:
    """As above."""
    check_expert(make)


class Peeks(Persistence):
    """Learns when it is asked."""

    def predict(self, columns, case, outputs):
        self.learn(columns, case, 1.0)
        return super().predict(columns, case, outputs)


class Shouts(Persistence):
    """Is more than sure."""

    def predict(self, *given):
        return np.full(given[-1], 0.9)


class Silent(Persistence):
    """Never says a thing."""

    def predict(self, *_given):
        return None


class Forgets(Persistence):
    """Takes nothing of what it gave."""

    def take_partition(self, *_given):
        return


class Guesses(Persistence):
    """By chance, without a seed."""

    def predict(self, *given):
        return np.random.default_rng().dirichlet(np.ones(given[-1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Peeks, "predicting changes"),
        (Shouts, "no probabilities"),
        (Silent, "no opinion"),
        (Forgets, "goes on otherwise"),
        (Guesses, "not seeded"),
    ],
)
def test_a_broken_expert_is_found(make, message: str) -> None:
    """Each part of the contract, broken once."""
    with pytest.raises(AssertionError, match=message):
        check_expert(make)

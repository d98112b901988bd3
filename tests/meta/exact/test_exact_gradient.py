"""The compiled meta-objective must be the one that torch differentiates, in every number of its gradient."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from streammeta.meta.autograd import EpisodeTensors as Episodes
from streammeta.meta.base import Kind
from streammeta.meta.exact.gradient import loss_and_gradient
from streammeta.meta.exact.heads import exact_heads
from streammeta.meta.learner import Theta
from streammeta.meta.names import Slot
from streammeta.meta.settings import LearnerSettings

KINDS: tuple[Kind, ...] = ("classification", "regression")


class Case(NamedTuple):
    """A meta-update: how much of what, and the learner it is for."""

    members: int = 2
    segments: int = 3
    events: int = 13
    features: int = 4
    classes: int = 3
    memories: tuple[float, ...] = (5.0, 30.0, 200.0)
    chunk: int = 4
    hidden: int = 7
    encoded: int = 6


def settings(case: Case) -> LearnerSettings:
    sizes = {"members": case.members, "hidden": case.hidden, "encoded": case.encoded}
    return LearnerSettings(**sizes, memories=case.memories, chunk=case.chunk)


def some_theta(kind: Kind, case: Case, dtype: torch.dtype = torch.float64) -> Theta:
    """A θ in which no part is zero."""
    method = exact_heads(settings(case), kind, seed=1)
    slots = [Slot(f"x{i}", None, case.features) for i in range(case.features)]
    theta = method.grow(method.init(), slots, range(case.classes if kind == "classification" else 1))
    random = torch.Generator().manual_seed(2)
    return {
        name: (torch.from_numpy(p) + 0.3 * torch.randn(p.shape, generator=random)).to(dtype)
        for name, p in theta.items()
    }


def some_episodes(kind: Kind, case: Case, dtype: torch.dtype = torch.float64) -> Episodes:
    """Every second segment is short, every segment has a burn-in, a quarter of the features is missing."""
    random = torch.Generator().manual_seed(3)
    shape = (case.members, case.segments, case.events)
    x = torch.randn(*shape, case.features, generator=random) * (
        torch.rand(*shape, case.features, generator=random) < 0.75
    )
    y = torch.randint(case.classes, shape, generator=random)
    if kind == "regression":
        y = torch.randn(shape, generator=random).to(dtype)
    valid = torch.ones(shape, dtype=dtype)
    valid[:, 1::2, case.events // 2 :] = 0
    scored = valid.clone()
    scored[..., :2] = 0
    return Episodes(x.to(dtype), y, valid, scored)


def by_torch(kind: Kind, case: Case, theta: Theta, episodes: Episodes) -> tuple[float, dict[str, np.ndarray]]:
    inputs = {name: p.clone().requires_grad_() for name, p in theta.items()}
    loss = exact_heads(settings(case), kind).loss(inputs, episodes)
    slopes = torch.autograd.grad(loss, list(inputs.values()))
    return loss.item(), {name: slope.numpy() for name, slope in zip(inputs, slopes, strict=True)}


def compiled(kind: Kind, case: Case, theta: Theta, episodes: Episodes) -> tuple[float, dict[str, np.ndarray]]:
    arrays = {name: p.numpy() for name, p in theta.items()}
    parts = (part.numpy() for part in episodes)
    return loss_and_gradient(arrays, *parts, chunk=case.chunk, classify=kind == "classification")


def assert_same(kind: Kind, case: Case, theta: Theta, episodes: Episodes, tolerance: float = 1e-9) -> None:
    """Equal losses; equal gradients, each relative to the largest number of its array."""
    loss, slopes = compiled(kind, case, theta, episodes)
    wanted_loss, wanted = by_torch(kind, case, theta, episodes)
    assert loss == pytest.approx(wanted_loss, rel=tolerance)
    assert slopes.keys() == wanted.keys()
    for name, slope in wanted.items():
        assert (slopes[name].shape, slopes[name].dtype) == (slope.shape, slope.dtype), name
        np.testing.assert_allclose(
            slopes[name], slope, rtol=0, atol=tolerance * (abs(slope).max(initial=0) + 1e-12), err_msg=name
        )


CASES = {
    "usual": Case(),
    "one memory, one event a chunk": Case(memories=(20.0,), chunk=1),
    "one segment of whole chunks": Case(segments=1, events=12),
    "shorter than a chunk": Case(events=3, chunk=8),
    "two blocks that share a segment": Case(segments=7),
    "more segments than lanes": Case(segments=19, events=6),
    "two classes": Case(classes=2, memories=(4.0, 50.0)),
    "many classes": Case(classes=41, features=21),
    "a single learner": Case(members=1),
    "members that share blocks": Case(members=7, segments=2),
    "wide": Case(features=35, hidden=50, encoded=33),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_torch(kind: Kind, name: str) -> None:
    """The adjoint is by hand: one wrong sign and θ learns something else than what it is scored by."""
    case = CASES[name]

    assert_same(kind, case, some_theta(kind, case), some_episodes(kind, case))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_clamped_has_no_gradient(kind: Kind) -> None:
    """A precision or memory that has run out of its range would otherwise be pushed on forever."""
    case = Case()
    theta = some_theta(kind, case)
    theta["log_precision"][0, 0, :3] = torch.tensor([7.0, -8.0, 5.9])
    theta["log_memory"][:] = torch.tensor([0.1, math.log(5000.0) + 1, 3.0])

    assert_same(kind, case, theta, some_episodes(kind, case))
    slopes = compiled(kind, case, theta, some_episodes(kind, case))[1]
    assert slopes["log_precision"][0, 0, :2].tolist() == [0, 0]
    assert slopes["log_memory"][:, :2].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_held_for_impossible_is_cut_off_in_the_evidence_alone(kind: Kind) -> None:
    """The floor of −14 holds for the weights of the heads, not for the loss."""
    case = Case()
    theta, episodes = some_theta(kind, case), some_episodes(kind, case)
    if kind == "classification":
        theta["log_scale"] += 4
    else:
        episodes.y[..., ::3] *= 60

    assert_same(kind, case, theta, episodes)


@pytest.mark.parametrize("kind", KINDS)
def test_scored_events_need_not_be_valid(kind: Kind) -> None:
    """Whatever the masks say, both implementations must read them alike."""
    case = Case()
    episodes = some_episodes(kind, case)

    assert_same(kind, case, some_theta(kind, case), episodes._replace(scored=torch.ones_like(episodes.scored)))


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_as_good_as_torchs(kind: Kind) -> None:
    """Meta-updates run in float32; the short way to ∂ log γ must not pay for its speed in digits."""
    case = Case(segments=4, events=64, hidden=48, encoded=32, features=8)
    theta, episodes = some_theta(kind, case, torch.float32), some_episodes(kind, case, torch.float32)
    exact = by_torch(kind, case, some_theta(kind, case), some_episodes(kind, case))[1]

    for name, slope in compiled(kind, case, theta, episodes)[1].items():
        assert slope.dtype == np.float32
        np.testing.assert_allclose(slope, exact[name], rtol=0, atol=2e-4 * abs(exact[name]).max(), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind: Kind) -> None:
    """Torch's gradient could share a fault with ours; a difference quotient cannot."""
    case = Case(segments=2, events=9)
    theta, episodes = some_theta(kind, case), some_episodes(kind, case)
    random = torch.Generator().manual_seed(4)
    direction = {name: torch.randn(p.shape, generator=random, dtype=p.dtype) for name, p in theta.items()}

    ahead, behind = (
        compiled(kind, case, {name: p + step * direction[name] for name, p in theta.items()}, episodes)[0]
        for step in (1e-5, -1e-5)
    )

    slopes = compiled(kind, case, theta, episodes)[1]
    along = sum(float((slopes[name] * direction[name].numpy()).sum()) for name in slopes)
    assert (ahead - behind) / 2e-5 == pytest.approx(along, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_not_changed_and_the_answer_repeats_to_the_bit(kind: Kind) -> None:
    """θ and the episodes belong to others; and a replay must learn the same θ."""
    case = Case()
    theta, episodes = some_theta(kind, case, torch.float32), some_episodes(kind, case, torch.float32)
    before = [p.clone() for p in (*theta.values(), *episodes)]

    first, again = compiled(kind, case, theta, episodes), compiled(kind, case, theta, episodes)

    assert all(torch.equal(old, new) for old, new in zip(before, (*theta.values(), *episodes), strict=True))
    assert first[0] == again[0]
    for name, slope in first[1].items():
        np.testing.assert_array_equal(slope, again[1][name])


@pytest.mark.parametrize("kind", KINDS)
def test_every_second_segment_of_a_batch_is_as_good_as_its_copy(kind: Kind) -> None:
    """Episodes may be views; the compiled loops read memory as it lies."""
    case = Case(segments=4)
    theta, whole = some_theta(kind, case), some_episodes(kind, case)

    strided = compiled(kind, case, theta, Episodes(*(part[:, ::2] for part in whole)))
    copied = compiled(kind, case, theta, Episodes(*(part[:, ::2].clone() for part in whole)))

    assert strided[0] == copied[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("where", "bad"),
    [
        ("x", math.nan),
        ("x", math.inf),
        ("w1", math.nan),
        ("w1", math.inf),
        ("log_precision", math.nan),
        ("log_mix", math.inf),
    ],
)
def test_a_number_that_is_not_finite_shows_in_the_loss(kind: Kind, where: str, bad: float) -> None:
    """The outer step refuses such an update; were the loss finite, θ would be lost."""
    case = Case()
    theta, episodes = some_theta(kind, case, torch.float32), some_episodes(kind, case, torch.float32)
    (episodes.x if where == "x" else theta[where]).view(-1)[0] = bad

    assert not math.isfinite(compiled(kind, case, theta, episodes)[0])


def test_nothing_scored_is_no_number() -> None:
    """A mean over no events; torch says the same, and the outer step refuses it."""
    case = Case()
    episodes = some_episodes("classification", case)
    episodes.scored[:] = 0

    assert math.isnan(compiled("classification", case, some_theta("classification", case), episodes)[0])


def test_a_theta_without_features_still_has_a_loss() -> None:
    """Before the first feature there is nothing to read; the heads then learn the frequencies of the classes."""
    case = Case(features=0)

    assert_same("classification", case, some_theta("classification", case), some_episodes("classification", case))


def test_what_does_not_fit_is_named() -> None:
    """The compiled loops look at no bounds: a wrong shape or label would read another's memory."""
    case = Case()
    theta, episodes = some_theta("classification", case), some_episodes("classification", case)
    one_label_too_many = episodes._replace(y=torch.full_like(episodes.y, 3))
    too_few_features = episodes._replace(x=episodes.x[..., :2])
    short_mask = episodes._replace(valid=episodes.valid[..., :-1])

    with pytest.raises(ValueError, match="got labels 0 to 3; wanted 0 to 2"):
        compiled("classification", case, theta, one_label_too_many)
    with pytest.raises(ValueError, match=r"got x, y, valid, scored \(2, 3, 13, 2\)"):
        compiled("classification", case, theta, too_few_features)
    with pytest.raises(ValueError, match=r"\(2, 3, 12\)"):
        compiled("classification", case, theta, short_mask)
    with pytest.raises(ValueError, match=r"got u \(2, 7, 2\); wanted \(2, 7, 3\)"):
        compiled("classification", case, theta | {"u": theta["u"][..., :2]}, episodes)
    with pytest.raises(ValueError, match="got 17 memories; wanted at most 16"):
        compiled("classification", case, theta | {"log_memory": torch.zeros(2, 17, dtype=torch.float64)}, episodes)

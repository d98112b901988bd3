"""Training that resumes, figures that are right, and weights that come back."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from streammeta.episode.image import few_shot, omniglot_pools
from streammeta.episode.sinusoid import sinusoids
from streammeta.episode.table import Table, folds
from streammeta.errors import ConfigError, SnapshotError
from streammeta.meta.catalogue import Problem, Tuning, build
from streammeta.meta.learner import Predictive, examples, served
from streammeta.meta.methods import prototypes
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam
from streammeta.model import conv4
from streammeta.offline.evaluation import cross_validate, evaluate, figures, gap
from streammeta.offline.job import meta_eval, stream_method
from streammeta.offline.store import Trained, load, store
from streammeta.offline.training import Schedule, train

FAMILY = sinusoids()
SHORT = Schedule(updates=6, tasks=4, support=5, query=5)


def test_a_resumed_training_is_the_training_that_went_on(tmp_path: Path):
    """After a kill nobody should have to ask whether the result is the same; here it is, to the bit."""
    learner = build("maml-ema", FAMILY.problem)
    whole = train(learner, FAMILY, SHORT)

    half = train(learner, FAMILY, SHORT, watch=lambda state: state.updates == 3)
    store(tmp_path / "theta.safetensors", Trained(half, {"method": "maml-ema"}))
    resumed = train(learner, FAMILY, SHORT, load(tmp_path / "theta.safetensors").state)

    assert half.updates == 3
    assert whole.updates == resumed.updates == 6
    assert all(torch.equal(p, resumed.theta[n]) for n, p in whole.theta.items())
    assert all(torch.equal(p, served(resumed)[n]) for n, p in served(whole).items())


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"not this"])
def test_what_is_no_weights_file_is_refused_by_its_name(content: bytes, tmp_path: Path):
    """Whoever can write a file must get no further than this message."""
    file = tmp_path / "theta.safetensors"
    file.write_bytes(content)

    with pytest.raises(SnapshotError, match=r"theta\.safetensors: not readable trained weights"):
        load(file)


def test_class_figures_are_those_of_a_confusion_matrix():
    """By hand: two of three right, class 0 found once of twice asked, class 1 once of once."""
    y = torch.tensor([[0, 0, 1]])
    logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]])
    x = torch.zeros(1, 3, 1)
    found = figures(Predictive(logits), examples(x, y))

    sure = 1 / (1 + math.exp(-2))
    assert found["accuracy"].mean == pytest.approx(2 / 3)
    assert found["precision"].mean == pytest.approx((1 + 1 / 2) / 2)
    assert found["recall"].mean == pytest.approx((1 / 2 + 1) / 2)
    assert found["f1"].mean == pytest.approx(2 / 3)
    assert found["calibration_error"].mean == pytest.approx(sure - 2 / 3)
    assert found["nll"].mean == pytest.approx(-(2 * math.log(sure) + math.log(1 - sure)) / 3)


def test_regression_figures_and_their_interval():
    """Errors 1 and 3 in two tasks: the mean 5, and 1.96 standard deviations of two over the root of two."""
    y = torch.zeros(2, 1, 1)
    answer = Predictive(torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 1, 1))
    found = figures(answer, examples(y, y))

    assert found["mse"].mean == pytest.approx(5.0)
    assert found["mse"].half_width == pytest.approx(1.96 * math.sqrt(32) / math.sqrt(2), rel=1e-3)
    assert found["inside_90"].mean == pytest.approx(0.5)


def test_alpaca_is_below_maml_at_every_context_size():
    """The claim of its paper, on the same short training for both."""
    schedule = Schedule(updates=400, tasks=10)
    errors = {}
    for name in ("alpaca", "maml"):
        learner = build(name, FAMILY.problem)
        theta = served(train(learner, FAMILY, schedule))
        errors[name] = [
            evaluate(learner, theta, FAMILY.test(torch.Generator().manual_seed(3), 200, shots, 20)).after["mse"].mean
            for shots in (1, 2, 5, 10)
        ]

    assert all(ours < theirs for ours, theirs in zip(errors["alpaca"], errors["maml"], strict=True))


def test_gap_between_training_and_new_tasks_is_about_nothing_on_a_continuum():
    """Sinusoids are all alike: a gap there would be an error of measurement."""
    learner = build("r2d2", FAMILY.problem)
    theta = served(train(learner, FAMILY, Schedule(updates=200, tasks=10)))

    assert abs(gap(learner, theta, FAMILY, tasks=300, support=10, query=10)) < 0.05


def test_cross_validation_judges_each_fold_by_a_learner_that_did_not_see_it():
    """Task 3 alone has another concept: only its fold may be bad at first sight."""
    n = 240
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    task = torch.arange(4).repeat(n // 4)
    y = torch.where(task == 3, x[:, 0] < 0, x[:, 0] > 0).long()
    families = folds(Table("laws", "classification", x, y, task, (0, 1)), 4)

    def fit(family):
        learner = build("r2d2", family.problem)
        return learner, served(train(learner, family, Schedule(updates=60, tasks=8)))

    found = cross_validate(families, fit, tasks=40, support=10, query=10)

    assert len(found) == 4
    assert sum(one.after["accuracy"].mean > 0.8 for one in found) >= 3
    assert all({"accuracy", "f1", "nll"} <= set(one.after) for one in found)


@pytest.mark.data
def test_prototypes_learn_omniglot(data_file: Callable[[str], Path]):
    """A smaller network for half a minute; the figures of the full one come from `make bench-omniglot`."""
    pools = omniglot_pools(data_file("omniglot/omniglot28.npz"))
    family = few_shot("omniglot", *pools, ways=5)
    learner = prototypes(conv4(None, width=16), classes=5, outer=Outer(adam(3e-3)))
    tasks = family.test(torch.Generator().manual_seed(0), 60, 1, 3)

    wide = prototypes(conv4(None, width=16), classes=20, outer=Outer(adam(3e-3)))
    state = train(wide, few_shot("omniglot", *pools, ways=20), Schedule(updates=60, tasks=1, support=1, query=3))

    untrained = learner.init(torch.Generator().manual_seed(0))
    before, after = (evaluate(learner, theta, tasks).after["accuracy"].mean for theta in (untrained, served(state)))
    assert after > 0.75
    assert after > before + 0.15


def test_settings_out_of_range_are_refused():
    """Before an hour is spent."""
    with pytest.raises(ConfigError, match="wanted whole numbers of at least 1"):
        Schedule(updates=0)


def written(path: Path, **about: object) -> Path:
    """A trained θ of which the file says this."""
    learner = build("reptile", Problem("regression", inputs=1, outputs=1, hidden=(4,)))
    store(path, Trained(learner.begin(learner.init(torch.Generator().manual_seed(0))), about))
    return path


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "no schedule"),
        ({"method": "reptile", "family": "sinusoids", "schedule": 3}, "schedule"),
        ({"method": "reptile", "family": "sinusoids", "schedule": {"updates": "many"}}, "updates"),
        ({"method": "reptile", "family": "nothing", "schedule": {}}, "family"),
        ({"method": 7, "family": "sinusoids", "schedule": {}}, "method"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_says_nonsense_of_its_training_is_refused_by_what_is_wrong(
    tmp_path: Path, about: dict[str, object], said: str
):
    """It is read as types first, so that a fault of ours is not called a damaged file."""
    with pytest.raises(SnapshotError, match=f"theta: does not say how it was trained.*{said}.*train it again"):
        meta_eval(written(tmp_path / "theta", **about))


@pytest.mark.parametrize("problem", [None, {"inputs": 0, "outputs": 1, "kind": "regression"}, {"inputs": 1}])
def test_a_stream_does_not_begin_with_a_theta_of_it_does_not_know_what(tmp_path: Path, problem: object):
    """Sizes of a foreign file reach the learner only as numbers that can be sizes."""
    with pytest.raises(SnapshotError, match="does not say how it was trained"):
        stream_method(
            written(tmp_path / "theta", method="reptile", problem=problem),
            "reptile",
            "regression",
            seed=0,
            support=4,
            tuning=Tuning(),
        )


def test_a_fault_of_ours_while_a_file_is_read_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever trains again for a day because of our mistake learns nothing of it."""

    def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    file = written(tmp_path / "theta", method="reptile")
    monkeypatch.setattr("streammeta.offline.store.part", broken)

    with pytest.raises(KeyError, match="a fault of ours"):
        load(file)

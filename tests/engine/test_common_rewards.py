"""What actions earn in all tasks: ridge regression, published at the same rewards however they come."""

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.engine.common_rewards import CommonRewards
from streammeta.engine.partitioned import Partitions, Renumbering
from streammeta.errors import SnapshotError

SAME = Renumbering(np.arange(4), np.arange(0), same=True)
ACTIONS = ("red", "blue")
WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.0, 1.5, -1.0]])  # of each action


def model_of(actions: tuple[str, ...] = ACTIONS) -> CommonRewards:
    return CommonRewards(actions, lambda slot: slot != 3)  # slot 3 is one that was made for an action


def rows(count: int) -> tuple[npt.NDArray[np.float64], list[str], npt.NDArray[np.float64]]:
    """Features [N, 4], actions [N] and rewards [N]: linear in three of the features, from 5 on."""
    random = np.random.default_rng(0)
    exact = random.standard_normal((count, 4))
    taken = random.integers(2, size=count)
    rewards = 5 + (exact[:, :3] * WEIGHTS[taken]).sum(1) + 0.1 * random.standard_normal(count)
    return exact, [ACTIONS[k] for k in taken.tolist()], rewards


def teach(model: CommonRewards, begin: int, end: int, partition: int = 0) -> None:
    exact, taken, rewards = rows(400)
    for i in range(begin, end):
        model.observe(partition, exact[i : i + 1])
        model.learn(partition, exact[i : i + 1], taken[i : i + 1], rewards[i : i + 1])


def expected(model: CommonRewards, partition: int = 0) -> list[object]:
    found = model.expect(partition, rows(400)[0][:9])
    return [] if found is None else [found.means.tolist(), found.doubts.tolist(), found.noise]


def test_it_is_the_ridge_regression_of_each_action() -> None:
    """In closed form, in the units of the features; the drift of 10⁻⁶ is small against 400 rewards."""
    model, (exact, taken, rewards) = model_of(), rows(400)
    model.observe(0, exact)
    model.learn(0, exact, taken, rewards)
    z = (exact[:, :3] - exact[:, :3].mean(0)) / exact[:, :3].std(0)
    z = np.column_stack([np.ones(len(z)), z])
    found = model.expect(0, exact)

    assert found is not None
    for k, name in enumerate(ACTIONS):
        of = np.array(taken[: 400 - 400 % 8]) == name  # eight at a time are published by then
        here = z[: of.size][of]
        weights = np.linalg.solve(10 * np.eye(4) + here.T @ here, here.T @ (rewards[: of.size][of] - rewards[0]))
        np.testing.assert_allclose(found.means[:, k] - rewards[0], z @ weights, atol=0.02)
    assert found.doubts.min() > 0


def test_what_is_expected_does_not_depend_on_how_rewards_come() -> None:
    """One by one, or all at once: the bits are the same, as long as decisions come before the rewards."""
    exact, taken, rewards = rows(400)
    one, all_at_once = model_of(), model_of()
    for model in (one, all_at_once):
        model.observe(0, exact)
    for i in range(400):
        one.learn(0, exact[i : i + 1], taken[i : i + 1], rewards[i : i + 1])
    all_at_once.learn(0, exact, taken, rewards)

    assert expected(one) == expected(all_at_once) != []


@pytest.mark.parametrize("cut", [3, 12, 101, 157, 303])
def test_a_partition_that_moves_goes_on_to_the_bit(cut: int) -> None:
    """In the middle of what waits to be published, too."""
    whole, first, moved, restored = model_of(), model_of(), model_of(), model_of()
    teach(whole, 0, 400)
    teach(first, 0, cut)
    moved.take_partition(0, first.partition(0), SAME, "here")
    Partitions([restored]).load(Partitions([first]).dump(), SAME, "a snapshot")
    for model in (moved, restored):
        teach(model, cut, 400)

        assert expected(model) == expected(whole) != []
        assert model.until_published(0) == whole.until_published(0)


def test_features_and_actions_that_have_other_numbers_keep_what_was_learned() -> None:
    """A member that met them in another order; a feature that has no place there is left out."""
    model, here = model_of(), model_of((*reversed(ACTIONS), "green"))
    teach(model, 0, 303)
    exact = rows(400)[0]
    before = model.expect(0, exact)
    here.take_partition(0, model.partition(0), SAME._replace(slots=np.array([2, 0, 1, 3]), same=False), "here")
    swapped = here.expect(0, exact[:, [1, 2, 0, 3]])

    assert before is not None
    assert swapped is not None
    assert swapped.means[:, :2].tolist() == before.means[:, ::-1].tolist()
    assert np.ptp(swapped.means[:, 2]) == 0
    here.take_partition(0, model.partition(0), SAME._replace(slots=np.array([-1, 0, 1, 3]), same=False), "here")
    fewer = here.expect(0, exact[:, [1, 2, 0, 3]])
    assert fewer is not None
    assert not np.array_equal(fewer.means[:, :2], swapped.means[:, :2])
    with pytest.raises(SnapshotError, match="does not have"):
        here.take_partition(0, model.partition(0), SAME._replace(slots=np.array([0]), same=False), "here")


def test_rewards_that_begin_all_the_same_do_not_end_it() -> None:
    """Ten zeros leave errors of no size: nothing is expected yet, and the first one that differs is learned in full."""
    model, exact = model_of(), rows(400)[0]
    model.observe(0, exact)
    model.learn(0, exact[:20], ["red"] * 20, np.zeros(20))
    assert model.expect(0, exact) is None
    model.learn(0, exact[20:200], ["red"] * 180, exact[20:200, 0])
    found = model.expect(0, exact)

    assert found is not None
    assert np.corrcoef(found.means[:, 0], exact[:, 0])[0, 1] > 0.99


def test_an_action_that_is_not_configured_teaches_nothing_and_is_not_known() -> None:
    """Events may bring actions of their own beside those of the configuration."""
    model, (exact, _, rewards) = model_of(), rows(400)
    model.learn(0, exact, ["green"] * 400, rewards)
    assert model.partition(0) == {}
    teach(model, 0, 100)
    found = model.expect(0, exact[:1])

    assert found is not None
    of = found.of(model.places(["green", "blue"])[None])
    assert of.means.tolist() == [[0.0, found.means[0, 1]]]
    assert of.doubts[0, 0] == np.inf


def test_features_beyond_the_limit_have_no_part() -> None:
    """A square of the features for each action must not grow without end."""
    model, (exact, _, rewards) = model_of(tuple(map(str, range(2**13)))), rows(400)
    model.observe(0, np.repeat(exact, 5, axis=1))
    model.learn(0, np.repeat(exact, 5, axis=1)[:100], ["0"] * 100, rewards[:100])

    assert model.partition(0)["rewards.slots"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["actions", "slots", "moments", "scale", "model", "known", "pending"])
def test_what_no_rewards_make_is_refused(name: str) -> None:
    """From a changelog or a file, with the place."""
    model, here = model_of(), model_of()
    teach(model, 0, 305)
    arrays = model.partition(0)
    of_name = arrays[f"rewards.{name}"]
    changed = np.zeros_like(of_name) if name == "actions" else of_name - 1000
    for damaged in (of_name[..., :1], changed):
        with pytest.raises(SnapshotError, match="here: what actions earn"):
            here.take_partition(0, arrays | {f"rewards.{name}": damaged}, SAME, "here")
    model.forget_partition(0)
    assert model.partition(0) == {}
    assert expected(model) == []

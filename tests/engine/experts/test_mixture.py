"""How the learner and its experts are blended."""

import math

import numpy as np
import pytest

from streammeta.engine.columns import Column
from streammeta.engine.experts import Case, Mixture
from streammeta.engine.experts.base import Columns, Doubles
from streammeta.meta.base import Kind

CASE = Case(0, "t", np.zeros(1, np.float32))


class Stubborn:
    """An expert that always says the same."""

    name, is_saved = "stubborn", True

    def __init__(self, said: list[float] | None, doubt: float = 0.0) -> None:
        self.said, self.doubt = said, doubt

    def layout(self, width: int, outputs: int) -> dict[str, Column]:  # noqa: ARG002
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:  # noqa: ARG002  it is stubborn
        return None if self.said is None else np.array(self.said)

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """It does not."""

    def abort_leftover(self) -> None:
        """Nothing."""

    def dump(self) -> dict[str, np.ndarray]:
        return {}

    def load(self, arrays: Columns) -> None:
        """Nothing."""


def blank(mixture: Mixture) -> Columns:
    return Columns.blank(mixture.layout(4, 4), 1)


def test_before_there_is_evidence_the_learner_counts_twice() -> None:
    """By hand: (2 p + q + pq/Σpq + e pool) / (4 + e); p = (.8, .2), q = (.5, .5); the product is p, and so is the pool."""
    mixture = Mixture([Stubborn([0.5, 0.5])], "classification")

    blend = mixture.blend(blank(mixture), CASE, [0.8, 0.2], 0.0)

    of_p, e = 3 + math.e, 4 + math.e
    assert blend.mean == pytest.approx([(of_p * 0.8 + 0.5) / e, (of_p * 0.2 + 0.5) / e], abs=1e-5)
    assert sum(blend.mean) == pytest.approx(1.0)


def test_weights_say_who_decides() -> None:
    """By hand: before any label the learner counts twice, each expert and product once, the pool e times."""
    mixture = Mixture([Stubborn([0.5, 0.5])], "classification")
    columns = blank(mixture)

    weights = mixture.weights(columns, np.zeros(1, np.int64), 2)

    shares = {"learner": 2.0, "stubborn": 1.0, "learner and stubborn": 1.0, "pool": math.e}
    assert weights == pytest.approx({name: share / (4 + math.e) for name, share in shares.items()})
    for _ in range(40):
        mixture.learn(columns, CASE, mixture.blend(columns, CASE, [0.1, 0.9], 0.0).parts, 0.0)
    later = mixture.weights(columns, np.zeros(1, np.int64), 2)
    assert later["pool"] > 0.9  # it has learned to say what the learner does not
    assert later["stubborn"] > 10 * later["learner"]
    assert sum(later.values()) == pytest.approx(1.0)
    assert mixture.weights(columns, np.zeros(0, np.int64), 2) == {}


def test_evidence_is_the_recent_log_likelihood_of_each_part() -> None:
    """By hand, over two labels: what was said of them, the first counting 0.95."""
    mixture = Mixture([Stubborn([0.9, 0.1])], "classification")
    columns = blank(mixture)

    for y in (0, 1):
        parts = mixture.blend(columns, CASE, [0.5, 0.5], 0.0).parts
        mixture.learn(columns, CASE, parts, y)

    q = 0.95 * math.log(0.9) + math.log(0.1)
    np.testing.assert_allclose(columns["experts.evidence"][0], [1.95 * math.log(0.5), q, q], atol=1e-5)


def test_an_expert_that_is_right_wins_the_learner_over_and_one_that_is_always_wrong_says_what_is_not() -> None:
    """What a mixture is for; and the pool learns to believe the contrary of what a fool says."""
    wise, fool = Stubborn([0.95, 0.05]), Stubborn([0.01, 0.99])
    for expert, low, high in ((wise, 0.85, 1.0), (fool, 0.5, 1.0)):
        mixture = Mixture([expert], "classification")
        columns = blank(mixture)
        for _ in range(40):
            parts = mixture.blend(columns, CASE, [0.5, 0.5], 0.0).parts
            mixture.learn(columns, CASE, parts, 0)

        assert low < mixture.blend(columns, CASE, [0.5, 0.5], 0.0).mean[0] < high


@pytest.mark.parametrize("said", [None, [0.0, 0.0]])
def test_without_an_opinion_the_learner_is_alone(said: list[float] | None) -> None:
    """An expert that starts again after a restore must not blur what the learner knows."""
    mixture = Mixture([Stubborn(said, doubt=0.15)], "classification")

    blend = mixture.blend(blank(mixture), CASE, [0.9, 0.1], 0.0)

    np.testing.assert_allclose(blend.parts[1], [0.9, 0.1], atol=1e-5)


def test_an_expert_cannot_rule_a_class_out() -> None:
    """A forest says 0 easily; once wrong, its product with the learner would be wrong beyond repair."""
    mixture = Mixture([Stubborn([1.0, 0.0], doubt=0.15)], "classification")

    parts = mixture.blend(blank(mixture), CASE, [0.5, 0.5], 0.0).parts

    assert parts[1, 1] == pytest.approx(0.075, abs=1e-4)


def test_for_targets_an_expert_is_as_sure_as_its_own_errors_allow() -> None:
    """By hand: always wrong by 2, so its variance goes to 4, from four times the learner's."""
    mixture = Mixture([Stubborn([3.0])], "regression")
    columns = blank(mixture)

    first = mixture.blend(columns, CASE, [1.0], 0.5)
    for _ in range(400):
        mixture.learn(columns, CASE, mixture.blend(columns, CASE, [1.0], 0.5).parts, 1.0)
    last = mixture.blend(columns, CASE, [1.0], 0.5)

    assert first.parts[1] == pytest.approx([3.0, 2.0])
    assert first.parts[2] == pytest.approx([(1.0 / 0.5 + 3.0 / 2.0) / 2.5, 2 / 2.5])
    assert last.parts[1, 1] == pytest.approx(4.0, rel=0.05)
    assert last.mean[0] == pytest.approx(1.0, abs=0.1)


def test_a_label_of_a_class_that_nobody_knew_counts_against_all_alike() -> None:
    """The prediction has two classes, the label is the third: no index error, no winner."""
    mixture = Mixture([Stubborn([0.9, 0.1])], "classification")
    columns = blank(mixture)

    mixture.learn(columns, CASE, mixture.blend(columns, CASE, [0.5, 0.5], 0.0).parts, 2)

    np.testing.assert_allclose(columns["experts.evidence"][0], math.log(1e-6))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_an_expert_without_an_opinion_changes_nothing(kind: Kind) -> None:
    """Nor does one that sleeps: as many as there are, the learner's prediction stays what it is."""
    silent = Mixture([Stubborn(None)] * 3, kind)
    columns, outputs = blank(silent), 2 if kind == "classification" else 1
    own = [0.3, 0.7][-outputs:]

    for _ in range(5):
        blend = silent.blend(columns, CASE, own, 0.5)
        assert blend.mean == pytest.approx(own, abs=2e-6)
        assert blend.variance == pytest.approx(0.5)
        silent.learn(columns, CASE, blend.parts, 1.0, outputs)

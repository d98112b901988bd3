"""Responses to drifts, by name: each an object, and none stands in for another."""

from typing import get_args

import numpy as np
import pytest

from streammeta.engine import EngineSettings
from streammeta.engine.drift import DriftResponseName
from streammeta.engine.factory import make_method
from streammeta.engine.responses import RESPONSES, make_response
from streammeta.errors import ConfigError
from streammeta.meta.base import Forget, Scaling


def settings(response: str, **changes: object) -> EngineSettings:
    return EngineSettings.model_validate({"drift": {"response": response}} | changes)


def test_every_name_in_the_settings_has_a_response_of_its_own() -> None:
    """A name without one was once a mix, and nobody was told."""
    assert set(get_args(DriftResponseName)) == set(RESPONSES)
    assert len(set(RESPONSES.values())) == len(RESPONSES)


@pytest.mark.parametrize(("name", "forgets"), [("mix", Forget.PART), ("reset", Forget.ALL), ("recall", Forget.PART)])
def test_how_much_is_forgotten_is_the_responses_own(name: str, forgets: Forget) -> None:
    """The learner is told how much, not by whom."""
    chosen = settings(name)

    response = make_response(make_method(chosen), chosen)

    assert response.forgets is forgets
    assert response.looks_at_labels == (name == "recall")


def test_a_learner_forgets_in_part_what_its_short_heads_know_and_all_on_a_reset() -> None:
    """Taken the other way round, a mix would throw everything away at each false alarm."""
    chosen = settings("mix")
    method = make_method(chosen)
    theta = method.grow(method.init(), (), ["no", "yes"])
    columns = {name: np.ones((2, *shape), dtype) for name, (shape, dtype) in method.phi_layout(0, 2).items()}
    weights = method.compile(theta, Scaling(np.zeros(0, np.float32), np.ones(0, np.float32), 0.0, 1.0))

    method.restart(weights, columns, np.array([0]), Forget.PART)
    method.restart(weights, columns, np.array([1]), Forget.ALL)

    assert 0 < columns["A"][0].mean() < 1
    assert not columns["A"][1].any()
    with pytest.raises(ValueError, match="mixx"):
        method.restart(weights, columns, np.array([0]), "mixx")  # type: ignore[arg-type]  # that is the point


def test_recall_is_refused_for_a_learner_without_sums() -> None:
    """It would fail at the first drift, hours later."""
    chosen = settings("recall", learner={"method": "reptile"})

    with pytest.raises(ConfigError, match="mixes the sums of exact heads"):
        make_response(make_method(chosen), chosen)

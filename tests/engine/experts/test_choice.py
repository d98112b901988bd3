"""From settings to experts, and what is said when that cannot be."""

import re
from typing import Any

import numpy as np
import pytest

from streammeta.engine.experts import Expert, choose
from streammeta.engine.features import FeatureSpace
from streammeta.engine.moments import no_sums
from streammeta.engine.scale import SharedScale, shared_scale
from streammeta.engine.sums import PartitionSums
from streammeta.errors import ConfigError
from streammeta.meta.base import Kind, Scaling
from streammeta.meta.settings import ExpertSettings


def made(*chosen: str | dict[str, Any], kind: Kind = "classification") -> list[Expert]:
    settings = [one if isinstance(one, str) else ExpertSettings.model_validate(one) for one in chosen]
    scaling = Scaling(np.zeros(0, np.float32), np.zeros(0, np.float32), 0.0, 1.0)
    return choose(settings, kind, 0, FeatureSpace(8), lambda _columns, _row: scaling, _no_scale, PartitionSums())


def _no_scale() -> SharedScale:
    return shared_scale(no_sums(8), np.zeros(8, np.bool_))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("river:forest.ARFClassifier", "classification"),
        ("river:forest.AMFClassifier", "classification"),
        ("river:linear_model.LogisticRegression", "classification"),
        ("river:linear_model.SoftmaxRegression", "classification"),
        ("river:linear_model.PAClassifier", "classification"),
        ("river:naive_bayes.GaussianNB", "classification"),
        ("river:neighbors.KNNClassifier", "classification"),
        ("river:tree.HoeffdingAdaptiveTreeClassifier", "classification"),
        ("river:forest.ARFRegressor", "regression"),
        ("river:linear_model.BayesianLinearRegression", "regression"),
        ("river:linear_model.LinearRegression", "regression"),
        ("river:neighbors.KNNRegressor", "regression"),
        ("river:tree.HoeffdingAdaptiveTreeRegressor", "regression"),
    ],
)
def test_river_models_of_every_family_can_be_experts(name: str, kind: Kind) -> None:
    """Any River model by configuration, says the settings' description: trees, lines, neighbours, Bayes."""
    (expert,) = made(name, kind=kind)

    assert expert.name == name
    assert not expert.is_saved


def test_experts_keep_their_order_and_parameters_reach_the_model() -> None:
    """A parameter that got lost would be a benchmark of something else."""
    _, _, forest = made(
        "neighbours", "persistence", {"name": "river:forest.ARFClassifier", "parameters": {"n_models": 3}}
    )

    assert forest._model.n_models == 3
    assert forest._model.seed == 0


@pytest.mark.parametrize(
    ("chosen", "kind", "message"),
    [
        ("neighbors", "classification", "'neighbors': no such expert; did you mean neighbours?"),
        ("river:ARFClassifier", "classification", "wanted river:MODULE.CLASS, such as river:forest.ARFClassifier"),
        ("river:os.system", "classification", "River has no module 'os' that can be used here"),
        ("river:forest.base.importlib", "classification", "wanted river:MODULE.CLASS"),
        ("river:../x.y", "classification", "wanted river:MODULE.CLASS"),
        ("river:forest.collections", "classification", "river.forest has no class 'collections'"),
        ("river:forest.ARFClasifier", "classification", "no class 'ARFClasifier'; did you mean ARFClassifier?"),
        (
            "river:forest.ARFRegressor",
            "classification",
            'is no classifier, but app.kind = "classification"; river.forest has',
        ),
        ("river:forest.ARFClassifier", "regression", 'is no regressor, but app.kind = "regression"; river.forest has'),
        ("river:drift.ADWIN", "classification", "is no classifier"),
        ("river:ensemble.BaggingClassifier", "classification", "needs model; give it as `parameters`"),
        ("gaussian", "regression", 'is about classes, but app.kind = "regression"'),
        ({"name": "neighbours", "parameters": {"k": 3}}, "classification", "takes no parameters, got k"),
        (
            {"name": "river:forest.ARFClassifier", "parameters": {"n_model": 3}},
            "classification",
            "no parameter 'n_model'; did you mean n_models?",
        ),
        (
            {"name": "river:forest.ARFClassifier", "parameters": {"n_models": "ten"}},
            "classification",
            "fails on trial events with n_models = 'ten' (TypeError",
        ),
    ],
)
def test_what_cannot_be_says_which_and_why(chosen: str | dict[str, Any], kind: Kind, message: str) -> None:
    """Found before the first poll, in one line that can be acted on; and no name leads out of River."""
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        made(chosen, kind=kind)

    assert str(caught.value).startswith("[learner] experts: ")


def test_an_expert_is_named_once() -> None:
    """Twice the same would be one voice with two votes, and their columns would be one."""
    with pytest.raises(ConfigError, match="'neighbours' is there twice"):
        made("neighbours", "neighbours")


@pytest.mark.parametrize("reader", ["nearest", "gaussian_process"])
@pytest.mark.parametrize("chosen", [["{}"], ["forest", "{}"], ["{}", "persistence"]], ids="+".join)
def test_who_reads_the_forests_events_wants_it_after_it(reader: str, chosen: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=f"'{reader}' reads the forest's events before that learns; name 'forest' after '{reader}'"
    ):
        made(*(name.format(reader) for name in chosen))

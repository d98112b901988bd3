"""Promise 3 of the design, through the doors that people use: no units and no zero points matter, after ten labels."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

import streammeta
from streammeta import MetaClassifier, MetaRegressor

EVENTS, TASKS, YOUNG = 1_200, 6, 10
Unit = tuple[float, float]  # factor, zero point
ONE: Sequence[Unit] = [(1.0, 0.0)]
UNITS: dict[str, Sequence[Unit]] = {
    "apart by 10^6": [(1e-3, 0.0), (1.0, 0.0), (1e3, 0.0)],
    "far zero points": [(1.0, 1e9), (1.0, 0.0), (3.0, -2e6)],
    "negative": [(-160.0, 5.0), (1.0, 0.0)],
    "tiny": [(1e-9, 0.0), (1.0, 0.0)],
}


def linear(x: Sequence[Unit], y: Sequence[Unit], *, classes: bool) -> pd.DataFrame:
    """Tasks with a plane of their own; each measures in units of its own. ``plain`` has no unit."""
    random = np.random.default_rng(4)
    planes, task = random.normal(size=(TASKS, 3)), random.integers(TASKS, size=EVENTS)
    z = random.normal(size=(EVENTS, 3))
    plain = (planes[task] * z).sum(1) + 0.1 * random.normal(size=EVENTS)
    factor, zero = np.array(x)[task % len(x)].T
    seen = pd.DataFrame({name: z[:, d] * factor + zero for d, name in enumerate("abc")})
    seen["task"] = [f"t{t}" for t in task]
    factor, zero = np.array(y)[task % len(y)].T
    seen["y"] = np.where(plain > 0, "up", "down") if classes else plain * factor + zero
    seen["unit"] = np.abs(factor)
    return seen


def by_estimator(frame: pd.DataFrame, *, classes: bool) -> float:
    """The mean error of labels after a task's first ten, in units."""
    model = MetaClassifier(task="task") if classes else MetaRegressor(task="task")
    ages, errors = dict[str, int](), list[float]()
    for row in frame.to_dict("records"):
        x = {name: row[name] for name in ("a", "b", "c", "task")}
        said = model.predict_one(x)
        if ages.get(row["task"], 0) >= YOUNG:
            errors.append(float(said != row["y"]) if classes else abs(said - row["y"]) / row["unit"])  # type: ignore[operator]
        ages[row["task"]] = ages.get(row["task"], 0) + 1
        model.learn_one(x, row["y"])
    return float(np.mean(errors))


def by_replay(frame: pd.DataFrame, *, classes: bool) -> float:
    """Likewise."""
    kind = "classification" if classes else "regression"
    shown = frame.drop(columns="unit")
    error = streammeta.replay(shown, kind=kind).errors["streammeta"].to_numpy()
    found = error / (1.0 if classes else frame["unit"].to_numpy())
    return float(np.mean(found[frame.groupby("task").cumcount().to_numpy() >= YOUNG]))


@functools.cache
def in_one_unit(door: str, *, classes: bool) -> float:
    return DOORS[door](linear(ONE, ONE, classes=classes), classes=classes)


DOORS: dict[str, Callable[..., float]] = {"estimator": by_estimator, "replay": by_replay}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("units", UNITS)
def test_features_in_any_unit_predict_classes_as_in_one(door: str, units: str) -> None:
    """The README says that features need no scaling."""
    plain = in_one_unit(door, classes=True)

    found = DOORS[door](linear(UNITS[units], ONE, classes=True), classes=True)

    assert plain < 0.1
    assert found <= plain + 0.02


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("units", UNITS)
def test_targets_in_any_unit_are_predicted_in_it(door: str, units: str) -> None:
    """Nor do targets: the error is the same share of their unit."""
    plain = in_one_unit(door, classes=False)

    found = DOORS[door](linear(ONE, UNITS[units], classes=False), classes=False)

    assert plain < 0.3
    assert found <= 1.2 * plain + 0.02

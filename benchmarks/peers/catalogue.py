"""Every learner the benchmark knows: by which program it is run, for what it is fit, and with which settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

__all__ = ["CATALOGUE", "QUICK", "Entry"]

_BOTH = ("classification", "regression")
_CLASSES, _VALUES = ("classification",), ("regression",)
_APART = ("global", "per-task")
_ALL_WIRINGS = ("global", "per-task", "tag")


@dataclass(frozen=True)
class Entry:
    """One learner."""

    environment: str  # "streammeta" (the project's own), or a folder under .peers
    settings: str  # as shown in results
    kinds: tuple[str, ...]
    wirings: tuple[str, ...] = _ALL_WIRINGS
    overrides: Mapping[str, Any] = field(default_factory=dict)  # streammeta's settings that differ from the defaults
    most_features: float = inf  # files with more are not for it

    @property
    def program(self) -> str:
        """The module that runs it."""
        own = "streammeta" if self.wirings == ("native",) else "river"
        return f"benchmarks.peers.{own if self.environment == 'streammeta' else self.environment}_runner"


def _river(settings: str, kinds: tuple[str, ...], wirings: tuple[str, ...] = _ALL_WIRINGS) -> Entry:
    return Entry("streammeta", settings, kinds, wirings)


def _capymoa(settings: str, kinds: tuple[str, ...] = _CLASSES) -> Entry:
    return Entry("capymoa", settings, kinds)


_SCALED = "after a StandardScaler"
CATALOGUE: Mapping[str, Entry] = {
    "streammeta": Entry("streammeta", "defaults", _BOTH, ("native",)),
    "streammeta+last": Entry(
        "streammeta",
        'defaults and learner.experts = ["persistence"]',
        _CLASSES,
        ("native",),
        {"learner": {"experts": ["persistence"]}},
    ),
    "last label": _river("the label that came last (per-task: in the same task)", _BOTH, _APART),
    "River logistic regression": _river(f"one-vs-rest where classes are many, SGD 0.01, {_SCALED}", _CLASSES),
    "River logistic regression, products": Entry(
        "streammeta", f"the same on products of two features, SGD 0.1, {_SCALED}", _CLASSES, _APART, most_features=10
    ),
    "River HAT": _river("HoeffdingAdaptiveTreeClassifier, defaults", _CLASSES),
    "River ARF": _river("ARFClassifier, defaults (10 trees)", _CLASSES),
    "River SRP": _river("SRPClassifier, defaults (10 Hoeffding trees)", _CLASSES),
    "River LeveragingBagging": _river("LeveragingBaggingClassifier of 10 Hoeffding trees", _CLASSES),
    "River AMF": _river("AMFClassifier, defaults (10 trees)", _CLASSES),
    "River kNN": _river(f"KNNClassifier, defaults (5 neighbours, window 1,000), {_SCALED}", _CLASSES),
    "River linear, Adam": _river(f"LinearRegression, Adam 0.01, {_SCALED}, target standardized too", _VALUES),
    "River Bayesian linear": _river(
        f"BayesianLinearRegression, defaults, a 1 added to the features, {_SCALED}", _VALUES
    ),
    "River ARF regressor": _river(f"ARFRegressor, defaults (10 trees), {_SCALED}", _VALUES),
    "River HAT regressor": _river(f"HoeffdingAdaptiveTreeRegressor, defaults, {_SCALED}", _VALUES),
    "CapyMOA ARF-30": _capymoa("AdaptiveRandomForestClassifier, ensemble_size=30"),
    "CapyMOA ARF": _capymoa("AdaptiveRandomForestClassifier, defaults (100 trees)"),
    "CapyMOA SRP": _capymoa("StreamingRandomPatches, ensemble_size=10"),
    "CapyMOA LeveragingBagging": _capymoa("LeveragingBagging, defaults (100 trees)"),
    "CapyMOA DEMS": _capymoa("DynamicEnsembleMemberSelection, ensemble_size=10"),
    "CapyMOA SAM-kNN": _capymoa("SAMkNN, defaults"),
    "CapyMOA SAM-kNN, scaled": _capymoa(f"SAMkNN, defaults, {_SCALED}"),
    "CapyMOA SGBT": _capymoa("StreamingGradientBoostedTrees, defaults (100 rounds)"),
    "CapyMOA SOKNL": _capymoa("SOKNL, ensemble_size=30", _VALUES),
    "Vowpal Wabbit": Entry(
        "windowed", "--coin, products of all pairs (-q ::) up to 30 features, one against all", _BOTH
    ),
    "LightGBM": Entry("windowed", "retrained on the last 2,000 labels, after each tenth more than it had", _BOTH),
    "deep-river MLP": Entry("deep_river", f"two hidden layers of 64 ReLU, SGD 0.01, {_SCALED}", _BOTH),
}
QUICK = (
    "streammeta",
    "last label",
    "River logistic regression",
    "River HAT",
    "River linear, Adam",
    "CapyMOA ARF-30",
    "deep-river MLP",
)

"""From a name like `river:forest.ARFClassifier` to a model of River's, looked up by name; nothing is evaluated."""

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from river import base

from streammeta.engine.experts.base import RIVER, Case, Slots, did_you_mean
from streammeta.engine.experts.river_model import RiverModel
from streammeta.engine.features import FeatureSpace
from streammeta.errors import ConfigError
from streammeta.meta.settings import ExpertSettings, Kind

__all__ = ["river_expert"]

_MODULE = re.compile(r"[a-z][a-z0-9_]*")
_TRIAL = ({"a": 0.5, "b": -1.0}, {"a": 1.5, "b": 2.0}, {"a": -0.5, "b": 0.0}, {"a": 2.0, "b": 1.0})


def river_expert(where: str, wanted: ExpertSettings, kind: Kind, seed: int, slots: Callable[[], Slots]) -> RiverModel:
    """A fresh River model as an expert, tried on a few events.

    Args:
        where: the setting, for messages.
        wanted: its name and parameters.
        kind: of the stream.
        seed: for a model that takes one and was given none.
        slots: the features known by now.

    Raises:
        ConfigError: River has no such model of this kind, or it fails with these parameters.
    """
    return RiverModel(wanted.name, _model(where, wanted, kind, seed), kind, slots)


def _model(where: str, wanted: ExpertSettings, kind: Kind, seed: int) -> Any:  # noqa: ANN401  River is not typed
    found = _class(where, wanted.name, kind)
    known = inspect.signature(found).parameters
    given: dict[str, Any] = dict(wanted.parameters)
    unknown = [name for name in given if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(f"{where}: no parameter {unknown[0]!r}{hint}; it takes {', '.join(known) or 'none'}")
    missing = [
        p.name for p in known.values() if p.default is p.empty and p.name not in given and p.kind < p.VAR_POSITIONAL
    ]
    if missing:
        raise ConfigError(f"{where} needs {', '.join(missing)}; give it as `parameters`, or take another model")
    if "seed" in known:
        given.setdefault("seed", seed)
    try:
        _try_out(found(**given), kind)
        return found(**given)
    except Exception as err:
        shown = ", ".join(f"{name} = {value!r}" for name, value in wanted.parameters.items()) or "its defaults"
        raise ConfigError(
            f"{where} fails on trial events with {shown} ({type(err).__name__}: {err}); change them, or leave it out"
        ) from err


def _class(where: str, name: str, kind: Kind) -> type:
    """The class that a name like river:forest.ARFClassifier means."""
    module_name, _, class_name = name.removeprefix(RIVER).rpartition(".")
    parent = base.Classifier if kind == "classification" else base.Regressor
    if not _MODULE.fullmatch(module_name):
        raise ConfigError(f"{where}: wanted {RIVER}MODULE.CLASS, such as {RIVER}forest.ARFClassifier")
    try:
        module = importlib.import_module(f"river.{module_name}")
    except ImportError as err:
        raise ConfigError(f"{where}: River has no module {module_name!r} that can be used here ({err})") from err
    fitting = [n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, parent)]
    found = getattr(module, class_name, None)
    if not inspect.isclass(found) or not found.__module__.startswith("river."):
        raise ConfigError(
            f"{where}: river.{module_name} has no class {class_name!r}{did_you_mean(class_name, fitting)}"
        )
    if not issubclass(found, parent) or inspect.isabstract(found):
        hint = f"; river.{module_name} has {', '.join(fitting)}" if fitting else ""
        raise ConfigError(f'{where} is no {parent.__name__.lower()}, but app.kind = "{kind}"{hint}')
    return found


def _try_out(model: Any, kind: Kind) -> None:  # noqa: ANN401
    """Let a model predict and learn a few events as the stream's will be; raises whatever it raises."""
    space = FeatureSpace(max_features=8)
    expert = RiverModel("trial", model, kind, lambda: space.slots)
    for i, x in enumerate(_TRIAL * 2):
        row = space.table([space.read(x, "trial")])[0]
        case = Case(0, "ab"[i % 2], row)
        expert.attempt(case, outputs=2 if kind == "classification" else 1, y=float(i % 2))

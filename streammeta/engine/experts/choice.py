"""From `[learner] experts` to experts. A name is looked up in what is here and inside River; nothing is evaluated."""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from river import base

from streammeta.engine.experts.base import Case, Expert
from streammeta.engine.experts.gaussian import Gaussian
from streammeta.engine.experts.neighbours import Neighbours
from streammeta.engine.experts.persistence import Persistence
from streammeta.engine.experts.river_model import RiverModel
from streammeta.engine.features import FeatureSpace
from streammeta.errors import ConfigError
from streammeta.meta import ExpertSettings
from streammeta.meta.base import Kind, Scaling

__all__ = ["choose"]

_RIVER = "river:"
_NATIVE = ("persistence", "neighbours", "gaussian")
_OF_CLASSES = ("persistence", "gaussian")
_MODULE = re.compile(r"[a-z][a-z0-9_]*")
_TRIAL = ({"a": 0.5, "b": -1.0}, {"a": 1.5, "b": 2.0}, {"a": -0.5, "b": 0.0}, {"a": 2.0, "b": 1.0})


def choose(
    chosen: Sequence[str | ExpertSettings],
    kind: Kind,
    seed: int,
    features: FeatureSpace,
    scaling: Callable[[], Scaling],
) -> list[Expert]:
    """The experts of these settings.

    Args:
        chosen: names, or names with parameters.
        kind: of the stream.
        seed: for models that take one and were given none.
        features: names the slots.
        scaling: the normalization in force.

    Raises:
        ConfigError: there is no such expert, it is not for this kind of stream, or its parameters do not fit.
    """
    experts: list[Expert] = []
    for one in chosen:
        wanted = ExpertSettings(name=one) if isinstance(one, str) else one
        where = f"[learner] experts: {wanted.name!r}"
        if any(expert.name == wanted.name for expert in experts):
            raise ConfigError(f"{where} is there twice; name it once")
        if wanted.name.startswith(_RIVER):
            model = _river(where, wanted, kind, seed)
            experts.append(RiverModel(wanted.name, model, kind, lambda: features.slots))
            continue
        if wanted.name not in _NATIVE:
            hint = _did_you_mean(wanted.name, _NATIVE)
            raise ConfigError(f"{where}: no such expert{hint}; wanted {', '.join(_NATIVE)} or {_RIVER}MODULE.CLASS")
        if wanted.parameters:
            raise ConfigError(f"{where} takes no parameters, got {', '.join(wanted.parameters)}; leave them out")
        if wanted.name in _OF_CLASSES and kind != "classification":
            raise ConfigError(f'{where} is about classes, but app.kind = "{kind}"; leave it out')
        experts.append(_native(wanted.name, kind, scaling))
    return experts


def _native(name: str, kind: Kind, scaling: Callable[[], Scaling]) -> Expert:
    if name == "neighbours":
        return Neighbours(kind, scaling)
    return Gaussian(scaling) if name == "gaussian" else Persistence()


def _river(where: str, wanted: ExpertSettings, kind: Kind, seed: int) -> Any:  # noqa: ANN401  River is not typed
    """A fresh River model, tried on a few events."""
    found = _class(where, wanted.name, kind)
    known = inspect.signature(found).parameters
    given: dict[str, Any] = dict(wanted.parameters)
    unknown = [name for name in given if name not in known]
    if unknown:
        hint = _did_you_mean(unknown[0], known)
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
        told = ", ".join(f"{name} = {value!r}" for name, value in wanted.parameters.items()) or "its defaults"
        raise ConfigError(
            f"{where} fails on trial events with {told} ({type(err).__name__}: {err}); change them, or leave it out"
        ) from err


def _class(where: str, name: str, kind: Kind) -> type:
    """The class that a name like river:forest.ARFClassifier means."""
    module_name, _, class_name = name.removeprefix(_RIVER).rpartition(".")
    parent = base.Classifier if kind == "classification" else base.Regressor
    if not _MODULE.fullmatch(module_name):
        raise ConfigError(f"{where}: wanted {_RIVER}MODULE.CLASS, such as {_RIVER}forest.ARFClassifier")
    try:
        module = importlib.import_module(f"river.{module_name}")
    except ImportError as err:
        raise ConfigError(f"{where}: River has no module {module_name!r} that can be used here ({err})") from err
    fitting = [n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, parent)]
    found = getattr(module, class_name, None)
    if not inspect.isclass(found) or not found.__module__.startswith("river."):
        raise ConfigError(
            f"{where}: river.{module_name} has no class {class_name!r}{_did_you_mean(class_name, fitting)}"
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


def _did_you_mean(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""

"""Other learners on the same events: River's by an expression, and streammeta with other settings.

A baseline takes what the service took, in the same order, and returns outcomes, so that one piece of code scores all.
"""

import ast
import importlib
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from inspect import isclass, signature
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import river
from msgspec.structs import replace
from river import base

from streammeta.engine import Engine, EngineSettings, Kind, Outcome
from streammeta.errors import ConfigError
from streammeta.event import Event, Label, LabelValue

__all__ = ["Baseline", "EngineBaseline", "RiverBaseline", "Wiring", "river_model"]

Wiring: TypeAlias = Literal["tag", "global", "per-task"]
_LEAST_PROBABILITY = 1e-6  # as the engine scores its own
_Model: TypeAlias = Any  # River has no types


class Baseline(Protocol):
    """A learner that is run beside streammeta."""

    name: str
    description: str  # what it is, in a sentence

    def take(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Predict each event, learn each label that is there; one outcome each, in the same order."""

    def memory_bytes(self) -> int | None:
        """What it holds now; None where that is unknown."""


class EngineBaseline:
    """streammeta itself, with other settings.

    Args:
        name: what the report calls it.
        settings: its own.
        description: what differs.
    """

    def __init__(self, name: str, settings: EngineSettings, description: str) -> None:
        self.name, self.description = name, description
        self._engine = Engine(settings)

    def take(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """One step of the engine, which makes features of others itself, if it makes any."""
        return self._engine.step([_as_it_came(event) for event in events])

    def memory_bytes(self) -> int | None:
        """Unknown: its arrays and PyTorch's cannot be separated from ours."""
        return None


def _as_it_came(event: Event | Label) -> Event | Label:
    if isinstance(event, Label) or event.came is None:
        return event
    return replace(event, x=event.came, came=None)


class _Asked(NamedTuple):
    """An event whose label has not come."""

    event: Event
    prediction: LabelValue | None
    probabilities: dict[LabelValue, float] | None


class RiverBaseline:
    """One of River's models, or one for each task.

    Args:
        name: what the report calls it.
        model: fresh; cloned for each task where they are apart.
        kind: what is predicted.
        wiring: how it learns of tasks: "tag", as the feature `task` where events have one; "global", not at all;
            "per-task", a model of its own for each.
    """

    def __init__(self, name: str, model: _Model, kind: Kind, wiring: Wiring = "tag") -> None:
        how = {
            "tag": "knows the task as a feature",
            "global": "knows no tasks",
            "per-task": "one model for each task",
        }
        self.name, self.description = name, f"River {river.__version__}, {how[wiring]}"
        self._classify, self._wiring = kind == "classification", wiring
        self._models: defaultdict[str, _Model] = defaultdict(model.clone)
        self._asked: dict[str, _Asked] = {}
        self._labelled: defaultdict[str, int] = defaultdict(int)

    def take(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Event after event, as River's own evaluation does it."""
        return [self._label(event) if isinstance(event, Label) else self._event(event) for event in events]

    def memory_bytes(self) -> int | None:
        """As River counts it."""
        return sum(int(model._raw_memory_usage) for model in self._models.values())

    def _event(self, event: Event) -> Outcome:
        model, x = self._models[self._key(event)], self._features(event)
        probabilities = _probabilities(model, x) if self._classify else None
        prediction = model.predict_one(x)
        asked = _Asked(event, prediction if prediction is None or self._classify else float(prediction), probabilities)
        if event.y is not None:
            return self._learn(asked, event, event.y)
        if event.id is not None:
            self._asked[event.id] = asked
        return self._outcome(asked, event)

    def _label(self, label: Label) -> Outcome:
        asked = self._asked.pop(label.id, None)
        if asked is None:  # the engine knew it, so an event of that id came before this baseline began
            return Outcome(label)
        return self._learn(asked, label, label.y)

    def _learn(self, asked: _Asked, source: Event | Label, y: LabelValue) -> Outcome:
        outcome = self._outcome(asked, source)
        self._models[self._key(asked.event)].learn_one(self._features(asked.event), y if self._classify else float(y))
        self._labelled[asked.event.task] += 1
        return outcome

    def _outcome(self, asked: _Asked, source: Event | Label) -> Outcome:
        error = loss = None
        if source.y is not None and self._classify:
            error = float(asked.prediction != source.y)
            if asked.probabilities:
                loss = -math.log(max(asked.probabilities.get(source.y, 0.0), _LEAST_PROBABILITY))
        elif source.y is not None and asked.prediction is not None:
            error = abs(float(asked.prediction) - float(source.y))
        return Outcome(
            source,
            asked.prediction,
            asked.probabilities,
            loss=loss,
            error=error,
            age=self._labelled[asked.event.task],
        )

    def _key(self, event: Event) -> str:
        return event.task if self._wiring == "per-task" else ""

    def _features(self, event: Event) -> dict[str, Any]:
        named = event.x.items() if isinstance(event.x, Mapping) else ((str(i), v) for i, v in enumerate(event.x))
        x = {name: value for name, value in named if value is not None}
        return x | {"task": event.task} if self._wiring == "tag" and event.task else x


def _probabilities(model: _Model, x: Mapping[str, Any]) -> dict[LabelValue, float] | None:
    try:
        said: dict[LabelValue, float] = model.predict_proba_one(x)
    except NotImplementedError:
        return None
    return said


def river_model(expression: str, seed: int = 0) -> _Model:
    """A River model from an expression, read and not evaluated: only River's own classes, with plain values.

    >>> river_model("forest.ARFClassifier(n_models=3)", seed=7).seed
    7
    >>> print(river_model("preprocessing.StandardScaler | linear_model.LinearRegression"))
    StandardScaler | LinearRegression

    Args:
        expression: a class of River's by module and name, called or not; `|` makes pipelines, `+` unions.
        seed: for a model that takes a seed and was given none.

    Raises:
        ConfigError: it names nothing of River's, or does not fit together.
    """
    try:
        made = _made(ast.parse(expression.strip(), mode="eval").body, seed)
    except (SyntaxError, TypeError, ValueError, AttributeError) as err:
        raise ConfigError(f"river:{expression}: {err}; {_WANTED}") from err
    if not isinstance(made, base.Estimator):
        raise ConfigError(f"river:{expression}: is no model; {_WANTED}")
    return made


_WANTED = (
    "wanted a model of River's, such as river:forest.ARFClassifier or river:neighbors.KNNClassifier(n_neighbors=3)"
)
_JOINS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {ast.BitOr: operator.or_, ast.Add: operator.add}


def _made(node: ast.expr, seed: int) -> Any:  # noqa: ANN401 whatever the expression names
    """The value of one part of an expression."""
    if isinstance(node, ast.BinOp) and type(node.op) in _JOINS:
        return _JOINS[type(node.op)](_made(node.left, seed), _made(node.right, seed))
    if isinstance(node, ast.Call):
        given = {keyword.arg: _made(keyword.value, seed) for keyword in node.keywords if keyword.arg is not None}
        return _called(_named(node.func), [_made(argument, seed) for argument in node.args], given, seed)
    if isinstance(node, ast.Attribute):
        return _called(_named(node), [], {}, seed)
    if isinstance(node, ast.Name) and node.id in ("str", "int", "float", "bool"):  # as compose.SelectType takes them
        return {"str": str, "int": int, "float": float, "bool": bool}[node.id]
    return ast.literal_eval(node)


def _named(node: ast.expr) -> Any:  # noqa: ANN401 River has no types
    """A class of River's from `module.Name` or `package.module.Name`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or not parts or any(part.startswith("_") for part in [node.id, *parts]):
        raise ValueError("not the name of a class in one of River's modules")
    try:
        module = importlib.import_module(".".join(["river", node.id, *parts[:-1]]))
    except ImportError as err:
        raise ValueError(f"River has no {'.'.join([node.id, *parts[:-1]])}") from err
    found = getattr(module, parts[-1], None)
    if not isclass(found) or not issubclass(found, base.Base):
        raise ValueError(f"River has no class {'.'.join([node.id, *parts])}")
    return found


def _called(kind: type[Any], values: Sequence[Any], given: Mapping[str, Any], seed: int) -> Any:  # noqa: ANN401
    seeded = "seed" in signature(kind).parameters and "seed" not in given
    return kind(*values, **given, **({"seed": seed} if seeded else {}))

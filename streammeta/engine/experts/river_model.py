"""Any River classifier or regressor as an expert: one model for all tasks, with the task's tag as a feature.

The model sees features by name as plain numbers; a category is one feature for each value, 1 where it holds. Numbers
are standardized, and so are targets, except for classifiers that split on values as they come. The tag is a category
where the model knows those, a number for trees of regression, and otherwise a feature of its own for each task; while
there is one task only, there is none. Binary models are put one against the rest.

River's models cannot be written down without pickle, which we never use: this expert starts again after a restore.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import numpy as np
import structlog
from river import multiclass, preprocessing

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import Case, Columns, Doubles, Slots
from streammeta.meta.base import Kind

__all__ = ["RiverModel"]

_log = structlog.get_logger(__name__)
_MOST_TAGS = 1_000  # tasks that come later share one tag
_TAG = "(task)"


class RiverModel:
    """A River model in the mixture.

    Args:
        name: as in the settings.
        model: a fresh classifier or regressor of River's, of the stream's kind.
        kind: of the stream.
        slots: the features known by now.
    """

    doubt = 0.15
    is_saved = False

    def __init__(self, name: str, model: Any, kind: Kind, slots: Callable[[], Slots]) -> None:  # noqa: ANN401
        self.name = name
        self._classify = kind == "classification"
        self._splits = "nominal_attributes" in signature(type(model)).parameters
        if not self._classify:
            model = preprocessing.TargetStandardScaler(model)
        elif not model._multiclass:
            model = multiclass.OneVsRestClassifier(model)
        self._model = model
        self._scaler = None if self._classify and self._splits else preprocessing.StandardScaler()
        self._slots = slots
        self._names: list[tuple[str, bool]] = []  # of each slot, and whether it is a number
        self._tags: dict[str, float] = {}
        self._failed = False

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task that is not there anyway."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:  # noqa: ARG002  it keeps no columns
        """Class probabilities [C] or the mean [1]; None before the first label, and once the model has failed."""
        said = self._try(lambda: self._ask(self._features(case), outputs))
        return said if said is not None and np.isfinite(said).all() else None

    def learn(self, columns: Columns, case: Case, y: float) -> None:  # noqa: ARG002  it keeps no columns
        """Learn a class index or a target."""
        self._try(lambda: self._teach(case, y))

    def attempt(self, case: Case, outputs: int, y: float) -> None:
        """Predict and learn an event, and let every failure through: a trial before the stream begins."""
        self._ask(self._features(case), outputs)
        self._teach(case, y)

    def _ask(self, x: dict[str, Any], outputs: int) -> Doubles | None:
        if not self._classify:
            return np.array([self._model.predict_one(x)], np.float64) if self._tags else None
        try:
            found = self._model.predict_proba_one(x)
        except NotImplementedError:  # it names a class and no more
            one = self._model.predict_one(x)
            found = {} if one is None else {one: 1.0}
        said = np.zeros(outputs)
        for label, probability in found.items():
            if 0 <= label < outputs:
                said[label] = max(probability, 0.0)
        return said

    def _teach(self, case: Case, y: float) -> None:
        if len(self._tags) < _MOST_TAGS:
            self._tags.setdefault(case.task, float(len(self._tags)))
        if self._scaler is not None:
            self._scaler.learn_one({name: value for name, value, is_number in self._filled(case) if is_number})
        self._model.learn_one(self._features(case), int(y) if self._classify else y)

    def _features(self, case: Case) -> dict[str, Any]:
        filled = self._filled(case)
        x: dict[str, Any] = {name: value for name, value, is_number in filled if is_number}
        if self._scaler is not None:
            x = self._scaler.transform_one(x)
        x |= {name: value for name, value, is_number in filled if not is_number}
        if len(self._tags) > 1 and case.task in self._tags:
            if not self._splits:
                x[f"{_TAG}={case.task}"] = 1.0
            else:
                x[_TAG] = case.task if self._classify else self._tags[case.task]
        return x

    def _filled(self, case: Case) -> list[tuple[str, float, bool]]:
        """The features that the event has: name, value, and whether it is a number."""
        names = self._names
        if len(names) < case.x.size:
            slots = self._slots() if case.slots is None else case.slots
            names = [(n, True) if v is None else (f"{n}={v}", False) for n, v, _ in slots]
            if case.slots is None:
                self._names = names
        pairs = zip(names, case.x.tolist(), strict=False)
        return [(name, value, is_number) for (name, is_number), value in pairs if value == value]  # noqa: PLR0124  NaN

    def _try(self, work: Callable[[], Doubles | None]) -> Doubles | None:
        """A model of others may fail on what it never met; then it is left out from there on, and the rest goes on."""
        if self._failed:
            return None
        try:
            return work()
        except Exception as err:
            self._failed = True
            _log.error("an expert failed and takes no part any more", expert=self.name, error=type(err).__name__)
            _log.debug("how it failed", exc_info=True)
            return None

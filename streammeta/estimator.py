"""River estimators: the engine under `learn_one` and `predict_one`.

They predict exactly what the service predicts for the same events: both are one `Engine`. `predict_one` changes
nothing; `learn_one` is one engine step with the label there, drift detection and meta-updates included.
"""

import math
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

from pydantic import ValidationError
from river import base
from river.conf import Interval
from river.utils import dataframe

from streammeta.engine import Engine, EngineSettings, Kind, Outcome, Signal
from streammeta.engine.drift import DetectorName, DriftResponseName, settings_like
from streammeta.errors import ConfigError, EventError
from streammeta.event import Event, Feature, LabelValue, Origin
from streammeta.formats.value import flatten, is_missing, tag, target
from streammeta.meta.base import Method

__all__ = ["MetaClassifier", "MetaRegressor"]

_PLAIN = frozenset((bool, int, str))
_Row = Mapping[Hashable, Any]  # features as River has them


class _Turns:
    """A lock that can be copied and pickled: the copy is a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Turns, ()


class _PortableEngine(Engine):
    """An engine that can be copied and pickled, as River does with its models: by way of its snapshot."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).restore, (self.settings, self.snapshot(), self._given)


class _MetaLearner(base.Base):  # type: ignore[misc]  # mypy does not look into River
    """What both estimators share; see them for the arguments."""

    _kind: ClassVar[Kind]
    interval: float | None = None

    def __init__(
        self,
        task: Hashable | None = None,
        *,
        method: str | Method | None = None,
        detector: DetectorName | base.DriftDetector | base.BinaryDriftDetector | None = None,
        response: DriftResponseName | None = None,
        settings: EngineSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.task, self.method, self.detector, self.response = task, method, detector, response
        self.settings, self.seed = settings, seed
        self._chosen = self._choose()
        self._turns = _Turns()  # calls from several threads happen one after the other
        self._engine: _PortableEngine | None = None  # made when it is first needed: clones are cheap
        self._learned = 0
        self._signal = Signal.STEADY
        self._y_name: str | None = None  # of the last labels of `learn_many`

    @property
    def engine(self) -> Engine:
        """The engine that it uses: `stats()`, `tasks()`, `snapshot()`."""
        if self._engine is None:
            self._engine = _PortableEngine(self._chosen, None if isinstance(self.method, str) else self.method)
        return self._engine

    @property
    def drift_detected(self) -> bool:
        """Whether a drift of its task was detected with the event learned last."""
        return self._signal is Signal.DRIFT

    def _choose(self) -> EngineSettings:
        """The engine's settings; what is given by name wins over ``settings``."""
        tree = dict(_tree(self.settings))
        if tree.get("decide") is not None:
            raise ConfigError(
                f"{type(self).__name__}: settings.decide is of decisions, which are not made here; leave it out, or "
                "use streammeta.decisions.MetaDecider"
            )
        if not isinstance(self.method, str | Method | None):
            raise ConfigError(
                f"{type(self).__name__}: method: got a {type(self.method).__name__}; wanted a name as in [learner] "
                "method, or a streammeta.meta.Method"
            )
        tree |= {"kind": self._kind, "seed": self.seed}
        if self.interval is not None:
            tree["interval"] = self.interval
        if isinstance(self.method, str):
            tree["learner"] = {**tree.get("learner", {}), "method": self.method}
        changes = {} if self.detector is None else settings_like(self.detector)
        if self.response is not None:
            changes["response"] = self.response
        tree["drift"] = {**tree.get("drift", {}), **changes}
        try:
            chosen = EngineSettings.model_validate(tree)
        except ValidationError as err:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in err.errors())
            raise ConfigError(f"{type(self).__name__}: {wrong}") from err
        if chosen.meta.mode == "background":
            raise ConfigError(
                f"{type(self).__name__}: settings.meta.mode is 'background', but an estimator has no thread beside it; "
                "wanted 'sync' or 'off'"
            )
        return chosen

    def _prepare(self, rows: Sequence[_Row], ys: Sequence[LabelValue | None], *, is_new: bool = False) -> list[Event]:
        """The rows as events, all of them checked before any is learned.

        Raises:
            EventError: a value, a label or a row cannot be used; nothing was learned.
        """
        events = [self._event(x, at, y) for at, (x, y) in enumerate(zip(rows, ys, strict=True), self._learned)]
        if is_new or len(events) > 1:  # of a single event, `step` changes nothing when it refuses
            self.engine.check(events)
        return events

    def _learn(self, events: Sequence[Event]) -> None:
        outcomes = self.engine.step(events)
        self._learned += len(events)
        for outcome in outcomes:
            self._signal = _accepted(outcome).signal

    def _predict_rows(self, rows: Sequence[_Row]) -> list[Outcome]:
        with self._turns:
            events = [self._event(x, self._learned) for x in rows]
            return [_accepted(outcome) for outcome in self.engine.predict(events)]

    def _event(self, x: _Row, at: int, y: LabelValue | None = None) -> Event:
        origin = Origin(type(self).__name__, 0, at)
        features: dict[str, Feature] = {}
        count = 0
        for name, value in x.items():
            if type(value) in _PLAIN or (type(value) is float and math.isfinite(value)):
                features[str(name)], count = value, count + 1
            elif name != self.task:
                flat = list(flatten(value, str(name), origin))
                features.update(flat)
                count += len(flat)
        if len(features) < count:
            raise EventError(f"{origin}: two features have one name in {list(x)!r:.200}; wanted each once, as text")
        if self.task is None:
            return Event(features, "", origin, y=y)
        features.pop(str(self.task), None)
        return Event(features, tag(x.get(self.task), origin), origin, y=y)


class MetaClassifier(_MetaLearner, base.MiniBatchClassifier):  # type: ignore[misc]  # mypy does not look into River
    """A meta-learning classifier: it learns across tasks how to learn each of them from a handful of events.

    The stream may mix many tasks, distinguished by a feature (`task="store"`); every task has a small state of its own
    that adapts with each event, on an encoder that all tasks share and that is meta-learned while the stream runs.
    Without a tag the whole stream is one task, and only the drift detector notices a new concept. Features need no
    scaling, and features and classes may come late. Text is a category, times are seconds since 1970, durations
    seconds, nested dicts become dotted names. None, NaN, pandas' NA and NaT, NumPy's NaN and NaT are missing: such a
    feature is absent, and an event with such a label is seen but teaches nothing. `learn_many` learns all rows, or
    raises EventError and learns none. Several threads may use one model: their calls happen one after the other, in no
    particular order; copy or pickle it while no other thread uses it.

    Args:
        task: the feature that names an event's task; it is not used as a feature.
        method: the meta-learner, by its name as in `[learner] method`, or as an object (`streammeta.meta.Method`, of
            which a pickle can be made only where its functions can be pickled); None: exact heads on a meta-learned
            encoder.
        detector: watches the loss of every task: a name, or one of River's detectors (its parameters are taken over,
            each task has one of its own); None: ADWIN with parameters made for fast learners.
        response: on drift, "mix" lets the mixture decide between old and new, "reset" starts the task from θ, "recall"
            recognizes concepts that return.
        settings: everything else, as `EngineSettings` or as a mapping: `{"meta": {"every_events": 64}}`.
        seed: fixes every random choice.

    Raises:
        ConfigError: a setting is out of its range.

    Examples:
        >>> from river import datasets, evaluate, metrics
        >>> from streammeta.estimator import MetaClassifier

        >>> score = evaluate.progressive_val_score(datasets.Phishing(), MetaClassifier(), metrics.Accuracy())
        >>> score.get() > 0.88
        True

        Two stores with opposite concepts, distinguished by their tag:

        >>> model = MetaClassifier(task="store")
        >>> for i in range(100):
        ...     store, price = ("north", "south")[i % 2], i // 2 % 2
        ...     model.learn_one({"store": store, "price": price}, "yes" if (store == "north") == price else "no")
        >>> model.predict_one({"store": "north", "price": 1}), model.predict_one({"store": "south", "price": 1})
        ('yes', 'no')
    """

    _kind = "classification"

    def __init__(
        self,
        task: Hashable | None = None,
        *,
        method: str | Method | None = None,
        detector: DetectorName | base.DriftDetector | base.BinaryDriftDetector | None = None,
        response: DriftResponseName | None = None,
        settings: EngineSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(task, method=method, detector=detector, response=response, settings=settings, seed=seed)
        self._numbers: dict[Hashable, int] = {}  # the engine's number of each label, in the order they came

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: _Row, y: Hashable) -> None:
        """Predict the event, compare with its label `y`, and learn it; a missing label teaches nothing."""
        self._learn_labels([x], [y])

    def predict_one(self, x: _Row, **_: Any) -> Hashable | None:  # noqa: ANN401 as River has it
        """The likeliest label; None before the first one was learned."""
        with self._turns:
            (outcome,) = self._predict_rows([x])
            return self._label(outcome)

    def predict_proba_one(self, x: _Row, **_: Any) -> dict[Hashable, float]:  # noqa: ANN401 as River has it
        """The probability of every label learned so far."""
        with self._turns:
            (outcome,) = self._predict_rows([x])
            return self._probabilities(outcome)

    def learn_many(self, X: Any, y: Any) -> None:  # noqa: ANN401 any frame that narwhals knows
        """Learn the rows of a frame, one after the other, as `learn_one` would.

        Raises:
            EventError: a row cannot be used; then none was learned.
        """
        labels = dataframe.into_series(y)
        self._learn_labels(list(_rows(X)), labels.to_list())
        self._y_name = labels.name

    def predict_many(self, X: Any) -> Any:  # noqa: ANN401
        """The likeliest label of every row, as a series of the frame's own kind."""
        with self._turns:
            said = [self._label(outcome) for outcome in self._predict_rows(list(_rows(X)))]
        return dataframe.to_native_series(said, name=self._y_name, like=dataframe.into_frame(X))

    def predict_proba_many(self, X: Any) -> Any:  # noqa: ANN401
        """The probability of every label (a column each) for every row."""
        with self._turns:
            rows = [self._probabilities(outcome) for outcome in self._predict_rows(list(_rows(X)))]
        columns = {label: [row[label] for row in rows] for label in (rows[0] if rows else self._numbers)}
        return dataframe.to_native_frame(columns, like=dataframe.into_frame(X))

    def _learn_labels(self, rows: Sequence[_Row], labels: Sequence[Hashable]) -> None:
        with self._turns:
            known = len(self._numbers)
            try:
                numbers = [self._number(y, self._learned + i) for i, y in enumerate(labels)]
                events = self._prepare(rows, numbers, is_new=len(self._numbers) > known)
            except Exception:
                for y in list(self._numbers)[known:]:  # nothing was learned, not even that there is such a label
                    del self._numbers[y]
                raise
            self._learn(events)

    def _number(self, y: Hashable, at: int) -> int | None:
        """The engine's number of a label, which may be anything that can be a key; None where it is missing."""
        if is_missing(y):
            return None
        label = y.item() if hasattr(y, "item") else y
        try:
            return self._numbers.setdefault(label, len(self._numbers))
        except TypeError as err:
            raise EventError(
                f"{type(self).__name__}/0/{at}: the label is a {type(y).__name__}, wanted something that can be a key: "
                "text, a number, a flag or a tuple of these"
            ) from err

    def _label(self, outcome: Outcome) -> Hashable | None:
        return None if outcome.prediction is None else list(self._numbers)[int(outcome.prediction)]

    def _probabilities(self, outcome: Outcome) -> dict[Hashable, float]:
        """By label, and adding up to 1 in double precision, as River wants it."""
        said = outcome.probabilities or {}
        total, labels = math.fsum(said.values()), list(self._numbers)
        return {labels[int(number)]: p / total for number, p in said.items()}


class MetaRegressor(_MetaLearner, base.MiniBatchRegressor):  # type: ignore[misc]  # mypy does not look into River
    """A meta-learning regressor: `MetaClassifier` for numbers, with the variance of each prediction.

    Neither features nor target need scaling. The arguments are those of `MetaClassifier`.

    Args:
        task: the feature that names an event's task; it is not used as a feature.
        method: the meta-learner, by name or as an object; None: exact heads on a meta-learned encoder.
        detector: watches the loss of every task: a name, or one of River's detectors; None: ADWIN.
        response: on drift, "mix", "reset" or "recall".
        settings: everything else, as `EngineSettings` or as a mapping.
        seed: fixes every random choice.
        interval: the share of targets that `predict_one(x, with_interval=True)` is to hold, 0.5 to 0.99; None: there
            are no intervals.

    Raises:
        ConfigError: a setting is out of its range.

    Examples:
        >>> from river import datasets, evaluate, metrics
        >>> from streammeta.estimator import MetaRegressor

        >>> score = evaluate.progressive_val_score(datasets.TrumpApproval(), MetaRegressor(), metrics.MAE())
        >>> score.get() < 0.5  # per cent of approval
        True
    """

    _kind = "regression"

    def __init__(
        self,
        task: Hashable | None = None,
        *,
        method: str | Method | None = None,
        detector: DetectorName | base.DriftDetector | base.BinaryDriftDetector | None = None,
        response: DriftResponseName | None = None,
        settings: EngineSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
        interval: float | None = None,
    ) -> None:
        self.interval = interval
        super().__init__(task, method=method, detector=detector, response=response, settings=settings, seed=seed)

    def learn_one(self, x: _Row, y: Real) -> None:
        """Predict the event, compare with its target `y`, and learn it; a missing target teaches nothing."""
        self._learn_targets([x], [y])

    def predict_one(self, x: _Row, *, with_interval: bool = False, **_: Any) -> float | Interval:  # noqa: ANN401 as River has it
        """The mean of the prediction, 0 before the first target was learned; or its central interval.

        Args:
            x: the features.
            with_interval: return the interval, as River's `conf.RegressionJackknife` does; wants `interval=0.9`.

        Raises:
            ConfigError: there are no intervals.
        """
        if not with_interval:
            return self.predict_with_variance_one(x)[0]
        (outcome,) = self._predict_rows([x])
        if outcome.interval is None:
            raise ConfigError("MetaRegressor: with_interval=True, but there are no intervals; wanted interval=0.9")
        return Interval(*outcome.interval)

    def predict_with_variance_one(self, x: _Row) -> tuple[float, float]:
        """Mean and variance of the prediction."""
        return self.predict_with_variance_rows([x])[0]

    def predict_with_variance_rows(self, rows: Sequence[_Row]) -> list[tuple[float, float]]:
        """Mean and variance of the prediction of each row, all at once."""
        found = self._predict_rows(rows)
        return [(float(outcome.prediction or 0.0), float(outcome.variance or 0.0)) for outcome in found]

    def learn_many(self, X: Any, y: Any) -> None:  # noqa: ANN401 any frame that narwhals knows
        """Learn the rows of a frame, one after the other, as `learn_one` would.

        Raises:
            EventError: a row cannot be used; then none was learned.
        """
        targets = dataframe.into_series(y)
        self._learn_targets(list(_rows(X)), targets.to_list())
        self._y_name = targets.name

    def predict_many(self, X: Any) -> Any:  # noqa: ANN401
        """The predicted mean of every row, as a series of the frame's own kind."""
        said = [float(outcome.prediction or 0.0) for outcome in self._predict_rows(list(_rows(X)))]
        return dataframe.to_native_series(said, name=self._y_name, like=dataframe.into_frame(X))

    def _learn_targets(self, rows: Sequence[_Row], targets: Sequence[object]) -> None:
        with self._turns:
            origins = (Origin(type(self).__name__, 0, self._learned + i) for i in range(len(targets)))
            numbers = [_target(y, at) for y, at in zip(targets, origins, strict=True)]
            self._learn(self._prepare(rows, numbers))


def _target(y: object, at: Origin) -> float | None:
    if isinstance(y, str):
        raise EventError(f"{at}: the target is {y[:100]!r}, wanted a number; for classes use MetaClassifier")
    return target(y, "the target", at)


def _tree(settings: EngineSettings | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Settings as a mapping of what was chosen; the rest keeps its defaults."""
    if isinstance(settings, EngineSettings):
        return settings.model_dump(exclude_unset=True)
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"settings: got {settings!r:.100}; wanted EngineSettings, or a mapping of sections")
    return settings or {}


def _rows(X: Any) -> Iterator[_Row]:  # noqa: ANN401 any frame that narwhals knows
    frame = dataframe.into_frame(X)
    for values in frame.iter_rows():
        yield dict(zip(frame.columns, values, strict=True))


def _accepted(outcome: Outcome) -> Outcome:
    if outcome.rejected is not None:
        raise EventError(outcome.rejected)
    return outcome

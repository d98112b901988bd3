"""What the mixture relies on in an expert, checked with columns as the engine has them. Raises AssertionError."""

from collections.abc import Callable

import numpy as np

from streammeta.engine.columns import Columns
from streammeta.engine.experts.base import Case, Expert
from streammeta.engine.partitioned import OfPartitions, Partitions, Renumbering
from streammeta.meta.base import Kind

__all__ = ["check_expert"]

_EVENTS, _TASKS, _WIDTH, _CLASSES = 120, 3, 4, 3


def check_expert(make: Callable[[], Expert], kind: Kind = "classification") -> None:
    """Hold the experts that ``make`` makes to the protocol of ``streammeta.engine.experts.base``.

    Args:
        make: a fresh expert at each call, of one name and with the same settings.
        kind: of the stream.

    Raises:
        AssertionError: it breaks a part of the contract, which the message names.
    """
    outputs = _CLASSES if kind == "classification" else 1
    one, twin = _Run(make(), outputs), _Run(make(), outputs)
    said = [one.go(case, y) for case, y in _events(kind)]
    again = [twin.go(case, y) for case, y in _events(kind)]
    _hold(_same(said, again), "the same events give other predictions; wanted no chance that is not seeded")
    for opinion in said:
        if opinion is None:
            continue
        _hold(opinion.shape == (outputs,), f"it says an array of shape {opinion.shape}, wanted ({outputs},)")
        _hold(bool(np.isfinite(opinion).all()), "it says numbers that are not finite")
        if kind == "classification":
            _hold(bool((opinion >= 0).all() and opinion.sum() <= 1 + 1e-6), "its probabilities are no probabilities")
    _hold(any(opinion is not None for opinion in said), f"it has no opinion in {_EVENTS} events of {_TASKS} tasks")
    _check_predict_changes_nothing(one)
    if one.expert.is_saved:
        _check_saved(make(), one)


class _Run:
    """An expert with the columns that it asked for."""

    def __init__(self, expert: Expert, outputs: int) -> None:
        self.expert, self.outputs = expert, outputs
        self.columns = Columns.blank(expert.layout(_WIDTH, outputs), _TASKS)

    def say(self, case: Case) -> np.ndarray | None:
        said = self.expert.predict(self.columns, case, self.outputs)
        return None if said is None else np.array(said)

    def go(self, case: Case, y: float) -> np.ndarray | None:
        """As the engine does: predict, then learn."""
        said = self.say(case)
        self.expert.learn(self.columns, case, y)
        return said


def _check_predict_changes_nothing(run: _Run) -> None:
    probe, _ = _events("classification")[0]
    before = {name: column.copy() for name, column in run.columns.items()}, _known(run.expert).dump()
    first, second = run.say(probe), run.say(probe)
    same = all(np.array_equal(column, run.columns[name], equal_nan=True) for name, column in before[0].items())
    after = _known(run.expert).dump()
    same &= all(np.array_equal(array, after[name], equal_nan=True) for name, array in before[1].items())
    _hold(same and _same([first], [second]), "predicting changes what it knows; wanted that only `learn` does")


def _check_saved(fresh: Expert, run: _Run) -> None:
    numbers = Renumbering(np.arange(_WIDTH), np.arange(run.outputs), same=True)
    _known(fresh).load(_known(run.expert).dump(), numbers, "check_expert")
    restored = _Run(fresh, run.outputs)
    restored.columns = Columns({name: column.copy() for name, column in run.columns.items()})
    kind: Kind = "regression" if run.outputs == 1 else "classification"
    going_on = [(run.go(case, y), restored.go(case, y)) for case, y in _events(kind, seed=2)]
    said, again = [one for one, _ in going_on], [other for _, other in going_on]
    _hold(_same(said, again), "with what it kept, it goes on otherwise; wanted the same to the bit")


def _known(expert: Expert) -> Partitions:
    """What an expert knows beyond the columns of tasks."""
    return Partitions([expert] if isinstance(expert, OfPartitions) else [])


def _events(kind: Kind, seed: int = 1) -> list[tuple[Case, float]]:
    """Cases of some tasks, and their labels; a feature is missing now and then, and targets rise as time passes."""
    random = np.random.default_rng(seed)
    events = []
    for i in range(_EVENTS):
        row = int(random.integers(_TASKS))
        x = random.normal(size=_WIDTH).astype(np.float32)
        y = float(int(abs(x[row]) * 2) % _CLASSES) if kind == "classification" else float(x[row]) + 0.2 * i
        x[int(random.integers(_WIDTH))] = np.nan if random.random() < 0.1 else 0.5
        events.append((Case(row, f"task-{row}", x), y))
    return events


def _same(one: list[np.ndarray | None], other: list[np.ndarray | None]) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(one, other, strict=True)
    )


def _hold(claim: bool, otherwise: str) -> None:
    if not claim:
        raise AssertionError(f"expert: {otherwise}")

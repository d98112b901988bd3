"""What actions earn in all tasks: a linear model an action, of all a partition's rewards; compiled.

::

    r ≈ w_a·z                    z = (1, x in spreads of all decisions so far, cut off at five; 0 where missing)
    P_a ← P_a − P_a z z^T P_a / (1 + z^T P_a z) + 10⁻⁶ I         w_a ← w_a + P_a z (r − w_a·z) / (1 + z^T P_a z)

P_a begins with I / 10, and none of its variances exceeds that. So this is ridge regression whose coefficients drift a
little: the Kalman filter of a random walk, which remembers about a thousand rewards of an action. Rewards count from
the first one on; of an error no more than eight deviations are learned. s² is the mean of the squared errors of what
was said before each reward, forgotten by 0.99. In the noise's variance a mean has the variance s² z^T P_a z.

A task of few rewards, or whose rewards are late, has nothing else to go by but what its heads expect of any task.

**Decisions see a version that is published** after a number of rewards, 1 at first, then a fiftieth of all that there
were, 64 at most: so that many decisions can be made at once. What came since waits. Both depend on nothing but the
order of the partition's rewards.

Sources: Li, Chu, Langford & Schapire (2010), LinUCB, arXiv:1003.0146 (a ridge regression an action, here without its
bound); Kalman (1960), A new approach to linear filtering and prediction problems; Plackett (1950), Some theorems in
least squares (the step). The 10 was chosen among 0.1, 1 and 10, the pace of publishing was not searched.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.errors import SnapshotError
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels

__all__ = ["CommonRewards", "Expected"]

Doubles: TypeAlias = npt.NDArray[np.float64]

_PRIOR = 0.1  # as common.cpp
_FEWEST = 10  # rewards before anything is expected
_MOST_NUMBERS = 2**17  # of all actions' P: features that come later have no part
_PACE, _MOST_PENDING = 50, 64
_BEGIN = "rewards."
_ACTIONS, _SLOTS, _MOMENTS, _SCALE, _MODEL, _KNOWN, _PENDING = (
    _BEGIN + name for name in ("actions", "slots", "moments", "scale", "model", "known", "pending")
)


class Expected(NamedTuple):
    """What N events' K actions are expected to earn in any task, in the rewards' unit."""

    means: Doubles  # [N, K]
    doubts: Doubles  # [N, K] variances of those means
    noise: float  # mean of the squared errors so far

    def of(self, places: Ints) -> "Expected":
        """What these of the K actions are expected to earn [N, L]; of −1 nothing is known."""
        known = places >= 0
        means, doubts = (np.take_along_axis(one, np.where(known, places, 0), 1) for one in self[:2])
        return Expected(np.where(known, means, 0.0), np.where(known, doubts, np.inf), self.noise)


class _Model(NamedTuple):
    """A partition's; its arrays change in place, but for those that grow."""

    slots: Ints  # [F] of the features, as they came
    moments: Doubles  # [3, F] their counts, means, and sums of squares about them
    scale: Doubles  # [2, F] means and 1 / spreads, published; 0: unknown
    actions: Doubles  # [K, F + 1, F + 2] P, then the weights
    known: Doubles  # [4] sum of squared errors, their number, the first reward, rewards learned
    pending: Doubles  # [M, 2 + F] not published: action, reward, features

    @property
    def until_published(self) -> int:
        """Rewards until the next version."""
        return min(max(int(self.known[3]) // _PACE, 1), _MOST_PENDING) - len(self.pending)

    def wide(self, slots: Ints) -> "_Model":
        """It with these features, too."""
        F, more = self.slots.size, slots.size
        actions = np.zeros((len(self.actions), F + more + 1, F + more + 2))
        actions[:, : F + 1, : F + 1], actions[:, : F + 1, -1] = self.actions[:, :, :-1], self.actions[:, :, -1]
        new = np.arange(F + 1, F + more + 1)
        actions[:, new, new] = _PRIOR
        moments, scale = (np.pad(one, ((0, 0), (0, more))) for one in (self.moments, self.scale))
        pending = np.pad(self.pending, ((0, 0), (0, more)), constant_values=np.nan)
        return _Model(np.append(self.slots, slots), moments, scale, actions, self.known, pending)


def _begun(actions: int) -> _Model:
    blank = np.zeros((actions, 1, 2))
    blank[:, 0, 0] = _PRIOR
    return _Model(np.zeros(0, np.int64), np.zeros((3, 0)), np.zeros((2, 0)), blank, np.zeros(4), np.zeros((0, 2)))


class CommonRewards:
    """The models of partitions.

    Args:
        actions: of the configuration, K names.
        is_own: whether a slot's feature is an event's own, and not made for an action.
    """

    def __init__(self, actions: Sequence[str], is_own: Callable[[int], bool]) -> None:
        self._names = np.array([_number(name) for name in actions], np.int64)
        self._places = {name: k for k, name in enumerate(actions)}
        self._is_own, self._of = is_own, dict[int, _Model]()

    def until_published(self, partition: int) -> int:
        """Rewards of this partition, at least 1, after which decisions see another version."""
        found = self._of.get(partition)
        return 1 if found is None else found.until_published

    def places(self, actions: Iterable[str | None]) -> Ints:
        """The numbers of actions by name; −1: it is none of the configuration."""
        return np.array([self._places.get(name or "", -1) for name in actions], np.int64)

    def expect(self, partition: int, exact: Doubles) -> Expected | None:
        """What actions earn with raw features [N, D], NaN where missing; None: too few rewards, or all the same."""
        found = self._of.get(partition)
        if found is None or found.known[3] < _FEWEST or not found.known[0] > 0:
            return None
        means, doubts = np.empty((2, len(exact), self._names.size))
        exact = np.ascontiguousarray(exact)
        kernels.common_score(exact, found.slots, found.scale, found.actions, means, doubts)
        noise = float(found.known[0] / found.known[1])
        return Expected(found.known[2] + means, noise * doubts, noise)

    def expect_each(self, partition: int, exact: Doubles, actions: Sequence[Sequence[str | None]]) -> Expected | None:
        """Likewise, of the actions [N, L] that each event has, by name."""
        found = self.expect(partition, exact)
        return None if found is None else found.of(np.stack([self.places(one) for one in actions]))

    def observe(self, partition: int, exact: Doubles) -> None:
        """Take in the features of decisions, raw [N, D], NaN where missing, that come before what is learned next."""
        if partition >= 0 and len(exact):  # below: another member's
            model = self._with_features(self._of.get(partition) or _begun(self._names.size), exact)
            kernels.common_observe(np.ascontiguousarray(exact), model.slots, model.moments)
            self._of[partition] = model

    def learn(self, partition: int, exact: Doubles, actions: Sequence[str | None], rewards: Doubles) -> None:
        """Learn what actions earned, in the order of the log.

        Args:
            partition: theirs.
            exact: raw features [N, D]; NaN is missing.
            actions: names [N]; one that is not configured teaches nothing.
            rewards: [N]
        """
        places = self.places(actions)
        which = np.flatnonzero((places >= 0) & np.isfinite(rewards))
        if not which.size or partition < 0:
            return
        model = self._of.get(partition) or _begun(self._names.size)
        if not model.known[3] and not len(model.pending):
            model.known[2] = rewards[which[0]]
        model = self._with_features(model, exact[which])
        there = np.full((which.size, model.slots.size), np.nan)
        inside = np.flatnonzero(model.slots < exact.shape[1])
        there[:, inside] = exact[which[:, None], model.slots[inside]]
        new = np.column_stack([places[which], rewards[which] - model.known[2], there])
        begin = 0
        while begin < len(new):
            end = begin + model.until_published
            model = model._replace(pending=np.concatenate([model.pending, new[begin:end]]))
            model = _published(model) if model.until_published <= 0 else model
            begin = end
        self._of[partition] = model

    def _with_features(self, model: _Model, exact: Doubles) -> _Model:
        """The model with the features that these events [N, D] bring, in the order in which they do."""
        there = ~np.isnan(exact)
        there[:, model.slots[model.slots < exact.shape[1]]] = False
        found = [slot for slot in np.flatnonzero(there.any(0)).tolist() if self._is_own(slot)]
        if not found:
            return model
        new = np.array(sorted(found, key=lambda slot: (int(there[:, slot].argmax()), slot)), np.int64)
        most = int((_MOST_NUMBERS / self._names.size) ** 0.5) - 1
        return model.wide(new[: max(most - model.slots.size, 0)])

    # -- what is known of partitions -----------------------------------------------------------------------------------

    @property
    def partitions(self) -> list[int]:
        """Of which it has a model."""
        return sorted(self._of)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """What is known of a partition, as arrays from which ``take_partition`` makes the same; nothing: no arrays."""
        found = self._of.get(number)
        if found is None:
            return {}
        names = _ACTIONS, _SLOTS, _MOMENTS, _SCALE, _MODEL, _KNOWN, _PENDING
        return {name: array.copy() for name, array in zip(names, (self._names, *found), strict=True) if array.size}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Know this of a partition, without features for which there is no capacity.

        Raises:
            SnapshotError: it is damaged; the text begins with ``at``.
        """
        self.forget_partition(number)
        if _KNOWN in arrays:
            names, found = _checked(arrays, at)
            if not here.same:
                if (found.slots >= here.slots.size).any():
                    raise SnapshotError(f"{at}: rewards of features that its schema does not have: it is damaged")
                found = _kept(found._replace(slots=here.slots[found.slots]))
            self._of[number] = found if np.array_equal(names, self._names) else self._moved(found, names)

    def _moved(self, found: _Model, names: Ints) -> _Model:
        """A model that was made for other actions; those that are new begin."""
        place_of = {name: k for k, name in enumerate(self._names.tolist())}
        to = np.array([place_of.get(name, -1) for name in names.tolist()], np.int64)
        actions = _begun(self._names.size).wide(found.slots).actions
        actions[to[to >= 0]] = found.actions[to >= 0]
        kept = to[found.pending[:, 0].astype(np.int64)] >= 0
        pending = found.pending[kept]
        pending[:, 0] = to[pending[:, 0].astype(np.int64)]
        return found._replace(actions=actions, pending=pending)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Begin the partition's model again: it cannot unlearn."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its model goes with it."""
        self._of.pop(number, None)


def _published(model: _Model) -> _Model:
    """The model after it learned what was pending."""
    pending, errors, scale = model.pending, model.known[:2].copy(), _scale(model.moments)
    rows, actions = np.ascontiguousarray(pending[:, 2:]), pending[:, 0].astype(np.int64)
    rewards = np.ascontiguousarray(pending[:, 1])
    kernels.common_learn(rows, actions, rewards, scale, model.actions, errors)
    model.known[:2], model.known[3] = errors, model.known[3] + len(pending)
    return model._replace(scale=scale, pending=np.zeros((0, pending.shape[1])))


def _scale(moments: Doubles) -> Doubles:
    """Means and 1 / spreads [2, F]; 0 where there is none yet."""
    count, mean, squares = moments
    is_known = (count > 1) & (squares > 0)
    spread = np.sqrt(np.where(is_known, squares, 1.0) / np.where(is_known, count, 1.0))
    return np.stack([mean, np.where(is_known, 1 / spread, 0.0)])


def _number(name: str) -> int:
    """By what an action is known in a changelog, whatever its place in the configuration was."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _kept(model: _Model) -> _Model:
    """The model without the features whose slot is −1."""
    kept = np.flatnonzero(model.slots >= 0)
    if kept.size == model.slots.size:
        return model
    rows, columns = np.append(0, 1 + kept), np.concatenate([[0], 1 + kept, [1 + model.slots.size]])
    actions = np.ascontiguousarray(model.actions[:, rows][:, :, columns])
    pending = model.pending[:, np.append([0, 1], 2 + kept)]
    moments, scale = (np.ascontiguousarray(one[:, kept]) for one in (model.moments, model.scale))
    return _Model(model.slots[kept], moments, scale, actions, model.known, pending)


def _checked(arrays: Arrays, at: str) -> tuple[Ints, _Model]:
    """The actions' numbers [K], and the model that has these arrays; raises SnapshotError where no rewards make it."""
    names, slots = arrays.get(_ACTIONS, np.zeros(0, np.int64)), arrays.get(_SLOTS, np.zeros(0, np.int64))
    F = slots.size
    moments, scale = arrays.get(_MOMENTS, np.zeros((3, 0))), arrays.get(_SCALE, np.zeros((2, 0)))
    pending = arrays.get(_PENDING, np.zeros((0, 2 + F)))
    found = _Model(slots, moments, scale, arrays.get(_MODEL, np.zeros(0)), arrays[_KNOWN], pending)
    shapes = (F,), (3, F), (2, F), (names.size, F + 1, F + 2), (4,), (len(pending), 2 + F)
    fits = names.dtype == slots.dtype == np.int64 and names.ndim == slots.ndim == 1
    fits = fits and all(one.dtype == np.float64 for one in found[1:])
    fits = fits and all(one.shape == shape for one, shape in zip(found, shapes, strict=True))
    if fits and all(np.isfinite(one).all() for one in (moments, scale, found.actions, found.known, pending[:, :2])):
        P, diagonal = found.actions[:, :, :-1], np.arange(F + 1)
        is_sound = (
            np.unique(slots).size == F
            and np.unique(names).size == names.size > 0
            and (slots >= 0).all()
            and (moments[[0, 2]] >= 0).all()
            and (scale[1] >= 0).all()
            and np.array_equal(P, P.transpose(0, 2, 1))
            and (P[:, diagonal, diagonal] >= 0).all()
            and (found.known[[0, 1, 3]] >= 0).all()
            and np.isin(pending[:, 0], np.arange(names.size)).all()
        )
        if is_sound:
            return names, _Model(*(one.copy() for one in found))  # type: ignore[arg-type]  # each as it was
    raise SnapshotError(f"{at}: what actions earn in all tasks, that no rewards make: it is damaged")

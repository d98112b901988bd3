"""θ between processes: as it is published, what another one published, and which of two is better."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.checkpoint import OF_THETA, check_fingerprint, random_from, random_state
from streammeta.engine.factory import fingerprint
from streammeta.engine.memory import Memory
from streammeta.engine.shared import Names, Shared
from streammeta.engine.spill import TaskKey
from streammeta.engine.training import Training
from streammeta.engine.trial import LEAST_JUDGED, Verdict, is_enough, newest_episodes, trial, verdict
from streammeta.engine.weights import Weights
from streammeta.errors import SnapshotError
from streammeta.meta.base import Episodes, MetaState, Theta
from streammeta.meta.names import Slot

__all__ = ["Adoption", "Candidate"]

_LONGEST_STEP = 3.0  # times the rate, of a meta-update
_MOST_STEPS = 32  # however many more a version claims: its number may be written by hand
_TRIALS = 8  # drawings of episodes on which a doubtful θ is compared with ours
_CLEARLY, _LEAST_GAP = 3.0, 0.15  # standard errors, and nats: an hour back costs less, a flipped sign twice as much
_JUDGES = 16  # tasks on whose labels a candidate is judged, at most
_META_COUNTS = ("seen", "next_look", "meta_begun")  # by which θ's next change is due


class Candidate(NamedTuple):
    """θ that is to be judged on what comes later."""

    weights: Weights
    state: MetaState
    known: dict[TaskKey, int]  # labelled events of each task elsewhere, of which some may have been learned from


class Adoption:
    """Gives θ to other processes, and takes theirs.

    Args:
        memory: has θ.
        training: whether θ changes here.
    """

    def __init__(self, memory: Memory, training: Training) -> None:
        self._memory, self._training = memory, training

    def weights(self) -> Weights:
        """θ and all else that tasks share, for another process to go on with."""
        now = self.theta()
        return replace(now, arrays=now.arrays | self._training.dump())

    def theta(self) -> Weights:
        """The same without what only its next change goes on from, beside the optimizer."""
        memory = self._memory
        header, arrays = memory.shared.dump()
        del header["next_scaling"]  # each process has its own
        return Weights(
            fingerprint(memory.settings),
            memory.features.slots,
            memory.features.width,
            memory.labels.classes,
            {name: getattr(memory.counts, name) for name in _META_COUNTS},
            random_state(self._training.random),
            header,
            arrays,
        )

    def candidate(self) -> Candidate:
        """See ``Engine.candidate``."""
        now = self.weights()
        arrays = {name: array.copy() for name, array in now.arrays.items()}
        slots, classes = list(now.slots), list(now.classes)
        weights = replace(now, slots=slots, classes=classes, arrays=arrays)
        return Candidate(weights, self._memory.shared.state, self._memory.exchange.known)

    def judge(self, candidate: Candidate, before: MetaState | None) -> Verdict | None:
        """See ``Engine.judge``."""
        labels, episodes = self.newest(candidate.known, least=LEAST_JUDGED)
        if episodes is None or not is_enough(labels, int(episodes.scored.sum())):
            return None
        memory, (ours, theirs) = self._memory, self.compared(candidate, before)
        return verdict([trial(memory.method.gradient, ours, theirs, episodes, memory.method.members)])

    def compared(self, candidate: Candidate, before: MetaState | None) -> tuple[Theta, Theta]:
        """A candidate and the version before (None: θ as it began), for the features and outputs of now."""
        shared = self._memory.shared
        ours = shared.grown(candidate.state)
        return ours, shared.start() if before is None else shared.grown(before)

    def newest(self, known: Mapping[TaskKey, int], *, least: int) -> tuple[int, Episodes | None]:
        """The last labels of tasks elsewhere beyond those known of each: how many, and the tasks' last events.

        At most 16 tasks, those that spoke last; no episodes where there are fewer than ``least`` labels.
        """
        memory = self._memory
        fresh = {key: count - known.get(key, 0) for key, count in memory.exchange.known.items()}
        chosen = [(key, count) for key, count in fresh.items() if count > 0][-_JUDGES:]
        labels = sum(count for _, count in chosen)
        if labels < least:
            return labels, None
        rows = np.array([memory.tasks.recall(key) for key, _ in chosen], np.int64)
        episodes = newest_episodes(
            memory.tasks.columns,
            rows,
            [count for _, count in chosen],
            memory.shared.frame,
            length=memory.settings.meta.length,
            kind=memory.settings.kind,
        )
        memory.tasks.shrink()
        return labels, episodes

    def adopt(self, weights: Weights | None, *, train: bool, fixed: bool = False, is_trusted: bool = False) -> bool:
        """See ``Engine.adopt``."""
        self._training.is_ours = train
        return weights is None or self._take_weights(weights, train=train, fixed=fixed, is_trusted=is_trusted)

    def is_worse_than(self, weights: Weights) -> bool | None:
        """See ``Engine.is_worse_than``."""
        other = self._merged(weights, self._checked(weights), fixed=False)
        return self._clearly_worse(self._memory.shared.state.theta, other.state.theta)

    def _take_weights(self, weights: Weights, *, train: bool, fixed: bool, is_trusted: bool) -> bool:
        """Check all of it first, so that what is damaged changes nothing."""
        memory = self._memory
        names = self._checked(weights)
        random = random_from(weights.random, "the published weights are")
        missing = [name for name in _META_COUNTS if name not in weights.counts]
        if missing:
            raise SnapshotError(
                f"the published weights are damaged (no count {missing[0]}); delete them to start again"
            )
        if train:
            self._load_or_keep(weights.arrays)
        shared = self._merged(weights, names, fixed=fixed)
        if not (fixed or is_trusted) and self._is_worse(shared):
            return False
        memory.shared, memory.sums.is_fixed = shared, fixed
        if train:
            for name in _META_COUNTS:
                setattr(memory.counts, name, weights.counts[name])
            self._training.random.bit_generator.state = random
        memory.fit()
        return True

    def _checked(self, weights: Weights) -> Names:
        """The names of features and classes in a θ that could be ours; raises SnapshotError where it could not."""
        memory = self._memory
        check_fingerprint(weights.settings, fingerprint(memory.settings), but=OF_THETA, what="the published theta")
        slots = [Slot(*slot) for slot in weights.slots]
        names = Names(slots, weights.classes if memory.labels.classify else memory.labels.names)
        memory.shared.check(weights.shared, weights.arrays, names)
        return names

    def _merged(self, weights: Weights, names: Names, *, fixed: bool) -> Shared:
        """What tasks share, with this θ in it; its features and classes are known from now on."""
        memory = self._memory
        features = memory.features.merge(weights.slots, weights.width)
        outputs = memory.labels.merge(weights.classes) if memory.labels.classify else [0]
        memory.fit()
        shared = memory.shared.copy()
        here = Names(names.slots, names.outputs, features, outputs)
        shared.take(weights.shared, weights.arrays, here, fixed=fixed)
        return shared

    def _load_or_keep(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over the rhythm; where that is refused, all of it stays as it was."""
        before = {name: array.copy() for name, array in self._training.dump().items()}
        try:
            self._training.load(arrays)
        except SnapshotError:
            self._training.load(before)
            raise

    def _is_worse(self, other: Shared) -> bool:
        """Whether θ of another process is clearly worse than ours on what our tasks remember.

        Only a θ that lies farther away than its meta-updates can have brought it is compared: a step of Adam is at most
        about its rate.
        """
        memory = self._memory
        ours, theirs, rate = memory.shared.state.theta, other.state.theta, memory.settings.meta.rate
        updates = min(max(other.version - memory.shared.version, 0), _MOST_STEPS)
        if any(theirs[name].shape != p.shape for name, p in ours.items()):
            return False  # it has views of features that ours has not
        moved = max(float(np.abs(theirs[name] - p).max()) if p.size else 0.0 for name, p in ours.items())
        if moved <= _LONGEST_STEP * rate * updates:
            return False
        return bool(self._clearly_worse(theirs, ours))

    def _clearly_worse(self, theirs: Theta, ours: Theta) -> bool | None:
        """Whether a θ loses clearly more than another on what our tasks remember; None: they remember too little."""
        memory = self._memory
        random, gaps = self._training.random.bit_generator.state, []
        for _ in range(_TRIALS):
            episodes = self._training.draw()
            if episodes is not None:
                theirs_lost, ours_lost = (memory.method.gradient(one, episodes, "cpu")[0] for one in (theirs, ours))
                gaps.append(theirs_lost - ours_lost)
        self._training.random.bit_generator.state = random
        if len(gaps) < _TRIALS:
            return None
        mean, error = float(np.mean(gaps)), float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps))
        return not mean <= _CLEARLY * error + _LEAST_GAP  # NaN is worse

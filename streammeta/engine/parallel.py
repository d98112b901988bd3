"""One engine among several, a process each, that learn one θ together: each has tasks of its own.

    leader    knows all features and classes, deals out a meta-update's segments, makes the step
    all       draw their segments of their own tasks, in the leader's order of features and classes

The others go on with the leader's θ and normalization, by name. So the mean of all gradients is that of one engine that
has all of these segments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.engine.adoption import Adoption, Candidate
from streammeta.engine.memory import Memory
from streammeta.engine.sampling import dealt
from streammeta.engine.scale import FrameScale
from streammeta.engine.spill import TaskKey
from streammeta.engine.training import Training
from streammeta.engine.trial import Trial, trial
from streammeta.engine.weights import Weights, decode_weights, encode_weights
from streammeta.meta.base import Episodes, Gradient, Ints, MetaState, Theta

__all__ = ["Deal", "Names", "Parallel", "Processes", "in_order_of"]

_THETA, _OPTIMIZER = "theta.", ("outer.first", "outer.second")
_SCALES = ("scale.features", "scale.target", "reference.features", "reference.target")


class Processes(Protocol):
    """What all do at once (`streammeta.meta.ranks`)."""

    def over_all(self, gradient: Gradient, scored: npt.NDArray[np.float64]) -> Gradient:
        """The gradient over the segments of all processes, which score so many events for each member [E]."""

    def total(self, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of all processes' vectors."""


class Names(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What an engine knows by name."""

    slots: Sequence[tuple[str, str | None, int]]  # features: name, category's value, fan-in
    width: int | None  # numbers in an event without names
    classes: list[int | float | str]
    own: list[int]  # slots that have own views


class Deal(NamedTuple):
    """Who draws which segments of a meta-update."""

    seed: int  # of the draws
    places: list[list[int]]  # of each process, which of a member's segments


class _Leader(NamedTuple):
    """What the leader's θ is about."""

    theta: Theta
    names: tuple[object, ...]  # with the normalization
    features: Ints  # the slot here of each of its slots; −1: none
    classes: Ints  # likewise
    own: list[int]  # its slots that have own views


class Parallel:
    """An engine's part in learning one θ with others.

    Args:
        memory: what the engine remembers.
        training: changes θ, where this is the leader.
        adoption: takes the leader's θ, where it is not.
    """

    def __init__(self, memory: Memory, training: Training, adoption: Adoption) -> None:
        self._memory, self._training, self._adoption = memory, training, adoption
        self._known = self._said = (
            0,
            0,
            0,
        )  # features, classes and own views: that the leader knows; that we named to it
        self._given: tuple[MetaState, FrameScale] | None = None  # θ and scale that the others have
        self._leader: _Leader | None = None  # None: that is this one
        self._aside: Mapping[TaskKey, int] = {}  # labelled events of each task when a candidate was set aside

    # -- by name -------------------------------------------------------------------------------------------------------

    def new_names(self) -> Names | None:
        """All names, where there are some that the leader has not been given; None where there are none."""
        features, labels, shared = self._memory.features, self._memory.labels, self._memory.shared
        sizes = len(features), len(labels.classes), len(shared.own)
        if sizes in (self._known, self._said):
            return None
        self._said = sizes
        return Names(list(features.slots), features.width, list(labels.classes), shared.own)

    def know(self, names: Names) -> None:
        """Let θ have these features, classes and own views, too; new weights begin as the seed and the name say."""
        memory = self._memory
        here = memory.features.merge(names.slots, names.width)
        if memory.labels.classify:
            memory.labels.merge(names.classes)
        memory.give_own_views([here[slot] for slot in names.own if here[slot] >= 0])

    def new_theta(self) -> bytes | None:
        """θ and the normalization for the others, where either has changed since this was last asked."""
        memory = self._memory
        memory.shared.rescale(memory.features.categories)
        now = memory.shared.state, memory.shared.frame
        if self._given is not None and all(one is other for one, other in zip(now, self._given, strict=True)):
            return None
        self._given = now
        weights = self._adoption.theta()
        arrays = {name: array for name, array in weights.arrays.items() if name not in _OPTIMIZER}
        return encode_weights(replace(weights, arrays=arrays))

    def follow(self, value: bytes) -> None:
        """Go on with what ``new_theta`` of the leader gave.

        Raises:
            SnapshotError: the leader has other settings.
        """
        memory, weights = self._memory, decode_weights(value, "theta of rank 0")
        theta = {name.removeprefix(_THETA): p for name, p in weights.arrays.items() if name.startswith(_THETA)}
        own: list[int] = weights.shared["own"]
        names = weights.slots, weights.classes, own, *(weights.arrays[name].tobytes() for name in _SCALES)
        if self._leader is not None and names == self._leader.names:  # as nearly always
            features, classes = self._leader.features, self._leader.classes
            inputs = memory.shared.inputs_here(features, own)
            memory.shared.replace(theta, weights.version, weights.shared["theta_id"], inputs, classes)
        else:
            self._adoption.adopt(_with_blank_optimizer(weights, theta), train=False, fixed=True)
            features = np.array(memory.features.merge(weights.slots, weights.width), np.int64)
            outputs = memory.labels.merge(weights.classes) if memory.labels.classify else [0]
            classes = np.array(outputs, np.int64)
        self._leader = _Leader(theta, names, features, classes, own)
        self._known = len(weights.slots), len(weights.classes), len(own)

    # -- meta-updates --------------------------------------------------------------------------------------------------

    @property
    def seen(self) -> int:
        """Events learned here, and by other processes as far as ``count`` added them."""
        return self._memory.counts.seen

    @property
    def interval(self) -> int:
        """Events between two meta-updates, as far as is known here: of all processes, the shortest holds."""
        return self._training.interval

    @property
    def drawable(self) -> int:
        """How many tasks segments can be drawn of."""
        return self._training.drawable

    def count(self, events: int, elsewhere: int, interval: int) -> int:
        """Count events, and say how many meta-updates are due by them; none where another process changes θ.

        Args:
            events: that all processes learned since this was last asked.
            elsewhere: those of them that were not learned here.
            interval: events between two meta-updates.
        """
        counts = self._memory.counts
        counts.seen += elsewhere
        waiting = min(counts.seen - counts.meta_begun, events + interval - 1) if self._training.is_ours else 0
        due, rest = divmod(max(waiting, 0), interval)
        counts.meta_begun = counts.seen - rest
        return due

    def deal(self, drawable: Sequence[int]) -> Deal:
        """Deal out the segments of a meta-update to processes that have so many tasks to draw of."""
        random, tasks = self._training.random, self._memory.settings.meta.tasks
        return Deal(int(random.integers(2**62)), dealt(tasks, drawable, random))

    def draw(self, seed: int, rank: int, places: Sequence[int]) -> Episodes:
        """Segments of our tasks, in the leader's order of features and classes [E, B, L, D].

        Args:
            seed: of the draws of all processes.
            rank: the number of this one.
            places: which of a member's segments these are [B].
        """
        random = np.random.default_rng((seed, rank))
        found = self._training.draw(np.array(places, np.int64), random) if places else None
        return self._as_leader(self._no_episodes() if found is None else found)

    def learn(self, episodes: Episodes, processes: Processes) -> None:
        """Do our part of a meta-update, while all others do theirs; the leader's θ takes the step."""
        training, leader = self._training, self._leader
        theta = self._memory.shared.state.theta if leader is None else leader.theta
        scored = episodes.scored.sum((1, 2), dtype=np.float64)  # [E]
        counts = processes.total(np.concatenate([scored, training.saturated(theta, episodes)]))
        scored, saturated = counts[: scored.size], counts[scored.size :]
        gradient = processes.over_all(self._memory.method.gradient, scored)
        if leader is None:
            share = saturated[:-1] / max(saturated[-1], 1.0) if saturated.size else None
            training.update_on(episodes, gradient, share)
        else:
            value, _ = gradient(theta, episodes, training.device)
            training.observe_meta_loss(value)

    def _no_episodes(self) -> Episodes:
        memory = self._memory
        blank = np.zeros((memory.method.members, 0, memory.settings.meta.length), np.float32)
        y = blank.astype(np.int64) if memory.labels.classify else blank
        return Episodes(np.zeros((*blank.shape, memory.shared.frame.inputs), np.float32), y, blank, blank)

    def _as_leader(self, episodes: Episodes) -> Episodes:
        """The same with the leader's numbers of features and classes; what it has no number for is left out."""
        if self._leader is None:
            return episodes
        inputs = self._memory.shared.inputs_here(self._leader.features, self._leader.own)
        return in_order_of(episodes, inputs, self._leader.classes if self._memory.labels.classify else None)

    # -- candidates ----------------------------------------------------------------------------------------------------

    def set_aside(self) -> Candidate:
        """A candidate is θ as it is now; labels that come from now on are to judge it, in each process."""
        candidate = self._adoption.candidate()
        self._aside = candidate.known
        return candidate

    def compared(self, candidate: Candidate, before: MetaState | None) -> tuple[Theta, Theta]:
        """What the leader gives to be compared by all: a candidate, and the version before."""
        return self._adoption.compared(candidate, before)

    def trial(self, candidate: Theta, before: Theta) -> tuple[int, Trial]:
        """How many labels came since a candidate was set aside, and what it and the version before lost on them."""
        labels, episodes = self._adoption.newest(self._aside, least=1)
        method = self._memory.method
        if episodes is None:
            return labels, Trial(0, np.zeros((0, 2)))
        return labels, trial(method.gradient, candidate, before, self._as_leader(episodes), method.members)


def _with_blank_optimizer(weights: Weights, theta: Theta) -> Weights:
    """The same with an optimizer, which who follows has no use for."""
    size = sum(p.size for p in theta.values())
    return replace(weights, arrays=weights.arrays | dict.fromkeys(_OPTIMIZER, np.zeros(size, np.float32)))


def in_order_of(episodes: Episodes, inputs: Ints, classes: Ints | None) -> Episodes:
    """Segments of ours in another order of inputs and classes; what that has no number for is left out.

    Args:
        episodes: in our order.
        inputs: our number of each of its inputs; −1: we have none.
        classes: likewise; None: labels are targets.
    """
    x = np.zeros((*episodes.x.shape[:-1], inputs.size), episodes.x.dtype)
    x[..., inputs >= 0] = episodes.x[..., inputs[inputs >= 0]]
    if classes is None:
        return episodes._replace(x=x)
    there = np.full(max(int(episodes.y.max(initial=0)) + 1, int(classes.max(initial=0)) + 1), -1)
    known = np.flatnonzero(classes >= 0)
    there[classes[known]] = known
    y = there[episodes.y]
    has_number = (y >= 0).astype(np.float32)
    valid, scored = episodes.valid * has_number, episodes.scored * has_number
    return Episodes(x * has_number[..., None], np.maximum(y, 0), valid, scored)

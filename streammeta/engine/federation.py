"""An engine's part where θ is learned by members that keep their events (`streammeta.meta.federated`).

    member     θ as published, segments of its own tasks → `Work` → `Update`
    trainer    `Update`s of members, by the names of features and classes → θ

What is sent is an `Update` (`streammeta.engine.update`): no event, no value of a feature, no statistic of any.

**A private one** depends on each task by that task's clipped gradient alone. So it begins from θ as it was published,
and its segments are normalized by each task's own window, never by what tasks share: the mean of all tasks would carry
one task into the others' gradients. Tasks in memory and in the spill are sampled alike.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import as_encoded
from streammeta.engine.checkpoint import OF_THETA, check_fingerprint, differing
from streammeta.engine.factory import fingerprint
from streammeta.engine.memory import Memory
from streammeta.engine.parallel import in_order_of
from streammeta.engine.settings import SegmentSettings
from streammeta.engine.training import Training
from streammeta.engine.update import Update
from streammeta.engine.weights import Weights
from streammeta.event import LabelValue
from streammeta.meta.base import Episodes, Floats, Ints, Kind, MetaState, Method, Theta
from streammeta.meta.federated import (
    LocalUpdate,
    Noise,
    SystemNoise,
    averaged,
    local_update,
    nesterov_step,
    private_gradient,
)
from streammeta.meta.names import Slot
from streammeta.meta.outer import join, placed, split, start_outer
from streammeta.meta.privacy import Spent

__all__ = ["Federation", "Work"]

_THETA = "theta."
_PART = 16  # tasks, after which others may go on
_MOST_LAG = 4  # versions: an update that began before them is of another time
_COARSE, _FINE = 1e-6, 1e-12  # least spread of a feature (float32) and a target beside the mean; less says nothing


class Work(NamedTuple):
    """Local steps to be made, in any thread: they read nothing but this."""

    state: MetaState
    steps: Sequence[Episodes]
    blank: Update  # all but the change of θ
    method: Method
    rate: float
    bound: float
    device: str
    privacy: tuple[float, float, float] | None  # norm of a task, noise multiplier, sample rate; None: not private
    noise: Noise

    def __call__(self) -> tuple[Update, LocalUpdate]:
        """Make them; where there are none, what is sent has names only."""
        gradient = self.method.gradient
        if self.privacy is not None:
            bound, multiplier, _ = self.privacy
            gradient = private_gradient(gradient, bound=bound, multiplier=multiplier, expected=1.0, noise=self.noise)
        found = local_update(
            self.state,
            self.steps,
            gradient,
            rate=self.rate,
            bound=self.bound,
            device=self.device,
            pace=self.method.pace,
        )
        delta = split(found.delta.astype(np.float32), self.state.theta) if self.steps else {}
        return self.blank._replace(delta=delta), found


class Federation:
    """A member's local steps, and the trainer's outer ones.

    Args:
        memory: what the engine remembers.
        training: draws segments.
        noise: where the noise comes from; None: the operating system.
    """

    def __init__(self, memory: Memory, training: Training, noise: Noise | None = None) -> None:
        self._memory, self._training = memory, training
        self._noise = noise or SystemNoise()
        self._optimizer: MetaState | None = None  # of local steps, as the last ones left it
        self._seen: dict[int, int] = {}  # versions of θ that were published, by number: the number of their content

    # -- a member ------------------------------------------------------------------------------------------------------

    @property
    def is_private(self) -> bool:
        """Whether local steps have noise."""
        return self._memory.settings.meta.privacy.noise_multiplier > 0

    def cost(self, published: Weights) -> Spent | None:
        """What ``begin`` with this θ has a private member pay; None: nothing, as names are all that it would send."""
        memory, meta = self._memory, self._memory.settings.meta
        has_outputs = bool(published.classes) or not memory.labels.classify
        if not (self.is_private and published.slots and has_outputs):
            return None
        return meta.privacy.cost(meta.local_steps)

    def begin(self, published: Weights, partitions: Sequence[int]) -> Work | None:
        """Local steps from θ as it was published; None where no task has enough labelled events yet.

        Args:
            published: what the trainer published last.
            partitions: ours.

        Raises:
            SnapshotError: θ is of other settings, or damaged.
        """
        parts = self.begin_in_parts(published, partitions)
        while True:
            try:
                next(parts)
            except StopIteration as end:
                work: Work | None = end.value
                return work

    def begin_in_parts(self, published: Weights, partitions: Sequence[int]) -> Generator[None, None, Work | None]:
        """The same for who must not be held up: it yields every few tasks, and the engine may take a step then."""
        memory, settings = self._memory, self._memory.settings.meta
        check_fingerprint(published.settings, fingerprint(memory.settings), but=OF_THETA, what="the published theta")
        theta = {name.removeprefix(_THETA): p for name, p in published.arrays.items() if name.startswith(_THETA)}
        features = np.array(memory.features.merge(published.slots, published.width), np.int64)
        classes = np.array(memory.labels.merge(published.classes) if memory.labels.classify else [0], np.int64)
        memory.fit()
        steps: list[Episodes] = []
        if features.size and classes.size:  # else θ has nothing yet that a step could change
            if self.is_private:
                steps = yield from self._private_steps(features, classes)
            else:
                steps = self._steps(features, classes, published)
        if not steps and not any(self._news(published)):
            return None
        privacy = settings.privacy
        private = (privacy.task_norm, privacy.noise_multiplier, privacy.sample_rate) if self.is_private else None
        return Work(
            self._with_optimizer(theta),
            steps,
            self._blank(published, partitions),
            memory.method,
            settings.rate,
            settings.update_norm,
            self._training.device,
            private,
            self._noise,
        )

    def finish(self, done: LocalUpdate) -> None:
        """The next local steps go on with the optimizer of these."""
        self._optimizer = done.state

    def _news(self, published: Weights) -> tuple[list[Slot], list[LabelValue]]:
        """The features and classes here that θ does not know."""
        memory, slots, classes = self._memory, {slot[:2] for slot in published.slots}, set(published.classes)
        return (
            [slot for slot in memory.features.slots if slot[:2] not in slots],
            [one for one in memory.labels.classes if one not in classes] if memory.labels.classify else [],
        )

    def _blank(self, published: Weights, partitions: Sequence[int]) -> Update:
        memory = self._memory
        return Update(
            fingerprint(memory.settings),
            published.version,
            published.shared["theta_id"],
            published.slots,
            memory.features.width,
            published.classes,
            *self._news(published),
            sorted(partitions),
            0 if self.is_private else max(self._training.drawable, 1),
            {},
        )

    def _with_optimizer(self, theta: Theta) -> MetaState:
        before = self._optimizer
        shapes = None if before is None else {name: p.shape for name, p in before.theta.items()}
        if before is None or shapes != {name: p.shape for name, p in theta.items()}:
            return start_outer(theta)
        return before._replace(theta=theta)

    def _steps(self, features: Ints, classes: Ints, published: Weights) -> list[Episodes]:
        """Segments as for any meta-update, in the order of the published θ."""
        memory = self._memory
        inputs = memory.shared.inputs_here(features, published.shared["own"])
        found = [self._training.draw() for _ in range(memory.settings.meta.local_steps)]
        there = classes if memory.labels.classify else None
        return [in_order_of(one, inputs, there) for one in found if one is not None]

    def _private_steps(self, features: Ints, classes: Ints) -> Generator[None, None, list[Episodes]]:
        """For each step one segment a member of each task sampled [E, B, L, D]; B may be 0."""
        memory, settings = self._memory, self._memory.settings.meta
        keys = sorted(key for key, _ in memory.presence.items() if key[0] >= 0)
        taken = [self._noise.sampled(len(keys), settings.privacy.sample_rate) for _ in range(settings.local_steps)]
        found = []
        for chosen in taken:
            tasks: list[Episodes | None] = []
            for i in np.flatnonzero(chosen).tolist():
                if keys[i] in memory.presence:  # else it was forgotten meanwhile, or is another member's now
                    tasks.append(self._own_segments(keys[i], features, classes))
                if len(tasks) % _PART == 0:
                    memory.tasks.shrink()
                    yield
            found.append(_stacked([one for one in tasks if one is not None], self._no_segments(features)))
        memory.tasks.shrink()
        return found

    def _no_segments(self, features: Ints) -> Episodes:
        memory = self._memory
        blank = np.zeros((memory.method.members, 0, memory.settings.meta.length), np.float32)
        y = blank.astype(np.int64) if memory.labels.classify else blank
        return Episodes(np.zeros((*blank.shape, features.size), np.float32), y, blank, blank)

    def _own_segments(self, key: tuple[int, str], features: Ints, classes: Ints) -> Episodes | None:
        """A segment for each member of a task's window, normalized by this window; None: it has too few events."""
        memory, settings = self._memory, self._memory.settings.meta
        row = memory.tasks.recall(key)
        columns = memory.tasks.columns
        size = columns.window_size
        count = min(int(columns.window_count[row]), size)
        if count < settings.shortest:
            return None
        at = np.arange(int(columns.window_count[row]) - count, int(columns.window_count[row])) % size
        x = columns.window_x[row, at][:, features].astype(np.float64)
        x[:, features < 0] = np.nan
        y = columns.window_y[row, at].astype(np.float64)
        is_category = memory.features.categories[features] & (features >= 0)
        seen = _by_own_window(x, is_category, _COARSE)
        if memory.labels.classify:
            there = np.full(max(len(memory.labels.classes), 1), -1)
            there[classes[classes >= 0]] = np.flatnonzero(classes >= 0)
            y = there[y.astype(np.int64)].astype(np.float64)
            y[y < 0] = np.nan
        else:
            y = _by_own_window(y[:, None], np.zeros(1, np.bool_), _FINE)[:, 0].astype(np.float64)
        return _segments(seen, y, settings, memory.method.members, self._training.random, kind=memory.settings.kind)

    # -- the trainer ---------------------------------------------------------------------------------------------------

    def published(self, version: int, theta_id: int) -> None:
        """This θ was published: updates may begin from it."""
        self._seen[version] = theta_id
        for old in sorted(self._seen)[:-_MOST_LAG]:
            del self._seen[old]

    def refusal(self, update: Update) -> str | None:
        """Why an update cannot be used: "settings", "version", "shape" or "numbers"; None: it can.

        Where the trainer's settings have noise, a member that sends without would break a promise to its tasks unseen.
        """
        memory = self._memory
        if differing(update.settings, fingerprint(memory.settings), but=OF_THETA):
            return "settings"
        if self.is_private and update.weight:
            return "settings"  # it has no noise
        if not update.delta:
            return None
        if self._seen.get(update.version) != update.theta_id:
            return "version"
        method = memory.method
        like = method.grow(method.init(), [Slot(*slot) for slot in update.slots], self._outputs(update.classes))
        if like.keys() != update.delta.keys() or any(p.shape != update.delta[n].shape for n, p in like.items()):
            return "shape"
        return None if all(np.isfinite(p).all() for p in update.delta.values()) else "numbers"

    def know(self, update: Update) -> None:
        """Let θ have the member's features and classes; new weights begin as the seed and the name say."""
        memory = self._memory
        memory.features.merge([*update.slots, *update.new_slots], update.width)
        if memory.labels.classify:
            memory.labels.merge([*update.classes, *update.new_classes])
        memory.fit()

    def step(self, updates: Sequence[Update]) -> None:
        """One outer step along the mean of these changes, none of which was refused; of none θ stays as it is."""
        if not updates:
            return
        memory, settings = self._memory, self._memory.settings.meta
        state = memory.shared.state
        deltas = [self._here(one, state.theta) for one in updates]
        weights = [1.0 if self.is_private else float(max(one.weight, 1)) for one in updates]
        mean = averaged(deltas, weights, settings.update_norm)
        memory.shared.adopt(nesterov_step(state, mean, rate=settings.outer_rate, momentum=settings.outer_momentum))

    def _outputs(self, classes: Sequence[int | float | str]) -> Sequence[int | float | str]:
        return classes if self._memory.labels.classify else self._memory.labels.names

    def _here(self, update: Update, theta: Theta) -> npt.NDArray[np.float64]:
        """Its change of θ in our order, as one vector."""
        memory = self._memory
        features = np.array(memory.features.merge(update.slots, update.width), np.int64)
        outputs = memory.labels.merge(list(update.classes)) if memory.labels.classify else [0]
        zeros = {name: np.zeros_like(p) for name, p in theta.items()}
        axes = memory.method.axes(update.delta)
        found = placed(update.delta, zeros, axes, (features, np.array(outputs, np.int64)))
        return join({name: found[name] for name in theta}).astype(np.float64)


def _by_own_window(x: npt.NDArray[np.float64], as_is: npt.NDArray[np.bool_], least: float) -> Floats:
    """Features [n, D] in spreads from the mean of these events; ``as_is`` [D]: they stay as they are.

    A spread of less than ``least`` times the mean is rounding.
    """
    there = ~np.isnan(x)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, x, 0.0).sum(0) / count
    spread = np.sqrt((np.where(there, x - mean, 0.0) ** 2).sum(0) / count)
    has_spread = spread > least * np.abs(mean)
    found = np.where(has_spread, (x - mean) / np.where(has_spread, spread, 1.0), np.where(there, 0.0, np.nan))
    return np.where(as_is, x, found).astype(np.float32)


def _segments(
    x: Floats,
    y: npt.NDArray[np.float64],
    settings: SegmentSettings,
    members: int,
    random: np.random.Generator,
    *,
    kind: Kind,
) -> Episodes:
    """A segment for each member of the ensemble [E, 1, L, D] of a task's events x [n, D], y [n]; NaN: no label."""
    n, length = len(y), settings.length
    begins = random.integers(max(n - length, 0) + 1, size=members)
    places = begins[:, None] + np.arange(length)
    is_there = places < n
    places = np.minimum(places, n - 1)
    xs, ys = as_encoded(x[places]), y[places]
    is_there &= ~np.isnan(ys)
    xs[~is_there], ys[~is_there] = 0, 0
    valid = is_there.astype(np.float32)
    burn_in = np.where(random.random(members) < settings.burn_in_share, min(n, length) // 2, 0)
    scored = valid * (np.arange(length) >= burn_in[:, None])
    targets = ys.astype(np.int64) if kind == "classification" else ys.astype(np.float32)
    return Episodes(*(part[:, None] for part in (xs, targets, valid, scored.astype(np.float32))))


def _stacked(tasks: Sequence[Episodes], blank: Episodes) -> Episodes:
    """Segments of several tasks side by side."""
    return Episodes(*(np.concatenate(parts, 1) for parts in zip(blank, *tasks, strict=True)))

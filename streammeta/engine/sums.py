"""What all tasks share by counting: running moments of features and target, kept a partition, and added up.

Each process observes the partitions that it owns and publishes their sums with its transactions; everybody adds up what
all have published, and its own as of now. So the normalization does not depend on which process saw which event, and a
partition's sums go where the partition goes.

    count = Σ c_p        mean = Σ c_p m_p / count        S = Σ S_p + c_p (m_p − mean)²

Source: Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.bounds import Count, Size
from streammeta.engine.moments import Crowd, Moments, Sums, added, no_sums, renumbered, total, wider
from streammeta.engine.scale import SharedScale, dump_scale, load_scale, placed_scale, shared_scale, wider_scale
from streammeta.errors import SnapshotError
from streammeta.meta.names import Slot
from streammeta.native import _kernels as kernels

__all__ = ["Part", "PartitionSums", "SumsRecord", "decode_sums", "encode_sums", "observed"]

_DECAY = 0.999  # of what is known about the variance within classes, per label
_FACTOR, _SQUARES, _COUNT = 2, 3, 4  # of ``within``: labels since the last ``publish_shared``
_FEW = 16  # values of a partition that are too few to find outliers
_OUTLIER = 10.0  # standard deviations beyond which a value moves the moments no further
_FORGET_AFTER = 20_000.0  # events of a partition after which its moments forget
Bools: TypeAlias = npt.NDArray[np.bool_]
Doubles: TypeAlias = npt.NDArray[np.float64]


def observed(moments: Moments, values: npt.NDArray[Any]) -> Moments:
    """After these values [N, ≥ D] too, in order; NaN is missing.

    A value beyond ten standard deviations counts as one at ten, once sixteen are known; a moment that has seen 20,000
    values forgets.
    """
    found = np.zeros((3, values.shape[1]))
    found[:, : moments.counts.size] = moments
    kernels.observe_moments(found, np.ascontiguousarray(values), _OUTLIER, _FORGET_AFTER)
    return Moments(*found)


class Part:
    """The sums of one partition."""

    def __init__(self, seen: int = 0, sums: Sums | None = None, within: Doubles | None = None) -> None:
        self.seen = seen  # events and labels
        self.sums = no_sums(0) if sums is None else sums
        # of each feature [5, D] the squares within classes, and labels; and of the labels since ``publish_shared`` the
        # factor that these are to be multiplied by, and what is to be added to them
        self.within = _blank_within(0) if within is None else within

    def copy(self) -> "Part":
        """Another one, alike."""
        return Part(self.seen, self.sums, self.within.copy())


class PartitionSums:
    """The sums of our partitions, as of now, and of the others, as they were published last."""

    def __init__(self) -> None:
        self._ours: dict[int, Part] = {}
        self._others: dict[int, Part] = {}  # ours too, as published: what holds where a partition leaves us
        self._changed: set[int] = set()
        self._within: Doubles | None = None  # over all partitions, until something changes
        self.is_fixed = False  # nothing is counted any more
        self.total = 0  # events and labels in all partitions, as far as we know

    def observe(self, partition: int, seen: int, xs: Doubles, ys: Doubles | None) -> None:
        """Take in events and labels of a partition, in order of arrival.

        Args:
            partition: whose they are.
            seen: how many events and labels.
            xs: raw features of the events [N, D].
            ys: raw targets of all that have one; None: labels are classes.
        """
        if self.is_fixed:
            return
        part = self._of(partition)
        sums = part.sums
        if sums.features.counts.size < xs.shape[1]:
            sums = wider(sums, xs.shape[1])
        features = observed(sums.features, self._kept_in("features", xs, sums.features))
        target = sums.target
        if ys is not None:
            target = observed(target, self._kept_in("target", ys[:, None], target))
        part.seen, part.sums = part.seen + seen, sums._replace(features=features, target=target)
        self.total += seen

    def depend_on_others(self, partitions: npt.NDArray[np.int64], xs: Doubles, ys: Doubles | None) -> Bools:
        """Which of these are to be taken in alone, between all that came before and all that comes after.

        A value of which its partition has too few is measured by all partitions', as they were when it came.

        Args:
            partitions: of events and labels [N], in order of arrival.
            xs: raw features [N, D]; NaN: there is none.
            ys: raw targets [N]; None: labels are classes.
        """
        found = np.zeros(len(partitions), np.bool_)
        numbers = {number for number in partitions.tolist() if number >= 0}  # others count those below
        if len(self._ours.keys() | self._others.keys() | numbers) <= 1:
            return found
        for number in numbers:
            sums = self._ours[number].sums if number in self._ours else no_sums(0)
            counts, here = sums.features.counts[: xs.shape[1]], partitions == number
            young = np.append(counts < _FEW, np.ones(xs.shape[1] - counts.size, np.bool_))
            if young.any():
                found |= here & ~np.isnan(xs[:, young]).all(1)
            if ys is not None and sums.target.counts[0] < _FEW:
                found |= here & ~np.isnan(ys)
        return found

    def _kept_in(self, name: Literal["features", "target"], values: npt.NDArray[Any], own: Moments) -> npt.NDArray[Any]:
        """Values [N, D] within ten standard deviations of all partitions', while the own are too few to say."""
        young = np.flatnonzero(own.counts < _FEW)
        if not young.size or len(self._ours | self._others) == 1:
            return values
        young = young[~np.isnan(values[:, young]).all(0)]
        if not young.size:
            return values
        every = Moments(*np.zeros((3, young.size)))
        for _, part in self._parts():
            there: Moments = getattr(wider(part.sums, values.shape[1]), name)
            every = added(every, Moments(*(row[young] for row in there)))
        is_known = (every.counts >= _FEW) & (every.squares > 0)
        if not is_known.any():
            return values
        young, every = young[is_known], Moments(*(row[is_known] for row in every))
        mean, spread = every.mean, np.sqrt(every.squares / every.counts)
        kept = values.astype(np.float64)
        kept[:, young] = kept[:, young].clip(mean - _OUTLIER * spread, mean + _OUTLIER * spread)
        return kept

    def observe_look(self, partition: int, crowd: Crowd, target: Crowd) -> None:
        """What a look at a task says of how widely numbers are spread within a task [D] and [1]."""
        if self.is_fixed:
            return
        part = self._of(partition)
        sums = wider(part.sums, crowd.tasks.size)
        part.sums = sums._replace(crowd=_with(sums.crowd, crowd), target_crowd=_with(sums.target_crowd, target))

    def add_within(self, partition: int, squares: Doubles) -> None:
        """A label's squared distances from its class [D], NaN where unknown; it counts from ``publish_shared`` on."""
        if self.is_fixed or partition < 0:  # below zero: the member that has it counts it
            return
        part = self._of(partition)
        part.within = _wider(part.within, squares.size)
        known = np.flatnonzero(np.isfinite(squares))
        part.within[_FACTOR, known] *= _DECAY
        part.within[_SQUARES, known] = part.within[_SQUARES, known] * _DECAY + squares[known]
        part.within[_COUNT, known] = part.within[_COUNT, known] * _DECAY + 1.0

    def publish_shared(self) -> None:
        """Count what ``add_within`` put by: the engine calls it where things shared by all tasks may change."""
        for number, part in self._ours.items():
            if (part.within[_COUNT] > 0).any():
                part.within = _counted(part.within)
                self._changed.add(number)
                self._within = None

    @property
    def within(self) -> Doubles:
        """Squares within classes, and labels [2, D], over all partitions; not to be changed."""
        if self._within is None:
            parts = [part.within[:2] for _, part in self._parts()]
            self._within = np.zeros((2, max((one.shape[1] for one in parts), default=0)))
            for one in parts:
                self._within[:, : one.shape[1]] += one
        return self._within

    @property
    def has_targets(self) -> bool:
        """Whether a target was counted, in any partition."""
        return any(part.sums.target.counts[0] > 0 for _, part in self._parts())

    def read(self, categories: npt.NDArray[np.bool_]) -> SharedScale:
        """The scale of all that was seen anywhere; of features [D], the categories keep their own unit."""
        every = wider(total([part.sums for _, part in self._parts()]), len(categories))
        more = (0, every.features.counts.size - len(categories))
        return shared_scale(every, np.pad(categories, more))

    # -- between processes ---------------------------------------------------------------------------------------------

    def take_changed(self) -> Iterator[tuple[int, Part]]:
        """Our partitions that changed since this was last asked, with their sums."""
        changed, self._changed = sorted(self._changed), set()
        return ((number, self._ours[number]) for number in changed if number in self._ours)

    def add_published(self, partition: int, part: Part) -> None:
        """These were published."""
        self._others[partition] = part
        self._recount()

    def own(self, partition: int) -> None:
        """The partition is ours from now on: its sums go on from what was published last."""
        found = self._others.get(partition)
        self._ours[partition] = Part() if found is None else found.copy()
        self._recount()

    def forget(self, partition: int) -> None:
        """Another process has the partition now."""
        self._ours.pop(partition, None)
        self._changed.discard(partition)
        self._recount()

    def dump(self) -> tuple[list[tuple[int, int]], dict[str, npt.NDArray[Any]]]:
        """Plain values and arrays from which ``load`` makes the same; what others published is not in it."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        ours = {f"sums.{number}": part.sums.dump() | {"within": part.within} for number, part in self._ours.items()}
        for where, parts in ours.items():
            arrays |= {f"{where}.{name}": array for name, array in parts.items()}
        return [(number, part.seen) for number, part in sorted(self._ours.items())], arrays

    def load(self, seen: Sequence[tuple[int, int]], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described; raises SnapshotError when that cannot be."""
        self._ours, self._others, self._within = {}, {}, None
        names = (*Sums._fields, "within")
        for number, count in seen:
            parts = {name: arrays.get(f"sums.{number}.{name}", _MISSING) for name in names}
            self._ours[number] = _part(count, parts, f"the sums of partition {number}")
        self._recount()

    def _recount(self) -> None:
        """Other partitions are known, or other sums of them."""
        self._within = None
        self.total = sum(part.seen for _, part in self._parts())

    def _of(self, number: int) -> Part:
        self._changed.add(number)
        if number not in self._ours:
            self._ours[number] = Part()
            self._recount()
        return self._ours[number]

    def _parts(self) -> list[tuple[int, Part]]:
        return sorted((self._others | self._ours).items())


class _Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Literal[2]
    slots: Annotated[list[tuple[str, str | None, Size]], msgspec.Meta(max_length=65_536)]
    seen: Count
    features: bytes  # float64 [3, D]
    target: bytes  # float64 [3, 1]
    crowd: bytes  # float64 [3, D]
    target_crowd: bytes  # float64 [3, 1]
    within: bytes  # float64 [5, D]
    scale: bytes  # float64 [5, D]: the scale in force where this was written
    y_scale: bytes  # float64 [4, 1]
    reference: bytes  # float64 [5, D]: the one when tasks were looked at again for the last time
    y_reference: bytes  # float64 [4, 1]
    scaling_id: Count
    epoch: Count
    next_scaling: Count


@dataclass(frozen=True, slots=True)
class SumsRecord:
    """A partition's sums as they were published; arrays in the order of ``slots``."""

    slots: list[tuple[str, str | None, int]]
    part: Part
    scale: SharedScale  # in force where this was written, so that who goes on alone goes on alike
    reference: SharedScale  # the one when tasks were looked at again for the last time
    scaling_id: int
    epoch: int  # of ``reference``
    next_scaling: int  # events and labels in all partitions at which it is read again

    def renumbered(self, numbers: Sequence[int]) -> "SumsRecord":
        """The same where its slots have these numbers; −1: none."""
        to, width = np.array(numbers, np.int64), max(numbers, default=-1) + 1
        known, within = np.flatnonzero(to >= 0), _blank_within(width)
        within[:, to[known]] = self.part.within[:, known]
        part = Part(self.part.seen, renumbered(self.part.sums, to, width), within)
        scale, reference = (placed_scale(one, to, width) for one in (self.scale, self.reference))
        return SumsRecord(self.slots, part, scale, reference, self.scaling_id, self.epoch, self.next_scaling)


_DECODER = msgspec.msgpack.Decoder(_Record)


def encode_sums(
    part: Part,
    slots: Sequence[Slot],
    scale: SharedScale,
    reference: SharedScale,
    scaling_id: int,
    epoch: int,
    next_scaling: int,
) -> bytes:
    """The record of a partition's sums, whose features are the first of ``slots``; see ``SumsRecord``."""
    arrays = wider(part.sums, len(slots)).dump() | {"within": _wider(part.within, len(slots))}
    scales = [array.tobytes() for one in (scale, reference) for array in dump_scale(wider_scale(one, len(slots)))]
    record = _Record(
        2,
        [(slot.name, slot.value, slot.fan_in) for slot in slots],
        part.seen,
        arrays["features"].tobytes(),
        arrays["target"].tobytes(),
        arrays["crowd"].tobytes(),
        arrays["target_crowd"].tobytes(),
        arrays["within"].tobytes(),
        scales[0],
        scales[1],
        scales[2],
        scales[3],
        scaling_id,
        epoch,
        next_scaling,
    )
    return msgspec.msgpack.encode(record)


def decode_sums(value: bytes, at: str) -> SumsRecord:
    """What ``encode_sums`` wrote.

    Raises:
        SnapshotError: it is something else, or damaged; the message begins with ``at``.
    """
    try:
        found = _DECODER.decode(value)
        width, sizes = len(found.slots), dict.fromkeys(Sums._fields, 3) | {"within": 5}
        arrays = {
            name: np.frombuffer(getattr(found, name), np.float64).reshape(count, -1).copy()
            for name, count in sizes.items()
        }
        scales = [
            np.frombuffer(data, np.float64).reshape(rows, -1)
            for data, rows in ((found.scale, 5), (found.y_scale, 4), (found.reference, 5), (found.y_reference, 4))
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as err:
        raise SnapshotError(
            f"{at}: {len(value)} bytes that are no sums of format 2 ({err}); wanted what this version of streammeta "
            "wrote: choose another [app] name, or delete the topic to begin again"
        ) from err
    if not scales[0].shape[1] == scales[2].shape[1] == arrays["features"].shape[1] == width:
        raise SnapshotError(
            f"{at}: sums of {arrays['features'].shape[1]} features, wanted {width}, as many as it names"
        )
    scale, reference = load_scale(scales[0], scales[1], at), load_scale(scales[2], scales[3], at)
    part = _part(found.seen, arrays, at)
    return SumsRecord(found.slots, part, scale, reference, found.scaling_id, found.epoch, found.next_scaling)


def _with(one: Crowd, other: Crowd) -> Crowd:
    """Both together; the other may know fewer features."""
    if not any(part.any() for part in other):
        return one
    more = one.tasks.size - other.tasks.size
    return Crowd(*(a + (np.pad(b, (0, more)) if more else b) for a, b in zip(one, other, strict=True)))


def _part(seen: int, arrays: Mapping[str, Doubles], at: str) -> Part:
    """Sums from elsewhere; raises SnapshotError where no events have such sums."""
    width = arrays["features"].shape[-1] if arrays["features"].ndim else 0
    shapes = {"features": (3, width), "target": (3, 1), "crowd": (3, width), "target_crowd": (3, 1)}
    fits = all(arrays[name].shape == shape for name, shape in shapes.items()) and arrays["within"].shape[:1] == (5,)
    if not fits or not all(array.dtype == np.float64 and np.isfinite(array).all() for array in arrays.values()):
        raise SnapshotError(f"{at}: sums that are not of {width} features, or not finite: it is damaged")
    counts = arrays["features"][[0, 2]], arrays["target"][[0, 2]], arrays["within"]
    if not all((count >= 0).all() for count in counts):
        raise SnapshotError(f"{at}: counts or squares below zero: it is damaged")
    return Part(seen, Sums.load(arrays), arrays["within"])


_MISSING = np.zeros(())  # an array that is not there: of no shape that is wanted


def _blank_within(width: int) -> Doubles:
    blank = np.zeros((5, width))
    blank[_FACTOR] = 1.0
    return blank


def _wider(within: Doubles, width: int) -> Doubles:
    """The same for at least so many features."""
    if within.shape[1] >= width:
        return within
    wide = _blank_within(width)
    wide[:, : within.shape[1]] = within
    return wide


def _counted(within: Doubles) -> Doubles:
    found = _blank_within(within.shape[1])
    found[:2] = within[:2] * within[_FACTOR] + within[_SQUARES:]
    return found

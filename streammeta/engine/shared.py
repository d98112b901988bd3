"""What all tasks share: θ with its optimizer, and the normalization. It changes only between two parts of a batch."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.scale import (
    FrameScale,
    SharedScale,
    dump_scale,
    has_moved,
    load_scale,
    moved_scale,
    placed_scale,
    shared_frame,
    wider_scale,
)
from streammeta.engine.snapshot import saved_array
from streammeta.engine.sums import PartitionSums, SumsRecord
from streammeta.errors import ConfigError, SnapshotError
from streammeta.event import LabelValue
from streammeta.meta.base import Axes, Ints, MetaState, Method, Scaling, Theta
from streammeta.meta.names import Slot
from streammeta.meta.outer import arranged, grow_outer, placed, start_outer

__all__ = ["Names", "Shared", "device"]

_FIRST_SCALING = 1  # events after which features and targets are normalized for the first time
_SCALING_GROWTH = 1.25  # and again each time their number has grown so much
_NEVER = 2**62
# Events and labels in all partitions after which units that are new or far off are looked for: (in the first of them,
# after). In a service each is a cut in what is worked off together: 64 would cost a quarter of its speed, 512 nothing.
_NOTICE_FIRST, _NOTICE_EVERY, _NOTICE_LATER = 8192, 64, 512
_GPUS = ("nvidia[0-9]*", "dxg", "kfd")  # in /dev: NVIDIA's, by Windows, AMD's
_LARGEST_WEIGHT = 1e6  # of θ; learned ones stay below 100, and much larger ones make predictions that are no numbers
_NOTICEABLE = 0.01  # of a feature's spread; smaller changes of the normalization are not worth a change


class Names(NamedTuple):
    """Features and outputs in some order, with the number that each has here; −1: none."""

    slots: Sequence[Slot]
    outputs: Sequence[LabelValue]
    features_here: Sequence[int] = ()
    outputs_here: Sequence[int] = ()


class Shared:
    """θ, as the event path reads it (``weights``), and the scale of all tasks (``frame``).

    The inputs of θ are the features, and after them the own views of those slots that have any, where the learner
    wants them so.

    Args:
        method: the learner.
        sums: what the scale is read from.
        classify: labels are classes.

    Attributes:
        reference: the scale when all tasks were to be looked at again for the last time.
        size: how many features and outputs it knows.
        version: of θ: how often it was changed.
        stamp: of what φ is derived under: the same number only for the same θ and normalization, in any process.
        next_scaling: events and labels in all partitions at which the normalization is read again.
    """

    def __init__(self, method: Method, sums: PartitionSums, *, classify: bool) -> None:
        self._method, self._sums, self._classify = method, sums, classify
        self._own: tuple[int, ...] = ()  # slots with own views and a second float32, in the order they came by them
        self._layout = (0, 0)  # features and own views of θ's inputs
        self._layouts: dict[int, tuple[int, int]] = {}  # of former θ, by its inputs
        self._slots: tuple[Slot, ...] = ()
        self._outputs: tuple[LabelValue, ...] = ()
        self.size = 0, 0
        self._start: Theta | None = None  # as ``start`` returns it
        self.version = 0
        self.next_scaling = _FIRST_SCALING
        self._is_scaled = False  # the normalization was read, or taken from elsewhere
        self.state = start_outer(method.init())
        self.reference = shared_frame(0, classify=classify).shared
        self._epoch = 0
        self.frame = self._framed(self.reference)
        self.weights: Any = None
        self._theta_id = self._scaling_id = 0  # as they began; else of their content, when they were changed
        self.stamp = 0
        self._compile()

    def start(self) -> Theta:
        """θ as it would be without any meta-update."""
        if self._start is None:
            self._start = self._method.grow(self._method.init(), self._inputs(self._slots, self._own), self._outputs)
        return self._start

    def grow(self, slots: Sequence[Slot], outputs: Sequence[LabelValue]) -> bool:
        """Widen for features and outputs seen for the first time, and say whether that was needed.

        What was there is unchanged; new features are not normalized yet, and new outputs are 0.
        """
        if self.size == (len(slots), len(outputs)):
            return False
        self._slots, self._outputs, self._start = tuple(slots), tuple(outputs), None
        self.size = len(slots), len(outputs)
        self.state = self._grown(self.state)
        self.frame = self._framed(wider_scale(self.frame.shared, len(slots)))
        self._compile()
        return True

    def give_own_views(self, slots: Sequence[int]) -> bool:
        """From now on these features may have views of a task's own, and say whether any could not before."""
        fresh = [slot for slot in dict.fromkeys(slots) if slot not in self._own]
        if not fresh:
            return False
        self._own, self._start = (*self._own, *fresh), None
        self.state = self._grown(self.state)
        self.frame = self._framed(self.frame.shared)
        self._compile()
        return True

    @property
    def own(self) -> list[int]:
        """The slots that have own views and a second float32."""
        return list(self._own)

    def copy(self) -> "Shared":
        """A copy that may grow; what it does not change it has in common with this one."""
        other = copy(self)
        other._layouts = dict(self._layouts)
        return other

    @property
    def scaling_id(self) -> int:
        """Of the normalization in force."""
        return self._scaling_id

    @property
    def until_notice(self) -> int:
        """Events and labels until ``rescale`` looks for units again, ≥ 1."""
        seen = self._sums.total
        every = _NOTICE_EVERY if seen < _NOTICE_FIRST else _NOTICE_LATER
        return every - seen % every

    @property
    def notices(self) -> bool:
        """Whether ``rescale`` looks for units now."""
        seen = self._sums.total
        return seen % (_NOTICE_EVERY if seen <= _NOTICE_FIRST else _NOTICE_LATER) == 0

    def rescale(self, categories: npt.NDArray[np.bool_]) -> None:
        """Read the normalization again, where it is due.

        In between, every 64 events, later every 512, a number gets a unit that has none yet (it came late, or was
        always the same), or that has left its own: else it would say nothing until the stream is a quarter longer.
        """
        seen, old = self._sums.total, self.frame.shared
        if self.next_scaling == _NEVER or not (seen >= self.next_scaling or self.notices):
            return
        fresh = wider_scale(self._sums.read(categories), len(self._slots))
        if seen < self.next_scaling:
            fresh = moved_scale(old, fresh)
        else:
            self.next_scaling, self._is_scaled = max(int(seen * _SCALING_GROWTH), seen + 1), True
        reference = wider_scale(self.reference, fresh.shift.size)
        if has_moved(fresh, reference):
            self.reference = fresh
            self._epoch = _scaling_id(fresh)
        if _differ(fresh, old):
            self.frame, self._scaling_id = self._framed(fresh), _scaling_id(fresh)
            self._compile()
        else:  # what only looks read
            crowd = {name: getattr(fresh, name) for name in ("typical", "company", "y_typical")}
            self.frame = self._framed(old._replace(**crowd))

    def go_on_with(self, records: Sequence[SumsRecord]) -> None:
        """Partitions with these sums have become ours: normalize as who had them did, unless we do already."""
        if not records or self._is_scaled or self.next_scaling == _NEVER:
            return
        newest = max(records, key=lambda record: record.next_scaling)
        self.reference, self._scaling_id = wider_scale(newest.reference, len(self._slots)), newest.scaling_id
        self._epoch = newest.epoch
        self.frame = self._framed(wider_scale(newest.scale, len(self._slots)))
        self.next_scaling, self._is_scaled = newest.next_scaling, True
        self._compile()

    def adopt(self, state: MetaState) -> None:
        """Go on with this θ; it may be of a time when there were fewer features or classes."""
        self.state, self.version = self._grown(state), self.version + 1
        self._theta_id = _id(*state.theta.values())
        self._compile()

    def replace(self, theta: Theta, version: int, theta_id: int, inputs: Ints, outputs: Ints) -> None:
        """Go on with a θ of another process of whose names we have all: it is as ``take``, and quick.

        Args:
            theta: in the order of that process.
            version: of it.
            theta_id: likewise.
            inputs: the input here of each input there; −1: none.
            outputs: likewise.
        """
        axes = self._method.axes(theta)
        self.state = self.state._replace(theta=placed(theta, self.state.theta, axes, (inputs, outputs)))
        self.version, self._theta_id = version, theta_id
        self._compile()

    def grown(self, state: MetaState) -> Theta:
        """θ of now or of before, for the features, own views and outputs of now."""
        return self._grown(state).theta

    def dump(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Plain values and arrays from which ``load`` makes the same."""
        header: dict[str, Any] = {
            "outputs": len(self._outputs),
            "version": self.version,
            "theta_id": self._theta_id,
            "scaling_id": self._scaling_id,
            "next_scaling": self.next_scaling,
            "updates": self.state.updates,
            "own": list(self._own),
            "epoch": self._epoch,
        }
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, scale in (("scale", self.frame.shared), ("reference", wider_scale(self.reference, len(self._slots)))):
            arrays[f"{name}.features"], arrays[f"{name}.target"] = dump_scale(scale)
        arrays |= {f"theta.{name}": p for name, p in self.state.theta.items()}
        arrays |= {"outer.first": self.state.first, "outer.second": self.state.second}
        return header, arrays

    def load(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], names: Names) -> None:
        """Become what ``dump`` described; raises SnapshotError when it is of another learner."""
        self._slots, self._outputs, self._start = tuple(names.slots), tuple(names.outputs), None
        self.size = len(names.slots), len(names.outputs)
        self._own = tuple(_checked_own(header["own"], len(self._slots)))
        self.state = self._checked(header, arrays, self.start())
        self._layout, self._layouts = (len(self._slots), len(self._own)), {}
        self.version, self.next_scaling, self._is_scaled = header["version"], header["next_scaling"], True
        self._theta_id, self._scaling_id = header["theta_id"], header["scaling_id"]
        self._epoch, self.reference = header["epoch"], self._scale_of("reference", arrays)
        self.frame = self._framed(wider_scale(self._scale_of("scale", arrays), len(self._slots)))
        self._strictly(self._compile)

    def check(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], names: Names) -> None:
        """Raise SnapshotError unless ``take`` can go on with this θ; nothing here changes.

        Args:
            header: as ``dump`` has it.
            arrays: likewise.
            names: of features and outputs there.
        """
        inputs = self._inputs(names.slots, _checked_own(header["own"], len(names.slots)))
        state = self._checked(header, arrays, self._method.grow(self._method.init(), inputs, names.outputs))
        for name in ("reference", "scale"):
            self._scale_of(name, arrays)
        affine = np.zeros(len(inputs), np.float32), np.ones(len(inputs), np.float32), 0.0, 1.0
        self._strictly(lambda: self._method.compile(state.theta, Scaling(*affine, False)))

    def _strictly(self, compute: Callable[[], object]) -> None:
        """Compute from what came from elsewhere; raises SnapshotError where numbers become too large."""
        try:
            with np.errstate(over="raise", invalid="raise"):
                compute()
        except (FloatingPointError, OverflowError) as err:
            raise SnapshotError(f"the saved weights are too large to compute with ({err}); delete them") from err

    def take(
        self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], names: Names, *, fixed: bool
    ) -> None:
        """Go on with a θ of another process, by the names of features and outputs.

        Args:
            header: as ``dump`` has it.
            arrays: likewise.
            names: of features and outputs there, and their numbers here.
            fixed: whether the normalization is taken with it, and stays.

        Raises:
            SnapshotError: it is of another learner, or damaged, as ``check`` finds before.
        """
        own = _checked_own(header["own"], len(names.slots))
        theirs = self._method.grow(self._method.init(), self._inputs(names.slots, own), names.outputs)
        state = self._checked(header, arrays, theirs)
        features, outputs = (np.array(numbers, np.int64) for numbers in (names.features_here, names.outputs_here))
        self.give_own_views([int(slot) for slot in features[own] if slot >= 0])
        inputs = self.inputs_here(features, own)
        if _are_first(inputs, outputs) and not own:
            self._layout = (len(names.slots), 0)
        else:
            state = arranged(state, self.start(), self._method.axes(theirs), inputs, outputs)
            self._layout = (len(self._slots), len(self._own))
        self._layouts = {}
        self.state, self.version, self._theta_id = self._grown(state), header["version"], header["theta_id"]
        if fixed:
            self._scaling_id, self._epoch = header["scaling_id"], header["epoch"]
            self.reference = placed_scale(self._scale_of("reference", arrays), features, len(self._slots))
            self.frame = self._framed(placed_scale(self._scale_of("scale", arrays), features, len(self._slots)))
            self.next_scaling = _NEVER
        self._strictly(self._compile)

    def inputs_here(self, features: Ints, own: Sequence[int]) -> Ints:
        """The input of θ here of each input of another θ; −1: none.

        Args:
            features: the slot here of each slot there; −1: none.
            own: the slots there that have own views, in their order.
        """
        if not (self._method.has_own_inputs and own):
            return features
        place = {slot: len(self._slots) + k for k, slot in enumerate(self._own)}
        return np.append(features, np.array([place.get(slot, -1) for slot in features[own].tolist()], np.int64))

    def _checked(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], like: Theta) -> MetaState:
        """θ and optimizer from elsewhere, of the shapes of ``like``."""
        size = (sum(p.size for p in like.values()),)
        _check_arrays(arrays, {f"theta.{name}": tuple(p.shape) for name, p in like.items()})
        _check_arrays(arrays, {"outer.first": size, "outer.second": size})
        for name in like:
            largest = float(np.abs(arrays[f"theta.{name}"]).max(initial=0.0))
            if largest > _LARGEST_WEIGHT:
                raise SnapshotError(
                    f"the saved weights are too large to predict with ({name} reaches {largest:.1e}, wanted at most "
                    f"{_LARGEST_WEIGHT:.0e}); delete them"
                )
        theta = {name: arrays[f"theta.{name}"].copy() for name in like}
        moments = [arrays[name].copy() for name in ("outer.first", "outer.second")]
        return MetaState(theta, moments[0], moments[1], header["updates"])

    def _scale_of(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> SharedScale:
        features = saved_array(arrays, f"{name}.features", (5, None), np.float64)
        target = saved_array(arrays, f"{name}.target", (4, 1), np.float64)
        return load_scale(features, target, f"the saved weights, {name}")

    def _grown(self, state: MetaState) -> MetaState:
        """θ of now or of before, for the features, own views and outputs of now: own views stand after all features."""
        inputs, now = self._inputs(self._slots, self._own), (len(self._slots), len(self._own))
        had = self._layouts.get(self._count(state.theta), self._layout)
        self._layouts[len(inputs)] = self._layout = now
        if not had[1] or had[0] == now[0] or not self._method.has_own_inputs:
            grown = grow_outer(state, self._method.grow(state.theta, inputs, self._outputs))
        else:
            places = np.array([*range(had[0]), *range(now[0], now[0] + had[1])], np.int64)
            outputs = np.arange(_outputs(state.theta, self._method.axes(state.theta)))
            grown = arranged(state, self.start(), self._method.axes(state.theta), places, outputs)
            grown = grow_outer(grown, self._method.grow(grown.theta, inputs, self._outputs))
        return self._with_views(grown, range(had[1], now[1]))

    def _with_views(self, state: MetaState, fresh: range) -> MetaState:
        """θ in which these own views begin with the weights of the features that they are views of."""
        if not self._method.has_own_inputs or not fresh:
            return state
        theta, features = dict(state.theta), len(self._slots)
        for name, axis in self._method.axes(state.theta).items():
            if axis.features is not None:
                rows = np.moveaxis(theta[name].copy(), axis.features, 0)
                for k in fresh:
                    rows[axis.before + features + k] = rows[axis.before + self._own[k]]
                theta[name] = np.ascontiguousarray(np.moveaxis(rows, 0, axis.features))
        return state._replace(theta=theta)

    def _count(self, theta: Theta) -> int:
        """How many inputs θ has."""
        for name, axis in self._method.axes(theta).items():
            if axis.features is not None:
                return int(theta[name].shape[axis.features]) - axis.before
        return -1

    def _inputs(self, slots: Sequence[Slot], own: Sequence[int]) -> list[Slot]:
        """The inputs of θ by name: features, and own views of some, which begin as these features do."""
        return [*slots, *([slots[slot] for slot in own] if self._method.has_own_inputs else [])]

    def _framed(self, shared: SharedScale) -> FrameScale:
        own = np.array(self._own, np.int64)
        return FrameScale(shared, own, self._epoch, beside=self._method.has_own_inputs, classify=self._classify)

    def _compile(self) -> None:
        inputs = self.frame.inputs
        affine = np.zeros(inputs, np.float32), np.ones(inputs, np.float32), 0.0, 1.0
        self.weights = self._method.compile(self.state.theta, Scaling(*affine, bool(self.frame.shared.y_known[0])))
        self.stamp = _id(np.array([self._theta_id, self._scaling_id]))


def _id(*arrays: npt.NDArray[Any]) -> int:
    """A number of 52 bits for what these arrays hold."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(found.digest(), "little") >> 12


def _scaling_id(scale: SharedScale) -> int:
    return _id(scale.shift, scale.gain, scale.y_shift, scale.y_gain)


def _checked_own(own: Sequence[int], features: int) -> list[int]:
    """Slots with own views, from elsewhere."""
    if len(set(own)) < len(own) or not all(0 <= slot < features for slot in own):
        raise SnapshotError(f"the saved weights have own views of slots {own}, wanted some of {features} slots")
    return list(own)


def _outputs(theta: Theta, axes: Axes) -> int:
    """How many outputs θ has."""
    along = [(name, axis.outputs, axis.before) for name, axis in axes.items()]
    return next((theta[name].shape[axis] - before for name, axis, before in along if axis is not None), 0)


def _are_first(*numbers: Ints) -> bool:
    """Whether what has a number elsewhere has the same here."""
    return all((each == np.arange(each.size)).all() for each in numbers)


def _check_arrays(arrays: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise SnapshotError unless these arrays are there, of this shape, and finite."""
    for name, shape in wanted.items():
        found = arrays.get(name)
        if found is None or found.shape != shape:
            came = "none" if found is None else f"one of shape {found.shape}"
            raise SnapshotError(f"the saved weights have {came} as {name}, wanted {shape}, as these settings say")
        if found.dtype not in (np.float32, np.float64) or not np.isfinite(found).all():
            raise SnapshotError(
                f"the saved weights have {name} of {found.dtype} with bad numbers; wanted finite floats"
            )


def _differ(one: SharedScale, other: SharedScale) -> bool:
    """Whether some feature, or the target, would look different by more than a hundredth of its spread."""
    shift = np.append(one.shift - other.shift, one.y_shift - other.y_shift)
    gain, former = np.append(one.gain, one.y_gain), np.append(other.gain, other.y_gain)
    return bool(
        (np.abs(shift) * gain > _NOTICEABLE).any()
        or (np.abs(gain / former - 1) > _NOTICEABLE).any()
        or (np.append(one.known, one.y_known) != np.append(other.known, other.y_known)).any()
    )


def device(name: str) -> str:
    """Where meta-updates run; "auto" is a GPU when there is one. PyTorch is imported only where one may be.

    Raises:
        ConfigError: there is no such device here, or no PyTorch to use it.
    """
    if name == "cpu" or (name == "auto" and not any(map(_exists, _GPUS))):
        return "cpu"
    try:
        import torch  # noqa: PLC0415  two seconds and 600 MB, for who has a GPU

        from streammeta.meta.autograd import check_device  # noqa: PLC0415
    except ImportError as err:
        if name == "auto":
            return "cpu"
        raise ConfigError(
            f"[learner] device: {name!r} wants PyTorch, which is not installed; install torch, or use cpu"
        ) from err
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return check_device(name)


def _exists(pattern: str) -> bool:
    return any(Path("/dev").glob(pattern))

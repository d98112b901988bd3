"""What all tasks share: θ with its optimizer, and the normalization. It changes only between two parts of a batch."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.sums import PartitionSums, SumsRecord
from streammeta.errors import ConfigError, SnapshotError
from streammeta.event import LabelValue
from streammeta.meta.base import Ints, MetaState, Method, Scaling, Theta
from streammeta.meta.names import Slot
from streammeta.meta.outer import arranged, grow_outer, start_outer

__all__ = ["Names", "Shared", "device"]

_FIRST_SCALING = 8  # events after which features are normalized for the first time
_SCALING_GROWTH = 1.25  # and again each time their number has grown so much
_NEVER = 2**62
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
    """θ, the normalization, and both as the event path reads them (``weights``).

    Args:
        method: the learner.
        sums: what the normalization is read from.

    Attributes:
        version: of θ: how often it was changed.
        stamp: of what φ is derived under: the same number only for the same θ and normalization, in any process.
        next_scaling: events and labels in all partitions at which the normalization is read again.
    """

    def __init__(self, method: Method, sums: PartitionSums) -> None:
        self._method, self._sums = method, sums
        self._slots: tuple[Slot, ...] = ()
        self._outputs: tuple[LabelValue, ...] = ()
        self._start: Theta | None = None  # as ``start`` returns it
        self.version = 0
        self.next_scaling = _FIRST_SCALING
        self._is_scaled = False  # the normalization was read, or taken from elsewhere
        self.state = start_outer(method.init())
        self.scaling = sums.read(np.zeros(0, np.bool_))
        self.weights: Any = None
        self._theta_id = self._scaling_id = 0  # as they began; else of their content, when they were changed
        self.stamp = 0
        self._compile()

    def start(self) -> Theta:
        """θ as it would be without any meta-update."""
        if self._start is None:
            self._start = self._method.grow(self._method.init(), self._slots, self._outputs)
        return self._start

    def grow(self, slots: Sequence[Slot], outputs: Sequence[LabelValue]) -> bool:
        """Make room for features and outputs seen for the first time, and say whether that was needed.

        What was there is unchanged; new features are not normalized yet, and new outputs are 0.
        """
        if self._is_large_enough(slots, outputs):
            return False
        self._slots, self._outputs, self._start = tuple(slots), tuple(outputs), None
        self.state = self._grown(self.state)
        self.scaling = _wider(self.scaling, len(slots))
        self._compile()
        return True

    def weights_for(self, slots: Sequence[Slot], outputs: Sequence[LabelValue]) -> Any:  # noqa: ANN401 each method has its own
        """The weights as ``grow`` would leave them; nothing here changes."""
        if self._is_large_enough(slots, outputs):
            return self.weights
        theta = self._method.grow(self.state.theta, slots, outputs)
        return self._method.compile(theta, _wider(self.scaling, len(slots)))

    def _is_large_enough(self, slots: Sequence[Slot], outputs: Sequence[LabelValue]) -> bool:
        return (len(slots), len(outputs)) == (len(self._slots), len(self._outputs))

    @property
    def scaling_id(self) -> int:
        """Of the normalization in force."""
        return self._scaling_id

    @property
    def until_scaling(self) -> int:
        """Events and labels until the normalization is read again."""
        return self.next_scaling - self._sums.total

    def rescale(self, categories: npt.NDArray[np.bool_]) -> None:
        """Read the normalization again, where it is due."""
        seen = self._sums.total
        if seen < self.next_scaling:
            return
        self.next_scaling, self._is_scaled = max(int(seen * _SCALING_GROWTH), seen + 1), True
        fresh = _wider(self._sums.read(categories), len(self._slots))
        if _differ(fresh, self.scaling):
            self.scaling, self._scaling_id = fresh, _scaling_id(fresh)
            self._compile()

    def go_on_with(self, records: Sequence[SumsRecord]) -> None:
        """Partitions with these sums have become ours: normalize as who had them did, unless we do already."""
        if not records or self._is_scaled or self.next_scaling == _NEVER:
            return
        newest = max(records, key=lambda record: record.next_scaling)
        self.scaling, self._scaling_id = _wider(newest.scaling, len(self._slots)), newest.scaling_id
        self.next_scaling, self._is_scaled = newest.next_scaling, True
        self._compile()

    def adopt(self, state: MetaState) -> None:
        """Go on with this θ; it may be of a time when there were fewer features or classes."""
        self.state, self.version = self._grown(state), self.version + 1
        self._theta_id = _id(*state.theta.values())
        self._compile()

    def dump(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Plain values and arrays from which ``load`` makes the same."""
        header: dict[str, Any] = {
            "outputs": len(self._outputs),
            "version": self.version,
            "theta_id": self._theta_id,
            "scaling_id": self._scaling_id,
            "next_scaling": self.next_scaling,
            "updates": self.state.updates,
            "y_affine": [self.scaling.y_shift, self.scaling.y_spread],
        }
        arrays: dict[str, npt.NDArray[Any]] = {"scaling.shift": self.scaling.shift, "scaling.gain": self.scaling.gain}
        arrays |= {f"theta.{name}": p for name, p in self.state.theta.items()}
        arrays |= {"outer.first": self.state.first, "outer.second": self.state.second}
        return header, arrays

    def load(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], names: Names) -> None:
        """Become what ``dump`` described; raises SnapshotError when it is of another learner."""
        self._slots, self._outputs, self._start = tuple(names.slots), tuple(names.outputs), None
        self.state = self._checked(header, arrays, self.start())
        self.version, self.next_scaling, self._is_scaled = header["version"], header["next_scaling"], True
        self._theta_id, self._scaling_id = header["theta_id"], header["scaling_id"]
        self.scaling = _wider(self._scaling_of(header, arrays), len(self._slots))
        self._strictly(self._compile)

    def check(
        self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], names: Names, *, fixed: bool
    ) -> None:
        """Raise SnapshotError unless ``take`` can go on with this θ; nothing here changes.

        Args:
            header: as ``dump`` has it.
            arrays: likewise.
            names: of features and outputs there.
            fixed: whether the normalization is to be taken with it.
        """
        state = self._checked(header, arrays, self._method.grow(self._method.init(), names.slots, names.outputs))
        scaling = self._scaling_of(header, arrays)
        if scaling.shift.size > len(names.slots):
            raise SnapshotError(f"the saved weights normalize {scaling.shift.size} features, wanted {len(names.slots)}")
        same = _wider(scaling if fixed else scaling._replace(y_shift=0.0, y_spread=1.0), len(names.slots))
        self._strictly(lambda: self._method.compile(state.theta, same))

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
        theirs = self._method.grow(self._method.init(), names.slots, names.outputs)
        state = self._checked(header, arrays, theirs)
        features, outputs = (np.array(numbers, np.int64) for numbers in (names.features_here, names.outputs_here))
        if not _are_first(features, outputs):
            state = arranged(state, self.start(), self._method.axes(theirs), features, outputs)
        self.state, self.version, self._theta_id = self._grown(state), header["version"], header["theta_id"]
        if fixed:
            self._scaling_id = header["scaling_id"]
            self.scaling = _placed(self._scaling_of(header, arrays), features, len(self._slots))
            self.next_scaling = _NEVER
        self._strictly(self._compile)

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

    def _scaling_of(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Scaling:
        features = arrays["scaling.shift"].size if "scaling.shift" in arrays else 0
        _check_arrays(arrays, {"scaling.shift": (features,), "scaling.gain": (features,)})
        return Scaling(arrays["scaling.shift"].copy(), arrays["scaling.gain"].copy(), *header["y_affine"])

    def _grown(self, state: MetaState) -> MetaState:
        return grow_outer(state, self._method.grow(state.theta, self._slots, self._outputs))

    def _compile(self) -> None:
        self.weights = self._method.compile(self.state.theta, self.scaling)
        self.stamp = _id(np.array([self._theta_id, self._scaling_id]))


def _id(*arrays: npt.NDArray[Any]) -> int:
    """A number of 52 bits for what these arrays hold."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(found.digest(), "little") >> 12


def _scaling_id(scaling: Scaling) -> int:
    return _id(scaling.shift, scaling.gain, np.array([scaling.y_shift, scaling.y_spread]))


def _are_first(*numbers: Ints) -> bool:
    """Whether what has a number elsewhere has the same here."""
    return all((each == np.arange(each.size)).all() for each in numbers)


def _placed(scaling: Scaling, numbers: Ints, features: int) -> Scaling:
    """A normalization of another order in ours; features that it does not have keep their own unit."""
    known = np.flatnonzero(numbers >= 0)
    shift, gain = np.zeros(features, np.float32), np.ones(features, np.float32)
    shift[numbers[known]], gain[numbers[known]] = scaling.shift[known], scaling.gain[known]
    return scaling._replace(shift=shift, gain=gain)


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


def _wider(scaling: Scaling, features: int) -> Scaling:
    """The same normalization for more features; the new ones keep their own unit."""
    fresh = features - scaling.shift.size
    shift = np.concatenate([scaling.shift, np.zeros(fresh, np.float32)])
    return scaling._replace(shift=shift, gain=np.concatenate([scaling.gain, np.ones(fresh, np.float32)]))


def _differ(one: Scaling, other: Scaling) -> bool:
    """Whether some feature, or the target, would look different by more than a hundredth of its spread."""
    shift = np.append(one.shift - other.shift, one.y_shift - other.y_shift)
    gain, former = np.append(one.gain, 1 / one.y_spread), np.append(other.gain, 1 / other.y_spread)
    return bool((np.abs(shift) * gain > _NOTICEABLE).any() or (np.abs(gain / former - 1) > _NOTICEABLE).any())


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

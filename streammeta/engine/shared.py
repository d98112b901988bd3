"""What all tasks share: θ with its optimizer, and the normalization. It changes only between two parts of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streammeta.engine.features import RunningScaling
from streammeta.errors import ConfigError, SnapshotError
from streammeta.meta.base import Floats, MetaState, Method, Scaling, Theta
from streammeta.meta.outer import grow_outer, start_outer

__all__ = ["Shared", "device"]

_FIRST_SCALING = 8  # events after which features are normalized for the first time
_SCALING_GROWTH = 1.25  # and again each time their number has grown so much
_NEVER = 2**62
_NOTICEABLE = 0.01  # of a feature's spread; smaller changes of the normalization are not worth a change


class Shared:
    """θ, the normalization, and both as the event path reads them (``weights``)."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._running = RunningScaling()
        self._fan_in: list[int] = []
        self._outputs = 0
        self._start: Theta | None = None  # as ``start`` returns it
        self.version = 0  # changes of θ or of the normalization so far
        self.next_scaling = _FIRST_SCALING  # at this many events
        self._scaling_due = _FIRST_SCALING  # while following: when it would be, if we led
        self.follows = False  # another process changes θ and the normalization
        self.state = start_outer(method.init())
        self.scaling = self._running.read(np.zeros(0, np.bool_))
        self.weights: Any = None
        self._compile()

    def start(self) -> Theta:
        """θ as it would be without any meta-update."""
        if self._start is None:
            self._start = self._method.grow(self._method.init(), self._fan_in, self._outputs)
        return self._start

    def grow(self, fan_in: Sequence[int], outputs: int) -> bool:
        """Make room for features and outputs seen for the first time, and say whether that was needed.

        What was there is unchanged; new features are not normalized yet, and new outputs are 0.
        """
        if (len(fan_in), outputs) == (len(self._fan_in), self._outputs):
            return False
        self._fan_in, self._outputs, self._start = list(fan_in), outputs, None
        self.state = self._grown(self.state)
        self.scaling = _wider(self.scaling, len(fan_in))
        self._compile()
        return True

    def weights_for(self, fan_in: Sequence[int], outputs: int) -> Any:  # noqa: ANN401 each method has its own
        """The weights as ``grow`` would leave them; nothing here changes."""
        if (len(fan_in), outputs) == (len(self._fan_in), self._outputs):
            return self.weights
        theta = self._method.grow(self.state.theta, fan_in, outputs)
        return self._method.compile(theta, _wider(self.scaling, len(fan_in)))

    def observe(self, xs: Floats, ys: Floats | None) -> None:
        """Feed the running normalization with raw features [N, D] and targets, in order of arrival."""
        self._running.observe(xs)
        if ys is not None:
            self._running.observe_target(ys)

    def rescale(self, seen: int, categories: npt.NDArray[np.bool_]) -> None:
        """Read the normalization anew, when ``seen`` events say that it is time."""
        if seen < self.next_scaling:
            return
        self.next_scaling = max(int(seen * _SCALING_GROWTH), seen + 1)
        fresh = self._running.read(categories)
        if _differ(fresh, self.scaling):
            self.scaling = fresh
            self.version += 1
            self._compile()

    def adopt(self, state: MetaState) -> None:
        """Go on with this θ; it may be of a time when there were fewer features or classes."""
        self.state = self._grown(state)
        self.version += 1
        self._compile()

    def lead(self, seen: int) -> None:
        """From now on this process changes θ and the normalization, from ``seen`` events on."""
        if self.follows:
            self.follows, self.next_scaling = False, max(self._scaling_due, seen + 1)

    def follow(self) -> None:
        """From now on only another process, through ``load``, changes the normalization."""
        if not self.follows:
            self._scaling_due = self.next_scaling
        self.follows, self.next_scaling = True, _NEVER

    def dump(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Plain values and arrays from which ``load`` makes the same."""
        header: dict[str, Any] = {
            "fan_in": self._fan_in,
            "outputs": self._outputs,
            "version": self.version,
            "next_scaling": self._scaling_due if self.follows else self.next_scaling,
            "updates": self.state.updates,
            "y_affine": [self.scaling.y_shift, self.scaling.y_spread],
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "scaling.shift": self.scaling.shift,
            "scaling.gain": self.scaling.gain,
            "scaling.moments": self._running.moments,
            "scaling.target": self._running.target,
        }
        arrays |= {f"theta.{name}": tensor.detach().numpy() for name, tensor in self.state.theta.items()}
        arrays |= {"outer.first": self.state.first.numpy(), "outer.second": self.state.second.numpy()}
        return header, arrays

    def load(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described; raises SnapshotError when it is of another learner."""
        features, observed = (len(header["fan_in"]),), arrays["scaling.moments"].shape[-1:]
        wanted = self._method.grow(self._method.init(), header["fan_in"], header["outputs"])
        size = (sum(p.numel() for p in wanted.values()),)
        _check_arrays(arrays, {f"theta.{name}": tuple(p.shape) for name, p in wanted.items()})
        _check_arrays(arrays, {"outer.first": size, "outer.second": size})
        _check_arrays(arrays, {"scaling.shift": features, "scaling.gain": features})
        _check_arrays(arrays, {"scaling.moments": (3, *observed), "scaling.target": (3, 1)})
        theta = {name: torch.from_numpy(arrays[f"theta.{name}"].copy()) for name in self.state.theta}
        moments = [torch.from_numpy(arrays[name].copy()) for name in ("outer.first", "outer.second")]
        self.state = MetaState(theta, moments[0], moments[1], header["updates"])
        self._fan_in, self._outputs, self._start = header["fan_in"], header["outputs"], None
        self.version, self._scaling_due = header["version"], header["next_scaling"]
        self.next_scaling = _NEVER if self.follows else self._scaling_due
        self._running.moments, self._running.target = arrays["scaling.moments"].copy(), arrays["scaling.target"].copy()
        y_shift, y_spread = header["y_affine"]
        shift, gain = arrays["scaling.shift"].copy(), arrays["scaling.gain"].copy()
        self.scaling = self.scaling._replace(shift=shift, gain=gain, y_shift=y_shift, y_spread=y_spread)
        with np.errstate(over="raise", invalid="raise"):
            self._compile()

    def _grown(self, state: MetaState) -> MetaState:
        return grow_outer(state, self._method.grow(state.theta, self._fan_in, self._outputs))

    def _compile(self) -> None:
        self.weights = self._method.compile(self.state.theta, self.scaling)


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


def device(name: str) -> torch.device:
    """Where meta-updates run; "auto" is a GPU when there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as err:
        raise ConfigError(
            f"[learner] device: {name!r} cannot be used here; wanted auto, cpu or an existing GPU"
        ) from err
    return found

"""What every meta-learning method offers: a tuple of functions over visible state.

θ (theta) is shared by all tasks and meta-learned: a dict of named arrays. φ (phi) is the fast state of the tasks: a
dict of named arrays whose leading dimension counts task rows. The engine owns φ; a method's ``run``, ``restart`` and
``rebuild`` write into the rows they are given, and into nothing else.

Shapes: N rows or events, D features, C outputs (classes, or 1 for regression), L events a segment, B segments, E
members of an ensemble.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.event import LabelValue
from streammeta.meta.names import Slot
from streammeta.meta.settings import Kind

__all__ = [
    "Axes",
    "Axis",
    "Episodes",
    "Floats",
    "Forget",
    "Gradient",
    "Ints",
    "Kind",
    "MetaState",
    "Method",
    "Phi",
    "Predictions",
    "Scaling",
    "Theta",
    "Windows",
]

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Gradient: TypeAlias = Callable[["Theta", "Episodes", str], tuple[float, "Theta"]]
Theta: TypeAlias = dict[str, npt.NDArray[np.floating]]
Phi: TypeAlias = dict[str, npt.NDArray[Any]]


class Forget(Enum):
    """How much of φ a change of a task's concept makes a learner forget."""

    PART = "part"  # what remembers long is kept, and the learner finds out whether it still holds
    ALL = "all"  # as a new task


class Scaling(NamedTuple):
    """Affine normalization, fixed between two changes of θ: (value − shift) · gain.

    The engine normalizes by itself: its events come with shift 0 and gain 1.
    """

    shift: Floats  # [D]
    gain: Floats  # [D]; 1 for categories
    y_shift: float  # 0 for classes
    y_spread: float  # 1 for classes
    in_spreads: bool = False  # targets come in spreads from their mean already


class Episodes(NamedTuple):
    """Segments of consecutive labelled events of one task each, for a meta-update; every member has its own."""

    x: npt.NDArray[np.floating]  # [E, B, L, D] normalized
    y: npt.NDArray[Any]  # [E, B, L] class index (int64), or normalized target (float32)
    valid: npt.NDArray[np.floating]  # [E, B, L] 1 where there is an event, 0 where the segment is shorter
    scored: npt.NDArray[np.floating]  # [E, B, L] 1 where the loss counts; 0 in a burn-in


class Windows(NamedTuple):
    """The last labelled events of T tasks: rings of W, in which event number n lies at place n % W."""

    x: Floats  # [T, W, ≥ D] normalized
    y: Floats  # [T, W] class index, or normalized target; NaN: of a unit that is no more known
    pushed: Ints  # [T] how many there have been
    since: Ints  # [T] how many of them came since the task's last drift


class Predictions(NamedTuple):
    """What was predicted for N events, each before its label was learned."""

    mean: Floats  # [N, C] class probabilities, or [N, 1] predictive mean
    variance: Floats  # [N] predictive variance; zeros for classes


class MetaState(NamedTuple):
    """θ with what the outer optimizer remembers; a value, never changed in place."""

    theta: Theta
    first: npt.NDArray[np.floating]  # running mean of gradients, the arrays of θ one after the other in one vector
    second: npt.NDArray[np.floating]  # running mean of squared gradients, likewise
    updates: int


class Axis(NamedTuple):
    """Where features or outputs lie in a tensor of θ, one row or column each."""

    features: int | None = None  # the axis
    outputs: int | None = None
    before: int = 0  # rows along it that stand before the first feature, or output


Axes: TypeAlias = Mapping[str, Axis]  # of those tensors that have any


class Method(NamedTuple):
    """A meta-learning method for the stream."""

    members: int  # E: how many sets of segments a meta-update wants
    init: Callable[[], Theta]  # θ for no features and no outputs yet
    # (θ, features [D], outputs [C]) -> θ for these, of which it knows the first ones; what is new begins as the seed
    # and its name say. A regression has one output, whose name does not matter
    grow: Callable[[Theta, Sequence[Slot], Sequence[LabelValue]], Theta]
    axes: Callable[[Theta], Axes]  # where features and outputs lie in it
    phi_layout: Callable[
        [int, int], Mapping[str, tuple[tuple[int, ...], type[np.generic]]]
    ]  # (D, C) -> name: shape, dtype
    compile: Callable[[Theta, Scaling], Any]  # θ as the event path reads it
    # (weights, φ, rows [N], x [N, D], y [N], C): each event is predicted, and where y is no NaN it is learned, in
    # this order; rows may repeat, and predictions do not depend on how events were grouped into calls
    run: Callable[[Any, Phi, Ints, Floats, Floats, int], Predictions]
    restart: Callable[[Any, Phi, Ints, Forget], None]  # the concept of these tasks changed
    # (weights, φ, rows [N], windows [N], C): φ of each row from its window alone, place i for rows[i]
    rebuild: Callable[[Any, Phi, Ints, Windows, int], None]
    # (θ, episodes, device) -> value and gradient of the meta-objective; another device than "cpu" wants torch
    gradient: Gradient
    derived: tuple[str, ...] = ()  # parts of φ that ``rebuild`` makes, to the bit, as ``run`` did of the same events
    # (θ, episodes), both of torch's tensors -> the meta-objective, a differentiable scalar; imports torch
    loss: Callable[[Any, Any], Any] | None = None
    pace: Mapping[str, float] | None = None  # of arrays of θ whose steps are longer or shorter: the factor
    # (weights, φ, rows) -> named numbers about itself that a report draws over time; nothing where not given
    has_own_inputs: bool = False  # a task's own view of a feature is an input beside the shared one, not in its place
    # (φ, rows, factor): targets of these rows are in other spreads from now, of which one before was ``factor``;
    # 0: what is known of their errors says nothing any more
    respread: Callable[[Phi, Ints, float], None] = lambda _phi, _rows, _factor: None
    describe: Callable[[Any, Phi, Ints], Mapping[str, list[float]]] = lambda _weights, _phi, _rows: {}

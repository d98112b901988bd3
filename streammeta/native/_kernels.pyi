"""What the compiled module offers. Arrays are in C order; those that are written are changed in place."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Floats: TypeAlias = npt.NDArray[np.float32]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

def push(window_x: _Floats, window_y: _Floats, pushed: _Ints, rows: _Ints, xs: _Floats, ys: _Floats, /) -> None: ...
def gather(
    window_x: _Floats,
    window_y: _Floats,
    rows: _Ints,
    begins: _Ints,
    sizes: _Ints,
    shift: _Floats,
    gain: _Floats,
    clip: float,
    xs: _Floats,
    ys: _Floats,
    /,
) -> None: ...
def refresh(
    rows: _Ints,
    begin: int,
    rest: _Ints,
    version: _Ints,
    pushed: _Ints,
    size: int,
    share: int,
    now: int,
    stale: _Ints,
    /,
) -> tuple[int, int]: ...
def observe_moments(moments: _Doubles, xs: _Floats, outlier: float, memory: float, /) -> None: ...
def update_changepoint(runs: _Doubles, dispersion: _Doubles, x: float, hazard: float, /) -> float: ...
def exp_in_place(numbers: _Floats | _Doubles, /) -> None: ...
def log_in_place(numbers: _Floats | _Doubles, /) -> None: ...
def tanh_in_place(numbers: _Floats | _Doubles, /) -> None: ...

"""exp and log of arrays with the same bits on every processor; numpy's are other ones where it finds AVX-512."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streammeta.native import _kernels as kernels

__all__ = ["exp", "log"]

_Real = TypeVar("_Real", np.float32, np.float64)


def exp(numbers: npt.NDArray[_Real]) -> npt.NDArray[_Real]:
    """eˣ of each number, within two units in the last place.

    >>> exp(np.array([0.0, 1.0])).round(6).tolist()
    [1.0, 2.718282]
    """
    out = np.array(numbers, order="C")
    kernels.exp_in_place(out.reshape(-1))
    return out


def log(numbers: npt.NDArray[_Real]) -> npt.NDArray[_Real]:
    """log x of each number, within two units in the last place; −∞ at 0, NaN below."""
    out = np.array(numbers, order="C")
    kernels.log_in_place(out.reshape(-1))
    return out

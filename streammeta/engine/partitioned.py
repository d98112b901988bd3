"""Arrays of partitions in one mapping, NAME@NUMBER, as a snapshot holds them."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

__all__ = ["of_partitions", "together"]

_Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


def together(parts: Mapping[int, _Arrays]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of partitions, each by its partition's number and its name there, in the order of numbers.

    >>> list(together({3: {"a": []}, 1: {"a": [], "b": []}}))
    ['a@1', 'b@1', 'a@3']
    """
    return {f"{name}@{number}": array for number, part in sorted(parts.items()) for name, array in part.items()}


def of_partitions(arrays: _Arrays, begin: str) -> dict[int, dict[str, npt.NDArray[Any]]]:
    """What ``together`` joined, of names that begin so; others are left.

    >>> of_partitions({"a.x@2": [1], "a.y@2": [2], "b.x@2": [3], "a.z": [4]}, "a.")
    {2: {'a.x': [1], 'a.y': [2]}}
    """
    found: dict[int, dict[str, npt.NDArray[Any]]] = {}
    for name, array in arrays.items():
        own, at, number = name.rpartition("@")
        if at and own.startswith(begin):
            found.setdefault(int(number), {})[own] = array
    return found

"""What features and outputs are called, wherever θ goes: slots and class indices are numbers of one process only.

Two processes see names in different orders. So the first weights of a name depend on the seed and the name alone, and θ
of one order becomes θ of another by moving rows and columns (``streammeta.meta.outer.arranged``).
"""

import hashlib
import json
from typing import NamedTuple

import numpy as np

from streammeta.event import LabelValue

__all__ = ["Slot", "generator_of"]


class Slot(NamedTuple):
    """What one number of an event is: a feature, or one value of a category."""

    name: str
    value: str | None  # of a category; None: a number
    fan_in: int  # features of the event that brought it, which sets the spread of its first weights


def generator_of(seed: int, *names: LabelValue | None) -> np.random.Generator:
    """Random numbers that depend on the seed and these names alone, whatever the process, and whatever came before.

    >>> generator_of(1, "price", None).integers(100) == generator_of(1, "price", None).integers(100)
    np.True_
    """
    key = hashlib.blake2b(json.dumps([seed, *names]).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

"""What a snapshot needs beside the engine's own values: whether it belongs here, and random generators as text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streammeta.errors import SnapshotError

__all__ = ["check_fingerprint", "random_from", "random_state"]


def check_fingerprint(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise SnapshotError where a snapshot was made under other settings than those in force."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise SnapshotError(
                f"the snapshot was made with {name} = {found.get(name)!r}, the settings say {value!r}; "
                "set it back, or move the snapshot away to begin anew"
            )


def random_state(random: np.random.Generator) -> dict[str, Any]:
    """The state of a PCG64 as plain values; its 128-bit numbers as text."""
    state: Any = random.bit_generator.state
    return {**state, "state": {name: str(number) for name, number in state["state"].items()}}


def random_from(state: Mapping[str, Any]) -> dict[str, Any]:
    """What ``random_state`` described, for a bit generator to take."""
    return {**state, "state": {name: int(number) for name, number in state["state"].items()}}

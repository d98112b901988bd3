"""A snapshot's values as types: whether they belong here, and are what an engine wrote, before anything is changed.

What is damaged is refused here, by name. An error of any other kind while a state is taken over is a fault of this
program, and is not called damage.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from streammeta.bounds import Count, Size
from streammeta.errors import SnapshotError

__all__ = [
    "OF_EXPERTS",
    "OF_THETA",
    "Header",
    "check_fingerprint",
    "differing",
    "experts_of",
    "named_experts",
    "random_from",
    "random_state",
    "read_header",
]

_Digits: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,39}$")]  # a number of 128 bits
_DOUBLE = 8  # bytes
_ADVICE = "restore it from a copy"

# Of a fingerprint: what may change under a task's state, which is then adopted; what θ does not depend on
OF_EXPERTS: Final = ("learner.experts", "learner.many_classes")
OF_THETA: Final = (*OF_EXPERTS, "memory.window", "drift.detector", "drift.concepts", "drift.concept_events")


class _Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seen: Count
    events: Count
    labelled: Count
    drifts: Count
    refused: Count
    refused_updates: Count
    next_look: Count
    meta_begun: Count
    corrected: Count = 0  # not in snapshots before labels could be
    resets: Count = 0  # not in the first snapshots of format 3


class _Features(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slots: list[tuple[str, str | None, Size]]
    width: Size | None
    ignored: Count


class _Pending(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    id: str
    partition: Count
    task: str
    slots: list[Size]
    values: bytes  # float64, one a slot
    mean: bytes | None  # float64
    variance: float
    theta_version: Count
    page: Count
    parts: tuple[Annotated[int, msgspec.Meta(ge=1, le=65_536)], bytes] | None  # experts, and float64 of each
    context: tuple[Size, Size] | None = None  # a class and a count
    ts: float | None = None  # of the event, where it is needed


class _Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: list[_Pending]
    expired: Count
    replaced: Count
    forgotten: Count = 0


class _Recent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ring: list[Count]  # positions among the tasks
    alive: list[Count]


class _Pcg64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    state: _Digits
    inc: _Digits


class _Random(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bit_generator: Literal["PCG64"]
    state: _Pcg64
    has_uint32: Literal[0, 1]
    uinteger: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class _Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    outputs: Size
    version: Count
    theta_id: Count
    scaling_id: Count
    next_scaling: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    updates: Count
    own: list[Size]
    epoch: Count


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot holds beside its arrays."""

    settings: dict[str, bool | int | float | str | None]
    counts: _Counts
    features: _Features
    classes: list[int | str]
    waiting: _Waiting
    recent: _Recent
    random: _Random
    shared: _Shared
    sums: list[tuple[Count, Count]]  # partition, events seen
    tasks: list[tuple[Count, str, bytes]]
    spilled: Count
    presence: list[tuple[Count, str, Count, float, float]] = []  # partition, tag, and when it was last seen
    leaving: list[tuple[Count, str]] = []  # tasks that are forgotten and still have their rows


def read_header(header: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise SnapshotError unless an engine of the ``wanted`` settings, but for its experts, has such values."""
    settings = header.get("settings")
    if isinstance(settings, Mapping):
        check_fingerprint(settings, wanted, but=OF_EXPERTS, what="the snapshot", remedy="move the snapshot away")
    try:
        found = msgspec.convert(header, Header)
    except msgspec.ValidationError as err:
        raise SnapshotError(f"the snapshot is damaged ({err}); {_ADVICE}") from err
    for what, is_wrong in _faults(found):
        if is_wrong:
            raise SnapshotError(f"the snapshot is damaged ({what}); {_ADVICE}")


def _faults(found: Header) -> list[tuple[str, bool]]:
    """What types do not say."""
    slots, tasks, recent = len(found.features.slots), len(found.tasks), found.recent
    rows = range(found.spilled, tasks)
    return [
        ("a feature slot twice", len({slot[:2] for slot in found.features.slots}) != slots),
        ("a class twice", len(set(map(str, found.classes))) != len(found.classes)),
        ("a task twice", len({task[:2] for task in found.tasks}) != tasks),
        (
            "a task that was seen and is not there",
            not {one[:2] for one in (*found.presence, *found.leaving)} <= {task[:2] for task in found.tasks},
        ),
        ("more tasks spilled than there are", found.spilled > tasks),
        ("a recent task that is not in memory", not all(place in rows for place in (*recent.ring, *recent.alive))),
        (
            "a recent task twice",
            len(set(recent.alive)) != len(recent.alive) or set(recent.ring) - set(recent.alive) != set(),
        ),
        ("a waiting event that does not fit its slots", not all(_fits(event, slots) for event in found.waiting.events)),
    ]


def _fits(event: _Pending, slots: int) -> bool:
    mean, parts = event.mean or b"", event.parts or (1, b"")
    return (
        len(event.values) == _DOUBLE * len(event.slots)
        and max(event.slots, default=-1) < slots
        and len(mean) % _DOUBLE == 0
        and len(parts[1]) % (_DOUBLE * parts[0]) == 0
    )


def experts_of(fingerprint: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the experts that state of this fingerprint has, in their order."""
    named = named_experts(fingerprint)
    return (*named, "gaussian") if fingerprint.get("learner.many_classes") else named


def named_experts(fingerprint: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of them that a setting named."""
    return tuple(name for name in str(fingerprint.get("learner.experts", "")).split(", ") if name)


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any], *, but: Collection[str] = ()) -> str | None:
    """The first setting, but for these, of which two fingerprints say different things; None: there is none."""
    return next((name for name, value in wanted.items() if name not in but and found.get(name) != value), None)


def check_fingerprint(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    but: Collection[str],
    what: str,
    remedy: str = "take another [app] name",
) -> None:
    """Raise SnapshotError where state was made under other settings than those in force.

    Args:
        found: settings that ``what`` was made under.
        wanted: settings in force.
        but: settings that may differ.
        what: begins the message.
        remedy: what else to do than to set it back, where a new start is wanted; of records of a service.
    """
    name = differing(found, wanted, but=but)
    if name is not None:
        raise SnapshotError(
            f"{what} was made with {_as_setting(name, found.get(name))}, the settings say "
            f"{_as_setting(name, wanted[name])}; set it back, or {remedy} to start again"
        )


def _as_setting(name: str, value: object) -> str:
    """A setting as it stands in a configuration file."""
    if name == "learner.experts":
        return "learner.experts = [" + ", ".join(f'"{one}"' for one in str(value or "").split(", ") if one) + "]"
    return f"{name} = {value!r}"


def random_state(random: np.random.Generator) -> dict[str, Any]:
    """The state of a PCG64 as plain values; its 128-bit numbers as text."""
    state: Any = random.bit_generator.state
    return {**state, "state": {name: str(number) for name, number in state["state"].items()}}


def random_from(state: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What ``random_state`` described, for a bit generator to take; raises SnapshotError: ``what`` is damaged."""
    try:
        found = msgspec.to_builtins(msgspec.convert(state, _Random))
    except msgspec.ValidationError as err:
        raise SnapshotError(f"{what} damaged (random generator: {err}); {_ADVICE}") from err
    numbers = {name: int(digits) for name, digits in found["state"].items()}
    if max(numbers.values()) >= 2**128:
        raise SnapshotError(f"{what} damaged (random generator: more than 128 bits); {_ADVICE}")
    return {**found, "state": numbers}

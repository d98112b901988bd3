"""`streammeta theta`: the versions of what tasks share, and which of them is in force.

A version that somebody pins is a record of its own, `pinned`, which holds for all until it is released: whatever a
trainer publishes meanwhile does not overwrite it. Who trains stops, and goes on from the pinned version when it is
released.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from streammeta.config import Settings
from streammeta.engine.weights import About, Provenance, Weights, decode_weights, encode_weights
from streammeta.errors import ConfigError, SnapshotError, TransportError
from streammeta.service.published import PINNED, THETA, Published
from streammeta.service.result import WEIGHTS
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.transaction import Transactions

__all__ = [
    "Version",
    "differences",
    "export",
    "pinned",
    "read",
    "released",
    "take_in",
    "versions",
    "write",
]

Records: TypeAlias = Mapping[bytes, bytes | None]
_OPERATOR: Final = "operator"
_SECONDS: Final = 30.0  # for one transaction


class Version(NamedTuple):
    """A version of θ."""

    weights: Weights
    in_force: bool
    pinned: bool

    def figures(self) -> dict[str, object]:
        """What is known of it, as plain values."""
        weights, about = self.weights, self.weights.about
        return {
            "version": weights.version,
            "in_force": self.in_force,
            "pinned": self.pinned,
            "made": about.made or None,
            "by": about.by,
            "provenance": about.provenance,
            "of": about.of,
            "meta_updates": weights.shared["updates"],
            "events": weights.counts.get("seen", 0),
            "segments": about.segments,
            "held_out_loss": about.loss,
            "held_out_loss_before": about.loss_before,
            "held_out_events": about.judged,
            "features": len(weights.slots),
            "classes": len(weights.classes),
        }


def read(settings: Settings) -> Published:
    """What the application's NAME-weights holds now.

    Raises:
        TransportError: it cannot be read.
        SnapshotError: it is damaged.
    """
    topic = f"{settings.app.name}-{WEIGHTS}"
    published = Published(f"{topic}/0")
    with closing(TopicLog(settings.kafka, [topic])) as log:
        for record in log.records():
            published.note(record.key or b"", record.value)
    return published


def write(settings: Settings, records: Records) -> None:
    """Publish records of NAME-weights, all or none.

    Raises:
        TransportError: the broker does not take them.
    """
    name = settings.app.name
    with Transactions(settings.kafka, f"{name}/theta/operator", timeout_seconds=_SECONDS) as transactions:
        for key, value in records.items():
            transactions.send(f"{name}-{WEIGHTS}", value, key=key, partition=0)
        transactions.commit()


def versions(published: Published) -> list[Version]:
    """All that can be gone back to, the newest first."""
    found = {one.version: Version(one, in_force=False, pinned=False) for one in published.kept()}
    in_force = published.theta
    for one in (published.learned, in_force):
        if one is not None:
            is_in_force = in_force is not None and one.version == in_force.version
            found[one.version] = Version(one, is_in_force, is_in_force and published.is_pinned)
    return [found[number] for number in sorted(found, reverse=True)]


def pinned(published: Published, version: int | None, now: float) -> Records:
    """The records by which an earlier version, as a new one, is in force from now on; None: the one that is.

    Raises:
        ConfigError: there is no such version any more.
    """
    chosen = _version(published, version)
    return {PINNED: encode_weights(_as_new(published, chosen, now, "rollback", chosen.version))}


def take_in(published: Published, value: bytes, at: str, now: float) -> Records:
    """The records by which a θ from a file is in force, where members do not find it clearly worse on their own tasks.

    Raises:
        SnapshotError: it is no θ, or of other settings.
    """
    try:
        given, here = decode_weights(value, at), published.theta
    except SnapshotError as err:
        raise SnapshotError(
            f"{at}: {len(value)} bytes that are no θ, or damaged ({err.__cause__}); wanted a file that `streammeta "
            "theta export` of this version wrote"
        ) from err
    if here is not None and given.settings != here.settings:
        names = sorted(name for name in given.settings.keys() | here.settings if _differs(given, here, name))
        raise SnapshotError(
            f"{at}: θ was learned under other settings: {', '.join(names)}; wanted those of the application"
        )
    return {PINNED: encode_weights(_as_new(published, given, now, "import", given.version))}


def released(published: Published, now: float, *, discard: bool = False) -> Records:
    """The records by which training goes on: from the pinned θ, or (discard) from the one before it was pinned.

    Raises:
        ConfigError: nothing is pinned.
    """
    if not published.is_pinned:
        raise ConfigError("nothing is pinned, so there is nothing to release; see `streammeta theta list`")
    chosen = published.learned if discard else published.theta
    if chosen is None:
        raise ConfigError("there is no θ from before the pin to go back to; release it without --discard")
    about = chosen.about
    fresh = _as_new(published, chosen, now, about.provenance, about.of if about.of is not None else chosen.version)
    return {THETA: encode_weights(fresh), PINNED: None}


def export(published: Published, version: int | None, path: Path) -> Weights:
    """Write a version to a file that is not there yet; ``take_in`` reads it.

    Raises:
        ConfigError: there is no such version any more.
        TransportError: the file is there, or cannot be written.
    """
    chosen = _version(published, version)
    try:
        with path.open("xb") as file:
            file.write(encode_weights(chosen))
    except OSError as err:
        raise TransportError(f"{path}: cannot be written ({err}); name a file that is not there yet") from err
    return chosen


def differences(published: Published, first: int, second: int) -> Iterator[tuple[str, float, float]]:
    """How far two versions are apart: of each array of θ the norm of the difference, and of the first one's values.

    What only one of them has, features or classes that came later, is left out.
    """
    one, other = _version(published, first), _version(published, second)
    for name, mine in sorted(one.arrays.items()):
        theirs = other.arrays.get(name)
        if name.startswith("theta.") and theirs is not None:
            shared = tuple(slice(min(n, m)) for n, m in zip(mine.shape, theirs.shape, strict=True))
            yield name.removeprefix("theta."), _norm(mine[shared] - theirs[shared]), _norm(mine[shared])


def _as_new(published: Published, chosen: Weights, now: float, provenance: Provenance, of: int) -> Weights:
    """The same θ as the newest version. What was published before it is not learned again: that led away from it."""
    newest = published.learned
    positions = chosen.about.positions if newest is None else newest.about.positions
    about = About(
        made=now,
        by=_OPERATOR,
        segments=chosen.about.segments,
        positions=positions,
        provenance=provenance,
        of=of,
    )
    shared = chosen.shared | {"version": published.newest + 1}
    return replace(chosen, shared=shared, about=about)


def _version(published: Published, version: int | None) -> Weights:
    known = {one.weights.version: one.weights for one in versions(published)}
    theta = published.theta
    if version is None and theta is not None:
        return theta
    if version not in known:
        there = ", ".join(map(str, known)) or "none"
        raise ConfigError(f"θ version {version}: is not kept (any more); wanted one of {there}")
    return known[version]


def _differs(one: Weights, other: Weights, name: str) -> bool:
    return bool(one.settings.get(name) != other.settings.get(name))


def _norm(array: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> float:
    return float(np.sqrt(np.square(array, dtype=np.float64).sum()))

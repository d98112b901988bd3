"""What NAME-weights holds, read in the order of its log: θ, versions of it that are kept, a pin, and the sums.

theta          θ as who trains published it last
progress       what of that θ changes with every event, where a member trains
pinned         θ that holds instead, until this key is forgotten: nobody trains meanwhile, whatever they publish
kept:SLOT      earlier versions; SLOT is twice as old as the one before
trainer        who trains as a process of its own; who claims it last goes on, all others end
sums:PARTITION the running moments of a partition
"""

import msgspec

from streammeta.engine.weights import Progress, Weights, decode_progress, decode_weights
from streammeta.errors import SnapshotError

__all__ = ["CLAIM", "KEPT", "MEMBER", "PINNED", "PROGRESS", "SUMS", "THETA", "Claim", "History", "Published"]

THETA, PROGRESS, PINNED, CLAIM, KEPT, SUMS = b"theta", b"progress", b"pinned", b"trainer", b"kept:", b"sums:"
MEMBER = "member"  # who made a version of θ, where a member trains
_KEEP_EVERY_SECONDS = 60.0


class Claim(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Who trains, as a process of its own."""

    by: str
    since: float  # seconds since 1970


_CLAIM = msgspec.msgpack.Decoder(Claim)


class Published:
    """The state of NAME-weights, as far as it was read.

    Args:
        where: the topic's partition, for messages.

    Attributes:
        sums: of each partition, the record as it was published last.
        new_sums: partitions whose sums were published since their number was taken from here.
        is_new: another θ is in force since this was last set to False.
        newest: the highest version seen.
        damaged: why the θ published last cannot be read, where the one before stays in force; None: it can be.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._theta: Weights | None = None
        self._progress: Progress | None = None
        self.sums: dict[int, bytes] = {}
        self.new_sums: set[int] = set()
        self.is_new = False
        self.newest = 0
        self.damaged: str | None = None
        self.begin_again()

    def begin_again(self) -> None:
        """The topic is read from its beginning: what was forgotten meanwhile is not said again."""
        self._pinned: Weights | None = None
        self.claim: Claim | None = None
        self._kept: dict[int, bytes] = {}

    @property
    def theta(self) -> Weights | None:
        """θ that is in force."""
        if self._pinned is not None or self._theta is None:
            return self._pinned
        return self._theta.after(self._progress)

    @property
    def learned(self) -> Weights | None:
        """θ as who trains published it last, or who released a pin."""
        return None if self._theta is None else self._theta.after(self._progress)

    @property
    def is_pinned(self) -> bool:
        """Whether nobody is to train."""
        return self._pinned is not None

    def kept(self) -> list[Weights]:
        """Earlier versions, the newest first.

        Raises:
            SnapshotError: one of them is damaged.
        """
        found = [decode_weights(value, f"{self._where}, kept:{slot}") for slot, value in self._kept.items()]
        return sorted(found, key=lambda one: one.version, reverse=True)

    def note(self, key: bytes, value: bytes | None) -> None:
        """Note a record; the last one of each key holds, and of θ the last one that can be read.

        Raises:
            SnapshotError: it is not one of these, or damaged.
        """
        if key == PINNED:
            self._pinned = None if value is None else self._decoded(key, value)
            self.is_new = True
        elif value is None:
            self._forget(key)
        elif key == THETA:
            self._note_theta(value)
        elif key == PROGRESS:
            self._progress = decode_progress(value, f"{self._where}, progress")
        elif key == CLAIM:
            self.claim = self._claim(value)
        elif key.startswith(KEPT):
            self._kept[self._number(key, KEPT)] = value
        else:
            number = self._number(key, SUMS)
            self.sums[number] = value
            self.new_sums.add(number)

    def _note_theta(self, value: bytes) -> None:
        before = self._theta
        try:
            self._theta, self.damaged = self._decoded(THETA, value), None
        except SnapshotError as err:
            if before is None:  # there is none to go on with, and a fresh one would be a guess
                raise
            self.damaged = str(err)
            return
        if self._pinned is None:
            self.is_new |= before is None or _name(before) != _name(self._theta)

    def _forget(self, key: bytes) -> None:
        if key == CLAIM:
            self.claim = None
        elif key.startswith(KEPT):
            self._kept.pop(self._number(key, KEPT), None)

    def _decoded(self, key: bytes, value: bytes) -> Weights:
        found = decode_weights(value, self._where if key == THETA else f"{self._where}, {key.decode()}")
        self.newest = max(self.newest, found.version)
        return found

    def _claim(self, value: bytes) -> Claim:
        try:
            return _CLAIM.decode(value)
        except (msgspec.DecodeError, RecursionError) as err:
            raise SnapshotError(f"{self._where}, trainer: {len(value)} bytes that are no claim ({err})") from err

    def _number(self, key: bytes, before: bytes) -> int:
        number = key.removeprefix(before)
        if number == key or not number.isdigit() or len(number) > 9:
            raise SnapshotError(
                f"{self._where}: the key is {key!r:.100}, which streammeta did not write; wanted a topic of its own: "
                "choose another [app] name, or delete the topic if nobody needs it"
            )
        return int(number)


def _name(theta: Weights) -> tuple[int, str]:
    """What distinguishes versions: two processes that do not know of one another may give one the same number."""
    return theta.version, theta.about.by


class History:
    """Which versions are kept: one a minute at most, and of earlier ones ever fewer, so that slot n is 2ⁿ minutes old.

    Args:
        count: versions to keep; 0: none.

    >>> history = History(4)
    >>> [history.slot(60.0 * minute) for minute in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 16)]
    [0, None, 1, 0, 2, 0, 1, 0, 3, 3]
    """

    def __init__(self, count: int) -> None:
        self._count, self._last = count, -1

    def slot(self, made: float) -> int | None:
        """The slot in which a version made then (seconds since 1970) is to be kept; None: it is not."""
        minute = int(made // _KEEP_EVERY_SECONDS)
        if not self._count or minute == self._last or minute <= 0:
            return None
        self._last = minute
        return min((minute & -minute).bit_length(), self._count) - 1

    def key(self, made: float) -> bytes | None:
        """Likewise, the record's key."""
        slot = self.slot(made)
        return None if slot is None else KEPT + str(slot).encode()

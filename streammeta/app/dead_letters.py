"""`streammeta dead-letters`: what was set aside, and why; and what can be learned now, sent again.

A record that is sent again and the note that it was go in one transaction, the note into the dead letters themselves:
who looks later knows, and no record is sent twice, whatever ends this process and how many run at a time. Records
keep key, headers, time stamp and partition; they come after what followed them at first, as a late record would.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from streammeta.app.parts import decoder, label_reader
from streammeta.config import Settings
from streammeta.errors import ConfigError, EventError
from streammeta.event import KEY_HEADER, LABEL_HEADER, ORIGIN_HEADER, TIME_HEADER, Origin, Record
from streammeta.formats.refusal import kind_of
from streammeta.service.repartition import label_sender
from streammeta.service.result import DEAD_LETTERS, TIMESTAMP_HEADER
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.transaction import Transactions

__all__ = ["Choice", "Kind", "Letter", "Place", "Retried", "choose", "kinds", "letters", "read_mended", "retry"]

_PUT: Final = (ORIGIN_HEADER, KEY_HEADER, TIME_HEADER, LABEL_HEADER)  # by ourselves, when a record was sent on
_RETRIED: Final = "streammeta-retried"  # the only header of a note: which letter was sent again
_EACH_TRANSACTION: Final = 1_000  # records
_MOST_KINDS: Final = 200  # of reasons that are kept apart

Place = tuple[int, int]  # of a letter in the topic: partition, offset


class Letter(NamedTuple):
    """A record that was set aside."""

    partition: int  # of the dead letters
    offset: int
    reason: str
    origin: str  # where it came from first: topic/partition/offset
    record: Record  # as it came, but for its origin
    set_aside_at: float | None  # seconds since 1970
    label_as_it_came: bool | None = None  # of a label from a topic of its own; False: it was translated; None: of none

    @property
    def place(self) -> Place:
        """Its partition and offset."""
        return self.partition, self.offset

    @property
    def name(self) -> str:
        """How a user names it."""
        return f"{self.partition}/{self.offset}"

    def figures(self) -> dict[str, object]:
        """Ready for JSON; what is not text is in base64."""
        found: dict[str, object] = {
            "letter": self.name,
            "reason": self.reason,
            "origin": self.origin,
            "set_aside_at": self.set_aside_at,
            "timestamp": self.record.timestamp,
        }
        for name, content in (("key", self.record.key), ("value", self.record.value or b"")):
            if content is not None:
                found |= _shown(name, content)
        return found


@dataclass(slots=True)
class Kind:
    """Letters whose reasons differ in names and numbers only."""

    reason: str  # of the first
    first: str  # letter
    waiting: int = 0  # not sent again yet
    retried: int = 0
    since: float | None = None  # seconds since 1970: when the first and
    until: float | None = None  # the last was set aside

    def add(self, letter: Letter, *, retried: bool) -> None:
        """Count one."""
        self.waiting += not retried
        self.retried += retried
        if letter.set_aside_at is not None:
            self.since = min(self.since or letter.set_aside_at, letter.set_aside_at)
            self.until = max(self.until or 0.0, letter.set_aside_at)


class Choice(NamedTuple):
    """Which letters are meant."""

    places: frozenset[Place] | None = None  # these; None: all
    reason: str = ""  # and of them those whose reason holds this text

    def has(self, letter: Letter) -> bool:
        """Whether it is meant."""
        return (
            self.places is None or (letter.partition, letter.offset) in self.places
        ) and self.reason in letter.reason


@dataclass(slots=True)
class Retried:
    """What became of the letters that were meant."""

    sent: int = 0
    before: int = 0  # were sent again already
    refused: list[tuple[Letter, str]] = field(default_factory=list)  # would be set aside again, for this reason
    absent: list[Place] = field(default_factory=list)  # no such letter (any more)


def choose(names: list[str], reason: str = "") -> Choice:
    """Read names of letters, "PARTITION/OFFSET"; none: all.

    Raises:
        ConfigError: one is none.
    """
    wrong = [name for name in names if not _is_place(name)]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}: wanted PARTITION/OFFSET, as `dead-letters show` names a letter: 0/12")
    return Choice(frozenset(map(_place, names)) if names else None, reason)


def kinds(settings: Settings) -> list[Kind]:
    """Every kind of reason, the commonest first.

    Raises:
        TransportError: the dead letters cannot be read.
    """
    found: dict[str, Kind] = {}
    with closing(_log(settings)) as log:
        retried = _retried(log)
        for letter in _letters(log):
            kind = kind_of(letter.reason)
            if kind not in found and len(found) >= _MOST_KINDS:
                kind = "other reasons"
            one = found.setdefault(kind, Kind(letter.reason if kind != "other reasons" else kind, letter.name))
            one.add(letter, retried=letter.place in retried)
    return sorted(found.values(), key=lambda kind: -kind.waiting)


def letters(settings: Settings, choice: Choice, *, retried: bool = False) -> Iterator[Letter]:
    """Those that are meant, in the order of each partition.

    Args:
        settings: of the service.
        choice: which are meant.
        retried: also those that were sent again already.

    Raises:
        TransportError: the dead letters cannot be read.
    """
    with closing(_log(settings)) as log:
        gone = frozenset[Place]() if retried else _retried(log)
        for letter in _letters(log):
            if choice.has(letter) and letter.place not in gone:
                yield letter


def retry(
    settings: Settings, choice: Choice, mended: Mapping[Place, bytes] | None = None, *, send: bool = True
) -> Retried:
    """Send letters to the input topic again, each once for ever, those that would not be set aside again as they come.

    Args:
        settings: of the service.
        choice: which are meant.
        mended: other values for some of them.
        send: False: only say what would be done.

    Raises:
        TransportError: the broker refuses, or somebody else sends at the same time. What was sent before counts, and is
            not sent again by the next call.
    """
    mended, found = mended or {}, Retried(absent=sorted(choice.places or ()))
    transactions = Transactions(settings.kafka, f"{settings.app.name}/{DEAD_LETTERS}/retry") if send else None
    try:
        with closing(_log(settings)) as log:  # made after `transactions`, which ended what others of its kind had open
            sender = None if transactions is None else _Sender(transactions, settings)
            gone = _retried(log)
            checks = _Checks(settings)
            for letter in _letters(log):
                place = letter.place
                if not choice.has(letter):
                    continue
                if place in found.absent:
                    found.absent.remove(place)
                if place in gone:
                    found.before += 1
                    continue
                record = _mended(letter, mended.get(place))
                why = checks.refusal(letter, record, is_mended=place in mended)
                if why is not None:
                    found.refused.append((letter, why))
                    continue
                found.sent += 1
                if sender is not None:
                    sender.send(letter, record)
            if sender is not None:
                sender.commit()
    finally:
        if transactions is not None:
            transactions.close()
    return found


def read_mended(path: Path) -> dict[Place, bytes]:
    """Values by letter, from lines as `dead-letters show --json` writes them, edited by hand or by a program.

    Raises:
        ConfigError: the file cannot be read, or lines of it are none of these; each is named.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # a text in a line may have U+2028, which ends others' lines
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"--mended {path}: cannot be read ({err}); wanted lines of JSON in UTF-8") from err
    found: dict[Place, bytes] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            place, value = _mended_line(line, found)
            found[place] = value
        except (ValueError, TypeError, KeyError) as err:
            problems.append(
                f"--mended {path}, line {number}: {err!s:.200}; wanted an object with `letter` and `value` (or "
                "`value_base64`), as `dead-letters show --json` writes it"
            )
    if problems:
        raise ConfigError("\n".join(problems[:20]))
    return found


def _mended_line(line: str, known: Mapping[Place, bytes]) -> tuple[Place, bytes]:
    fields = json.loads(line)
    name = fields["letter"]
    if not _is_place(name):
        raise ValueError(f"`letter` is {name!r:.100}")
    if _place(name) in known:
        raise ValueError(f"letter {name} is there twice")
    return _place(name), _value(fields)


class _Checks:
    """Says why the service would set a record aside again, as far as its own decoders know.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._event = decoder(settings)
        labels = settings.labels
        self._label = None if labels.topic is None else label_sender(label_reader(settings), by_id=labels.join == "id")
        self._is_ours = labels.format == "json" and labels.fields.is_default

    def refusal(self, letter: Letter, record: Record, *, is_mended: bool) -> str | None:
        """The reason, of the record where it came from first; None: there is none."""
        record = replace(record, origin=_origin(letter))
        try:
            if letter.label_as_it_came is None:
                self._event.decode(record)
            elif self._label is None:
                return "it came from a topic of labels, and [labels] topic is not set"
            elif letter.label_as_it_came or is_mended or self._is_ours:
                (message,) = self._label(record)
                return dict(message.headers).get(LABEL_HEADER, b"").decode(errors="replace") or None
            else:
                return (
                    "the label was translated from another shape; mend it in its own, or let its source send it again"
                )
        except EventError as err:
            return str(err)
        return None


class _Sender:
    """Sends records to the topic that they came from, and notes in the dead letters which they were.

    Args:
        transactions: under a name of its own.
        settings: of the service.
    """

    def __init__(self, transactions: Transactions, settings: Settings) -> None:
        self._transactions, self._input, self._labels = transactions, settings.input.topic, settings.labels.topic
        self._letters = f"{settings.app.name}-{DEAD_LETTERS}"
        self._count = 0

    def send(self, letter: Letter, record: Record) -> None:
        topic = self._input if letter.label_as_it_came is None or self._labels is None else self._labels
        self._transactions.send(
            topic,
            record.value,
            key=record.key,
            headers=(*record.headers, (ORIGIN_HEADER, letter.origin.encode())),
            partition=self._partition(topic, letter.origin),
            timestamp=record.timestamp,
        )
        note = (_RETRIED, letter.name.encode())
        self._transactions.send(self._letters, b"", key=record.key, headers=(note,), partition=letter.partition)
        self._count += 1
        if self._count % _EACH_TRANSACTION == 0:
            self._transactions.commit()

    def commit(self) -> None:
        self._transactions.commit()

    def _partition(self, topic: str, origin: str) -> int | None:
        """Where its task's state is: the partition it came from, by whatever rule its producer chose it."""
        of, _, rest = origin.rpartition("/")[0].rpartition("/")
        return (
            int(rest) if of == topic and rest.isdigit() and int(rest) < self._transactions.partitions(topic) else None
        )


def _origin(letter: Letter) -> Origin:
    """Where it came from first, as far as its header says."""
    topic, *rest = letter.origin.rsplit("/", 2)
    if len(rest) == 2 and all(one.isdecimal() for one in rest):
        return Origin(topic, int(rest[0]), int(rest[1]))
    return letter.record.origin


def _log(settings: Settings) -> TopicLog:
    return TopicLog(settings.kafka, [f"{settings.app.name}-{DEAD_LETTERS}"])


def _retried(log: TopicLog) -> frozenset[Place]:
    """Letters that were sent again; the log is at its beginning afterwards."""
    names = (record.headers[0][1].decode() for record in log.records() if _is_note(record))
    found = frozenset(_place(name) for name in names if _is_place(name))
    log.rewind()
    return found


def _letters(log: TopicLog) -> Iterator[Letter]:
    for record in log.records():
        names = [name for name, _ in record.headers[:3]]
        if names[:2] == ["reason", "origin"]:
            yield _letter(record, stamped=names[2:] == [TIMESTAMP_HEADER])


def _letter(record: Record, *, stamped: bool) -> Letter:
    """Take off what was put before the record's own headers; letters of earlier versions have no time stamp.

    And what was put on when it was sent on by task: then its key is the task, and its own one is in a header.
    """
    (_, reason), (_, origin) = record.headers[:2]
    timestamp = float(record.headers[2][1]) if stamped else None
    given = record.headers[3 if stamped else 2 :]
    put = dict(given)
    key = put.get(KEY_HEADER) if ORIGIN_HEADER in put and LABEL_HEADER not in put else record.key
    own = tuple(one for one in given if one[0] not in _PUT)
    label = None if LABEL_HEADER not in put else bool(put[LABEL_HEADER])
    at = record.origin
    return Letter(
        at.partition,
        at.offset,
        reason.decode(errors="replace"),
        origin.decode(errors="replace"),
        Record(record.value, at, key, own, timestamp),
        record.timestamp,
        label,
    )


def _is_note(record: Record) -> bool:
    return len(record.headers) == 1 and record.headers[0][0] == _RETRIED


def _mended(letter: Letter, value: bytes | None) -> Record:
    record = letter.record
    return record if value is None else Record(value, record.origin, record.key, record.headers, record.timestamp)


def _is_place(name: object) -> bool:
    if not isinstance(name, str):
        return False
    partition, _, offset = name.partition("/")
    return partition.isdecimal() and offset.isdecimal()


def _place(name: str) -> Place:
    partition, _, offset = name.partition("/")
    return int(partition), int(offset)


def _shown(name: str, content: bytes) -> dict[str, object]:
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


def _value(fields: Mapping[str, object]) -> bytes:
    """What a line says is the record's value: text as it is, an object as JSON."""
    if "value_base64" in fields:
        return base64.b64decode(str(fields["value_base64"]), validate=True)
    value = fields["value"]
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()

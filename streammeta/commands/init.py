"""`streammeta init`: looks at a file's or topic's first records, and writes the configuration that reads them."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from pydantic import BaseModel, ValidationError

from streammeta.app.kind import choose_kind
from streammeta.config import InputSettings, Settings
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Origin, Record
from streammeta.formats.fields import OPTIONS, Fields, make_fields
from streammeta.formats.mapping import Mapper
from streammeta.formats.objects import ReadObject, json_reader, mapped, object_reader
from streammeta.formats.survey import Choice, Column, Survey, are_names, sample_lines, survey
from streammeta.formats.value import feature
from streammeta.transport.choice import adapters
from streammeta.transport.file import FileSource
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import ensure_topics

__all__ = ["Draft", "draft"]

_RECORDS = 2_000  # looked at
_POLL_SECONDS, _SECONDS = 0.5, 20.0
_CHANNEL = "sample"
_FEW_LABELS = 0.1  # of them may be texts that stand for none
_FREE_TEXT = 0.5  # distinct values a record from which on text is no category
_read = msgspec.json.Decoder(dict[str, Any]).decode


class Draft(NamedTuple):
    """What was found, and the configuration made of it."""

    toml: str
    lines: Sequence[str]  # what was seen, for people
    unsure: Sequence[str]  # what they should look at
    command: str  # what to run next


class _Sample(NamedTuple):
    """The first records of a stream."""

    objects: Sequence[Mapping[str, Any] | None]
    description: str
    topic: str | None = None
    servers: str | None = None
    keys: Sequence[str | None] = ()
    partitions: Sequence[int] = ()
    written: InputSettings = InputSettings()  # how a topic's records are
    refused: str = ""  # why a file's first record cannot be read, where it is so


def draft(
    stream: str,
    settings: Settings,
    *,
    fixed: Mapping[str, str],
    ask: Callable[[str, Choice], str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Draft:
    """Look at a stream's first records, and write a configuration.

    Args:
        stream: a file, folder, pattern, "-", or kafka://host:port/topic.
        settings: how to reach Kafka, where the address in ``stream`` wins, and how a topic's records are written.
        fixed: what the caller knows: label, task, id or time to a name, "" for none.
        include: names or patterns of the only features; none: all that is found.
        exclude: names or patterns of what is no feature, beside what is found.
        missing: values that stand for a missing one, beside what is found.
        ask: decides where the label or the task is not sure; None: the likeliest.

    Raises:
        ConfigError: the address is none, or no record can be read.
        TransportError: the stream cannot be read.
    """
    sample = _topic(stream, settings) if stream.startswith("kafka:") else _file(stream)
    seen = survey(sample.objects, fixed=fixed)
    if seen.records == seen.unreadable:
        found = "no records" if not seen.records else f"none of {seen.records:,} records that can be read"
        why = f", as {sample.refused}" if sample.refused else ""
        raise ConfigError(f"init {stream}: {found}{why}; wanted some to look at")
    for option in ("label", "task"):
        choice = getattr(seen, option)
        if ask is not None and choice is not None and not choice.is_sure:
            fixed = {**fixed, option: ask(option, choice)}
            seen = survey(sample.objects, fixed=fixed)
    asked = dict.fromkeys(exclude, "as asked for"), dict.fromkeys(missing, "as asked for")
    return _Drafting(stream, sample, seen, include, *asked).draft()


class _Drafting:
    """A configuration in the making."""

    def __init__(
        self,
        stream: str,
        sample: _Sample,
        seen: Survey,
        include: Sequence[str],
        exclude: dict[str, str],
        missing: dict[str, str],
    ) -> None:
        self._stream, self._sample, self._seen = stream, sample, seen
        self._include, self._exclude, self._missing = tuple(include), exclude, missing
        self._unsure: list[str] = []
        self._features = {name: c for name, c in seen.columns.items() if name not in self._taken()}

    def draft(self) -> Draft:
        exclude, missing = self._exclude | self._left_out(), self._missing | self._sentinels()
        names = {option: choice.name for option in OPTIONS if (choice := getattr(self._seen, option))}
        others = {"include": self._include, "exclude": tuple(exclude), "missing": tuple(missing)}
        fields = make_fields(Fields(), **names, **others)
        kind, reason = self._kind(fields)
        key_is_task, spread = self._keys()
        lines = [f"# made by: streammeta init {self._stream}", f"# {self._seen.records:,} records were looked at:"]
        lines += [f"#   {line}" for line in sample_lines(list(self._seen.columns.values()))]
        lines += ["", "[app]", f"name = {_toml(_name(self._sample.topic or self._stream))}"]
        lines += [f"kind = {_toml(kind)}  # {reason}" if kind else f"#kind = not known: {reason}"]
        if self._sample.topic is not None:
            lines += ["", "[kafka]", f"bootstrap_servers = {_toml(self._sample.servers)}"]
            lines += ["", "[input]", f"topic = {_toml(self._sample.topic)}"]
            if self._sample.written.format != "json":
                lines += [f"format = {_toml(self._sample.written.format)}"]
            if spread:
                lines += [f"repartition = true  # {spread}"]
        lines += ["", "[input.fields]", *self._choices(key_is_task=key_is_task)]
        if self._include:
            lines += [f"include = {_toml(list(self._include))}  # as asked for"]
        if exclude:
            lines += ["exclude = [", *(f"  {_toml(name)},  # {why}" for name, why in exclude.items()), "]"]
        if missing:
            lines += [f"missing = {_toml(list(missing))}  # {', '.join(missing.values())}"]
        constant = [name for name, column in self._features.items() if column.is_constant and name not in exclude]
        if constant and self._seen.records > 1:
            lines += [f"# the same in all records that were looked at: {', '.join(constant)}"]
        made = self._made_features(exclude)
        lines += [f"# not sure: {one}" for one in self._unsure]
        lines += made
        lines += _how_written(self._sample.written)
        command = "run" if self._sample.topic is not None else f"replay {self._stream}"
        shown = sample_lines(list(self._seen.columns.values()))
        if self._sample.description:
            shown.insert(0, self._sample.description)
        return Draft("".join(f"{_one_line(line)}\n" for line in lines), shown, self._unsure, command)

    def _taken(self) -> set[str]:
        return {choice.name for option in OPTIONS if (choice := getattr(self._seen, option))}

    def _choices(self, *, key_is_task: bool) -> Iterator[str]:
        """A line for each of label, task, id and time."""
        for option in ("label", "task", "id", "time"):
            choice: Choice | None = getattr(self._seen, option)
            if option == "task" and choice is None and key_is_task:
                yield 'task = "key"  # records have keys that come again'
            elif choice is None:
                yield f"#{option} = none was found"
                if option == "label":
                    self._unsure.append("no field looks like a label; until there is one nothing is learned")
            else:
                yield f"{option} = {_toml(choice.name)}  # {choice.reason}"
                if not choice.is_sure:
                    others = f"; it may be {', '.join(choice.others[:8])} as well" if choice.others else ""
                    self._unsure.append(f"{option} = {choice.name!r}: {choice.reason}{others}")

    def _left_out(self) -> dict[str, str]:
        """Fields that would be noise as features, each with the reason."""
        found: dict[str, str] = {}
        for name, column in self._features.items():
            if column.kind == "empty":
                found[name] = "always missing"
            elif column.kind == "time":
                found[name] = "a time as text, a category of its own each"
            elif _is_free_text(column):
                found[name] = f"text with {len(column.values):,} values: free text or an id"
            elif column.is_unique and column.kind == "whole number" and column.is_counting:
                found[name] = "it counts the records"
        return found

    def _made_features(self, exclude: Mapping[str, str]) -> list[str]:
        """Numbers that are names, and what may be made of texts that are no category: for who reads it to switch on."""
        names = [name for name, column in self._features.items() if are_names(column) and name not in exclude]
        texts = [name for name, column in self._features.items() if _is_free_text(column) and _has_words(column)]
        lines = []
        if names:
            lines += [f"categories = {_toml(names)}  # numbers that name something, by the field's name"]
            self._unsure.append(f"categories {', '.join(names)}: do these numbers name something, or are they amounts?")
        if texts:
            remark = "of several words each: numbers by what they say; then take it out of exclude"
            lines += [f"#text = {_toml(texts)}  # {remark}"]
        return ["", "[features]", *lines] if lines else []

    def _sentinels(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, column in self._seen.columns.items():
            value = column.sentinel()
            for marker, count in column.markers().items() if self._are_few(column) else ():
                found[f"{name}={marker}"] = f"{count:,} times, and all other values are numbers"
                self._unsure.append(f"missing {name}={marker}: does it stand for none? All other values are numbers")
            if value is not None and "=" not in name:
                found[f"{name}={value:g}"] = f"{column.values[value]:,} times, far from all others"
                self._unsure.append(f"missing {name}={value:g}: is this a number, or does it stand for none?")
        return found

    def _are_few(self, column: Column) -> bool:
        """Whether texts among numbers may stand for none; among labels only rare ones do, others are classes."""
        label = self._seen.label
        count = sum(column.markers().values())
        return label is None or column.name != label.name or count <= _FEW_LABELS * sum(column.values.values())

    def _kind(self, fields: Fields) -> tuple[str | None, str]:
        decoder = Decoder(read=mapped(json_reader(), Mapper(fields)))
        at = Origin("sample", 0, 0)
        records = [Record(json.dumps(one).encode(), at) for one in self._sample.objects if one is not None]
        try:
            chosen = choose_kind(records, decoder)
        except ConfigError as err:
            self._unsure.append(str(err))
            return None, str(err).splitlines()[0]
        if "overrules" in chosen.reason:
            self._unsure.append(f"kind = {chosen.kind!r}: {chosen.reason.partition('; --kind')[0]}")
        return chosen.kind, chosen.reason.partition("; --kind")[0]

    def _keys(self) -> tuple[bool, str]:
        """Whether a topic's keys could be the task; and why its records have to be sent on by task, if they have."""
        keys, task = self._sample.keys, self._seen.task
        known = [key for key in keys if key]
        repeats = bool(known) and len(known) == len(keys) and 1 < len(set(known)) <= max(2, len(known) / 3)
        if task is None or not self._sample.partitions:
            return repeats, ""
        where = defaultdict[str, set[int]](set)
        mapper = Mapper(Fields(task=task.name))
        for one, partition in zip(self._sample.objects, self._sample.partitions, strict=True):
            if one is not None:
                tag = mapper.read(one, "sample").task
                where[str(tag)].add(partition)
        torn = sum(len(one) > 1 for one in where.values())
        return repeats, f"{torn} of {len(where)} tasks have records in several partitions" if torn else ""


def _how_written(given: InputSettings) -> Iterator[str]:
    """The sections that say how records are written, but for a password, which belongs into the environment."""
    for name in ("registry", "csv", "protobuf"):
        section: BaseModel = getattr(given, name)
        if section.model_fields_set:
            yield from ("", f"[input.{name}]")
            for key in sorted(section.model_fields_set):
                value = getattr(section, key)
                if key == "password":
                    yield "# password: in STREAMMETA_INPUT__REGISTRY__PASSWORD"
                elif value is not None:
                    yield f"{key} = {_toml(str(value) if isinstance(value, Path) else value)}"


def _one_line(text: str) -> str:
    """Text of a stream as it may stand in a comment of TOML: without ends of lines and control characters."""
    return "".join(one if one == "\t" or one.isprintable() else " " for one in text)


def _has_words(column: Column) -> bool:
    """Whether most of its texts are several words."""
    values = [str(value) for value in column.values]
    return sum(" " in value.strip() for value in values) > len(values) / 2


def _is_free_text(column: Column) -> bool:
    count = sum(column.values.values())
    return column.kind == "text" and len(column.values) > 20 and len(column.values) > _FREE_TEXT * count


def _file(stream: str) -> _Sample:
    """A file's rows with all of their columns."""
    source = FileSource(stream)
    with closing(source):
        records = source.peek(_RECORDS)
        objects = [_object(record.value or b"") for record in records]
        refused = _reason(records[0]) if records and objects[0] is None else ""
        return _Sample(objects, source.description, refused=refused)


def _reason(record: Record) -> str:
    """Why no service would take this record; "" where one would."""
    try:
        Decoder().decode(record)
    except EventError as err:
        return str(err)
    return ""


def _object(value: bytes) -> dict[str, Any] | None:
    """A record as one object of all its fields, those under `x` among them."""
    try:
        given = _read(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if "problem" in given and "x" not in given:
        return None
    inside = given.get("x")
    return (
        {**inside, **{name: one for name, one in given.items() if name != "x"}} if isinstance(inside, dict) else given
    )


def _topic(stream: str, given: Settings) -> _Sample:
    """A topic's first records, of all partitions in turn; no group is joined and nothing committed."""
    address = urlsplit(stream)
    topic = address.path.strip("/")
    if not address.netloc or not topic or "/" in topic or "@" in address.netloc:
        raise ConfigError(
            f"init {stream}: wanted kafka://host:port/topic (user names and secrets belong into --config)"
        )
    try:
        settings = KafkaSettings.model_validate({**dict(given.kafka), "bootstrap_servers": address.netloc})
    except ValidationError as err:
        raise ConfigError(f"init {stream}: {err.errors()[0]['msg'].removeprefix('Value error, ')}") from err
    partitions = ensure_topics(settings, topic, ())
    rows: dict[int, list[tuple[bytes, bytes | None]]] = defaultdict(list)
    with closing(adapters(settings).tables(settings, {_CHANNEL: topic})) as reader:
        for partition in range(partitions):
            reader.begin(_CHANNEL, partition)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and sum(map(len, rows.values())) < 2 * _RECORDS:
            for row in reader.poll(_POLL_SECONDS):
                rows[row.partition].append((row.key, row.value))
            if not any(reader.missing(_CHANNEL, partition) for partition in range(partitions)):
                break
    chosen = given.input
    read = _json_object if chosen.format == "json" else _by(object_reader(chosen))
    share = max(1, _RECORDS // max(1, len(rows)))
    taken = [(key, value, number) for number, found in sorted(rows.items()) for key, value in islice(found, share)]
    return _Sample(
        [read(Record(value, Origin(topic, number, 0), key)) for key, value, number in taken],
        f"{topic}: {partitions} partition(s), {len(taken):,} records",
        topic,
        address.netloc,
        [key.decode(errors="replace") or None for key, _, _ in taken],
        [number for _, _, number in taken],
        chosen,
    )


def _json_object(record: Record) -> dict[str, Any] | None:
    return _object(record.value or b"")


def _by(read: ReadObject) -> Callable[[Record], dict[str, Any] | None]:
    """What reads an object of another format, with plain values."""

    def plain(value: object, record: Record) -> Any:  # noqa: ANN401 what records hold
        if isinstance(value, Mapping):
            return {str(name): plain(one, record) for name, one in value.items()}
        return [plain(one, record) for one in value] if isinstance(value, list) else feature(value, "", record.origin)

    def one_object(record: Record) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = plain(read(record), record)
        except EventError:
            return None
        return found

    return one_object


def _name(stream: str) -> str:
    stem = re.split(r"[/\\]", stream.rstrip("/\\"))[-1].partition(".")[0]
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", stem).strip("-") or "streammeta"


def _toml(value: object) -> str:
    """A text or a list of texts; what would not be seen, as a name's no-break space, is escaped."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in json.dumps(value, ensure_ascii=False))

"""streammeta.event: whatever bytes arrive, they are an event, a late label, or one clear EventError."""

import json
import math
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streammeta.errors import EventError
from streammeta.event import Decoder, Event, Label, Origin, Record
from streammeta.simulators import SCENARIOS, simulate

ORIGIN = Origin("events", 3, 41)

NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(-2e38, 2e38))
FEATURES = st.one_of(NUMBERS, st.booleans(), st.text(max_size=8), st.none())
NAMED = st.dictionaries(st.text(max_size=8), FEATURES, min_size=1, max_size=6)
LISTED = st.lists(st.one_of(NUMBERS, st.none()), min_size=1, max_size=6)
LABELS = st.one_of(st.integers(-(2**53), 2**53), st.booleans(), st.text(max_size=8), st.floats(-2e38, 2e38))
TAGS = st.one_of(st.text(max_size=12), st.integers(-(2**70), 2**70))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=8,
)


def decode(value, **settings):
    """Decode the bytes of one record, or anything that becomes JSON."""
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Decoder(**settings).decode(Record(raw, ORIGIN))


def accepted_or_refused(value):
    """What came of it; everything but an event, a label and an EventError is a failure of the test."""
    try:
        return decode(value)
    except EventError as err:
        message = str(err)
    assert message.startswith("events/3/41: ")
    assert len(message) < 1000, "a message must not repeat a megabyte"
    return None


@given(NAMED, st.none() | LABELS, st.none() | TAGS, st.none() | TAGS, st.none() | st.floats(-62_135_596_800, 1e11))
def test_every_event_the_format_allows_comes_out_as_it_went_in(x, y, task, id_, ts):
    """A value that changes on the way in is learned wrong, and nobody sees it."""
    event = decode({"x": x, "y": y, "task": task, "id": id_, "ts": ts})

    assert isinstance(event, Event)
    assert dict(event.x) == x
    assert all(isinstance(event.x[name], bool) == isinstance(value, bool) for name, value in x.items())
    assert event.y == y
    assert event.task == ("" if task is None else str(task))
    assert event.id == (None if id_ is None else str(id_))
    assert event.ts == ts
    assert event.origin == ORIGIN


@given(LISTED)
def test_features_may_be_a_list(x):
    """Producers without names for their features send positions."""
    event = decode({"x": x})

    assert isinstance(event, Event)
    assert list(event.x) == x


@given(LABELS, TAGS, st.none() | st.text(max_size=5))
def test_a_record_without_features_is_a_late_label(y, id_, task):
    """Labels that come back later must find their event by its id, whatever type the id was sent as."""
    assert decode({"id": id_, "y": y, "task": task}) == Label(str(id_), y, task or "", ORIGIN)
    assert decode({"id": id_, "y": y, "x": None, "task": task}) == Label(str(id_), y, task or "", ORIGIN)


@given(LABELS)
def test_the_same_label_is_the_same_class_however_it_is_written(y):
    """1, 1.0 and true are one class, else a producer that changes its serializer makes new classes."""
    label = decode({"x": [1], "y": y}).y

    assert not isinstance(label, bool)
    assert label == y
    if isinstance(y, float) and y.is_integer() and abs(y) <= 2**53:
        assert type(label) is int


@given(st.binary(max_size=60))
def test_any_bytes_are_accepted_or_refused(raw):
    """One record must never end the process."""
    accepted_or_refused(raw)


@given(JSON)
def test_any_json_is_accepted_or_refused(value):
    """The right syntax and the wrong meaning, with NaN and infinity as Python writes them."""
    accepted_or_refused(value)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw builds the strategies, on a busy machine
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("x", "y", "task", "id", "ts", "more"), JSON)))
def test_any_values_in_the_right_places_are_accepted_or_refused(value):
    """The fields are the right ones and what is in them is not; what is accepted is finite."""
    event = accepted_or_refused(value)
    if isinstance(event, Event):
        values = event.x.values() if isinstance(event.x, dict) else event.x
        assert all(math.isfinite(v) for v in [*values, event.y, event.ts] if isinstance(v, float))


@given(NAMED, LABELS, st.data())
def test_a_record_that_was_cut_or_damaged_is_accepted_or_refused(x, y, data):
    """Disks and networks do this; a damaged record must not take the good ones around it along."""
    raw = bytearray(json.dumps({"x": x, "y": y, "ts": "2025-11-21T03:15:00Z"}).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    accepted_or_refused(bytes(raw))
    accepted_or_refused(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "the record is empty; wanted a JSON object"),
        (b"", "the record is empty"),
        (b"price=3", "not an event: JSON is malformed"),
        (b"null", "not an event: Expected `object`"),
        (b'{"x": {"a": "\xff"}}', "not an event: 'utf-8' codec"),
        (b'{"x": {"a": "\\ud800"}}', "not an event"),
        (b"[" * 100_000, "not an event"),
        (b'{"x": [1], "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not an event: maximum recursion depth"),
        (b'{"x": {"a": ' + b"9" * 5_000 + b"}}", "out of range"),
        (
            b'{"x": {"a": 1}, "y": ' + b"9" * 4_000 + b"}",
            "`y` is a whole number of 13288 bits, wanted a number below 3e+38",
        ),
        (b'{"x": {"a": 1}, "y": ' + b"9" * 5_000 + b"}", "out of range"),
        (b'{"x": {"a": 1e400}}', "out of range"),
        (b'{"x": {"a": 3.4e38}}', "feature 'a' is 3.4e+38, wanted a finite number below 3e+38, or null"),
        (b'{"x": [1, -1e39]}', "feature '1' is -1e+39"),
        (b'{"x": {"a": [1]}}', "Expected `bool | float | str | null`, got `array`"),
        (b'{"x": [1, "a"]}', r"Expected `float | null`, got `str` - at `$.x[1]`"),
        (b'{"task": "a"}', "wanted `x` (an event without features has an empty one), `y`, or `id` and `y`"),
        (b'{"id": "a"}', "neither an event nor a late label"),
        (b'{"x": [1], "y": -1e39}', "`y` is -1e+39"),
        (b'{"x": [1], "task": 1.5}', "at `$.task`"),
        (b'{"x": [1], "ts": "yesterday"}', "`ts` is 'yesterday', wanted seconds since 1970 or ISO 8601 text"),
        (b'{"x": [1], "ts": "2025-02-30"}', "`ts` is '2025-02-30'"),
        (b'{"x": [1]} {"x": [1]}', "trailing characters"),
    ],
)
def test_the_refusal_says_where_what_came_and_what_was_wanted(value, says):
    """Whoever reads the dead-letter topic has this sentence and nothing else."""
    with pytest.raises(EventError) as raised:
        decode(value)

    assert str(raised.value).startswith("events/3/41: ")
    assert says in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_a_record_that_is_too_long_is_refused_unread():
    """A megabyte a record would fill the memory before anything could be refused."""
    raw = json.dumps({"x": {"a": "b" * 1000}}).encode()

    assert decode(raw, max_record_bytes=len(raw))
    with pytest.raises(EventError, match=f"has {len(raw)} bytes, wanted at most {len(raw) - 1}"):
        decode(raw, max_record_bytes=len(raw) - 1)


def test_the_task_tag_comes_from_where_the_settings_say():
    """The wrong place would put the events of all tasks into one, without an error."""
    raw = b'{"x": [1], "task": "in the field"}'
    headers = (("other", b"no"), ("shop", "im Kopf: Köln".encode()), ("shop", b"second"))
    record = Record(raw, ORIGIN, key=b"in the key", headers=headers)
    bare = Record(raw, ORIGIN)

    assert Decoder().decode(record).task == "in the field"
    assert Decoder(task_from="key").decode(record).task == "in the key"
    assert Decoder(task_from="header", task_header="shop").decode(record).task == "im Kopf: Köln"
    assert Decoder(task_from="key").decode(bare).task == ""
    assert Decoder(task_from="header", task_header="shop").decode(bare).task == ""


@given(st.binary(max_size=20))
def test_any_key_is_a_tag_or_refused(key):
    """Keys are bytes; those that are no text would otherwise end the process."""
    record, decoder = Record(b'{"x": [1]}', ORIGIN, key=key), Decoder(task_from="key")
    try:
        tag = key.decode()
    except UnicodeDecodeError:
        with pytest.raises(EventError, match=r"^events/3/41: the task tag in the key is "):
            decoder.decode(record)
    else:
        assert decoder.decode(record).task == tag


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 (Hypothesis wants them naive)
def test_times_may_be_text(moment):
    """Producers write ISO 8601, with or without a zone."""
    for text in (moment.isoformat(), moment.replace(tzinfo=None).isoformat()):
        assert decode({"x": [1], "ts": text}).ts == moment.timestamp()


def test_a_time_without_a_zone_means_utc_wherever_the_machine_stands(monkeypatch):
    """Else the same records would lie hours apart on two machines."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert decode({"x": [1], "ts": "1970-01-01T00:00:01"}).ts == 1.0
        assert decode({"x": [1], "ts": "1970-01-01T09:00:01+09:00"}).ts == 1.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_transport_s_time_is_taken_where_the_record_has_none():
    """Kafka knows when a record was sent, and files do not."""
    assert Decoder().decode(Record(b'{"x": [1]}', ORIGIN, timestamp=5.5)).ts == 5.5
    assert Decoder().decode(Record(b'{"x": [1], "ts": 7}', ORIGIN, timestamp=5.5)).ts == 7
    assert Decoder().decode(Record(b'{"x": [1]}', ORIGIN)).ts is None


@pytest.mark.parametrize("name", SCENARIOS)
def test_simulated_samples_are_events(name):
    """The simulators speak the service's own record format."""
    for sample in simulate(name, events=50, seed=3):
        event = decode(sample.to_json())

        assert isinstance(event, Event)
        assert (event.x, event.y, event.task) == (sample.x, sample.y, sample.task)
        assert (event.ts, event.id) == (sample.ts, sample.id)


def test_events_cannot_be_changed_and_origins_print_as_in_messages():
    """Events are shared between rooms; one that changes would change under somebody's hands."""
    event = decode({"x": [1.5]})

    assert str(event.origin) == "events/3/41"
    for name in Event.__struct_fields__:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(event, name, None)


@pytest.mark.parametrize("ts", [1.7e12, -1.7e12, 1e300])
def test_milliseconds_are_not_taken_for_seconds(ts: float) -> None:
    """A time in the year 55,000 would break whoever shows it."""
    with pytest.raises(EventError, match="are these milliseconds"):
        Decoder().decode(Record(b'{"x": [1], "ts": %r}' % ts, Origin("events", 0, 1)))


@pytest.mark.parametrize(
    "value",
    [
        '{"x": [1], "task": "%s"}',
        '{"x": [1], "id": "%s"}',
        '{"x": [1], "y": "%s"}',
        '{"x": {"%s": 1}}',
        '{"x": {"a": "%s"}}',
    ],
)
def test_endless_text_is_refused(value: str) -> None:
    """Tags, ids and names are kept in memory; a megabyte of them each would end the process."""
    with pytest.raises(EventError, match="wanted at most 1000"):
        Decoder().decode(Record((value % ("a" * 1001)).encode(), Origin("events", 0, 1)))


EDGES = st.one_of(
    NUMBERS, st.floats(), st.integers(-(2**70), 2**70), st.text(max_size=5), st.sampled_from(["a" * 1_001])
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.text(max_size=3) | st.sampled_from(["n" * 1_001]), EDGES | st.none() | st.booleans(), max_size=4)
    | LISTED
    | st.none(),
    EDGES | st.none() | st.booleans(),
    st.dictionaries(st.sampled_from(["task", "id", "ts", "more"]), EDGES | st.none()),
)
def test_a_record_is_read_alike_at_once_and_field_by_field(x: object, y: object, rest: dict[str, object]) -> None:
    """Most records are read in one go; one with a header is not, and no header changes what it says."""
    raw = json.dumps({"x": x, "y": y} | rest).encode()

    def read(headers: tuple[tuple[str, bytes], ...]) -> str:
        try:
            return repr(Decoder().decode(Record(raw, ORIGIN, timestamp=5.0, headers=headers)))
        except EventError as err:
            return str(err)

    assert read(()) == read((("trace", b"1"),))

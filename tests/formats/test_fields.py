"""`[input.fields]`: a topic, a file and a frame of the same names say the same."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streammeta
from streammeta.app.parts import decoder
from streammeta.config import Settings, load
from streammeta.errors import ConfigError, EventError, TransportError
from streammeta.event import KEY_HEADER, Decoder, Event, Label, Origin, Record
from streammeta.formats.fields import Fields, make_fields
from streammeta.formats.mapping import Mapper
from streammeta.formats.objects import json_reader, mapped
from streammeta.transport.file import FileSource

AT = Origin("orders", 0, 7)
ORDER = {
    "order_id": 17,
    "store": {"country": "de", "id": 4},
    "placed_at": 1_700_000_000_000,
    "price": 9.5,
    "size": {"w": 2, "h": -999},
    "note": "n/a",
    "sold": True,
}
SHOP = Fields(task=("store.country", "store.id"), label="sold", id="order_id", time="placed_at")


def decode(given: object, fields: Fields, **record: Any) -> Event | Label:
    return Decoder(read=mapped(json_reader(), Mapper(fields))).decode(Record(json.dumps(given).encode(), AT, **record))


def test_a_nested_record_is_read_by_the_names_that_it_has() -> None:
    """Who has a topic has a shape already, and cannot change its producers."""
    event = decode(ORDER, SHOP)

    assert event == Event(
        x={"price": 9.5, "size.w": 2, "size.h": -999, "note": "n/a"},
        task="de/4",
        origin=AT,
        y=1,
        id="17",
        ts=1_700_000_000.0,
    )


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"include": ["price"]}, {"price": 9.5}),
        ({"include": ["size"]}, {"size.w": 2, "size.h": -999}),
        ({"include": ["size.*", "price"], "exclude": ["*.w"]}, {"price": 9.5, "size.h": -999}),
        ({"exclude": ["size", "note"]}, {"price": 9.5}),
        ({"missing": ["-999", "n/a"], "exclude": ["price"]}, {"size.w": 2, "size.h": None, "note": None}),
        ({"missing": ["price=9.50"], "include": ["price", "size.w"]}, {"price": None, "size.w": 2}),
        (
            {"include": ["price"], "time_features": ["hour", "weekday", "month"]},
            {"price": 9.5, "placed_at.hour": 22, "placed_at.weekday": 1, "placed_at.month": 11},
        ),
    ],
)
def test_features_are_included_excluded_and_missing_as_said(options: dict[str, Any], wanted: dict[str, Any]) -> None:
    """An id among the features is noise; -999 taken for a number moves every mean."""
    event = decode(ORDER, make_fields(SHOP, **options))

    assert isinstance(event, Event)
    assert event.x == wanted


def test_task_and_time_may_stand_in_the_key_and_in_headers() -> None:
    """Producers put them there; and a record that was sent on has its own key in a header."""
    fields = Fields(task="key", id="header:order", label="sold")

    event = decode({"price": 1, "key": 2, "sold": 0}, fields, key=b"north", headers=(("order", b"17"),))
    sent_on = decode({"price": 1, "sold": 0}, fields, key=b"other", headers=((KEY_HEADER, b"north"),))

    assert isinstance(event, Event)
    assert (event.task, event.id, event.x) == ("north", "17", {"price": 1, "key": 2})
    assert sent_on.task == "north"
    assert decode({"key": "south", "sold": 0, "a": 1}, Fields(task="field:key", label="sold")).task == "south"


def test_a_record_with_id_and_label_and_no_feature_is_a_late_label() -> None:
    """As in the README's shape; what else stands in a label's record is no feature where features are named."""
    fields = make_fields(SHOP, include=["price", "size"])

    assert decode({"order_id": 17, "store": {"country": "de", "id": 4}, "sold": 1}, fields) == Label(
        "17", 1, "de/4", AT
    )
    assert isinstance(decode({"order_id": 17, "sold": 1, "confirmed": "x"}, fields), Label)
    assert isinstance(decode({"order_id": 17, "sold": 1, "price": None}, fields), Event)


@pytest.mark.parametrize(
    ("given", "fields", "says"),
    [
        ({"sold": {"n": 1}, "a": 1}, Fields(label="sold"), "the label 'sold' is an object, wanted a number"),
        (
            {"store": {"id": 4}, "a": 1},
            Fields(task="store"),
            "'store' is an object, wanted text or a number; name a field",
        ),
        (
            {"at": "yesterday", "a": 1},
            Fields(time="at"),
            "the time 'at' is 'yesterday', wanted seconds since 1970 or ISO",
        ),
        ([1], Fields(label="sold"), "not an event: Expected `object`"),
        ({"a": 1e39, "sold": 1}, Fields(label="sold"), "feature 'a' is 1e+39"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_it_has_there(given: object, fields: Fields, says: str) -> None:
    """A message about `y` helps nobody whose records have none."""
    with pytest.raises(EventError) as refused:
        decode(given, fields)

    assert str(refused.value).startswith("orders/0/7: ")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-31", 1706659200.0),
        ("20240131", 1706659200.0),
        ("2024-01-31T01:00:00+01:00", 1706659200.0),
        ("1706659200", 1706659200.0),
        (1706659200, 1706659200.0),
        (1706659200000, 1706659200.0),
        (1706659200000000, 1706659200.0),
        (1706659200000000000, 1706659200.0),
        (None, None),
    ],
)
def test_times_come_in_every_unit(text: object, seconds: float | None) -> None:
    """Most topics have milliseconds; a day written as a number is no moment of 1970."""
    event = decode({"a": 1, "at": text}, Fields(time="at"))

    assert isinstance(event, Event)
    assert event.ts == seconds


def test_a_topic_a_file_and_a_frame_of_the_same_columns_are_the_same_events(tmp_path: Path) -> None:
    """What was replayed is what will be served."""
    fields = Fields(task="store", label="sold", time="at", exclude=("row",), missing=("-999",))
    rows = [
        {"row": i, "store": f"s{i % 2}", "at": f"2024-01-0{i + 1}", "a": [1.5, -999.0][i % 2], "sold": i % 2}
        for i in range(4)
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_feather(tmp_path / "a.feather")
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    served = [decode(row, fields) for row in rows]
    wanted = [(one.x, one.task, one.y, one.ts) for one in served if isinstance(one, Event)]

    for name in ("a.csv", "a.jsonl", "a.parquet", "a.feather", "a.xlsx"):
        source = FileSource(tmp_path / name, fields=fields)
        events = [Decoder().decode(record) for record in source.poll(10, 0)]
        source.close()
        assert [(one.x, one.task, one.y, one.ts) for one in events if isinstance(one, Event)] == wanted, name
    assert wanted[1] == ({"a": None}, "s1", 1, datetime(2024, 1, 2, tzinfo=UTC).timestamp())


def test_a_frame_and_its_file_are_replayed_alike(tmp_path: Path) -> None:
    """The same words for all: `streammeta.replay(frame, label=...)` and the command's options."""
    frame = pd.DataFrame({"shop": ["a", "b"] * 20, "p": range(40), "noise": [7.5] * 40, "sold": ["no", "yes"] * 20})
    frame.to_parquet(tmp_path / "a.parquet")
    words: dict[str, Any] = {"label": "sold", "task": "shop", "exclude": ["noise"], "seed": 1}

    first, second = (
        streammeta.replay(frame, **words).figures,
        streammeta.replay(tmp_path / "a.parquet", **words).figures,
    )

    assert first["learners"]["streammeta"]["errors"] == second["learners"]["streammeta"]["errors"]
    with pytest.raises(ConfigError, match="no column fits 'nois' of --exclude"):
        streammeta.replay(frame, label="sold", exclude=["nois"])


def test_settings_say_it_for_service_and_replay(tmp_path: Path) -> None:
    """One table in one file; an option of a command wins over it."""
    (tmp_path / "s.toml").write_text('[input.fields]\nlabel = "sold"\ntask = ["store", "sku"]\n')
    settings = load(tmp_path / "s.toml")

    event = decoder(settings).decode(Record(b'{"store": 1, "sku": "x", "a": 2, "sold": "no"}', AT))

    assert isinstance(event, Event)
    assert (event.x, event.task, event.y) == ({"a": 2}, "1/x", "no")
    assert make_fields(settings.input.fields, label="price").names("task") == ("store", "sku")
    assert decoder(Settings()).decode(Record(b'{"x": {"a": 1}, "more": 2}', AT)).task == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('label = "store"\ntask = "store"', "label and task both name 'store'"),
        ("task = []", "task: is empty; wanted the name of a field"),
        ('lable = "sold"', r"\[input.fields\] lable: no such setting; did you mean label"),
        ('time_features = ["year"]', "'hour', 'weekday', 'month' or 'elapsed'"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_at_the_start(text: str, says: str, tmp_path: Path) -> None:
    """A leak of the label into the tag would look like a very good model."""
    (tmp_path / "s.toml").write_text(f"[input.fields]\n{text}\n")

    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "s.toml")


def test_the_older_setting_of_the_task_still_holds_and_is_refused_beside_the_new_one(tmp_path: Path) -> None:
    """Two places for one tag: one of them would be dropped in silence."""
    (tmp_path / "s.toml").write_text('[input]\ntask_from = "key"\n[input.fields]\nlabel = "sold"\n')
    (tmp_path / "t.toml").write_text('[input]\ntask_from = "key"\n[input.fields]\ntask = "store"\n')

    record = Record(b'{"task": 3, "sold": 1}', AT, key=b"north")
    event = decoder(load(tmp_path / "s.toml")).decode(record)

    assert isinstance(event, Event)
    assert (event.task, event.x) == ("north", {"task": 3})
    with pytest.raises(ConfigError, match=r"task_from: is not used with \[input.fields\] task = 'store'"):
        load(tmp_path / "t.toml")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (Fields(include=("pric*",)), "no column fits 'pric*' of --include; the header row has a, y"),
        (Fields(missing=("b=0",)), "no column 'b' for --missing b=0"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(fields: Fields, says: str, tmp_path: Path) -> None:
    """A misspelt pattern would leave no features, or all of them."""
    (tmp_path / "a.csv").write_text("a,y\n1,0\n")
    source = FileSource(tmp_path / "a.csv", fields=fields)

    with pytest.raises(TransportError) as refused:
        source.poll(1, 0)
    source.close()

    assert says in str(refused.value)


def test_rows_have_no_keys_and_headers(tmp_path: Path) -> None:
    """`key` names a record's key in a topic; a column called so has another name here."""
    (tmp_path / "a.csv").write_text("key,a,y\nn,1,0\n")

    with pytest.raises(ConfigError, match="--task key: what is replayed has no keys or headers; name a column"):
        FileSource(tmp_path / "a.csv", fields=Fields(task="key"))
    source = FileSource(tmp_path / "a.csv", fields=Fields(task="field:key"))
    assert Decoder().decode(source.poll(1, 0)[0]).task == "n"
    source.close()


def test_a_field_that_is_never_there_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt label makes a service that never learns, and looks well."""
    mapper = Mapper(Fields(label="slod"))

    for _ in range(1_001):
        mapper.read({"sold": 1, "a": 2}, AT)

    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("fields that no record has yet") == 1


VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-5, 5),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.floats(allow_nan=False), max_size=2),
    st.dictionaries(st.sampled_from(["id", "h", "w"]), st.floats(allow_nan=False) | st.text(max_size=2), max_size=2),
)


@given(
    records=st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "c", "shop", "x", "y"]), VALUES, max_size=5), max_size=6
    ),
    options=st.sampled_from(
        [{}, {"exclude": ("b", "shop.w")}, {"include": ("a", "shop.h")}, {"include": ("s*",)}, {"missing": ("a=1",)}]
    ),
)
@settings(max_examples=150, deadline=None)
def test_records_with_the_names_of_others_are_read_as_each_one_is(
    records: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    """Most records take the quick way, by what was seen of those before; a stream that mixes must not notice."""
    mapper = Mapper(Fields(task="shop.id", label="y", **options))

    for one in [one for one in records * 2 if not isinstance(one.get("y"), list | dict)]:  # no label: refused anyway
        before = copy.deepcopy(one)
        try:
            wanted = mapper._each_feature(one, "here")
        except EventError:
            continue
        assert repr(mapper._features(one, "here")) == repr(wanted)
        assert repr(one) == repr(before)


@pytest.mark.parametrize(
    "time", [10**400, -(10**400), -9e10, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", 1e300, "-1e300"]
)
@pytest.mark.parametrize("fields", [{}, {"time": "at"}, {"time": "at", "time_features": ["hour"]}])
def test_a_time_that_no_calendar_has_costs_its_record_and_no_service(time: Any, fields: dict[str, Any]) -> None:
    """One record with such a time ended a service with an OverflowError or a ValueError, at each start again."""
    mapping = Fields(**fields)
    decoder = Decoder(read=mapped(json_reader(), Mapper(mapping))) if fields else Decoder()

    with pytest.raises(EventError, match="orders/0/7: "):
        decoder.decode(Record(json.dumps({"x": {"a": 1.5}, mapping.time: time}).encode(), AT))


@pytest.mark.parametrize("made", [b"nan", b"inf", b"1e300", b"soon"])
def test_a_header_that_says_no_time_is_somebody_elses(made: bytes) -> None:
    """It was the event's time."""
    record = Record(b'{"x": {"a": 1.5}}', AT, headers=(("streammeta-time", made),), timestamp=5.0)

    event = Decoder().decode(record)

    assert isinstance(event, Event)
    assert event.ts == 5.0

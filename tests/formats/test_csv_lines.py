"""A topic of rows of CSV, and topics of several shapes."""

import json
from pathlib import Path
from typing import Any

import pytest

from streammeta.app.parts import decoder
from streammeta.config import Settings, load
from streammeta.errors import ConfigError, EventError
from streammeta.event import ORIGIN_HEADER, Event, Origin, Record

AT = Origin("rows", 0, 7)
FIELDS = {"label": "sold", "task": "store", "id": "order"}


def row(text: str, **csv: Any) -> Any:
    columns = ("order", "store", "price", "note", "sold")
    settings = Settings(input={"format": "csv", "fields": FIELDS, "csv": {"columns": columns, **csv}})
    return decoder(settings).decode(Record(text.encode(), AT))


def test_a_row_is_read_as_a_line_of_a_file_is() -> None:
    """Numbers as numbers, codes and quoted text as text, what stands for a missing value as missing."""
    event = row('12345678901234567890,007,1.5,"a, ""b""",1\n')
    other = row("7;007;1.234,5;-;0", separator=";", decimal=",")

    assert event == Event({"price": 1.5, "note": 'a, "b"'}, "007", AT, y=1, id="12345678901234567890")
    assert other == Event({"price": 1234.5, "note": None}, "007", AT, y=0, id="7")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,3", r"3 cells, wanted 5 as in \[input.csv\] columns; is the separator ','\?"),
        ("1,a,1.5,b,1\n2,a,1.5,b,1", "holds 2 rows of CSV, wanted one a record"),
        ("\n", "1 rows|0 cells"),
        ('1,a,"1.5', "3 cells, wanted 5"),
    ],
)
def test_what_is_no_row_says_why(text: str, says: str) -> None:
    """A shifted row would be learned as another one."""
    with pytest.raises(EventError, match=says):
        row(text)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[input]\nformat = "csv"\n', r"\[input.csv\] columns: is not set, and format = 'csv' needs it"),
        ('[input.csv]\ncolumns = ["a"]\n', r"\[input.csv\]: is not used with \[input\] format = 'json'"),
        ('[input]\nformat = "csv"\n[input.csv]\ncolumns = ["a", "a"]\n', "wanted a name for each, and each once"),
        (
            '[input.topic_fields."return-*"]\ntask = "shop"\n',
            r"\[input.topic_fields\] 'return-\*': fits none of \[input\] topic and topics \(events\)",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(toml: str, says: str, tmp_path: Path) -> None:
    """At the first record it would be too late."""
    (tmp_path / "a.toml").write_text(toml)

    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "a.toml")


def test_a_topic_of_a_pattern_may_have_fields_of_its_own(tmp_path: Path) -> None:
    """`topics = ["orders-*"]`, of which one has a producer of its own: it was refused as fitting none of them."""
    (tmp_path / "a.toml").write_text(
        '[input]\ntopic = "orders-eu"\ntopics = ["orders-u*"]\nrepartition = true\n'
        '[input.topic_fields."orders-us"]\ntask = "shop"\n'
    )

    assert load(tmp_path / "a.toml").input.topic_fields["orders-us"].task == "shop"


def test_each_topic_has_fields_of_its_own_also_after_it_was_sent_on() -> None:
    """In NAME-repartition all of them are one topic."""
    settings = Settings(
        input={
            "topic": "orders",
            "topics": ["returns-*"],
            "repartition": True,
            "fields": {"task": "store", "label": "sold"},
            "topic_fields": {"returns-*": {"task": "shop.id", "label": "back", "exclude": ["picture"]}},
        }
    )
    read = decoder(settings).decode
    order = json.dumps({"store": "s", "price": 1, "sold": 0}).encode()
    back = json.dumps({"shop": {"id": 4}, "price": 2, "back": 1, "picture": [[1]]}).encode()

    assert read(Record(order, Origin("orders", 0, 1))) == Event({"price": 1.0}, "s", Origin("orders", 0, 1), y=0)
    for at, headers in (
        (Origin("returns-eu", 2, 1), ()),
        (Origin("app-repartition", 0, 9), ((ORIGIN_HEADER, b"returns-eu/2/1"),)),
    ):
        event = read(Record(back, at, None, headers))
        assert isinstance(event, Event)
        assert (event.x, event.task, event.y) == ({"price": 2.0}, "4", 1)

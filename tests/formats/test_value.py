"""Single values of Python, NumPy, pandas and polars, read by one rule."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from streammeta.errors import EventError
from streammeta.formats.value import feature, flatten, is_missing, label, tag

MISSING = [
    None,
    float("nan"),
    np.float32("nan"),
    np.float64("nan"),
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    pd.NA,
    pd.NaT,
    Decimal("NaN"),
    Decimal("sNaN"),
    np.ma.masked,
]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_what_stands_for_no_value_is_missing(value: object) -> None:
    """A NaN that counts as a value is a new class, or a new category, each time it comes."""
    assert is_missing(value)
    assert feature(value, "a", "here") is None
    assert label(value, "here") is None
    assert tag(value, "here") == ""


@pytest.mark.parametrize("value", [0, 0.0, False, "", "nan", "NA", (), np.array([np.nan, 1.0])], ids=repr)
def test_what_is_a_value_is_not_missing(value: object) -> None:
    """Zero, False and texts are values; what text means "missing" is the file reader's to know."""
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.float32(1.5), 1.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("red"), "red"),
        (Decimal("2.25"), 2.25),
        (dt.datetime(1970, 1, 2), 86400.0),  # noqa: DTZ001 naive is the case
        (dt.datetime(1970, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), 0.0),
        (dt.date(1970, 1, 3), 172800.0),
        (dt.timedelta(minutes=2), 120.0),
        (dt.time(1, 0, 1), 3601.0),
        (pd.Timestamp("1970-01-01 00:01"), 60.0),
        (pd.Timestamp("1970-01-01 01:00", tz="Europe/Paris"), 0.0),
        (pd.Timedelta("1h"), 3600.0),
        (np.datetime64("1970-01-02", "ns"), 86400.0),
        (np.datetime64("1970-01-02"), 86400.0),
        (np.timedelta64(3, "s"), 3.0),
        (np.timedelta64(3_000_000_000, "ns"), 3.0),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=repr,
)
def test_values_of_other_libraries_mean_what_they_say(value: object, wanted: object) -> None:
    """NumPy's nanoseconds become integers by `item()`, which would be times of ten digits too many."""
    read = feature(value, "a", "here")

    assert read == wanted
    assert type(read) is type(wanted)


@pytest.mark.parametrize(
    "value", [1 + 2j, b"raw", object(), pd.Interval(0, 1), pd.Period("2024-01")], ids=lambda value: type(value).__name__
)
def test_a_value_without_meaning_is_refused_by_the_name_of_its_feature(value: object) -> None:
    """A TypeError from inside names no column, and so no remedy."""
    with pytest.raises(EventError, match=r"here: feature 'size' is a .*, wanted a number.*leave it out"):
        feature(value, "size", "here")


def test_nested_values_become_dotted_names() -> None:
    """Objects and lists of numbers are what producers send; they are features too."""
    found = dict(flatten({"a": {"b": 1}, "c": [2, {"d": None}], "e": np.array([3.0])}, "x", "here"))

    assert found == {"x.a.b": 1, "x.c.0": 2, "x.c.1.d": None, "x.e.0": 3.0}


def test_endless_nesting_is_refused() -> None:
    """A record must not be able to exhaust the stack."""
    deep: object = 1
    for _ in range(5000):
        deep = {"a": deep}

    with pytest.raises(EventError, match="more than 8 deep"):
        list(flatten(deep, "x", "here"))


def test_a_tag_of_a_nullable_column_is_the_integer_it_was() -> None:
    """One missing cell turns pandas' integers into floats: task 3 and task 3.0 are one task."""
    assert [tag(value, "here") for value in pd.Series([3, None])] == ["3", ""]
    assert tag(np.int64(3), "here") == tag(3.0, "here") == tag("3", "here") == "3"

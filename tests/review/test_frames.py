"""A data frame means the same in a replay, in `learn_many` and in `learn_one`, whatever types its columns have."""

import random
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import streammeta
from streammeta.config import Settings
from streammeta.estimator import MetaClassifier

COUNT = 60
SETTINGS = Settings(app={"kind": "classification"}, meta={"mode": "off"})
RANDOM = random.Random(4)
ROWS = range(COUNT)
SOLD = [RANDOM.choice(["no", "yes"]) for _ in ROWS]
STORE = [f"s{i % 3}" for i in ROWS]
DAY = datetime(2024, 1, 1)  # noqa: DTZ001 columns without a zone are common


def sparse(values: list[Any], every: int) -> list[Any]:
    return [None if i % every == 0 else value for i, value in enumerate(values)]


def of_pandas() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "whole": pd.array(sparse([i % 5 for i in ROWS], 7), dtype="Int64"),
            "real": pd.array(sparse([RANDOM.gauss(0, 1) for _ in ROWS], 8), dtype="Float64"),
            "flag": pd.array(sparse([one == "yes" for one in SOLD], 9), dtype="boolean"),
            "text": pd.array(sparse(["xyz"[i % 3] for i in ROWS], 11), dtype="string"),
            "kind": pd.Categorical(sparse(["pq"[i % 2] for i in ROWS], 6)),
            "when": pd.to_datetime(sparse([DAY + timedelta(days=i) for i in ROWS], 10)),
            "zoned": pd.date_range("2024-01-01", periods=COUNT, tz="Europe/Berlin"),
            "took": pd.to_timedelta(sparse([timedelta(minutes=i) for i in ROWS], 5)),
            "price": sparse([Decimal(i) / 4 for i in ROWS], 4),
            "small": np.arange(COUNT).astype("int8"),
            "half": np.linspace(0, 1, COUNT).astype("float16"),
            "nested": [{"a": float(i % 3), "b": [1.0, float(i % 2)]} for i in ROWS],
            "store": STORE,
            "sold": SOLD,
        }
    )


def of_polars() -> pl.DataFrame:
    hours = [DAY + timedelta(hours=i) for i in ROWS]
    return pl.DataFrame(
        {
            "whole": pl.Series(sparse([i % 5 for i in ROWS], 7), dtype=pl.Int16),
            "flag": sparse([one == "yes" for one in SOLD], 9),
            "kind": pl.Series(sparse(["pq"[i % 2] for i in ROWS], 6), dtype=pl.Categorical),
            "enum": pl.Series(["ab"[i % 2] for i in ROWS], dtype=pl.Enum(["a", "b"])),
            "day": sparse([date(2024, 1, 1) + timedelta(days=i) for i in ROWS], 9),
            "when": hours,
            "zoned": pl.Series(hours).dt.replace_time_zone("Europe/Berlin"),
            "clock": [time(i % 24, i % 60) for i in ROWS],
            "took": [timedelta(minutes=i) for i in ROWS],
            "price": pl.Series([Decimal(i) / 4 for i in ROWS], dtype=pl.Decimal(10, 2)),
            "nested": [{"a": float(i % 3), "b": {"c": i % 2}} for i in ROWS],
            "lists": [[float(i % 4), 2.0] for i in ROWS],
            "store": STORE,
            "sold": SOLD,
        }
    )


@pytest.mark.parametrize("make", [of_pandas, of_polars], ids=["pandas", "polars"])
def test_replay_many_and_one_predict_the_same_of_all_types(make: Any) -> None:
    """Whoever tries a frame in a notebook and then serves the same rows would have two different models."""
    frame = make()
    X = frame.drop(columns=["sold"]) if isinstance(frame, pd.DataFrame) else frame.drop("sold")
    engine = SETTINGS.engine()
    one, many = MetaClassifier("store", settings=engine), MetaClassifier("store", settings=engine)

    said_by_one, said_by_many = [], []
    rows = X.to_dict("records") if isinstance(X, pd.DataFrame) else X.to_dicts()
    for i, (row, label) in enumerate(zip(rows, SOLD, strict=True)):
        said_by_one.append(one.predict_one(row))
        said_by_many += list(many.predict_many(X[i : i + 1]))
        one.learn_one(row, label)
        many.learn_many(X[i : i + 1], frame["sold"][i : i + 1])
    replayed = list(streammeta.replay(frame, label="sold", task="store", settings=SETTINGS).predictions["prediction"])

    assert said_by_one == said_by_many
    assert said_by_one[0] is None, "nothing is known yet"
    assert replayed[1:] == said_by_one[1:]
    assert set(replayed[1:]) == {"no", "yes"}
    assert one.predict_proba_one(rows[5]) == many.predict_proba_one(rows[5])

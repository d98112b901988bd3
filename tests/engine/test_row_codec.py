"""A task's row as bytes, and back."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streammeta.engine.columns import Column, Columns
from streammeta.engine.row_codec import RowCodec
from streammeta.errors import SnapshotError
from tests.faults.mutations import mutated


def kinds(width: int) -> dict[str, Column]:
    return {
        "sums": Column((2, width), np.float32),
        "window": Column((4, width), np.float32, np.nan, filled="window_count"),
        "window_count": Column((), np.int64),
        "loud": Column((), np.float32, -1.0),
        "error": Column((), np.float64, np.nan),
    }


def blank(of: dict[str, Column], rows: int) -> Columns:
    return Columns.blank(of, rows)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 2), st.integers(0, 99))
def test_rows_come_back_also_into_wider_ones(pushed: list[int], width: int, more: int, seed: int) -> None:
    """A feature that came while a task was on disk must leave the task as it was, and be unknown to it."""
    source, narrow, wide = np.random.default_rng(seed), kinds(width), kinds(width + more)
    columns = blank(narrow, len(pushed))
    for name in ("sums", "window", "loud", "error"):
        columns[name][:] = source.normal(size=columns[name].shape)
    columns["window_count"][:] = pushed

    stored = list(RowCodec(narrow).pack(columns, range(len(pushed)), lambda row: b"%d" % row))

    codec, back = RowCodec(wide), blank(wide, len(pushed))
    for row, data in enumerate(stored):
        assert codec.load(data, back, row) == b"%d" % row
        n = min(pushed[row], 4)
        for found in ({name: column[row] for name, column in back.items()}, codec.unpack(data)):
            assert found["window_count"] == pushed[row]
            assert (found["loud"], found["error"]) == (columns["loud"][row], columns["error"][row])
            assert np.array_equal(found["sums"][:, :width], columns["sums"][row])
            assert np.array_equal(found["window"][:n, :width], columns["window"][row, :n])
        assert np.isnan(back["window"][row, :, width:]).all()
        assert not back["sums"][row, :, width:].any()


def test_damaged_rows_are_refused_or_harmless() -> None:
    """A snapshot is a file, and disks err."""
    of, source = kinds(2), random.Random(5)
    codec, columns = RowCodec(of), blank(of, 1)
    columns["window_count"][0] = 3
    (stored,) = codec.pack(columns, [0], lambda _: b"extra")
    refused = 0
    for _ in range(5_000):
        try:
            codec.load(mutated(stored, source), blank(of, 1), 0)
        except SnapshotError:
            refused += 1
    assert refused > 2_000

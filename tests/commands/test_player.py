"""A recorded file is played as it was: every row, in order, with its task and its time."""

import gzip
import json
from pathlib import Path

from streammeta.commands.player import play


def test_rows_of_any_readable_kind_go_out_as_records_with_task_and_time(tmp_path: Path) -> None:
    """The key and the pace come from the row; a CSV row must become what the service reads."""
    table = tmp_path / "shop.csv.gz"
    table.write_bytes(gzip.compress(b"price,task,ts,y\n1.5,shop-1,100,1\n2.5,shop-2,101.5,0\n"))

    rows = list(play(table))

    assert [(row.task, row.ts) for row in rows] == [("shop-1", 100.0), ("shop-2", 101.5)]
    assert json.loads(rows[0].to_json())["x"] == {"price": 1.5}


def test_late_labels_and_rows_that_cannot_be_read_are_handed_on_unchanged(tmp_path: Path) -> None:
    """A player that dropped the bad rows would hide what the service must cope with."""
    lines = [b'{"id":"1","task":"a","ts":5,"x":{"v":1}}', b"not json", b'{"id":"1","task":"a","y":1}']
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")

    rows = list(play(file))

    assert [row.to_json() for row in rows] == lines
    assert [(row.task, row.ts) for row in rows] == [("a", 5.0), ("", None), ("a", None)]
    assert len(list(play(file, limit=2))) == 2

"""Recorded files: what a row becomes, what damage costs, what a sink leaves behind."""

import gc
import gzip
import json
import warnings
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streammeta.errors import EventError, TransportError
from streammeta.event import Decoder, Event, Record
from streammeta.transport.base import Message
from streammeta.transport.file import FileSink, FileSource

HEADER = b"price,colour,task,y\n"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows(path: Path) -> list[Record]:
    records: list[Record] = []
    with closing(FileSource(path)) as source:
        while not source.exhausted:
            records += source.poll(3, 0)
    return records


def event(record: Record) -> Event:
    decoded = Decoder().decode(record)
    assert isinstance(decoded, Event)
    return decoded


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "E.CSV"])
def test_a_csv_row_becomes_an_event(tmp_path: Path, name: str) -> None:
    """Fields and features must not be mixed up: a label among the features makes every score perfect."""
    content = b"\xef\xbb\xbftask,id,ts,price,colour,hot,y\r\n7,a-1,1732147200.5,1.5,red,,2\r\n"

    (record,) = rows(written(tmp_path / name, content))

    got = event(record)
    assert got.x == {"price": 1.5, "colour": "red", "hot": None}
    assert (got.task, got.id, got.ts, got.y) == ("7", "a-1", 1732147200.5, 2)
    assert str(got.origin) == f"{name}/0/0"


@pytest.mark.parametrize("name", ["e.jsonl", "e.ndjson", "e.json", "e.jsonl.gz"])
def test_json_lines_are_handed_on_as_they_are(tmp_path: Path, name: str) -> None:
    """A recorded topic must be decoded exactly as the topic was."""
    content = b'{"x": [1], "y": 0}\n\nnot json\r\n{"x": [2]}'

    records = rows(written(tmp_path / name, content))

    assert [record.value for record in records] == [b'{"x": [1], "y": 0}', b"not json", b'{"x": [2]}']
    assert [record.origin.offset for record in records] == [0, 1, 2]


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("", None),
        ("nan", None),
        ("NaN", None),
        ("NA", None),
        ("null", None),
        ("1", 1.0),
        (" 2.5 ", 2.5),
        ("-1e-3", -0.001),
        ("1_000", "1_000"),
        ("red", "red"),
        ("true", "true"),
    ],
)
def test_a_cell_is_a_number_a_category_or_missing(tmp_path: Path, cell: str, meant: object) -> None:
    """`nan` as a category, or as a number, would quietly bend what is learned."""
    (record,) = rows(written(tmp_path / "e.csv", f"a,b\n{cell},1\n".encode()))

    assert event(record).x == {"a": meant, "b": 1.0}


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999"])
@pytest.mark.parametrize("column", ["a", "y"])
def test_an_infinite_cell_is_refused_by_the_decoder(tmp_path: Path, cell: str, column: str) -> None:
    """JSON has no infinity: written as null it would pass as a missing value."""
    (record,) = rows(written(tmp_path / "e.csv", f"{column},b\n{cell},1\n".encode()))

    with pytest.raises(EventError, match=column):
        Decoder().decode(record)


def test_a_row_of_the_wrong_width_costs_that_row_only(tmp_path: Path) -> None:
    """One cut line in a million-row recording would end the run."""
    content = HEADER + b"1,red,t,0\n2,blue\n\n3,red,t,1\n"

    good, bad, other = rows(written(tmp_path / "e.csv", content))

    assert (event(good).y, event(other).y) == (0, 1)
    assert other.origin.offset == 2
    with pytest.raises(EventError):
        Decoder().decode(bad)
    assert json.loads(bad.value or b"") == {"problem": "2 cells, wanted 4 as in the header", "row": "2,blue"}


def test_bad_utf8_costs_its_row_only(tmp_path: Path) -> None:
    """One odd byte in a name would end the run."""
    bad, good = rows(written(tmp_path / "e.csv", HEADER + b"1,r\xffd,t,0\n2,red,t,1\n"))

    with pytest.raises(EventError):
        Decoder().decode(bad)
    assert b"UTF-8" in (bad.value or b"")
    assert event(good).y == 1


def test_a_quote_that_never_ends_does_not_swallow_the_memory(tmp_path: Path) -> None:
    """The csv module stops it at its field limit; the rows behind it must still come, all of them."""
    content = HEADER + b'1,"red,t,0\n' + b"2,blue,t,1\n" * 20_000

    records = rows(written(tmp_path / "e.csv", content))

    refused = sum(b"problem" in (record.value or b"") for record in records)
    assert (refused, len(records)) == (1, 20_001)


def test_a_quote_that_never_ends_costs_its_own_row_and_says_so(tmp_path: Path) -> None:
    """It swallowed the rest of a small file: half of the rows, with one of them set aside."""
    content = HEADER + b'1,red,t,0\n2,"two\nlines",t,1\n3,"blue,t,1\n4,red,t,0\n5,blue,t,1\n'

    first, tall, bad, fourth, last = rows(written(tmp_path / "e.csv", content))

    assert [event(one).y for one in (first, tall, fourth, last)] == [0, 1, 0, 1]
    assert event(tall).x["colour"] == "two\nlines"  # type: ignore[index]
    problem = "a quote that is opened in this row is never closed"
    assert json.loads(bad.value or b"") == {"problem": problem, "row": '3,"blue,t,1'}


def test_a_file_that_ends_inside_of_a_cell_has_no_such_row(tmp_path: Path) -> None:
    """It was cut off: the label 1 may have been 17."""
    good, cut = rows(written(tmp_path / "e.csv", HEADER + b'1,red,t,0\n2,red,t,"1'))

    assert event(good).y == 0
    with pytest.raises(EventError, match="never closed"):
        Decoder().decode(cut)


def test_a_row_that_two_stray_quotes_made_long_says_how_long(tmp_path: Path) -> None:
    """What lies between them is one cell to every reader of CSV."""
    content = HEADER + b'1,red,t,0\n2,"blue,t,1\n3,red,t,0\n4,red,"t,1\n5,red,t,0\n'

    good, bad, other = rows(written(tmp_path / "e.csv", content))

    assert (event(good).y, event(other).y) == (0, 0)
    with pytest.raises(EventError, match=r"cells over 3 lines \(is a quote not closed\?\), wanted 4"):
        Decoder().decode(bad)


@given(st.binary(max_size=400))
def test_no_bytes_make_a_csv_source_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever stands in a file, each row is an event, or a record that the decoder refuses with an EventError."""
    path = written(tmp_path_factory.mktemp("any") / "e.csv", HEADER + content)

    for record in rows(path):
        with suppress(EventError):
            Decoder().decode(record)


@pytest.mark.parametrize("name", ["e.csv.gz", "e.jsonl.gz"])
def test_a_cut_gzip_hands_out_what_it_has_and_then_says_where_it_broke(tmp_path: Path, name: str) -> None:
    """Rows before the damage are good data; silence about the damage would pass as the end of the stream."""
    lines = b"".join(b"%d,red,t,%d\n" % (i * 7919 % 100_003, i % 2) for i in range(20_000))
    path = written(tmp_path / name, HEADER + lines)
    path.write_bytes(path.read_bytes()[:-2000])
    source = FileSource(path)
    records: list[Record] = []

    def read_all() -> None:
        while True:
            records.extend(source.poll(1000, 0))

    with pytest.raises(TransportError, match=rf"{name}: cannot be read at row \d+") as raised:
        read_all()

    assert len(records) > 1000
    assert f"row {len(records)} " in str(raised.value)
    assert not source.exhausted
    source.close()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("e.parquet", b"", "e.parquet: is empty"),
        ("e.gz", b"", "e.gz: is empty; wanted a header row and rows, or JSON objects, one a line"),
        ("e.csv", b"", "header"),
        ("e.csv", b"a,b,a\n1,2,3\n", "the names a more than once"),
        ("e.json", b'[{"x": [1]}', "begins as one array of objects, and cannot be read so .* or one object a line"),
        ("e.csv.gz", None, "cannot be read at row 0"),
    ],
)
def test_a_file_of_no_use_is_refused_with_a_reason(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    """The first thing a newcomer gets wrong is the file."""
    path = tmp_path / name
    path.write_bytes(b"no gzip") if content is None else written(path, content)

    with pytest.raises(TransportError, match=told):
        rows(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A traceback from open() does not say what was wanted."""
    with pytest.raises(TransportError, match=r"gone\.csv: cannot be read \(No such file"):
        FileSource(tmp_path / "gone.csv")


def test_peeking_consumes_nothing(tmp_path: Path) -> None:
    """`--kind auto` looks at the first rows; were they lost, the first events would never be learned."""
    path = written(tmp_path / "e.csv", HEADER + b"".join(b"%d,red,t,0\n" % i for i in range(10)))
    source = FileSource(path)

    peeked = source.peek(4)

    assert source.assigned() == {("e.csv", 0): 0}
    polled = [*source.poll(3, 0), *source.poll(100, 0)]
    assert list(peeked) == polled[:4]
    assert [record.origin.offset for record in polled] == list(range(10))
    assert source.peek(5) == []
    assert source.exhausted
    source.close()


def test_limit_counts_rows_of_the_file(tmp_path: Path) -> None:
    """`replay --limit` after a seek must end at the same row as without one."""
    path = written(tmp_path / "e.jsonl", b"".join(b"%d\n" % i for i in range(10)))
    source = FileSource(path, limit=6)

    source.seek({("e.jsonl", 0): 4, ("other.csv", 0): 1})

    assert [record.value for record in source.poll(10, 0)] == [b"4", b"5"]
    assert source.exhausted
    source.seek({("e.jsonl", 0): 8})
    assert source.poll(10, 0) == []
    source.close()


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    """The progress bar has nothing else to go by."""
    path = written(tmp_path / "e.csv.gz", HEADER + b"".join(b"%d,red,t,0\n" % (i * 7919) for i in range(100_000)))
    source = FileSource(path)
    fractions = []

    while not source.exhausted:
        fractions.append(source.fraction_read)
        source.poll(10_000, 0)

    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert 0 < fractions[5] < 1
    assert source.fraction_read == 1
    source.close()


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    """A file that is one endless line would otherwise be read into memory whole."""
    path = written(tmp_path / "e.jsonl", b"x" * (40 * 2**20) + b"\n" + b'{"x": [1]}\n')

    long, good = rows(path)

    assert len(long.value or b"") == 16 * 2**20
    assert good.value == b'{"x": [1]}'


def test_a_sink_writes_one_file_a_channel_and_every_line_is_json(tmp_path: Path) -> None:
    """Dead letters hold arbitrary bytes; one newline among them would tear the file apart."""
    sink = FileSink(tmp_path / "out")
    sink.send(
        [
            Message("predictions", b'{"prediction": 1}', key=b"t"),
            Message("predictions", b'{\n "prediction": 2}'),
            Message("dead-letters", b"no\njson", key=b"k", headers=(("reason", b"not JSON"),)),
            Message("dead-letters", b"\xff\xfe"),
        ]
    )
    sink.flush(1.0)

    lines = {
        path.name: [json.loads(line) for line in path.read_bytes().splitlines()]
        for path in (tmp_path / "out").iterdir()
    }

    sink.close()
    assert lines == {
        "predictions.jsonl": [{"prediction": 1}, {"prediction": 2}],
        "signals.jsonl": [],
        "dead-letters.jsonl": [
            {"value": "no\njson", "key": "k", "headers": {"reason": "not JSON"}},
            {"value_base64": "//4="},
        ],
    }


def test_a_sink_named_by_a_file_puts_the_other_channels_beside_it(tmp_path: Path) -> None:
    """`--out results.jsonl` must not mix predictions with dead letters."""
    with_file = FileSink(tmp_path / "results.jsonl")
    with_file.send([Message("predictions", b"1"), Message("signals", b"2")])
    with_file.close()

    assert (tmp_path / "results.jsonl").read_bytes() == b"1\n"
    assert (tmp_path / "results-signals.jsonl").read_bytes() == b"2\n"


def test_a_new_sink_starts_afresh_unless_told_to_append(tmp_path: Path) -> None:
    """Results of two runs in one file would be counted as one run."""
    for append in (False, False, True):
        sink = FileSink(tmp_path, append=append)
        sink.send([Message("predictions", b"1")])
        sink.close()

    assert (tmp_path / "predictions.jsonl").read_bytes() == b"1\n1\n"


def test_a_sink_that_cannot_write_says_where(tmp_path: Path) -> None:
    """Results would be lost in silence."""
    written(tmp_path / "taken", b"")

    with pytest.raises(TransportError, match="taken"):
        FileSink(tmp_path / "taken" / "below")


def test_a_sink_that_cannot_open_all_its_files_leaves_none_open(tmp_path: Path) -> None:
    """A file that stays open keeps its disk space, and on some systems its name."""
    (tmp_path / "signals.jsonl").mkdir()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(TransportError, match=r"signals\.jsonl"):
            FileSink(tmp_path)
        gc.collect()

    assert [str(one.message) for one in found if "predictions.jsonl" in str(one.message)] == []


def test_a_full_disk_is_a_transport_error(tmp_path: Path) -> None:
    """The service turns it into one message and an exit status; without it, results would be lost in silence."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "predictions.jsonl").symlink_to("/dev/full")
    sink = FileSink(tmp_path)
    sink.send([Message("predictions", b"1")])

    with pytest.raises(TransportError, match="No space left"):
        sink.flush(1.0)

    with pytest.raises(TransportError, match="No space left"):
        sink.close()
    sink.close()

"""Recordings elsewhere: an address is read as the file of that name would be."""

import gzip
import io
from collections.abc import Iterator

import fsspec
import pandas as pd
import pytest

import streammeta
from streammeta.errors import ConfigError, TransportError
from streammeta.formats.storage import list_stored
from tests.formats.test_files import PLAIN, ROWS, read


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    system.makedirs("/bucket/days", exist_ok=True)
    yield system
    system.rm("/bucket", recursive=True)


def test_a_file_a_folder_and_a_pattern_are_read_from_an_address(bucket: fsspec.AbstractFileSystem) -> None:
    """Data people have is seldom on the machine that learns."""
    bucket.pipe("/bucket/days/2.csv.gz", gzip.compress(PLAIN.encode()))
    bucket.pipe("/bucket/days/1.csv", PLAIN.replace("t,", "s,").encode())
    bucket.pipe("/bucket/days/_SUCCESS", b"")
    first = [(x, "s", y) for x, _, y in ROWS]

    assert read("memory://bucket/days/1.csv")[0] == first
    assert read("memory://bucket/days") == (first + ROWS, "2 files")
    assert read("memory://bucket/days/*.gz") == (ROWS, "")


def test_a_table_is_sought_in_and_a_replay_takes_an_address(bucket: fsspec.AbstractFileSystem) -> None:
    """Parquet has its directory at the end."""
    content = io.BytesIO()
    pd.DataFrame({"task": ["t"] * 40, "a": range(40), "y": [0, 1] * 20}).to_parquet(content)
    bucket.pipe("/bucket/a.parquet", content.getvalue())

    assert len(read("memory://bucket/a.parquet")[0]) == 40
    assert streammeta.replay("memory://bucket/a.parquet").figures["events"] == 40


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        (
            "memory://bucket/no.csv",
            TransportError,
            "memory://bucket/no.csv: cannot be read .*; wanted a file that is there",
        ),
        ("memory://bucket/*.csv", TransportError, "no file is there that is read, or fits this pattern"),
        ("nothing://a/b.csv", ConfigError, "nothing://a/b.csv: Protocol not known: nothing"),
        ("https://me:s3cret@host/b.csv", ConfigError, "https://host…: has a password, which messages would repeat"),
    ],
)
def test_what_cannot_be_read_says_why(
    address: str, error: type[Exception], says: str, bucket: fsspec.AbstractFileSystem
) -> None:
    """Each system has errors of its own, and a secret must be in none of ours."""
    bucket.pipe("/bucket/a.dat", b"")

    with pytest.raises(error, match=says) as raised:
        read(address)
    assert "s3cret" not in str(raised.value)


def test_a_kind_of_address_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec is there with other packages; that of an object store seldom."""

    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)

    with pytest.raises(ConfigError, match=r"s3://b/a\.csv: fsspec needs a package for it, .*: Install s3fs"):
        list_stored("s3://b/a.csv")


def test_a_connection_that_breaks_is_a_file_cut_off(bucket: fsspec.AbstractFileSystem) -> None:
    """What came before it was handed out; a library's own error would end the run without a word of the row."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 300_000:
                raise RuntimeError("connection reset")
            return super().read(size)

    bucket.pipe("/bucket/a.csv", PLAIN.encode() + b"t,1,0\n" * 100_000)
    content = bucket.cat("/bucket/a.csv")
    file = list_stored("memory://bucket/a.csv")[0]
    file._system = type("System", (), {"open": lambda *_: Broken(content)})()

    with file.open() as opened, pytest.raises(OSError, match="connection reset"):
        opened.read()

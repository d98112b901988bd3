"""Recorded streams: which files they are, and how each is unpacked and read into rows.

The name says how; where it does not (standard input, `.txt`, no suffix), the first bytes do, and `say` is called.
"""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from glob import glob, has_magic
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple, cast

from streammeta.errors import TransportError
from streammeta.formats.delimited import read_rows
from streammeta.formats.dialect import SEPARATORS, UTF_8, encoding_of, sniff
from streammeta.formats.json_lines import looks_like_json, read_json
from streammeta.formats.mapping import Mapper
from streammeta.formats.storage import Stored, StoredFile, is_address, list_stored
from streammeta.formats.tables import TABLES, read_table, require

__all__ = ["DAMAGE", "Form", "find_files", "find_form", "read_recording"]

DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    UnicodeError,
)  # how a cut or damaged file shows
_BUFFER = 2**18
_HEAD = 65_536
_PIPED_ROWS = 20  # of a pipe that are waited for
_DELIMITED = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson", ".json")
_PACKED: Mapping[str, bytes] = {
    ".gz": b"\x1f\x8b",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\x00",
    ".zst": b"\x28\xb5\x2f\xfd",
    ".zip": b"PK\x05\x06",  # an empty one; one with files may be Excel's, so only the name says it
}
_MAGIC: Mapping[bytes, str] = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"PK\x03\x04": ".xlsx"}
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_WANTED = (
    f"{', '.join((*_DELIMITED, *_LINES))}, each also with {', '.join(_PACKED)}, or {', '.join(dict.fromkeys(TABLES))}"
)


class Form(NamedTuple):
    """How a file is read."""

    packing: str  # ".gz" and so on; "" for none
    kind: str  # a suffix of those that are known

    @property
    def is_known(self) -> bool:
        """Whether this is read at all."""
        return self.kind in _DELIMITED or self.kind in _LINES or self.kind in TABLES


def find_files(stream: Path | str) -> list[Path] | list[StoredFile]:
    """The files of a stream: one, all of a folder whose name says how they are read, or those that fit a pattern.

    Raises:
        TransportError: there are none.
        ConfigError: it is an address, and the package that reads it is not installed.
    """
    if is_address(stream):
        found = list(list_stored(str(stream)))
        stored = found if len(found) == 1 else [one for one in found if find_form(one).is_known]
        if not stored:
            raise TransportError(f"{stream}: no file is there that is read, or fits this pattern; wanted {_WANTED}")
        return stored
    path = Path(stream)
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.is_file() and find_form(one).is_known)
        if not files:
            raise TransportError(f"{path}: a folder without a file that is read; wanted {_WANTED}")
        return files
    if has_magic(str(stream)) and not path.exists():
        files = sorted(Path(one) for one in glob(str(stream), recursive=True) if Path(one).is_file())
        if not files:
            raise TransportError(f"{stream}: no file fits this pattern")
        return files
    return [path]


def find_form(path: PurePath | StoredFile) -> Form:
    """How a file's name says that it is read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes[-1] if suffixes and suffixes[-1] in _PACKED else ""
    inner = suffixes[:-1] if packing else suffixes
    return Form(packing, inner[-1] if inner else "")


def read_recording(
    file: BinaryIO, path: PurePath | StoredFile, mapper: Mapper, say: Callable[[str], None]
) -> Iterator[bytes]:
    """The rows of a file, each as the JSON that the decoder wants; one that is no event with what is wrong with it.

    Args:
        file: the open file; what is read from a pipe cannot be sought in.
        path: its name, which says how it is read, or does not.
        mapper: knows which columns or fields are what.
        say: is given what had to be found out, once.

    Raises:
        ConfigError: a package that reads it is not installed.
        TransportError: it is of a kind not known, damaged in a way that shows at once, or lacks a column.
    """
    at = str(path)
    lines, kind, found = _opened(file, path, at)
    if kind in TABLES:
        say(found)
        yield from read_table(_seekable(lines), TABLES[kind], mapper, path.name, at, say)
    elif kind in _DELIMITED:
        if _PAGE.match(lines.peek(_HEAD)[:_HEAD]):
            raise TransportError(f"{at}: is a page of HTML or XML, and no table; was it a login that was downloaded?")
        if looks_like_json(lines.peek(_HEAD)[:_HEAD].removeprefix(codecs.BOM_UTF8).lstrip()):
            raise TransportError(f"{at}: holds JSON objects, and its name says rows of columns; name it .jsonl")
        yield from read_rows(lines, mapper, at, lambda dialect: say(", ".join(filter(None, (found, dialect)))))
    else:
        encoding = encoding_of(lines.peek(_HEAD)[:_HEAD])
        if encoding != UTF_8:
            found = ", ".join(filter(None, (found, f"encoding {encoding}")))
            lines = io.BufferedReader(_Recoded(lines, encoding), _BUFFER)
        yield from read_json(lines, mapper, path.name, at, lambda seen: say(", ".join(filter(None, (found, seen)))))


def _opened(file: BinaryIO, path: PurePath | StoredFile, at: str) -> tuple[io.BufferedReader, str, str]:
    """The file, unpacked, of which kind it is, and what had to be found out for it; its content wins over its name."""
    named = form = find_form(path)
    lines = cast(io.BufferedReader, file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file)))
    if not lines.seekable():
        lines = io.BufferedReader(_Piped(lines), _BUFFER)
    head, found = lines.peek(_HEAD)[:_HEAD], ""
    if not form.packing:
        form = Form(next((one for one, magic in _PACKED.items() if head.startswith(magic)), ""), form.kind)
    elif _is_plain_text(head, _PACKED[form.packing], at):
        found, form = f"not packed, though its name ends in {form.packing}", Form("", form.kind)
    lines = _unpacked(lines, form.packing, at)
    if form.kind in (*_DELIMITED, *_LINES) and lines.peek(8).startswith(tuple(_MAGIC)):
        form = Form(form.packing, "")  # a table, whatever its name says
    if form.kind not in _LINES and not lines.peek(1):
        raise TransportError(f"{at}: is empty; wanted a header row and rows, or JSON objects, one a line")
    kind = form.kind if form.is_known else _kind_by_content(lines.peek(_HEAD)[:_HEAD], at)
    packed = form.packing[1:] if form.packing != named.packing else ""
    if not found and (packed or not form.is_known):
        found = f"taken for {', '.join(filter(None, (packed, kind[1:])))} by what it begins with"
    return lines, kind, found


def _unpacked(file: io.BufferedReader, packing: str, at: str) -> io.BufferedReader:
    if not packing:
        return file
    openers: Mapping[str, Callable[[BinaryIO], object]] = {
        ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zst": lambda packed: _unpack_zst(packed, at),
        ".zip": lambda packed: _unzip(packed, at),
    }
    return io.BufferedReader(cast(io.RawIOBase, openers[packing](file)), _BUFFER)


def _unpack_zst(file: BinaryIO, at: str) -> "_Unpacking":
    zstandard = require("zstandard", "files", f"{at}: .zst")
    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
    return _Unpacking(reader, zstandard.ZstdError)


def _unzip(file: BinaryIO, at: str) -> io.BufferedIOBase:
    try:
        archive = zipfile.ZipFile(_seekable(cast(io.BufferedReader, file)))
        names = [one.filename for one in archive.infolist() if not (one.is_dir() or _is_hidden(one.filename))]
    except zipfile.BadZipFile as err:
        raise TransportError(f"{at}: cannot be read as .zip ({err}); it is damaged or cut off") from err
    if len(names) != 1:
        raise TransportError(f"{at}: holds {len(names)} files; wanted one: unpack it into a folder, and name that")
    try:
        return cast(io.BufferedIOBase, archive.open(names[0]))
    except RuntimeError as err:  # a password
        raise TransportError(f"{at}: cannot be read ({err}); unpack it first") from err


def _is_hidden(name: str) -> bool:
    """Whether this is what macOS lays beside files."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


class _Piped(io.RawIOBase):
    """A pipe whose first bytes come together, as many rows as show how it is written: its writer may have paused."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file, self._head = file, b""
        self._is_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # a buffer, as the base class has it
        while not self._is_begun:
            block = self._file.read1(_HEAD)
            self._head += block
            self._is_begun = not block or len(self._head) >= _HEAD or self._head.count(b"\n") > _PIPED_ROWS
        block = self._head[: len(view)] or self._file.read1(len(view))
        self._head = self._head[len(block) :]
        view[: len(block)] = block
        return len(block)


class _Recoded(io.RawIOBase):
    """A file of another encoding as UTF-8; a byte that means nothing there stays: the reader of the line refuses it."""

    def __init__(self, file: io.BufferedReader, encoding: str) -> None:
        errors = "replace" if encoding.startswith("utf") else "surrogateescape"  # which is for single bytes
        self._file, self._decoder = file, codecs.getincrementaldecoder(encoding)(errors=errors)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # a buffer, as the base class has it
        while not self._rest:
            block = self._file.read(_HEAD)
            self._rest = self._decoder.decode(block, final=not block).encode(errors="surrogateescape")
            if not block:
                break
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


class _Unpacking(io.RawIOBase):
    """Zstandard's reader with the errors that the others have."""

    def __init__(self, reader: io.RawIOBase, error: type[Exception]) -> None:
        self._reader, self._error = reader, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        try:
            return self._reader.readinto(buffer) or 0  # type: ignore[arg-type]  # a buffer, as the base class has it
        except self._error as err:
            raise OSError(str(err)) from err


def _seekable(file: io.BufferedReader) -> BinaryIO:
    """The file itself, or a pipe's or packed file's bytes: these kinds have their directory at the end."""
    return file if isinstance(file.raw, io.FileIO | Stored) and file.seekable() else io.BytesIO(file.read())


def _is_plain_text(head: bytes, magic: bytes, at: str) -> bool:
    """Whether a file that should be packed is readable as it is: browsers unpack what they load, and keep the name."""
    if head.startswith(magic) or not head or b"\0" in head:
        return False
    try:
        return _kind_by_content(head, at) in (*_DELIMITED, *_LINES)
    except TransportError:
        return False


def _are_columns(text: str, separator: str) -> bool:
    """Whether the first two rows have as many cells, and more than one; a quoted cell may hold anything."""
    try:
        widths = [len(row) for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator), 2)]
    except csv.Error:
        return False
    return len(widths) > 1 and len(set(widths)) == 1 and widths[0] > 1


def _kind_by_content(head: bytes, at: str) -> str:
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is not None:
        return kind
    dialect = sniff(head)
    text = head.decode(dialect.encoding, errors="replace").removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        return ".jsonl"
    if "\0" not in text and _are_columns(text, dialect.separator):
        return ".csv"
    seen = ", ".join(map(repr, SEPARATORS))
    raise TransportError(
        f"{at}: of a kind not known, and it does not begin as JSON or as rows of columns (separated by one of {seen}); "
        f"wanted {_WANTED}"
    )

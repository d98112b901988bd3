"""What librdkafka says of committed offsets, as far as it can be read."""

from typing import Any, cast

import pytest

confluent_kafka = pytest.importorskip("confluent_kafka")

from streammeta.transport.confluent.offsets import Offsets  # noqa: E402
from streammeta.transport.kafka.input_log import InputLog, metadata_of  # noqa: E402

ID = "2261041e-75b6-4ad7-b0e1-cf931a0da3aa"


class Committed:
    """A committed offset behind whose metadata other bytes stand in memory."""

    def __init__(self, offset: int, metadata: bytes) -> None:
        self.topic, self.partition, self.offset, self.error = "in", 0, offset, None
        self._metadata = metadata

    @property
    def metadata(self) -> str:
        return self._metadata.decode()


class Consumer:
    """Says that, one after the other."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)

    def committed(self, _partitions: object, timeout: float) -> list[Committed]:
        assert timeout > 0
        return [Committed(7, self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])]


def committed(*answers: bytes) -> tuple[int | None, str]:
    offsets = Offsets(cast("Any", Consumer(*answers)), cast("InputLog", None), "kafka", 1.0, "stop")
    return offsets.committed([("in", 0)])["in", 0]


def test_bytes_that_are_no_text_behind_a_log_s_id_end_nothing() -> None:
    """A member that took over partitions ended with a UnicodeDecodeError, by chance, after a crash of another one."""
    note = metadata_of(ID).encode()

    assert committed(note) == (7, ID)
    assert committed(note + b"R\xa6") == (7, "")
    assert committed(note + b"\xa6", note + b"\x80\x80", note + b"q") == (7, ID)

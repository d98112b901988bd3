"""What is written to the log, and what is not."""

import logging

import pytest

from streammeta.service.log import LogLevel, configure


@pytest.mark.parametrize(
    ("level", "told"),
    [("debug", ["debug", "info", "warning", "error"]), ("info", ["warning", "error"]), ("error", ["error"])],
)
def test_the_kafka_client_tells_nothing_below_the_level(
    level: LogLevel, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its heartbeats would bury what matters; and who wants errors only must not get its warnings."""
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        configure(level, "json")
        for one in ("debug", "info", "warning", "error"):
            logging.getLogger("kafka.net.selector").log(logging.getLevelNamesMapping()[one.upper()], "kafka %s", one)
    finally:
        logging.basicConfig(handlers=before[0], level=before[1], force=True)
        logging.captureWarnings(capture=False)

    err = capsys.readouterr().err
    assert [one for one in ("debug", "info", "warning", "error") if f"kafka {one}" in err] == told

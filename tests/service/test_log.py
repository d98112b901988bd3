"""What is written to the log, and what is not."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from streammeta.service.log import LogFormat, LogLevel, configure, fatal


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


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


@pytest.mark.usefixtures("_logs_as_before")
def test_every_json_line_says_who_wrote_it_whichever_thread_or_library_did(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of ten members in one place are of no use without their names."""
    configure("info", "json", app="prices", member="pod-3")
    thread = threading.Thread(target=lambda: structlog.get_logger("a").info("from a thread", seconds=0.5))
    thread.start()
    thread.join(10)
    logging.getLogger("kafka.client").warning("from %s", "a library")
    logging.getLogger("py.warnings").warning("from a warning")
    structlog.get_logger("b").error("with a traceback", exc_info=ValueError("why"))

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert len(lines) == 4
    assert all((one["app"], one["member"]) == ("prices", "pod-3") for one in lines)
    assert all({"event", "level", "logger", "timestamp"} <= one.keys() for one in lines)
    assert lines[0]["seconds"] == 0.5
    assert lines[3]["exception"][0]["exc_value"] == "why"


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize(("format", "wanted"), [("json", True), ("console", False), ("auto", False)])
def test_the_last_words_are_json_only_where_json_was_asked_for(
    format: LogFormat, wanted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that a machine cannot read is lost, and it is the one that says why; a person wants it plain."""
    configure("info", format, app="prices")

    fatal("kafka: no broker\nanswers", name="streammeta")

    err = capsys.readouterr().err
    if wanted:
        assert json.loads(err)["reason"] == "kafka: no broker\nanswers"
        assert json.loads(err)["level"] == "critical"
    else:
        assert err == "streammeta: error: kafka: no broker\nstreammeta: error: answers\n"


def test_a_service_that_cannot_start_says_so_in_json_and_no_secret_is_in_any_line() -> None:
    """With everything at debug: what a broker refuses is told with its settings, of which one is the password."""
    password = "correct-horse-battery-staple"  # noqa: S105 of nobody
    settings = {
        "STREAMMETA_LOG__FORMAT": "json",
        "STREAMMETA_LOG__LEVEL": "debug",
        "STREAMMETA_APP__NAME": "prices",
        "STREAMMETA_HTTP__ENABLED": "false",
        "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "STREAMMETA_KAFKA__CONNECT_TIMEOUT_SECONDS": "1",
        "STREAMMETA_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "STREAMMETA_KAFKA__SASL_MECHANISM": "PLAIN",
        "STREAMMETA_KAFKA__SASL_USERNAME": "meta",
        "STREAMMETA_KAFKA__SASL_PASSWORD": password,
    }

    done = subprocess.run(
        [Path(sys.executable).with_name("streammeta"), "run"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=110,
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert "no broker answers" in lines[-1]["reason"]
    assert all(one["app"] == "prices" for one in lines)
    assert password not in done.stderr + done.stdout

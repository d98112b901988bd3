import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streammeta.app import serve as serve_module
from streammeta.app.inspection import ORDERS, inspect, snapshot_path
from streammeta.app.kind import choose_kind
from streammeta.app.replay import replay
from streammeta.app.stopping import stop_on_signals
from streammeta.config import Settings
from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.engine.drift import DriftSettings
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError, SnapshotError, TransportError
from streammeta.event import Decoder, LabelValue, Origin, Record
from streammeta.meta.settings import LearnerSettings
from streammeta.report import Tally
from streammeta.service.http import Health
from streammeta.service.loop import Options, Service
from streammeta.service.metrics import Metrics
from streammeta.transport.file import FileSource
from streammeta.transport.kafka.topics import ensure_topics
from streammeta.transport.memory import MemorySource

AT = Origin("file.csv", 0, 0)


def records(*labels: LabelValue | bool | None) -> list[Record]:
    return [Record(json.dumps({"x": [1], "y": y}).encode(), AT) for y in labels]


@pytest.mark.parametrize(
    ("labels", "kind", "reason"),
    [
        ([0, 1, 1, None], "classification", "2 different whole numbers in the first 3 labels, at most 50"),
        ([True, False], "classification", "2 different whole numbers"),
        ([3, "red"], "classification", "'red' in the first 2 labels is text"),
        ([1, 2, 2.5], "regression", "2.5 in the first 3 labels is not a whole number"),
        ([1.0, 2.0], "classification", "2 different whole numbers"),
        (list(range(50)) * 3, "classification", "50 different whole numbers in the first 150 labels, at most 50"),
        (list(range(50)), "regression", "50 different whole numbers in the first 50 labels are hardly classes"),
        (list(range(51)), "regression", "51 different whole numbers in the first 51 labels, more than 50"),
    ],
)
def test_the_kind_is_chosen_by_the_first_labels(labels: list[LabelValue], kind: str, reason: str) -> None:
    """Guessing wrong makes nonsense of a replay, so the rule is fixed and the reason told."""
    chosen = choose_kind(records(*labels))

    assert chosen.kind == kind
    assert chosen.reason.startswith(reason)


_RANDOM = np.random.default_rng(1)
_X = _RANDOM.normal(size=(1000, 3))
_LEVEL = np.clip(np.round(8 + 3 * _X[:, 0] + _RANDOM.normal(size=1000)), 0, 15)


@pytest.mark.parametrize(
    ("labels", "kind", "reason"),
    [
        (_RANDOM.poisson(5, 1000), "regression", "rise and fall in frequency as counts do"),
        (_LEVEL, "regression", "follow the features in their order; --kind overrules this"),
        (_RANDOM.permutation(16)[_LEVEL.astype(int)], "classification", "16 different whole numbers"),
        (_RANDOM.integers(0, 16, 1000), "classification", "16 different whole numbers"),
        (5 * np.round(20 + 2 * _X[:, 0]), "regression", "are spread from"),
        (np.clip(np.round(3 + _X[:, 0]), 1, 5), "classification", "5 different whole numbers"),
        (np.ones(1000), "classification", "all of the first 1,000 labels are 1; is --label right?"),
    ],
)
def test_whole_numbers_are_classes_only_where_their_order_means_nothing(labels: Any, kind: str, reason: str) -> None:
    """Counts and whole dollars taken for classes were predicted at 14 to 22 %, and nothing said why."""
    rows = [{"x": {"a": a, "b": b, "c": c}, "y": int(y)} for (a, b, c), y in zip(_X, labels, strict=True)]

    chosen = choose_kind([Record(json.dumps(row).encode(), AT) for row in rows])

    assert chosen.kind == kind
    assert reason in chosen.reason


def test_hundreds_of_texts_are_refused_and_a_marker_among_numbers_is_named() -> None:
    """A column of dates or names as label: hundreds of classes with an event each."""
    with pytest.raises(ConfigError, match="300 different texts in the first 300 labels, such as 'order-0', are hardly"):
        choose_kind(records(*(f"order-{i}" for i in range(300))))

    chosen = choose_kind(records(*(i + 0.5 for i in range(99)), "unknown"))

    assert chosen.kind == "regression"
    assert chosen.reason.endswith("'unknown' is text: is it --missing?")


def test_records_that_cannot_be_read_do_not_stop_the_choice() -> None:
    """One broken line at the top of a file says nothing about the rest."""
    assert choose_kind([Record(b"broken", AT), *records("a", "b")]).kind == "classification"


def test_without_labels_there_is_nothing_to_choose_by() -> None:
    """Then somebody who knows must say."""
    with pytest.raises(ConfigError, match="say --kind classification or regression"):
        choose_kind(records(None, None))


def test_a_signal_stops_and_a_second_one_acts_as_before() -> None:
    """An orderly stop first; whoever signals again cannot wait for it."""
    second: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: second.append(number))
    try:
        with stop_on_signals() as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(5)
            assert second == []
            os.kill(os.getpid(), signal.SIGTERM)
        assert second == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


SETTINGS = EngineSettings(
    kind="regression",
    learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,)),
    meta=MetaSettings(mode="off"),
    drift=DriftSettings(),
    memory=MemorySettings(window=32),
)


def saved(directory: Path) -> None:
    values = [
        json.dumps({"task": f"t{i % 4}", "ts": 1000.0 + i, "x": [i % 5], "y": (i % 5) * (i % 4) + 0.5}).encode()
        for i in range(90)
    ]
    Service(
        Engine(SETTINGS),
        None,
        decoder=Decoder(),
        options=Options(snapshot=snapshot_path(directory)),
        metrics=Metrics(CollectorRegistry()),
        health=Health(lambda: 0.0),
    ).run(MemorySource(values), threading.Event())


def test_inspect_reads_a_snapshot_without_its_settings(tmp_path: Path) -> None:
    """Whoever looks at a snapshot has it, and maybe nothing else."""
    saved(tmp_path)

    tasks = inspect(tmp_path)

    assert inspect(snapshot_path(tmp_path)) == tasks
    assert {task.task: task.labelled for task in tasks} == {"t0": 23, "t1": 23, "t2": 22, "t3": 22}
    assert max(task.last_seen_at or 0 for task in tasks) == 1089.0
    for order in ORDERS.values():
        assert len(sorted(tasks, key=order)) == 4
    assert sorted(tasks, key=ORDERS["age"])[-1].labelled == 23


def test_inspect_refuses_what_is_no_snapshot(tmp_path: Path) -> None:
    """A wrong path and a wrong file are told apart from an empty service."""
    with pytest.raises(SnapshotError, match="no snapshot there"):
        inspect(tmp_path)
    snapshot_path(tmp_path).write_bytes(b"something else")
    with pytest.raises(SnapshotError, match="not a readable snapshot"):
        inspect(tmp_path)


def test_a_report_names_the_experts_and_those_that_a_restore_forgets(tmp_path: Path) -> None:
    """A figure made with help must say whose; and an operator reads here what a restart will cost."""
    file = tmp_path / "stream.jsonl"
    file.write_text("".join(f'{{"x": {{"a": {i % 2}}}, "y": {i % 2}, "task": "t"}}\n' for i in range(30)))
    names = ["neighbours", "river:naive_bayes.GaussianNB"]
    settings = Settings(learner=LearnerSettings(experts=tuple(names)))

    with closing(FileSource(file)) as source:
        figures = replay(settings, source, None, Tally("classification"))

    assert figures["experts"] == "neighbours, river:naive_bayes.GaussianNB"
    assert figures["experts_not_restored"] == "river:naive_bayes.GaussianNB"
    assert figures["settings"]["learner"]["experts"] == names


def test_probes_are_answered_while_a_service_gets_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Topics and connections can take a while: without an answer an orchestrator takes it for hung, and begins again."""
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, closed_port = probe.getsockname()[1], other.getsockname()[1]
    settings = Settings.model_validate(
        {
            "http": {"host": "127.0.0.1", "port": port},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{closed_port}", "connect_timeout_seconds": 0.3},
        }
    )
    prepared = threading.Event()

    def slowly(*given: Any, **settings: Any) -> int:
        prepared.wait(30)
        return ensure_topics(*given, **settings)

    monkeypatch.setattr(serve_module, "ensure_topics", slowly)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            serve_module.serve(settings, threading.Event())
        except TransportError as err:
            ended.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        live, ready = _answer(port, "/livez"), _answer(port, "/readyz")
    finally:
        prepared.set()
        thread.join(30)

    assert (live[0], ready[0]) == (200, 503)
    assert live[1].startswith("preparing: topics")
    assert "no broker answers" in str(ended[0])


def _answer(port: int, page: str) -> tuple[int, str]:
    """Status and reason, as soon as somebody listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())["reason"]
        except urllib.error.HTTPError as err:
            with err:
                return err.code, json.loads(err.read())["reason"]
        except OSError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.05)

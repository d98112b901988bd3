"""Dead letters on a real Kafka: looked at, mended, and sent again, each once whatever happens meanwhile."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streammeta import cli
from streammeta.app import dead_letters
from streammeta.app.dead_letters import Choice, choose, kinds, letters, read_mended, retry
from streammeta.app.parts import label_reader
from streammeta.config import Settings
from streammeta.errors import ConfigError, TransportError
from streammeta.event import Decoder, Event, Origin, Record
from streammeta.service.repartition import event_sender, label_sender
from streammeta.service.result import dead_letter
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.transaction import Transactions

PARTITIONS = 2
WHEN = 1_700_000_000.125


@pytest.fixture
def settings(kafka: KafkaSettings, topic: str, create_topic: Callable[[str, int], str]) -> Settings:
    create_topic(topic, PARTITIONS)
    create_topic(f"{topic}-dead-letters", PARTITIONS)
    return Settings(app={"name": topic}, input={"topic": topic}, kafka=kafka.model_dump())


def set_aside(settings: Settings, values: list[bytes], reason: str) -> None:
    """As the service does it, one letter a value; partitions in turn."""
    with Transactions(settings.kafka, f"{settings.app.name}/service") as transactions:
        for i, value in enumerate(values):
            origin = Origin(settings.input.topic, i % PARTITIONS, 100 + i)
            record = Record(value, origin, b"key", (("mine", b"kept"),), WHEN + i)
            letter = dead_letter(record, f"{origin}: {reason}")
            transactions.send(
                f"{settings.app.name}-dead-letters",
                letter.value,
                key=letter.key,
                headers=letter.headers,
                partition=letter.partition,
            )
        transactions.commit()


def sent(settings: Settings) -> list[Record]:
    with closing(TopicLog(settings.kafka, [settings.input.topic])) as log:
        return sorted(log.records(), key=lambda record: (record.origin.partition, record.origin.offset))


def good(count: int) -> list[bytes]:
    return [json.dumps({"x": [i], "y": 1, "task": "a", "id": str(i)}).encode() for i in range(count)]


def test_what_was_set_aside_is_counted_by_reason_and_shown(settings: Settings) -> None:
    """An operator has ten thousand of them and five minutes: what went wrong, how often, since when, for example."""
    set_aside(settings, good(5), "`y` is 2.5, wanted a class")
    set_aside(settings, [b"{", b"\xff"], "not an event: truncated")

    found = kinds(settings)

    assert [(kind.waiting, kind.retried) for kind in found] == [(5, 0), (2, 0)]
    assert found[0].reason == f"{settings.input.topic}/0/100: `y` is 2.5, wanted a class"
    shown = [letter.figures() for letter in letters(settings, Choice(reason="truncated"))]
    assert [one.get("value", one.get("value_base64")) for one in shown] == ["{", "/w=="]
    assert {one["timestamp"] for one in shown} == {WHEN, WHEN + 1}


def test_mended_letters_arrive_as_the_records_they_were_once(settings: Settings, tmp_path: Path) -> None:
    """Key, headers, time stamp and partition decide what is learned from them; and twice is wrong for ever."""
    set_aside(settings, [b"{", b"["], "not an event")
    file = tmp_path / "mended.jsonl"
    lines = [one.figures() for one in letters(settings, choose([]))]
    values = {100: {"x": [1.5], "y": 0}, 101: {"x": [2.5], "y": 1}}
    for line in lines:
        line["value"] = values[int(str(line["origin"]).rsplit("/", 1)[1])]
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    mended = read_mended(file)

    first = retry(settings, Choice(frozenset(mended)), mended)
    again = retry(settings, Choice(frozenset(mended)), mended)

    assert (first.sent, first.before) == (2, 0)
    assert (again.sent, again.before) == (0, 2)
    records = sent(settings)
    assert [record.origin.partition for record in records] == [0, 1]
    assert [record.key for record in records] == [b"key", b"key"]
    assert [record.headers[0] for record in records] == [("mine", b"kept")] * 2
    events = [Decoder().decode(record) for record in records]
    assert [(e.x, e.ts, e.source) for e in events if isinstance(e, Event)] == [
        ([1.5], WHEN, f"{settings.input.topic}/0/100"),
        ([2.5], WHEN + 1, f"{settings.input.topic}/1/101"),
    ]
    assert [(kind.waiting, kind.retried) for kind in kinds(settings)] == [(0, 2)]
    assert list(letters(settings, choose([]))) == []


def test_what_would_be_set_aside_again_stays_and_is_named(settings: Settings) -> None:
    """Else each try would make the heap of dead letters larger."""
    set_aside(settings, [*good(1), b"{"], "not an event")

    found = retry(settings, choose(["0/0", "1/0", "1/77"]))

    assert found.sent == 1
    assert [letter.origin for letter, _ in found.refused] == [f"{settings.input.topic}/1/101"]
    assert found.refused[0][1].startswith(f"{settings.input.topic}/1/101: ")  # where it is to be looked for
    assert found.absent == [(1, 77)]
    assert len(sent(settings)) == 1


def test_a_try_that_dies_midway_is_finished_by_the_next_each_record_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop is closed, a connection breaks: nobody knows how far it came, and nobody has to."""
    set_aside(settings, good(35), "`y` is 2.5, wanted a class")
    monkeypatch.setattr(dead_letters, "_EACH_TRANSACTION", 10)
    commits = iter([True, True, False])
    commit = Transactions.commit

    def dying(self: Transactions, *arguments: Any) -> None:
        if not next(commits):
            raise TransportError("the connection broke")
        commit(self, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(Transactions, "commit", dying)
        with pytest.raises(TransportError, match="broke"):
            retry(settings, choose([]))

    found = retry(settings, choose([]))

    assert (found.before, found.sent) == (20, 15)
    ids = [event.id for record in sent(settings) if isinstance(event := Decoder().decode(record), Event)]
    assert sorted(map(int, filter(None, ids))) == list(range(35))


def test_of_two_at_a_time_one_fails_and_nothing_is_sent_twice(settings: Settings) -> None:
    """Two operators, one incident."""
    set_aside(settings, good(3), "`y` is 2.5, wanted a class")
    slow = Transactions(settings.kafka, f"{settings.app.name}/dead-letters/retry")
    with closing(slow):
        slow.send(settings.input.topic, good(1)[0], partition=0)

        assert retry(settings, choose([])).sent == 3
        with pytest.raises(TransportError, match="somebody else"):
            slow.commit()

    assert len(sent(settings)) == 3


def test_the_commands(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator types."""
    set_aside(settings, [*good(2), b"{"], "not an event")
    for section in ("APP__NAME", "INPUT__TOPIC"):
        monkeypatch.setenv(f"STREAMMETA_{section}", settings.app.name)
    monkeypatch.setenv("STREAMMETA_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers)

    def invoke(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli.app, ["dead-letters", *arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    assert "3 dead letters wait, 0 were sent again" in invoke("list")
    assert "2 would be sent again" in invoke("retry", "--all", "--dry-run", code=1)
    assert "2 sent again" in invoke("retry", "--all", code=1)
    shown = invoke("show", "--json")
    assert [json.loads(line)["value"] for line in shown.splitlines()] == ["{"]
    file = tmp_path / "mended.jsonl"
    file.write_text(json.dumps(json.loads(shown) | {"value": {"x": [1], "y": 0}}))
    assert "1 sent again" in invoke("retry", "--mended", str(file))
    assert "0 dead letters wait, 3 were sent again" in invoke("list")


def test_what_ends_a_line_for_python_alone_ends_no_letter(tmp_path: Path) -> None:
    """`show --json` writes texts as they are: one with U+2028 could not be sent again."""
    file = tmp_path / "mended.jsonl"
    file.write_text('{"letter": "0/1", "value": "one\u2028two"}\r\n\n{"letter": "0/2", "value": "{}"}', "utf-8-sig")

    assert list(read_mended(file).values()) == ["one\u2028two".encode(), b"{}"]


def test_a_file_that_is_no_list_of_letters_is_refused_line_by_line(tmp_path: Path) -> None:
    """It was edited by hand: all mistakes at once."""
    file = tmp_path / "mended.jsonl"
    file.write_text('{"letter": "0/1", "value": "{}"}\n{"letter": "x", "value": ""}\n{"letter": "0/2"}\n[')

    with pytest.raises(ConfigError) as refused:
        read_mended(file)

    assert [line.split(": ")[0][-6:] for line in str(refused.value).splitlines()] == ["line 2", "line 3", "line 4"]


def test_what_was_sent_on_by_task_goes_back_where_it_came_from_with_its_own_key(
    kafka: KafkaSettings, topic: str, create_topic: Callable[[str, int], str]
) -> None:
    """An event to the input, a label to its own topic; with another key they would go another way the next time."""
    names = [create_topic(f"{topic}{suffix}", 2) for suffix in ("", "-labels", "-dead-letters", "-repartition")]
    settings = Settings(
        app={"name": topic},
        input={"topic": topic, "repartition": True},
        labels={"topic": names[1], "fields": {"label": "truth"}},
        kafka=kafka.model_dump(),
    )
    event = Record(b'{"x": [1], "task": "a"}', Origin(topic, 1, 5), b"mine", (("h", b"v"),), WHEN)
    raw = Record(b'{"truth": 1, "id": "7"}', Origin(names[1], 1, 6), b"mine", (), WHEN)
    good_label = Record(b'{"truth": 1, "id": "7", "task": "a"}', Origin(names[1], 0, 7), b"mine", (), WHEN)
    by_task, by_label = (
        event_sender(Decoder()),
        label_sender(label_reader(settings)),
    )
    with Transactions(settings.kafka, f"{topic}/service") as transactions:
        for sent_on in (*by_task(event), *by_label(raw), *by_label(good_label)):
            record = Record(sent_on.value, Origin(f"{topic}-repartition", 0, 0), sent_on.key, sent_on.headers, WHEN)
            letter = dead_letter(record, "for some reason")
            transactions.send(names[2], letter.value, key=letter.key, headers=letter.headers, partition=0)
        transactions.commit()

    found = retry(settings, choose([]))
    mended = retry(settings, choose(["0/1"]), {(0, 1): b'{"truth": 1, "id": "7", "task": "a"}'})

    assert (found.sent, mended.sent) == (1, 1)
    assert ["has no task" in why or "was translated" in why for _, why in found.refused] == [True, True]
    with closing(TopicLog(settings.kafka, names[:2])) as log:
        records = {record.origin.topic: record for record in log.records()}
    assert (records[topic].key, records[topic].origin.partition, records[topic].timestamp) == (b"mine", 1, WHEN)
    assert records[topic].headers == (("h", b"v"), ("streammeta-origin", f"{topic}/1/5".encode()))
    assert (records[names[1]].key, records[names[1]].origin.partition) == (b"mine", 1)

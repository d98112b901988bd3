"""Options and settings that cannot be honoured are refused, with their name and the remedy; and a run says its end."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import streammeta
from streammeta import cli
from streammeta.config import load
from streammeta.errors import ConfigError, EventError

SMALL = {"LEARNER__HIDDEN": "8", "LEARNER__ENCODED": "4", "META__EVERY_EVENTS": "64"}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(f"STREAMMETA_{name}", value)
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"t{i % 2},{i % 3},{i % 2}\n" for i in range(40))
    (tmp_path / "plain.csv").write_text("task,a,y\n" + rows)
    (tmp_path / "config.toml").write_text("[app]\nseed = 1\n")
    (tmp_path / "key.toml").write_text('[input]\ntask_from = "key"\n')
    (tmp_path / "header.toml").write_text('[input]\ntask_from = "header"\n')


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["streammeta", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("replay plain.csv --label-delay 1h", "plain.csv/0/0 has no time stamp `ts`; give the delay in events"),
        ("replay plain.csv --speed 10", "plain.csv/0/0 has no time stamp `ts`; leave --speed out"),
        ("replay plain.csv --wiring global", "--wiring global: is for River's models"),
        ("replay plain.csv --set a=1", "--set: plain.csv is no scenario"),
        ("replay sea --truth truth.jsonl", "a scenario knows its own concept changes"),
        ("replay plain.csv --config key.toml", "[input] task_from = 'key': what is replayed has no keys or headers"),
        ("replay sea --config header.toml", "[input] task_from = 'header': what is replayed has no keys"),
        ("play plain.csv --speed 2", "--speed: the first record has no time stamp"),
        ("play plain.csv --rate 2 --speed 2", "wanted one of them"),
        ("play plain.csv --partitions 3", "--partitions 3: is for a Kafka topic, and --to is -"),
        ("simulate sea --events 2 --partitions 3 --to x.jsonl", "--partitions 3: is for a Kafka topic"),
        ("compare a.json --other x", "--other x: is a learner of B, and there is no B"),
        ("inspect snapshot --config config.toml", "a snapshot has its own settings"),
        ("meta-train maml sinusoids --data plain.csv", "--data: family 'sinusoids' does not use it"),
        ("meta-train maml sinusoids --kind regression", "--kind: family 'sinusoids' does not use it"),
        ("meta-train maml sinusoids --ways 3", "--ways: family 'sinusoids' does not use it"),
        ("meta-train maml sinusoids --weight 0.1", "--penalty none with --weight 0.1"),
        ("meta-train maml sinusoids --penalty l2", "one does nothing without the other"),
        ("meta-train alpaca sinusoids --inner-rate 0.1", "--inner-rate: method 'alpaca' does not use it"),
        ("meta-train imaml sinusoids --inner-rate 0.1", "--inner-rate: method 'imaml' does not use it"),
        ("meta-train r2d2 sinusoids --inner-steps 3", "--inner-steps: method 'r2d2' does not use it"),
        ("meta-train reptile sinusoids --penalty l2 --weight 1", "--penalty: method 'reptile' does not use it"),
        ("meta-train mixture sinusoids --outer-rate 0.1", "--outer-rate: method 'mixture' does not use it"),
        ("simulate --events 5", "simulate: --events without a scenario to send; name one of"),
        ("simulate --to out.jsonl", "simulate: --to without a scenario to send"),
        ("simulate sea --list --seed 3", "simulate: --seed without a scenario to send"),
        ("simulate nothing --list", "simulate --list nothing: there is none of that name"),
        ("simulate sea --tasks 3 --set tasks=4", "--tasks 3 and --set tasks=4: wanted one of them"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--label-delay 1h` on a file without times gave the figures of no delay: 0.995 instead of 0.85."""
    status, err = ended(monkeypatch, capsys, *command.split())

    assert status == 2, err
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[input]\ntask_header = "tenant"\n', r"\[input\] task_header: is not used with task_from = 'field'"),
        ('[meta]\nmode = "sync"\nbackground_share = 0.5\n', r"\[meta\] background_share: is not used with mode"),
        ("[meta]\nround_seconds = 9\n", r"\[meta\] round_seconds: is not used with share = 'episodes'"),
        ("[meta.privacy]\nepsilon = 9\n", r"\[meta\] privacy: is not used with share = 'episodes'"),
        ("[drift]\nconcepts = 3\n", r"\[drift\] concepts: is not used with response = 'mix'; leave it out"),
        ('[drift]\nresponse = "reset"\nconcept_events = 64\n', r"\[drift\] concept_events: is not used with"),
        (
            '[drift]\nresponse = "reset"\nkeep_events = 3\n',
            r"\[drift\] keep_events: is not used with response = 'reset'",
        ),
        (
            '[drift]\ndetector = "none"\nwarm_up_labels = 3\n',
            r"\[drift\] warm_up_labels: is not used with detector = 'none'",
        ),
        ("[learner]\nsupport = 16\n", r"\[learner\] support: is not used with method = 'exact-heads'"),
        ("[learner]\ninner_rate = 0.5\n", r"\[learner\] inner_rate: is not used with method = 'exact-heads'"),
        ('[learner]\nstart_from = "theta"\n', r"\[learner\] start_from: is not used with method = 'exact-heads'"),
        ('[learner]\nmethod = "maml"\nmembers = 3\n', r"\[learner\] members: is not used with method = 'maml'"),
        ('[learner]\nmethod = "alpaca"\ninner_rate = 0.5\n', r"\[learner\] inner_rate: .*takes no step of such a size"),
        ('[learner]\nmethod = "r2d2"\ninner_steps = 5\n', r"\[learner\] inner_steps: .*takes no steps"),
        (
            '[app]\nkind = "regression"\n[learner]\nmany_classes = 3\n',
            r"\[learner\] many_classes: .*kind = 'regression'",
        ),
        (
            '[kafka]\nsasl_username = "me"\n',
            r"\[kafka\]?.*sasl_username is not used with security_protocol = 'PLAINTEXT'",
        ),
        (
            '[kafka]\nssl_cafile = "ca.pem"\n',
            r"ssl_cafile is not used with security_protocol = 'PLAINTEXT'; wanted SSL or",
        ),
        ("[kafka]\nssl_check_hostname = false\n", r"ssl_check_hostname is not used with security_protocol"),
        ('[kafka]\nsecurity_protocol = "SSL"\nsasl_mechanism = "PLAIN"\n', r"sasl_mechanism is not used with.*'SSL'"),
        ('[kafka]\nsecurity_protocol = "SSL"\nssl_keyfile = "k"\n', "ssl_keyfile is not used without ssl_certfile"),
        ('[kafka]\nsecurity_protocol = "SSL"\nssl_password = "k"\n', "ssl_password is not used without ssl_certfile"),
    ],
)
def test_a_setting_without_effect_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it believes that it holds."""
    for name in SMALL:
        if "METHOD" in text.upper():  # its encoder is of the default learner
            monkeypatch.delenv(f"STREAMMETA_{name}")
    (tmp_path / "c.toml").write_text(text)

    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "c.toml")


def test_a_dry_run_keeps_the_service_s_limit_of_a_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Records that the service will refuse must be refused in its dry run, the choice of kind included."""
    long = json.dumps({"x": {"text": "x" * 90}, "y": 1.5})
    short = [json.dumps({"x": {"a": i}, "y": i % 2}) for i in range(20)]
    (tmp_path / "s.jsonl").write_text("\n".join([long, *short]))
    monkeypatch.setenv("STREAMMETA_INPUT__MAX_RECORD_BYTES", "64")

    status, err = ended(monkeypatch, capsys, "replay", "s.jsonl", "--json", "r.json")

    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 0, err
    assert (report["kind"], report["events"], report["rejected"]) == ("classification", 20, 1)
    (why,) = report["rejected_reasons"]
    assert why["count"] == 1
    assert "wanted at most 64" in why["reason"]


def test_a_run_that_set_everything_aside_fails_with_its_reasons(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It ended with status 0, and a script took a report of nothing for a result."""
    (tmp_path / "b.csv").write_text("a,y\n" + "1,2,3\n" * 5 + '"x' + "\n")

    status, err = ended(monkeypatch, capsys, "replay", "b.csv", "--kind", "classification", "--json", "r.json")
    automatic = ended(monkeypatch, capsys, "replay", "b.csv")

    assert status == 1
    assert "b.csv: all 6 records were set aside" in err
    assert "5 × b.csv/0/0: 3 cells, wanted 2 as in the header" in err
    assert "1 × b.csv/0/5: a quote that is opened in this row is never closed" in err
    assert json.loads((tmp_path / "r.json").read_text())["rejected"] == 6
    assert automatic[0] == 2
    assert "none of the first 6 records can be used: 5 × b.csv/0/0" in automatic[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,a,y\n1,2,3\n", "d.csv: the header row has the names a more than once"),
        ("", "d.csv: is empty; wanted a header row and rows"),
        ("a,y\n", "there are no records to choose by"),
        ("a,b\n1,2\n", "the first records have no label `y`"),
    ],
)
def test_the_choice_of_kind_does_not_hide_the_true_reason(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A name that stands twice in the header was reported as "no label"."""
    (tmp_path / "d.csv").write_text(text)

    status, err = ended(monkeypatch, capsys, "replay", "d.csv")

    assert status in (1, 2)
    assert message in err


def test_reasons_of_some_records_stand_in_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A count without a reason sends people to the dead letters of a run that wrote none."""
    good = "".join(f"{i % 3},{i % 2}\n" for i in range(20))
    (tmp_path / "s.csv").write_text("a,y\n" + good + "1,2,3\n")
    monkeypatch.setattr(sys, "argv", ["streammeta", "replay", "s.csv"])

    with pytest.raises(SystemExit) as left:
        cli.main()

    assert not left.value.code
    assert "set aside: 1 × s.csv/0/20: 3 cells, wanted 2 as in the header" in capsys.readouterr().out


def test_json_lines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Windows' tools write one; the first record was lost to it."""
    lines = "".join(json.dumps({"x": {"a": i % 2}, "y": i % 2}) + "\n" for i in range(20))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())

    figures = streammeta.replay(tmp_path / "bom.jsonl").figures

    assert (figures["events"], figures["rejected"]) == (20, 0)


def test_a_frame_s_columns_mean_what_they_say() -> None:
    """Times, durations, nullable numbers, categories: each is a feature, missing cells are missing."""
    n = 40
    frame = pd.DataFrame(
        {
            "task": pd.array([1, 2] * 19 + [None, None], dtype="Int64"),
            "when": pd.date_range("2024-01-01", periods=n, freq="D"),
            "took": pd.to_timedelta(range(n), unit="h"),
            "kind": pd.Categorical(["p", "q"] * 20),
            "flag": pd.array([True, None] * 20, dtype="boolean"),
            "y": pd.array([0, 1, None, 1] * 10, dtype="Int64"),
        }
    )

    figures = streammeta.replay(frame).figures

    assert (figures["events"], figures["labelled"], figures["rejected"]) == (n, 30, 0)
    assert figures["tasks"] == 3
    assert figures["features"] == 5  # when, took, kind p, kind q, flag


def test_a_column_without_meaning_is_named() -> None:
    """A TypeError that names no column leaves the reader to bisect the frame."""
    frame: Any = pd.DataFrame({"size": [1 + 2j, 1j], "y": [0, 1]})

    with pytest.raises(ConfigError, match=r"row 0 of the frame: feature 'size' is a complex.*\.astype\(str\)"):
        streammeta.replay(frame)


def test_a_frame_of_which_nothing_can_be_used_raises() -> None:
    """In Python as on the command line."""
    with pytest.raises(EventError, match="all 3 records were set aside"):
        streammeta.replay(pd.DataFrame({"a": [float("inf")] * 3, "y": [0, 1, 0]}), kind="classification")


def test_columns_of_other_names_and_a_spreadsheet_s_csv_are_replayed_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`sold` and `store_id`, semicolons and decimal commas: refused until now, without an option to say so."""
    rows = "".join(f"{i % 2};{i % 7},5;{('no', 'yes')[i % 2]}\n" for i in range(40))
    (tmp_path / "shop.csv").write_text("store_id;price;sold\n" + rows)

    status, err = ended(
        monkeypatch, capsys, "replay", "shop.csv", "--label", "sold", "--task", "store_id", "--json", "r.json"
    )

    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 0, err
    assert "shop.csv: columns separated by semicolons, decimal commas" in err
    assert (report["kind"], report["events"], report["tasks"], report["features"]) == ("classification", 40, 2, 1)


def test_a_frame_s_columns_of_other_names_are_named() -> None:
    """The same words as on the command line."""
    frame = pd.DataFrame({"store_id": ["a", "b"] * 10, "price": range(20), "sold": [True, False] * 10})

    figures = streammeta.replay(frame, label="sold", task="store_id").figures

    assert (figures["events"], figures["labelled"], figures["tasks"], figures["features"]) == (20, 20, 2, 1)
    with pytest.raises(ConfigError, match="none called 'slod'"):
        streammeta.replay(frame, label="slod")

"""The comparison with peers must be fair: test, then train, for everybody, and scored by one piece of code."""

import csv
import gzip
import json

import numpy as np
import pytest

from benchmarks import streams
from benchmarks.peers import river_runner, streammeta_runner
from benchmarks.peers.catalogue import CATALOGUE, QUICK
from benchmarks.peers.environments import absence
from benchmarks.peers.files import FILES, chosen, described, laid_out
from benchmarks.peers.prequential import Job, Rows, each_task, prequential, read_rows
from benchmarks.peers.running_scale import RunningScale
from benchmarks.peers.score import cost, figures, mean_figures
from benchmarks.peers.tables import markdown
from streammeta.simulators import simulate


def rows_of(ys, tasks=None, seed=0):
    xs = np.random.default_rng(seed).normal(size=(len(ys), 2))
    return Rows(["a", "b"], xs, list(tasks or [""] * len(ys)), np.array(ys, float))


def job_of(learner, wiring, kind="classification"):
    return Job("", learner, wiring, kind, None, 0, 0, 60.0, {})


class Diary:
    """A learner that writes down what it is asked."""

    def __init__(self):
        self.lines = []

    def event(self, row, *, labelled):
        self.lines.append(("event", row.number, labelled))
        return row.number

    def label(self, row):
        self.lines.append(("label", row.number))


class Counting:
    """A model that predicts how many labels it has learned, of rows with a label of 0."""

    def __init__(self):
        self.learned = 0

    def predict(self, row):
        return self.learned + row.y

    def learn(self, row):
        self.learned += 1 + row.y


def test_a_late_label_comes_exactly_so_many_rows_after_its_event():
    """With labels that come too soon the file with the delay would be won by the neighbour's label."""
    diary = Diary()

    result = prequential(diary, rows_of([0, 1, 0, 1]), delay=2)

    assert diary.lines == [
        ("event", 0, False),
        ("event", 1, False),
        ("event", 2, False),
        ("label", 0),
        ("event", 3, False),
        ("label", 1),
    ]
    assert result["predictions"] == [0, 1, 2, 3]


def test_a_learner_out_of_time_keeps_the_rows_it_did():
    """A slow peer must show as slow, not vanish."""
    result = prequential(Diary(), rows_of([0] * 50), seconds=0.0)

    assert len(result["predictions"]) == result["marks"][-1][0] < 50


@pytest.mark.parametrize(("wiring", "wanted"), [("global", [0, 1, 2, 3]), ("per-task", [0, 0, 1, 1])])
def test_peers_predict_before_they_learn_each_wiring_with_its_own_models(wiring, wanted):
    """Learning first, or one model where there should be one a task, would make the comparison worthless."""
    rows = rows_of([0, 0, 0, 0], tasks=["a", "b", "a", "b"])

    result = prequential(each_task(job_of("any", wiring), Counting), rows)

    assert result["predictions"] == wanted


@pytest.mark.parametrize("learner", ["streammeta", "River logistic regression", "River HAT", "last label"])
def test_labels_yet_to_come_change_no_earlier_prediction(learner):
    """The one way to cheat in a prequential race is to look ahead; neither side may."""
    ys = np.random.default_rng(1).integers(2, size=120)
    changed = np.concatenate([ys[:60], 1 - ys[60:]])
    runner, wiring = (streammeta_runner, "native") if learner == "streammeta" else (river_runner, "global")

    one, two = (
        prequential(runner.make(job_of(learner, wiring), rows), rows)["predictions"]
        for rows in (rows_of(ys), rows_of(changed))
    )

    assert one[:61] == two[:61]


@pytest.mark.parametrize("learner", [name for name in CATALOGUE if name.startswith(("River", "last"))])
@pytest.mark.parametrize("wiring", ["global", "per-task", "tag"])
def test_every_river_learner_runs_in_every_wiring_it_offers(learner, wiring):
    """A learner that fails on tags would be missing from the table where tags matter."""
    entry = CATALOGUE[learner]
    if wiring not in entry.wirings:
        assert learner in {"last label", "River logistic regression, products"}
        return
    rows = rows_of([0, 1, 0, 1, 1, 0] * 5, tasks=["a", "a", "b"] * 10)

    result = prequential(river_runner.make(job_of(learner, wiring, entry.kinds[0]), rows), rows)

    assert len(result["predictions"]) == 30
    assert result["predictions"][-1] is not None


def test_classes_are_scored_by_hand_count_with_nothing_predicted_as_an_error():
    """One scoring error would be in every row of the table."""
    rows = rows_of([0, 1, 1, 0, 1, 1, 0], tasks=["a"] * 6 + ["b"])

    scores = figures("classification", rows, [None, 1, 1, 0, 1, 0, 0])

    assert scores["accuracy"] == pytest.approx(5 / 7)
    assert scores["error_first"] == {
        "5": pytest.approx(1 / 6),  # five of a and one of b
        "20": pytest.approx(2 / 7),
        "50": pytest.approx(2 / 7),
    }
    assert scores["error_by_age"]["1"] == 0.5
    assert scores["unpredicted"] == 1
    assert scores["tasks"] == 2


def test_a_value_that_is_missing_or_not_finite_counts_as_zero():
    """Rows dropped where a peer diverges would flatter it."""
    scores = figures("regression", rows_of([2.0, 4.0, 6.0]), [None, float("inf"), 5.0])

    assert scores["mae"] == pytest.approx((2 + 4 + 1) / 3)
    assert scores["unpredicted"] == 2


def test_speed_is_told_whole_and_for_the_second_half():
    """Warm-up of a compiler must be in the first figure and not in the second."""
    marks = [[0, 0.0, 0.0], [5, 4.0, 4.0], [10, 5.0, 4.5]]

    spent = cost({"marks": marks, "peak_rss_bytes": 2, "rss_before_bytes": 1})

    assert spent["events_per_second"] == 2.0
    assert spent["events_per_second_second_half"] == 5.0
    assert spent["events_per_processor_second"] == pytest.approx(10 / 4.5)


def test_figures_of_seeds_are_averaged_and_what_one_lacks_stays_unknown():
    """A mean over those seeds alone that worked would be a better figure than the learner deserves."""
    runs = [{"a": 1.0, "b": {"c": None}}, {"a": 3.0, "b": {"c": 1.0}}]

    assert mean_figures(runs) == {"a": 2.0, "b": {"c": None}}


def test_the_running_scale_is_that_of_all_rows_so_far():
    """Two peers depend on it to be at their best."""
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 3))
    scale = RunningScale(3)

    for row in rows:
        scale.learn(row)

    np.testing.assert_allclose(scale.scaled(rows[0]), (rows[0] - rows.mean(0)) / rows.std(0))
    np.testing.assert_allclose(scale.unscaled(scale.scaled(rows[0])), rows[0])


def test_an_environment_that_is_not_there_is_absent_with_its_reason():
    """A peer silently dropped is a race won by default."""
    assert "--setup" in absence("no_such_peer")


def test_tables_name_failed_late_and_absent_learners():
    """The reader must see who did not finish."""
    scores = figures("classification", rows_of([0, 1]), [0, 1])
    spent = cost({"marks": [[0, 0.0, 0.0], [2, 1.0, 1.0]], "peak_rss_bytes": 1e6, "rss_before_bytes": 1})
    runs = [
        {"learner": "streammeta", "wiring": "native", "settings": "defaults", "figures": scores, "cost": spent},
        {"learner": "River HAT", "wiring": "global", "settings": "defaults", "problem": "failed: ValueError"},
        {"learner": "River ARF", "wiring": "global", "settings": "", "figures": scores, "cost": spent | {"rows": 1}},
    ]
    part = {"rows": 2, "features": 2, "tasks": 1, "kind": "classification", "delay": 0, "runs": runs}
    report = {
        "files": {"tiny": part},
        "absent": {"CapyMOA ARF": "no Java"},
        "seeds": [0],
        "versions": {"river": "1"},
        "machine": "here",
    }

    text = markdown(report)

    assert "| streammeta | native | 100.00 |" in text
    assert "| River HAT | global | failed: ValueError |" in text
    assert "River ARF (out of time after 1 rows)" in text
    assert "CapyMOA ARF: absent (no Java)" in text
    assert "- streammeta: defaults" in text
    assert text.index("| streammeta") < text.index("River ARF (out") < text.index("| River HAT")


def test_the_catalogue_offers_every_kind_of_file_a_learner_and_quick_names_exist():
    """A misspelt name in the quick list would fail only when someone is in a hurry."""
    assert set(QUICK) <= set(CATALOGUE)
    assert {kind for entry in CATALOGUE.values() for kind in entry.kinds} == {file.kind for file in FILES.values()}


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """A folder with one file of two tasks, as STREAMMETA_DATA."""
    folder = tmp_path / "streams"
    folder.mkdir()
    rows = rows_of([0, 1, 1, 0] * 30, tasks=["s", "t"] * 60)
    with gzip.open(folder / "tiny.csv.gz", "wt", newline="") as lines:
        table = csv.writer(lines)
        table.writerow([*rows.names, "task", "y"])
        table.writerows([*x, task, int(y)] for x, task, y in zip(rows.xs, rows.tasks, rows.ys, strict=True))
    monkeypatch.setenv("STREAMMETA_DATA", str(tmp_path))
    return folder


def test_a_file_is_read_and_its_kind_told_by_its_labels(small_data):
    """A file that is new to the benchmark must not be learned as the wrong kind."""
    path = small_data / "tiny.csv.gz"

    rows = read_rows(path, 10)

    assert rows.names == ["a", "b"]
    assert rows.xs.shape == (10, 2)
    assert rows.tasks[:3] == ["s", "t", "s"]
    assert described("tiny").kind == "classification"


@pytest.mark.parametrize("name", chosen(["generated", "switch", "recurring"]))
def test_a_simulated_stream_is_written_as_learners_read_it_and_its_truth_is_kept_from_them(name, tmp_path):
    """A column that told the concept, or the switch, would be the best feature of all."""
    path, rows = laid_out(name, FILES[name], 2_000, tmp_path)

    header = path.read_text().splitlines()[0].split(",")
    assert header == [*rows.names, *(["task"] if name in ("switch", "recurring") else []), "y"]
    assert not {"concept", "drifted"} & set(header)
    assert len(rows) == 2_000
    assert (len(set(rows.tasks)) > 200) == (name == "switch")
    np.testing.assert_array_equal(rows.xs, read_rows(path).xs)


@pytest.mark.parametrize("name", chosen(["generated", "switch", "recurring"]))
def test_the_command_that_a_table_shows_makes_the_very_stream(name, tmp_path):
    """Whoever doubts a figure must be able to make the same rows."""
    _, rows = laid_out(name, FILES[name], 300, tmp_path)
    words = FILES[name].description.split()
    settings = dict(word.split("=") for word in words if "=" in word)

    samples = list(simulate(words[2], events=300, seed=int(words[-1]), **settings))

    assert words[:2] == ["streammeta", "simulate"]
    np.testing.assert_array_equal(rows.xs, np.array([list(s.x.values()) for s in samples]))
    np.testing.assert_array_equal(rows.ys, np.array([float(s.y) for s in samples]))


def test_generated_streams_change_their_laws_where_the_table_says(tmp_path):
    """Abrupt ones at 5,000, 10,000 and 15,000; recurring ones every 2,500; 300 tasks each at times of its own."""
    _, abrupt = laid_out("sea", FILES["sea"], None, tmp_path)
    _, recurring = laid_out("rbf_recurring", FILES["rbf_recurring"], None, tmp_path)
    _, switching = laid_out("switch", FILES["switch"], 40_000, tmp_path)

    assert abrupt.switches == {5_000, 10_000, 15_000}
    assert recurring.switches == set(range(2_500, 20_000, 2_500))
    assert len(set(switching.tasks)) == 300
    assert 200 < len(switching.switches) < 450


def test_errors_after_a_switch_are_counted_from_it_and_of_its_own_task():
    """The figure that says whether a learner adapts; one event off and it would say something else."""
    rows = Rows(["a"], np.zeros((60, 1)), ["s", "t"] * 30, np.zeros(60), switches=frozenset({4, 31}))
    said = [1.0 if i in {4, 24, 26, 44, 51} else 0.0 for i in range(60)]  # rows 24 to 42 are s's 11th to 20th

    scores = figures("classification", rows, said)

    assert scores["switches"] == 2
    assert scores["error_after_switch"]["1"] == 0.5
    assert scores["error_after_switch"]["11-20"] == pytest.approx(3 / 15)  # ten of s, and 51 to 59 of t
    assert scores["later_after_switch"]["1"] == 0.0
    assert scores["later_after_switch"]["11-20"] == pytest.approx(1 / 12)
    assert "switches" not in figures("classification", rows_of([0, 1]), [0, 1])


@pytest.mark.slow
def test_the_benchmark_runs_end_to_end_in_processes_of_their_own(small_data, tmp_path, capsys):
    """The parts may each work and the command still fail."""
    out, text = tmp_path / "out.json", tmp_path / "out.md"

    learners = ["--learners", "streammeta", "--learners", "last label", "--learners", "River HAT"]
    variant = ["--variant", 'small={"learner": {"hidden": 8}}']

    status = streams.main(["--files", "tiny", *learners, *variant, "--json", str(out), "--markdown", str(text)])

    report = json.loads(out.read_text())
    runs = {(run["learner"], run["wiring"]) for run in report["files"]["tiny"]["runs"]}
    assert status == 0
    assert ("streammeta", "native") in runs
    assert ("small", "native") in runs
    assert {("River HAT", wiring) for wiring in ("global", "per-task", "tag")} <= runs
    assert all(run["cost"]["rows"] == 120 for run in report["files"]["tiny"]["runs"])
    assert 'small: defaults and {"learner": {"hidden": 8}}' in text.read_text()
    assert "tiny [1/" in capsys.readouterr().out


def test_a_comparison_goes_on_where_it_was_and_runs_again_what_is_asked_for(small_data, tmp_path, capsys):
    """Peers take hours and do not change; the learner changes daily."""
    out = tmp_path / "out.json"
    command = ["--files", "tiny", "--learners", "last label", "--json", str(out), "--resume"]
    streams.main(command)
    before = {run["wiring"]: run for run in json.loads(out.read_text())["files"]["tiny"]["runs"]}
    capsys.readouterr()

    other = ["--learners", "River HAT", "--wirings", "global,per-task", "--again", "River HAT"]
    streams.main(["--files", "tiny", "--json", str(out), "--resume", *other])
    said = capsys.readouterr().out
    after = json.loads(out.read_text())
    streams.main([*command, "--again", "last label", "--again", "River HAT"])

    runs = {(run["learner"], run["wiring"]): run for run in after["files"]["tiny"]["runs"]}
    assert "last label, global:" not in said
    assert "River HAT, per-task:" in said
    assert all(runs["last label", wiring] == run for wiring, run in before.items())
    assert ("River HAT", "global") in runs
    assert "river" in after["versions"]
    assert "last label, global:" in capsys.readouterr().out


def test_only_a_comparison_like_the_earlier_one_is_gone_on_with(small_data, tmp_path):
    """Figures of other rows or seeds must not end up in one table."""
    out = tmp_path / "out.json"
    command = ["--files", "tiny", "--learners", "last label", "--json", str(out), "--resume"]
    streams.main([*command, "--limit", "50"])
    streams.main(command)

    assert {run["cost"]["rows"] for run in json.loads(out.read_text())["files"]["tiny"]["runs"]} == {120}
    with pytest.raises(SystemExit, match=r"has seeds \[0\], wanted \[1\]"):
        streams.main([*command, "--seeds", "1"])


def test_an_unknown_file_or_learner_is_refused_with_what_is_known(small_data, capsys):
    """A benchmark of an hour must not begin with a misspelt name."""
    with pytest.raises(SystemExit):
        streams.main(["--files", "nothing"])
    assert "STREAMMETA_DATA" in capsys.readouterr().err

    with pytest.raises(SystemExit, match="no learner called 'ghost'"):
        streams.main(["--files", "tiny", "--learners", "ghost"])

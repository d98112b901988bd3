"""The report as a page: what went wrong stands first, and columns can be compared at a glance."""

import re
import threading
from pathlib import Path

import pytest

from streammeta.config import Settings
from streammeta.report import Figures
from streammeta.review.page import page
from streammeta.review.study import Plan, opened, run


def rows(text: str, table: str) -> list[list[str]]:
    """The cells of a table's body."""
    (body,) = re.findall(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    return [
        [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]


def lead(text: str) -> str:
    (found,) = re.findall(r'<p class="lead">(.*?)</p>', text)
    return found


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows of two tasks, two hours apart; each tenth cannot be read. Task b's labels are the other way round."""
    lines = []
    for i in range(300):
        task, a = "ab"[i % 2], (i * 7919 % 100) / 50 - 1
        y = "yes" if (a > 0) ^ (task == "b") else "no"
        line = f'{{"task": "{task}", "x": {{"a": {a}}}, "y": "{y}", "ts": {1.7e9 + 7200 * i}}}'
        lines.append(line if i % 10 else '{"x": 1')
    file = tmp_path_factory.mktemp("broken") / "shop.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def figures(broken: Path) -> Figures:
    with opened(Plan(broken), Settings()) as ready:
        return run(ready)


def test_what_was_set_aside_stands_in_the_headline_and_before_the_learners(figures: Figures) -> None:
    """A run that lost a tenth of its rows is not the run that was asked for, however good its figures are."""
    text = page(figures)

    assert "30 of 300 records (10.0%) were set aside." in lead(text)
    (((why, count),)) = rows(text, "rejected")
    assert (why.startswith("shop.jsonl/0/0: not an event"), count) == (True, "30")
    assert text.index('id="rejected"') < text.index('id="learners"')


def test_a_run_that_was_stopped_says_so_and_how_far_it_came(broken: Path) -> None:
    """Half a file's accuracy must not be taken for the whole one's."""
    stop = threading.Event()
    settings = Settings.model_validate({"app": {"kind": "classification"}})
    with opened(Plan("stagger", limit=2_000), settings) as ready:
        stopped = run(ready, observers=[lambda _outcomes, _rejected: stop.set()], stop=stop)
    with opened(Plan(broken), Settings()) as ready:
        whole = run(ready, stop=threading.Event())

    assert (stopped["stopped"], stopped["records"] < 2_000) == (True, True)
    assert lead(page(stopped)).startswith(f"This run was stopped after {stopped['records']:,} records, ")
    assert (whole["stopped"], whole["status"], whole["records"]) == (False, "finished", 300)


def test_each_column_has_one_number_of_decimals(figures: Figures) -> None:
    """0.6 under 0.533 has to be read twice."""
    text = page(figures)

    for table in ("learners", "ages", "tasks", "classes"):
        for column in zip(*rows(text, table), strict=True):
            decimals = {len(cell.partition(".")[2]) for cell in column if re.fullmatch(r"[\d,]+\.\d+", cell)}
            assert len(decimals) <= 1, (table, column)


def test_tasks_stand_worst_first_and_classes_add_up(figures: Figures) -> None:
    """Where to look, and what is taken for what."""
    text = page(figures)
    tasks, confusion, classes = rows(text, "tasks"), rows(text, "confusion"), rows(text, "classes")

    errors = [float(error) for _, error, *_ in tasks]
    assert errors == sorted(errors, reverse=True)
    assert sorted(int(labels) for _, _, labels, *_ in tasks) == [120, 150]
    assert [sum(map(int, row[1:])) for row in confusion] == [int(row[1]) for row in classes]
    assert sum(int(row[1]) for row in classes) == figures["labelled"] == 270
    right = sum(int(row[1 + i]) for i, row in enumerate(confusion))
    assert right / 270 == pytest.approx(figures["accuracy"])


def test_where_events_have_times_the_axis_has_them(figures: Figures) -> None:
    """People know what happened in November, not what happened at label 1,200."""
    text = page(figures)

    assert "labels, and when they came (UTC)" in text
    assert re.search(r"\d\d (Nov|Dec) 2023", text)
    assert "when they came" not in page({**figures, "label_times": None})


def test_without_learning_is_a_row_and_said_where_it_would_be_better(figures: Figures) -> None:
    """A learner that is worse than the last label has learned nothing."""
    text = page(figures)
    shown = {row[0]: row for row in rows(text, "learners")}
    guesses = {**figures["guesses"], "majority class": {**figures["guesses"]["majority class"], "error": 0.0}}

    assert shown["majority class"][-1] == shown["last label of the task"][-1] == "without learning"
    assert "The majority class alone, without learning, has 100.0%." in lead(page({**figures, "guesses": guesses}))


def test_of_decisions_the_headline_is_the_reward(broken: Path) -> None:
    """An error of predicted rewards says nothing of how well was decided."""
    with opened(Plan(broken, as_decisions=True), Settings()) as ready:
        figures = run(ready)

    text = page(figures)
    shown = {row[0]: row for row in rows(text, "learners")}

    assert lead(text).startswith(f"The mean reward is {figures['mean_reward']:.4g}, ")
    assert shown["mean so far"][1] == ""  # it decides nothing
    assert float(shown["mean so far"][2]) > 0

"""All learners in a terminal and in a pipe."""

import io

import pytest
from rich.console import Console

import streammeta
from streammeta.report import Figures
from streammeta.review.scoreboard import lines, tables


@pytest.fixture(scope="module")
def figures() -> Figures:
    options = {"tasks": 8, "concept_events": 40}
    return streammeta.replay("shared-representation", limit=600, seed=1, options=options).figures


def test_a_terminal_shows_tasks_worst_first_each_class_and_what_one_would_say_without_learning(
    figures: Figures,
) -> None:
    """Where there is no browser, the same is to be seen."""
    console = Console(file=io.StringIO(), width=120)

    console.print(tables(figures))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    worst, first = figures["worst_tasks"][0], figures["classes_of"][0]
    assert f"5 of {figures['tasks']} tasks, the worst first" in shown
    assert f"{worst['task']} " in shown
    assert f"{worst['error']:.4f}" in shown
    assert "2 of 2 classes, the commonest first" in shown
    assert f"{first['recall']:.3f}" in shown
    assert shown.count("without learning") == 2


def test_a_pipe_gets_them_as_lines(figures: Figures) -> None:
    """A line a thing, for `grep`."""
    found = list(lines(figures))

    (classes,) = [line for line in found if line.startswith("recall of the commonest classes: ")]
    (detection,) = [line for line in found if line.startswith("drift detection: ")]
    assert f"{figures['classes_of'][0]['class']} {figures['classes_of'][0]['recall']:.3f} (n " in classes
    assert f"{figures['detection']['undecided']} undecided at the end" in detection
    assert [line for line in found if line.startswith(f"worst tasks: {figures['worst_tasks'][0]['task']} ")]
    assert sum("without learning: accuracy" in line for line in found) == 2

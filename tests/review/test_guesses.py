"""What one would say without learning."""

from math import isnan

from streammeta.review.guesses import Guesses


def test_the_commonest_class_and_the_last_label_of_the_task_are_judged_by_hand() -> None:
    """They are the floor under every learner: counted wrongly, a learner would look better or worse than it is."""
    guesses = Guesses("classification")

    for task, y in [("a", 1), ("a", 1), ("b", 0), ("a", 0), ("b", 0)]:
        guesses.judge(task, y, guesses.now(task))

    assert guesses.errors["majority class"].tolist() == [1, 0, 1, 1, 1]  # nothing known, 1, 1, 1, 1 (two of each)
    assert guesses.errors["last label of the task"].tolist() == [1, 0, 1, 1, 0]


def test_what_was_guessed_when_the_event_came_counts_for_a_late_label() -> None:
    """A guess that knew labels that came meanwhile would be no guess."""
    guesses = Guesses("classification")
    asked = guesses.now("a")
    guesses.judge("a", 1, guesses.now("a"))

    guesses.judge("a", 1, asked)

    assert guesses.errors["majority class"].tolist() == [1, 1]


def test_of_targets_it_is_the_mean_and_the_last_value() -> None:
    """In the units of the target."""
    guesses = Guesses("regression")

    for y in (1.0, 3.0, 5.0):
        guesses.judge("a", y, guesses.now("a"))

    mean, last = guesses.errors["mean so far"].tolist(), guesses.errors["last label of the task"].tolist()
    assert isnan(mean[0])
    assert isnan(last[0])
    assert (mean[1:], last[1:]) == ([2.0, 3.0], [2.0, 2.0])

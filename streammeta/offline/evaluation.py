"""How good is a θ? Figures over held-out tasks, each with its 95 % confidence interval, before and after adapting."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from streammeta.episode.family import Family
from streammeta.errors import ConfigError
from streammeta.meta.learner import Examples, Learner, Predictive, TaskBatch, Theta, negative_log_likelihood, task_mean

__all__ = ["Evaluation", "Figure", "cross_validate", "evaluate", "figures", "gap"]

_Z95 = 1.959964
_BINS = 10
_INSIDE_90 = 1.644854


class Figure(NamedTuple):
    """A mean over tasks, and half the width of its 95 % confidence interval."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` found."""

    tasks: int
    before: Mapping[str, Figure]  # by name of the metric
    after: Mapping[str, Figure]
    adapt_seconds: float  # of one task, on average, in a batch of all

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {
            when: {name: figure._asdict() for name, figure in getattr(self, when).items()}
            for when in ("before", "after")
        }


def evaluate(
    learner: Learner, theta: Theta, tasks: TaskBatch, *, together: int = 1_000, clock: Callable[[], float] | None = None
) -> Evaluation:
    """Predict the queries of all tasks, adapt on the supports, predict again.

    Args:
        learner: the method.
        theta: what it meta-learned (`learner.served`).
        tasks: of a family's ``test``.
        together: tasks in one batch; fewer take less memory.
        clock: seconds; `time.perf_counter` unless given.
    """
    clock = clock or time.perf_counter
    n, seconds = tasks.query.x.shape[0], 0.0
    before, after = list[dict[str, torch.Tensor]](), list[dict[str, torch.Tensor]]()
    with torch.no_grad():
        for i in range(0, n, together):
            batch = TaskBatch(*(Examples(*(part[i : i + together] for part in half)) for half in tasks))
            fresh = learner.start(theta, batch.query.x.shape[0])
            begun = clock()
            adapted = learner.adapt(theta, fresh, batch.support)
            seconds += clock() - begun
            before.append(_each(learner.predict(theta, fresh, batch.query.x), batch.query))
            after.append(_each(learner.predict(theta, adapted, batch.query.x), batch.query))
    return Evaluation(n, _together(before), _together(after), seconds / n)


def figures(answer: Predictive, query: Examples) -> dict[str, Figure]:
    """Every metric of answers to the queries.

    Classes: accuracy, precision, recall, F1 (macro over the classes that a task asks for), NLL, calibration error.
    Regressions: MSE, NLL, and the share inside the 90 % interval where the method knows its variance.
    """
    return _together([_each(answer, query)])


def _each(answer: Predictive, query: Examples) -> dict[str, torch.Tensor]:
    """Every metric of each task [T]."""
    of = _of_numbers if query.y.is_floating_point() else _of_classes
    nll = task_mean(negative_log_likelihood(answer, query.y), query.mask)
    return of(answer, query.y, query.mask) | {"nll": nll}


def _together(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Figure]:
    return {name: _figure(torch.cat([part[name] for part in parts])) for name in parts[0]}


def gap(
    learner: Learner, theta: Theta, family: Family, *, tasks: int, support: int, query: int, seed: int = 0
) -> float:
    """How much worse on new tasks than on training tasks: the difference of the mean losses (NLL) after adapting."""
    losses = []
    for i, draw in enumerate((family.test, family.train)):  # other seeds: on a continuum both draw alike
        batch = draw(torch.Generator().manual_seed(2 * seed + i), tasks, support, query)
        losses.append(evaluate(learner, theta, batch).after["nll"].mean)
    return losses[0] - losses[1]


def cross_validate(
    folds: Sequence[Family], fit: Callable[[Family], tuple[Learner, Theta]], *, tasks: int, support: int, query: int
) -> list[Evaluation]:
    """Train on each fold's training tasks, judge on its held-out ones.

    Args:
        folds: families whose ``test`` tasks are apart from each other, as `episode.table.folds` makes them.
        fit: trains a learner on a family.
        tasks: drawn for judging a fold.
        support: examples to adapt on.
        query: examples to be judged by.
    """
    if len(folds) < 2:
        raise ConfigError(f"cross-validation: got {len(folds)} folds; wanted 2 or more")
    return [
        evaluate(*fit(family), family.test(torch.Generator().manual_seed(i), tasks, support, query))
        for i, family in enumerate(folds)
    ]


def _figure(each: torch.Tensor) -> Figure:
    """Mean over tasks [T]; the interval is that of the mean, by the normal approximation."""
    n = each.shape[0]
    spread = each.std().item() if n > 1 else float("nan")
    return Figure(each.mean().item(), _Z95 * spread / math.sqrt(n))


def _of_numbers(answer: Predictive, y: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    error = (answer.output - y).square().mean(-1)
    found = {"mse": task_mean(error, mask)}
    if answer.variance is not None:
        inside = (answer.output - y).abs() <= _INSIDE_90 * answer.variance.sqrt()
        found["inside_90"] = task_mean(inside.to(y.dtype).mean(-1), mask)
    return found


def _of_classes(answer: Predictive, y: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    classes = answer.output.shape[-1]
    said = answer.output.argmax(-1)
    one_hot, guessed = (torch.nn.functional.one_hot(of, classes) * mask.unsqueeze(-1) for of in (y, said))
    right, asked, given = (one_hot * guessed).sum(1), one_hot.sum(1), guessed.sum(1)  # [T, C]
    present = (asked > 0).to(mask.dtype)

    def macro(value: torch.Tensor) -> torch.Tensor:
        return (value * present).sum(-1) / present.sum(-1).clamp(min=1)

    return {
        "accuracy": task_mean((said == y).to(mask.dtype), mask),
        "precision": macro(right / given.clamp(min=1)),
        "recall": macro(right / asked.clamp(min=1)),
        "f1": macro(2 * right / (asked + given).clamp(min=1)),
        "calibration_error": _calibration_error(answer.output, (said == y).to(mask.dtype), mask),
    }


def _calibration_error(logits: torch.Tensor, right: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Expected calibration error of each task [T]: |accuracy − confidence| by ten bins of confidence."""
    sure = logits.softmax(-1).amax(-1)
    bins = torch.nn.functional.one_hot((sure * _BINS).long().clamp(0, _BINS - 1), _BINS) * mask.unsqueeze(-1)
    apart = ((right - sure).unsqueeze(-1) * bins).sum(1).abs().sum(-1)
    return apart / mask.sum(1).clamp(min=1)

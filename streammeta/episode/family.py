"""A task family: where episodes come from."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch

from streammeta.meta.catalogue import Problem
from streammeta.meta.learner import TaskBatch

__all__ = ["Draw", "Family"]

Draw: TypeAlias = Callable[[torch.Generator, int, int, int], TaskBatch]  # (generator, tasks, support, query)


class Family(NamedTuple):
    """Related tasks to draw episodes from; the same generator state gives the same episodes.

    ``support`` and ``query`` count the examples of a task, or for few-shot classification of each of its classes.
    """

    name: str
    problem: Problem
    train: Draw
    test: Draw  # tasks that ``train`` never draws

"""A task family: where episodes come from."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from streammeta.meta.catalogue import Problem
from streammeta.meta.learner import TaskBatch

__all__ = ["Family"]


class Family(NamedTuple):
    """Related tasks to draw episodes from; the same generator state gives the same episodes.

    Training and held-out tasks are apart: `train` never draws a task that `test` can.
    """

    name: str
    problem: Problem
    train: Callable[[torch.Generator, int, int, int], TaskBatch]  # (generator, tasks, support, query) a task or class
    test: Callable[[torch.Generator, int, int, int], TaskBatch]

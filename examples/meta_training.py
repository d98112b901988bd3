"""Train a meta-learner in PyTorch on tasks of your own, and see what it learned before and after five examples.

A family of tasks is two functions that draw episodes. A method is a tuple of pure functions over visible state.
"""

import math

import torch

from streammeta.episode.family import Family
from streammeta.meta.catalogue import Problem
from streammeta.meta.learner import TaskBatch, examples, served
from streammeta.meta.methods import alpaca
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam
from streammeta.model import mlp
from streammeta.offline.evaluation import evaluate
from streammeta.offline.training import Schedule, train


def waves(generator: torch.Generator, tasks: int, support: int, query: int) -> TaskBatch:
    """Episodes of tasks y = a sin(x + b) with an a and b of its own; x and y are [T, N, 1]."""
    a = 0.5 + 2 * torch.rand(tasks, 1, 1, generator=generator)
    b = 2 * math.pi * torch.rand(tasks, 1, 1, generator=generator)
    x = 10 * torch.rand(tasks, support + query, 1, generator=generator) - 5
    y = a * torch.sin(x + b)
    return TaskBatch(examples(x[:, :support], y[:, :support]), examples(x[:, support:], y[:, support:]))


def main() -> None:
    """Train, then compare the error on new tasks before and after adapting."""
    torch.set_num_threads(1)  # small matrices
    family = Family("waves", Problem("regression", inputs=1, outputs=1), train=waves, test=waves)
    learner = alpaca(mlp(1, (40,), 24, activation="tanh"), outer=Outer(adam(3e-3)))

    state = train(learner, family, Schedule(updates=600, tasks=16, support=5, query=10))

    new = family.test(torch.Generator().manual_seed(7), 200, 5, 10)
    found = evaluate(learner, served(state), new)
    print("before adapting:", found.before["mse"])
    print("after five examples:", found.after["mse"])


if __name__ == "__main__":
    main()

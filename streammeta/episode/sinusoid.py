"""Sinusoids: the field's smallest family of related regressions.

    y = a sin(x − b),    a ~ U[0.1, 5],  b ~ U[0, π],  x ~ U[−5, 5]

Source: Finn, Abbeel & Levine (2017), arXiv:1703.03400, section 5.1.
"""

import math

import torch

from streammeta.episode.family import Family
from streammeta.meta.base import Kind
from streammeta.meta.catalogue import Problem
from streammeta.meta.learner import Examples, TaskBatch, examples

__all__ = ["sinusoids"]


def sinusoids(kind: Kind = "regression") -> Family:
    """Sinusoids of random amplitude and phase; as a classification, whether y > 0, for the methods that only do that.

    Tasks come from a continuum, so that a held-out one has never been seen.
    """

    def draw(generator: torch.Generator, tasks: int, support: int, query: int) -> TaskBatch:
        def uniform(low: float, high: float, n: int) -> torch.Tensor:
            return low + (high - low) * torch.rand(tasks, n, 1, generator=generator)

        amplitude, phase = uniform(0.1, 5, 1), uniform(0, math.pi, 1)
        x = uniform(-5, 5, support + query)
        y = amplitude * torch.sin(x - phase)
        labels = y if kind == "regression" else (y.squeeze(-1) > 0).long()

        def cut(of: slice) -> Examples:
            return examples(x[:, of], labels[:, of])

        return TaskBatch(cut(slice(support)), cut(slice(support, None)))

    outputs = 1 if kind == "regression" else 2
    return Family("sinusoids", Problem(kind, inputs=1, outputs=outputs), draw, draw)

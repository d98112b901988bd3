"""Experts in the mixture: predictors of another make, blended with the learner by recent evidence."""

from streammeta.engine.experts.base import RIVER, Case, Cases, Columns, Expert, Slots
from streammeta.engine.experts.choice import choose
from streammeta.engine.experts.intercepts import OF_TASKS
from streammeta.engine.experts.mixture import POOLED, Blend, Mixture, RunLabels, own_columns

__all__ = [
    "OF_TASKS",
    "POOLED",
    "RIVER",
    "Blend",
    "Case",
    "Cases",
    "Columns",
    "Expert",
    "Mixture",
    "RunLabels",
    "Slots",
    "choose",
    "own_columns",
]

"""Experts in the mixture: predictors of another make, blended with the learner by recent evidence."""

from streammeta.engine.experts.base import Case, Cases, Columns, Expert, Slots
from streammeta.engine.experts.choice import choose
from streammeta.engine.experts.mixture import POOLED, Blend, Mixture, RunLabels

__all__ = ["POOLED", "Blend", "Case", "Cases", "Columns", "Expert", "Mixture", "RunLabels", "Slots", "choose"]

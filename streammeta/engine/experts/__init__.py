"""Experts in the mixture: predictors of another make, blended with the learner by recent evidence."""

from streammeta.engine.experts.base import Case, Cases, Expert
from streammeta.engine.experts.choice import choose
from streammeta.engine.experts.mixture import Blend, Mixture, RunLabels

__all__ = ["Blend", "Case", "Cases", "Expert", "Mixture", "RunLabels", "choose"]

"""Experts in the mixture: predictors of another make, blended with the learner by recent evidence."""

from streammeta.experts.base import Case, Expert
from streammeta.experts.choice import choose
from streammeta.experts.mixture import Blend, Mixture

__all__ = ["Blend", "Case", "Expert", "Mixture", "choose"]

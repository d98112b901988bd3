"""``[drift] response = "mix"``: the heads that remember long keep what they know, and the mixture decides."""

from streammeta.engine.responses.base import DriftResponse

__all__ = ["Mix"]


class Mix(DriftResponse):
    """Forget in part: an alarm that was false costs little."""

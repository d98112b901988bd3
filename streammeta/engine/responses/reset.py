"""``[drift] response = "reset"``: the task begins again from θ, as a new one does."""

from typing import ClassVar

from streammeta.engine.responses.base import DriftResponse
from streammeta.meta.base import Forget

__all__ = ["Reset"]


class Reset(DriftResponse):
    """Forget all, the window too."""

    forgets: ClassVar[Forget] = Forget.ALL

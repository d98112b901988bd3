"""What the engine asks of a response to drifts."""

from collections.abc import Mapping
from typing import ClassVar

from streammeta.engine.columns import Column, Columns
from streammeta.engine.scale import Fixed, seen_window
from streammeta.engine.settings import EngineSettings
from streammeta.meta.base import Forget, Ints, Method

__all__ = ["DriftResponse"]

_TOGETHER = 256  # rows derived at once


class DriftResponse:
    """What becomes of a task's φ when its concept changed, and what is kept for that; itself it forgets in part.

    Shapes: N rows. Columns are those of the task table, where each task has a row; only the rows named are changed.

    Args:
        method: the learner, whose φ is in the columns.
        settings: the engine's.

    Attributes:
        forgets: how much of φ a drift makes the learner forget.
        looks_at_labels: ``observe_loss`` and ``look_back`` are asked at every label, so events are judged one by one.
        derived: the columns that a task's window makes again, to the bit, so that they need not be kept or moved.
    """

    forgets: ClassVar[Forget] = Forget.PART
    looks_at_labels: ClassVar[bool] = False

    def __init__(self, method: Method, settings: EngineSettings) -> None:
        self._method, self._settings = method, settings
        self.derived = method.derived

    def columns(self, kept: Mapping[str, Column]) -> Mapping[str, Column]:  # noqa: ARG002
        """What is kept of each task beside what all responses have (``kept``)."""
        return {}

    def derive(self, shared: Fixed, columns: Columns, rows: Ints, outputs: int) -> None:
        """Make φ of these rows [N] from what is remembered of them, for C ``outputs``."""
        for begin in range(0, rows.size, _TOGETHER):  # what windows hold takes more memory than φ
            these = rows[begin : begin + _TOGETHER]
            held = seen_window(columns, these, shared.frame, is_whole=False)
            self._method.rebuild(shared.weights, columns, these, held, outputs)

    def observe_loss(self, columns: Columns, row: int, loss: float, variance: float | None) -> None:
        """A label of a task had this loss; asked where ``looks_at_labels``.

        Args:
            columns: whose counters include the label already.
            row: the task's.
            loss: negative log-likelihood, nats.
            variance: of the prediction, in squared spreads of the task's target; None: labels are classes.
        """

    def look_back(self, shared: Fixed, columns: Columns, row: int, outputs: int) -> int | None:  # noqa: ARG002
        """After a label that was learned and signalled no drift: whether φ is to be derived again.

        Returns:
            None: it is not. Else it is; and where the label makes certain that the concept changed, which no detector
            has said, how many labels ago that was, else 0.
        """
        return None

    def end(self, shared: Fixed, columns: Columns, row: int, kept: int, outputs: int) -> int:  # noqa: ARG002
        """The task's concept ended ``kept`` labels ago, by the detector; its counters do not say so yet.

        Returns:
            How many labels ago it did, as far as is known here.
        """
        return kept

    def restarted(self, shared: Fixed, columns: Columns, rows: Ints, kept: int, outputs: int) -> None:
        """The learner has forgotten; put the last ``kept`` labels into φ of these rows [1]."""
        if kept:
            self.derive(shared, columns, rows, outputs)

    def forget_concepts(self, columns: Columns, row: int) -> None:
        """The task's numbers are in another unit from now on: what earlier concepts kept says nothing any more."""

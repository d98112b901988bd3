"""The loss of a training as a line of at most a few hundred points, and as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from streammeta.errors import TransportError

__all__ = ["Curve"]

_POINTS = 400  # beyond it, neighbours are merged


class Curve:
    """Means of the loss over equal numbers of updates; however long the training, the curve stays small.

    >>> curve = Curve()
    >>> for update, loss in enumerate([4.0, 2.0, 3.0], 1):
    ...     curve.add(update, loss)
    >>> curve.points()
    [[1, 4.0], [2, 2.0], [3, 3.0]]
    """

    def __init__(self) -> None:
        self._points: list[list[float]] = []  # last update of each, and the mean loss
        self._each = 1  # updates in a point
        self._open: list[float] = []

    @classmethod
    def from_points(cls, points: Sequence[Sequence[float]]) -> "Curve":
        """The curve that had these points, to go on with."""
        curve = cls()
        curve._points = [list(point) for point in points]
        if len(points) > 1:
            curve._each = max(int(points[1][0] - points[0][0]), 1)
        return curve

    def add(self, update: int, loss: float) -> None:
        """The loss at this update; one that is no number is left out."""
        if math.isfinite(loss):
            self._open.append(loss)
        if update % self._each or not self._open:
            return
        self._points.append([update, sum(self._open) / len(self._open)])
        self._open = []
        if len(self._points) == 2 * _POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [[last, (one + other) / 2] for (_, one), (last, other) in pairs]
            self._each *= 2

    def points(self) -> list[list[float]]:
        """Every point: the update it ends at, and the mean loss."""
        return [list(point) for point in self._points]

    def draw(self, file: Path, title: str) -> None:
        """Write the curve as a PNG.

        Raises:
            TransportError: it cannot be written.
        """
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([update for update, _ in self._points], [loss for _, loss in self._points], linewidth=1)
        axes.set(title=title, xlabel="meta-update", ylabel="meta-objective")
        axes.grid(alpha=0.3)
        try:
            figure.savefig(file, dpi=120)
        except OSError as err:
            raise TransportError(f"{file}: the curve cannot be written ({err}); name another file") from err

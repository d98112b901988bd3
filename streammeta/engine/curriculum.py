"""What θ learns from, and when: segments of recent tasks, drawn as the settings sample them, in the rhythm that pays.

Two things change what is uniform and regular otherwise: underperforming tasks (``escalation``), and labels that
are predicted much worse than usual (``rhythm``). The one owner of the random draws.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows, draw_episodes
from streammeta.engine.escalation import Escalation
from streammeta.engine.outcome import MetaResult
from streammeta.engine.rhythm import Rhythm
from streammeta.engine.sampling import draw_rows
from streammeta.engine.scale import FrameScale, errors_in_spreads
from streammeta.engine.settings import EngineSettings
from streammeta.engine.shared import device
from streammeta.meta.base import Episodes, Ints, MetaState, Method, Theta
from streammeta.meta.job import MetaJob, meta_update

__all__ = ["Curriculum"]


class Curriculum:
    """When θ takes its steps, from what, and how.

    Args:
        settings: the engine's.
        method: the learner.

    Attributes:
        random: what draws tasks and segments.
    """

    def __init__(self, settings: EngineSettings, method: Method) -> None:
        meta = settings.meta
        self._settings, self._method = settings, method
        self._device = device(settings.learner.device)
        self._rhythm = Rhythm(meta.every_events, meta.stretch)
        self._escalation = Escalation(meta.escalate_events) if meta.escalate_events else None
        self._hurries = False  # some task underperformed at the last meta-update
        self.random = np.random.default_rng(settings.seed)

    @property
    def interval(self) -> int:
        """Events between two meta-updates."""
        return max(self._rhythm.interval // 2, 1) if self._hurries else self._rhythm.interval

    def begin_alone(self) -> None:
        """The stream's first event has no tag: θ has one task to serve."""
        self._rhythm.begin_alone()

    def observe_outcomes(self, judged: Sequence[tuple[int, float, float]]) -> None:
        """How labels were predicted, in order: the task's labels before, loss and error in spreads of its target."""
        for age, loss, error in judged:
            self._rhythm.observe_label_loss(loss)
            if self._escalation:
                self._escalation.observe_error(age, error)

    def draw(self, columns: Mapping[str, npt.NDArray[Any]], recent: RecentRows, frame: FrameScale) -> Episodes | None:
        """Segments for a meta-update; None where too few tasks have enough labels."""
        meta, kind, members, random = self._settings.meta, self._settings.kind, self._method.members, self.random
        rows = draw_rows(
            meta.sampling,
            columns,
            recent,
            members * meta.tasks,
            shortest=meta.shortest,
            frame=frame,
            kind=kind,
            random=random,
        )
        if self._escalation and rows.size:
            rows = self._with_underperforming(self._escalation, rows, columns, recent, frame)
        return draw_episodes(columns, rows, frame, meta, kind, members, random)

    def meta_job(self, state: MetaState, start: Theta | None, episodes: Episodes) -> MetaJob:
        """A meta-update as a value.

        Args:
            state: θ and its optimizer.
            start: θ as it began, for saturated units to be pulled to; None: nothing is pulled.
            episodes: what to learn from.
        """
        meta = self._settings.meta
        return MetaJob(state, episodes, meta.rate, start, meta.pull, meta.renew_every)

    def run(self, job: MetaJob) -> MetaResult:
        """Make a meta-update, in any thread: it reads nothing but the job."""
        method = self._method
        return MetaResult(meta_update(job, method.gradient, device=self._device, pace=method.pace))

    def observe_meta_update(self, result: MetaResult) -> None:
        """What came of a meta-update."""
        self._rhythm.observe_meta_loss(result.loss)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same; ``random`` is not in them."""
        return self._rhythm.dump() | (self._escalation.dump() if self._escalation else {})

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described."""
        self._rhythm.load(arrays)
        if self._escalation:
            self._escalation.load(arrays)

    def _with_underperforming(
        self,
        escalation: Escalation,
        rows: Ints,
        columns: Mapping[str, npt.NDArray[Any]],
        recent: RecentRows,
        frame: FrameScale,
    ) -> Ints:
        alive = np.array(recent.rows(), np.int64)
        underperforming = escalation.underperforming(
            columns["labelled"], errors_in_spreads(columns, alive, frame), alive
        )
        underperforming = underperforming[columns["window_count"][underperforming] >= self._settings.meta.shortest]
        self._hurries = underperforming.size > 0
        return escalation.prefer(rows, underperforming, self.random) if self._hurries else rows

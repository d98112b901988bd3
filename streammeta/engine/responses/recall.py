"""Earlier concepts of a task, kept and known again: ``[drift] response = "recall"``.

A concept is kept as a page of labelled events of its task (an exemplar): events, because heads are of one θ, and from
events they can be derived under any. A task keeps a few of them.

**Kept.** When a concept ends, and at every full page of labels, the last page is filed: under the concept that predicts
it best, which then holds the newer page, or as a new concept in the place of the one least recently used.

**Known again.** Where the last labels were predicted worse than usual, the concepts are asked: if one predicts them
better than the present heads did (a Bayes factor), it may have returned, and concepts are weighed from there on. That
is done on slight evidence, as little is lost by it; a drift is signalled when it has become certain.

**Weighed.** From then on, and after any drift, the concepts compete with the hypothesis that none of them returned, by
how likely each makes the labels since, from heads that first learned its page::

    w_t+1(k) ∝ (1 − α) w_t(k) p_k(y_t | concept k, labels since) + α / N         (fixed share, N hypotheses)

The heads of the task become the mean of all hypotheses' by w: their sums A and B are additive, so this is a posterior
whose prior events count as much as they are likely (a power prior). It is done again after a few more labels, at stated
numbers of them. A false alarm forgets nothing: the concept that seemed to end is a concept, too.

Sources: Herbster & Warmuth (1998), Tracking the best expert (fixed share); Ibrahim & Chen (2000), Power prior
distributions; Gonçalves & De Barros (2013), RCD: a recurring concept drift framework (a store of samples, compared at
drifts); Anderson et al. (2016), Recurring concept meta-learning (which stored model fits).
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import window
from streammeta.engine.columns import Column, Columns
from streammeta.engine.concepts import BEFORE, BEGUN, CERTAIN, LOOKED_AT, PRESENT, concept_columns
from streammeta.engine.responses.base import DriftResponse
from streammeta.engine.scale import Fixed, learned_targets, seen_features, seen_targets
from streammeta.engine.settings import EngineSettings
from streammeta.errors import ConfigError
from streammeta.meta.base import Floats, Ints, Method, Windows
from streammeta.native.elementary import exp, log

__all__ = ["Recall"]

_Doubles: TypeAlias = npt.NDArray[np.float64]
_Phi: TypeAlias = dict[str, npt.NDArray[Any]]

_WEIGHED_AT = frozenset((8, 12, 16, 24, 32))  # labels since the drift at which concepts are weighed again
_SHARE = 0.02  # α
_STAYED = 9.0  # odds that the concept stayed, where nobody noticed a drift
_SHORTEST_CONCEPT = 16  # labels under a concept that make it worth keeping
_LEAST_SHARE = 0.01  # a concept less likely than that has no part in the heads
_LIKELY, _CERTAIN = 0.5, 0.95  # shares of a concept that is the concept
_FEWEST, _SUSPECTED = 3, 5  # labels that show a return, at least; labels that must look bad
_SUSPECT = 0.05  # how much worse than usual they must be predicted before concepts are asked
_USUAL_DECAY = 0.97
_LEAST_VARIANCE = 1e-30
_RETURNED = math.log(3.0)  # Bayes factor, for each concept asked, that lets one have a part in the heads
_KNOWN = math.log(20.0)  # and one that says that a page is of a concept
_MOST_SURPRISE = math.log(1e3)  # in one label, so that a wrong one rules out nothing


class _Task(NamedTuple):
    """One row, and what its hypotheses are computed with."""

    shared: Fixed
    columns: Columns
    row: int
    outputs: int

    @property
    def weights(self) -> Any:  # noqa: ANN401  each method has its own
        """θ as the event path reads it."""
        return self.shared.weights

    def last(self, n: int) -> tuple[Floats, Floats]:
        """Its last labelled events, normalized."""
        return window(self.columns, self.row, self.shared.frame, n)

    def page(self, place: int, n: int) -> tuple[Floats, Floats]:
        """The first n events of a concept, normalized."""
        frame, columns, row = self.shared.frame, self.columns, self.row
        high = columns["past.x"][row, place, :n, : frame.shared.shift.size]
        low = columns["past.low"][row, place, :n, : frame.own.size]
        rows = np.full(n, row)
        x = seen_features(frame, columns, rows, high, low)
        y = seen_targets(frame, columns, rows, columns["past.y"][row, place, :n])
        return x, learned_targets(frame, y)

    def known(self) -> Ints:
        """The places of its concepts."""
        return np.flatnonzero(self.columns["past.count"][self.row])


class Recall(DriftResponse):
    """Keeps the concepts of tasks, and finds them again.

    Args:
        method: the learner, whose φ is in the columns.
        settings: the engine's.

    Raises:
        ConfigError: the learner has no sums that could be mixed.
    """

    looks_at_labels: ClassVar[bool] = True

    def __init__(self, method: Method, settings: EngineSettings) -> None:
        super().__init__(method, settings)
        if not {"A", "B"} <= set(method.phi_layout(1, 1)):
            raise ConfigError(
                f'[drift] response: "recall" mixes the sums of exact heads, and [learner] method is '
                f'{settings.learner.method!r}; wanted method = "exact-heads", or response = "mix"'
            )
        self.derived = ()  # φ is of concepts, too
        self._classify = settings.kind == "classification"
        self._phi = tuple(method.phi_layout(1, 1))
        self._sums = ("A", "B")  # of φ

    def columns(self, kept: Mapping[str, Column]) -> Mapping[str, Column]:
        """Pages of labelled events of each concept, and what is known of it."""
        drift = self._settings.drift
        return concept_columns(drift.concepts, drift.concept_events, kept)

    # -- at a label ----------------------------------------------------------------------------------------------------

    def observe_loss(self, columns: Columns, row: int, loss: float, variance: float | None) -> None:
        """A label came that had this loss; the row's counters say so already."""
        own = 0.0 if variance is None else 0.5 * math.log(2 * math.pi * max(variance, _LEAST_VARIANCE))
        surprise = min(loss - own, _MOST_SURPRISE)  # of numbers, what goes beyond the width of the prediction
        columns["past.given"][row, columns.labelled[row] % LOOKED_AT] = -surprise - own, math.exp(-surprise)
        usual = columns["past.usual"][row]
        usual *= _USUAL_DECAY
        usual += math.exp(-surprise), 1.0

    def look_back(self, shared: Fixed, columns: Columns, row: int, outputs: int) -> int | None:
        """Ask the earlier concepts what they say to the label; see ``DriftResponse``."""
        back = self._returned(shared, columns, row, outputs)
        if back:
            self._begin(shared, columns, row, back, outputs, certain=False)
        elif self._page_is_full(columns, row):
            self._file(shared, columns, row, 0, outputs)
        if not (back or self._is_due(columns, row)):
            return None
        return self._weigh(shared, columns, row, outputs)

    def _returned(self, shared: Fixed, columns: Columns, row: int, outputs: int) -> int:
        """Labels since another concept seems to have returned; 0: none has."""
        since, labelled = self._since(columns, row), int(columns.labelled[row])
        if since < (2 * LOOKED_AT if columns["past.share"][row].max() > _LIKELY else _FEWEST):
            return 0
        given = columns["past.given"][row, (labelled - np.arange(min(since, LOOKED_AT))) % LOOKED_AT]  # newest first
        fit, count = columns["past.usual"][row]
        if given[:_SUSPECTED, 1].mean() > fit / count - _SUSPECT:
            return 0
        task = _Task(shared, columns, row, outputs)
        known = task.known()
        known = known[known != columns["past.concept"][row, PRESENT]]
        if not known.size:
            return 0
        predicted = self._predicted(task, self._of_pages(task, known, 0), *task.last(len(given)))[:, ::-1]
        factors = (predicted - given[:, 0]).cumsum(1)[:, _FEWEST - 1 :].max(0)  # of the best concept, by labels
        length = int(factors.argmax())
        return length + _FEWEST if factors[length] > _RETURNED + math.log(known.size) else 0

    def _is_due(self, columns: Columns, row: int) -> bool:
        """Whether a row's concepts are to be weighed again after this label."""
        return self._since(columns, row) in _WEIGHED_AT and bool(columns["past.count"][row].any())

    def _since(self, columns: Columns, row: int) -> int:
        """Labels since the concept changed, or may have."""
        return int(columns.labelled[row] - max(columns["past.concept"][row, BEGUN], 0))

    def _page_is_full(self, columns: Columns, row: int) -> bool:
        """Whether enough labels came under the present concept to file them."""
        since = int(columns.labels_since_drift[row])
        return since > 0 and since % columns["past.y"].shape[2] == 0

    # -- concepts ------------------------------------------------------------------------------------------------------

    def end(self, shared: Fixed, columns: Columns, row: int, kept: int, outputs: int) -> int:
        """The present concept ended about ``kept`` labels ago, and the row's own counters do not say so yet.

        Returns:
            How many labels ago it did.
        """
        concept, since = columns["past.concept"][row], self._since(columns, row)
        if not concept[CERTAIN] and since <= max(_WEIGHED_AT):
            concept[CERTAIN] = 1  # it was suspected already, and since when
            return since
        self._begin(shared, columns, row, kept, outputs, certain=True)
        return kept

    def _begin(self, shared: Fixed, columns: Columns, row: int, kept: int, outputs: int, *, certain: bool) -> None:
        self._file(shared, columns, row, kept, outputs)
        concept = columns["past.concept"][row]
        before = concept[PRESENT] if concept[PRESENT] >= 0 else concept[BEFORE]
        concept[:] = -1, before, int(certain), columns.labelled[row] - kept

    def _file(self, shared: Fixed, columns: Columns, row: int, kept: int, outputs: int) -> None:
        """Keep the present concept, by a row's labels before the last ``kept``."""
        labels, page = int(columns.labels_since_drift[row]) - kept, columns["past.y"].shape[2]
        if labels < _SHORTEST_CONCEPT:
            return
        task = _Task(shared, columns, row, outputs)
        xs, ys = task.last(min(labels, page) + kept)
        n = len(ys) - kept
        place = self._place(task, xs[:n], ys[:n])
        pushed, size = int(columns.window_count[row]), columns.window_size
        at = np.arange(pushed - kept - n, pushed - kept) % size
        for name in ("x", "low", "y"):
            columns[f"past.{name}"][row, place, :n] = columns[f"window_{name}"][row, at]
        columns["past.count"][row, place], columns["past.used"][row, place] = n, columns.labelled[row]
        columns["past.concept"][row, PRESENT] = place

    def _weigh(self, shared: Fixed, columns: Columns, row: int, outputs: int) -> int:
        """Set the shares of a row's concepts by the labels since its drift; φ is left as it is.

        Returns:
            Labels since another concept has returned, where that has become certain just now; else 0.
        """
        task = _Task(shared, columns, row, outputs)
        known, since = task.known(), min(self._since(columns, row), columns.window_size)
        columns["past.share"][row] = 0
        if not known.size or not since:
            return 0
        phi, new = self._of_pages(task, known, 0), self._before(task, since)
        phi = {name: np.concatenate([new[name], phi[name]]) for name in phi}
        concept = columns["past.concept"][row]
        shares = np.full(1 + known.size, 1.0)
        shares[0] = 1.0 if concept[CERTAIN] else _STAYED * known.size
        shares /= shares.sum()
        for log_p in self._predicted(task, phi, *task.last(since)).T:
            shares *= exp(log_p - log_p.max())
            shares = (1 - _SHARE) * shares / shares.sum() + _SHARE / shares.size
        if shares[0] < _LIKELY or concept[CERTAIN]:
            columns["past.share"][row, known] = shares[1:]
        best = int(known[shares[1:].argmax()])
        if shares[1:].max() > _LIKELY:
            columns["past.used"][row, best] = columns.labelled[row]
        if not concept[CERTAIN] and (shares[0] > _LIKELY or best == concept[BEFORE]):
            concept[PRESENT] = concept[BEFORE]
        if shares[1:].max() < _CERTAIN:
            return 0
        is_news = best != concept[BEFORE] and not concept[CERTAIN]
        concept[PRESENT], concept[CERTAIN] = best, 1
        return since if is_news else 0

    def restarted(self, shared: Fixed, columns: Columns, rows: Ints, kept: int, outputs: int) -> None:  # noqa: ARG002
        """φ from the labels of the new concept, and from those earlier ones that fit them."""
        self._weigh(shared, columns, int(rows[0]), outputs)
        self.derive(shared, columns, rows, outputs)

    def derive(self, shared: Fixed, columns: Columns, rows: Ints, outputs: int) -> None:
        """φ of these rows from their windows, and from the concepts that are likely to be their concept."""
        super().derive(shared, columns, rows, outputs)
        for row in rows.tolist():
            share, since = columns["past.share"][row], self._since(columns, row)
            if since >= columns.window_size:
                share[:] = 0
            likely = np.flatnonzero(share > _LEAST_SHARE)
            if not likely.size:
                continue
            phi = self._of_pages(_Task(shared, columns, row, outputs), likely, since)
            parts = share[likely].astype(np.float32)
            for name in self._sums:
                own = columns[name][row]
                own *= np.float32(1) - parts.sum()
                for k, part in enumerate(parts):
                    own += part * phi[name][k]

    def forget_concepts(self, columns: Columns, row: int) -> None:
        """A row's concepts say nothing any more: its numbers are in another unit."""
        columns["past.count"][row] = columns["past.share"][row] = 0
        columns["past.concept"][row, [PRESENT, BEFORE]] = -1

    # -- hypotheses ----------------------------------------------------------------------------------------------------

    def _place(self, task: _Task, xs: Floats, ys: Floats) -> int:
        """Of the concept that predicts this page best, or of the one least recently used when none does."""
        count, used = task.columns["past.count"][task.row], task.columns["past.used"][task.row]
        known = task.known()
        if known.size:
            pages = self._of_pages(task, known, 0)
            phi = {name: np.concatenate([np.zeros_like(array[:1]), array]) for name, array in pages.items()}
            nothing, *found = self._predicted(task, phi, xs, ys).sum(1).tolist()
            if max(found) - nothing > _KNOWN:
                return int(known[found.index(max(found))])
        return int(np.where(count > 0, used, -1).argmin())

    def _predicted(self, task: _Task, phi: _Phi, xs: Floats, ys: Floats) -> _Doubles:
        """Log p of labels [K, n] under each of K hypotheses, which learn them on the way."""
        count, n = len(phi["A"]), len(ys)
        xs, labels = np.tile(xs, (count, 1)), np.tile(ys, count)
        found = self._method.run(task.weights, phi, np.repeat(np.arange(count), n), xs, labels, task.outputs)
        if self._classify:
            p = found.mean[np.arange(labels.size), labels.astype(np.int64)].astype(np.float64)
            surprise, own = -log(np.maximum(p, 1e-30)), np.zeros(1)
        else:
            variance = np.maximum(found.variance.astype(np.float64), _LEAST_VARIANCE)
            surprise, own = 0.5 * (labels - found.mean[:, 0]) ** 2 / variance, 0.5 * log(2 * math.pi * variance)
        log_p = -np.minimum(surprise, _MOST_SURPRISE) - own
        return np.where(np.isnan(labels), 0.0, log_p).reshape(count, n)  # of a unit that is no more known

    def _before(self, task: _Task, since: int) -> _Phi:
        """φ [1] where no concept returned, without the labels since."""
        pushed, size = int(task.columns.window_count[task.row]), task.columns.window_size
        n = max(min(pushed, size) - since, 0)
        xs, ys = task.last(n + since)
        of_concept = np.maximum(task.columns.labels_since_drift[[task.row]] - since, 0)
        return self._rebuilt(task, Windows(xs[None, :n], ys[None, :n], np.array([n]), of_concept))

    def _of_pages(self, task: _Task, places: Ints, since: int) -> _Phi:
        """φ of concepts: each one's page, and then the row's last ``since`` events."""
        columns, (xs, ys) = task.columns, task.last(since)
        counts = columns["past.count"][task.row, places]
        x = np.full((places.size, columns["past.y"].shape[2] + since, xs.shape[1]), np.nan, np.float32)
        y = np.zeros(x.shape[:2], np.float32)
        for k, (place, n) in enumerate(zip(places.tolist(), counts.tolist(), strict=True)):
            x[k, :n], y[k, :n] = task.page(place, n)
            x[k, n : n + since], y[k, n : n + since] = xs, ys
        return self._rebuilt(task, Windows(x, y, counts + since, counts + since))

    def _rebuilt(self, task: _Task, held: Windows) -> _Phi:
        layout = {name: task.columns[name] for name in self._phi}
        phi = {name: np.zeros((len(held.y), *column.shape[1:]), column.dtype) for name, column in layout.items()}
        self._method.rebuild(task.weights, phi, np.arange(len(held.y)), held, task.outputs)
        return phi

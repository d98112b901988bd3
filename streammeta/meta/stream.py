"""Any `Learner` as the learner of a stream: few-shot learning on each task's last events, again for every event.

    φ of an event = adapt(θ, start(θ), the last S labelled events of its task)        answer = predict(θ, φ, x)

What is kept of a task is those raw events, so a new θ, or a new normalization, needs nothing rebuilt, and old events
are forgotten by leaving. φ of one event does not wait for φ of another: however many events come together, they are one
batch of tasks. Predictions do not depend on how events come together, but for the rounding of float32 (the default
learner's do not at all).

A meta-update cuts every segment at several places: up to S events before a cut are the support, the next ones the
query. On drift, "mix" keeps the newest quarter of the S events, "reset" none.

**What keeps gradient steps from running away.** The slope of cross-entropy at the outputs is bounded, that of a squared
error is not: where a step is too long the error grows, with it the slope, and ten steps reach 10¹⁵. So in a stream
* targets are in units of their spread, of the support's own until that of the stream is known, and cut like features;
* the loss of a regression is Huber's, whose slope is bounded, in the inner loop and in the outer one;
* an adapting that leaves the support's own loss larger than it was, or not finite, is not used: θ answers, unadapted;
* answers are cut like the targets that they were learned from.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from streammeta.event import LabelValue
from streammeta.meta.autograd import EpisodeTensors, cpu_threads, into_arrays, into_tensors
from streammeta.meta.base import (
    Episodes,
    Floats,
    Forget,
    Ints,
    Kind,
    Method,
    Phi,
    Predictions,
    Scaling,
    Windows,
)
from streammeta.meta.base import Theta as Arrays
from streammeta.meta.catalogue import Problem, Tuning, build
from streammeta.meta.growth import Sizes, axes_of, fitted, own, served_weights, sizes
from streammeta.meta.learner import (
    Examples,
    Learner,
    Predictive,
    TaskBatch,
    TaskLoss,
    Theta,
    cross_entropy,
    huber,
    task_mean,
)
from streammeta.meta.names import Slot

__all__ = ["in_stream"]

_TOGETHER = 256  # events adapted to in one batch
_CUTS = (0, 1, 3, 7, 15, 31, 63)  # events before the query, in the episodes of a meta-update
_QUERY = 8  # events of a query
_CLIP = 6.0  # as the features of a meta-update's episodes are cut; also targets and answers, in units of their spread
_FORGET = 0.97  # of the residuals that a regression's variance is made of
_DOUBT = 4.0  # residuals that the prior of that variance, 1 in normalized units, counts for
_FLAT = 1e-6  # spreads of so much of the mean, or less, are rounding


class _Weights(NamedTuple):
    """θ as the event path reads it."""

    theta: Theta
    scaling: Scaling
    features: int
    outputs: int


def _weights(theta: Theta, scaling: Scaling) -> _Weights:
    return _Weights(served_weights(theta), scaling, *sizes(theta))


def in_stream(  # noqa: C901, PLR0915  a factory of closures, each of them short
    name: str,
    kind: Kind,
    *,
    seed: int = 0,
    support: int = 32,
    tuning: Tuning | None = None,
    theta: Theta | None = None,
) -> Method:
    """The method of that name in the catalogue as the engine's learner.

    Args:
        name: as in `streammeta.meta.catalogue.METHODS`.
        kind: of prediction.
        seed: of θ.
        support: S, the labelled events of a task that it adapts to.
        tuning: of the inner loop; the engine has an outer loop of its own.
        theta: where to start, from ``sized``; None: as the seed makes it.

    Raises:
        ConfigError: there is no such method, or none for this kind of prediction.
    """
    least = 2 if kind == "classification" else 1
    judged: TaskLoss = cross_entropy if kind == "classification" else huber
    tuning = (tuning or Tuning())._replace(task_loss=judged)
    learners = Sizes(cache(lambda outputs: build(name, Problem(kind, 1, outputs), tuning)), least)
    learners.of(least)  # a wrong name is found here

    def grow(old: Arrays, slots: Sequence[Slot], outputs: Sequence[LabelValue]) -> Arrays:
        before = into_tensors(old)
        features, named = sizes(before)
        is_large_enough = len(slots) <= features and len(outputs) <= named and bool(old)
        return old if is_large_enough else into_arrays(fitted(before, learners, slots, outputs, seed))

    def phi_layout(features: int, _outputs: int) -> Mapping[str, tuple[tuple[int, ...], type[np.generic]]]:
        kept: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "support_x": ((support, features), np.float32),
            "support_y": ((support,), np.float32),
            "support_width": ((support,), np.int64),  # features there were at the event; 0: there is no event
        }
        return kept if kind == "classification" else kept | {"residual": ((2,), np.float64)}

    def run(weights: _Weights, phi: Phi, rows: Ints, x: Floats, y: Floats, outputs: int) -> Predictions:
        support_x, support_y, width = _supports(phi, rows, x, y)
        units = None if kind == "classification" else _units(weights.scaling, support_y, width > 0)
        targets = support_y if units is None else units.normalized(support_y)
        of = learners.of(weights.outputs)
        found = [
            _answered(of, weights, judged, [part[i : i + _TOGETHER] for part in (support_x, targets, width, x)])
            for i in range(0, rows.size, _TOGETHER)
        ]
        output, variance = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if units is None:
            chances = np.exp(output[:, :outputs] - output[:, :outputs].max(1, keepdims=True, initial=-np.inf))
            return Predictions(chances / chances.sum(1, keepdims=True), np.zeros(rows.size, np.float32))
        return _in_units(units, phi, rows, y, output[:, 0], variance)

    def restart(_weights: _Weights, phi: Phi, rows: Ints, forget: Forget) -> None:
        kept = support // 4 if Forget(forget) is Forget.PART else 0
        phi["support_width"][rows, : support - kept] = 0
        if "residual" in phi:
            phi["residual"][rows] = 0

    def rebuild(_weights: _Weights, phi: Phi, rows: Ints, windows: Windows, _outputs: int) -> None:
        features = min(windows.x.shape[2], phi["support_x"].shape[2])
        for i, row in enumerate(rows.tolist()):
            size, pushed = windows.y.shape[1], int(windows.pushed[i])
            n = min(support, size, pushed, int(windows.since[i]) + support // 4)
            at = np.arange(pushed - n, pushed) % size
            phi["support_x"][row, support - n :, :features] = windows.x[i, at, :features]
            phi["support_y"][row, support - n :] = np.nan_to_num(windows.y[i, at])
            phi["support_width"][row] = np.where(np.arange(support) < support - n, 0, features)

    def respread(phi: Phi, rows: Ints, factor: float) -> None:
        if "residual" in phi and factor:
            phi["residual"][rows, 0] *= factor * factor
        elif "residual" in phi:
            phi["residual"][rows] = 0

    def tasks_of(old: Theta, episodes: EpisodeTensors) -> tuple[Learner, TaskBatch]:
        features, outputs = sizes(old)
        return learners.of(outputs), _cut(episodes, support, features, kind)

    def loss(old: Theta, episodes: EpisodeTensors) -> torch.Tensor:
        of, tasks = tasks_of(old, episodes)
        return of.loss(own(old), tasks)

    def gradient(arrays: Arrays, parts: Episodes, device: str) -> tuple[float, Arrays]:
        old = into_tensors(arrays, device)
        (of, tasks), learned = tasks_of(old, EpisodeTensors.of(parts, device)), own(old)
        nothing = {at: torch.zeros_like(p) for at, p in old.items()}  # the slope of what is not learned
        with cpu_threads(1):
            if name == "reptile":  # which has no loss that it descends: its pull, backwards, is the slope
                after = of.update(of.begin(learned), tasks)
                pull = {at: learned[at] - p for at, p in after.theta.items()}
                return float(after.loss), into_arrays(nothing | pull)
            leaves = {at: p.detach().requires_grad_() for at, p in learned.items()}
            value = of.loss(leaves, tasks)
            slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return float(value.detach()), into_arrays(nothing | dict(zip(leaves, slopes, strict=True)))

    return Method(
        members=1,
        init=lambda: grow(into_arrays(theta or {}), (), ()),
        grow=grow,
        axes=lambda old: axes_of(into_tensors(old), learners),
        phi_layout=phi_layout,
        compile=lambda old, scaling: _weights(into_tensors(old), scaling),
        run=run,
        restart=restart,
        rebuild=rebuild,
        respread=respread,
        loss=loss,
        gradient=gradient,
    )


def _supports(phi: Phi, rows: Ints, x: Floats, y: Floats) -> tuple[Floats, Floats, Ints]:
    """What each event's task had learned before it: x [N, S, D], y [N, S], width [N, S]; then its label is learned."""
    features = x.shape[1]
    kept = [phi["support_x"], phi["support_y"], phi["support_width"]]
    found = [np.empty((rows.size, *part.shape[1:]), part.dtype) for part in kept]
    for i, row in enumerate(rows.tolist()):
        for part, out in zip(kept, found, strict=True):
            out[i] = part[row]
        if not np.isnan(y[i]):
            for part in kept:
                part[row, :-1] = part[row, 1:]
            kept[0][row, -1, :features] = x[i]
            kept[1][row, -1], kept[2][row, -1] = y[i], features
    return found[0][:, :, :features], found[1], found[2]


class _Units(NamedTuple):
    """Of the targets of N events: value = shift + spread · normalized."""

    shift: npt.NDArray[np.float64]  # [N, 1]
    spread: npt.NDArray[np.float64]  # [N, 1]

    def normalized(self, y: npt.NDArray[Any]) -> Floats:
        """Targets [N, S], cut."""
        return ((y - self.shift) / self.spread).clip(-_CLIP, _CLIP).astype(np.float32)


def _units(scaling: Scaling, support_y: Floats, there: npt.NDArray[np.bool_]) -> _Units:
    """The stream's, or before it has any each support's own mean and spread; a spread of nothing is one unit."""
    n = len(support_y)
    if scaling.in_spreads or (scaling.y_shift, scaling.y_spread) != (0.0, 1.0):
        return _Units(np.full((n, 1), scaling.y_shift), np.full((n, 1), scaling.y_spread))
    y, count = support_y.astype(np.float64), there.sum(1, keepdims=True).clip(1)
    shift = np.where(there, y, 0).sum(1, keepdims=True) / count
    spread = (np.where(there, y - shift, 0) ** 2 / count).sum(1, keepdims=True) ** 0.5
    return _Units(shift, np.where(spread > _FLAT * np.abs(shift), spread, 1))


def _answered(
    learner: Learner, weights: _Weights, task_loss: TaskLoss, parts: Sequence[npt.NDArray[Any]]
) -> Sequence[Floats]:
    """Outputs [N, C] and variances [N], in normalized units, of N events with their supports; NaN: no variance."""
    support_x, support_y, width, x = parts
    known = np.arange(support_x.shape[2]) < width[:, :, None]
    seen = _normalized(np.where(known, support_x, np.nan), weights)
    y = torch.from_numpy(support_y)
    y = y.long() if task_loss is cross_entropy else y.unsqueeze(-1)
    support = Examples(seen, y, torch.from_numpy((width > 0).astype(np.float32)))
    with cpu_threads(1), torch.no_grad():
        answer = _adapted(learner, weights.theta, support, _normalized(x[:, None], weights), task_loss)
    n = len(x)
    variance = torch.full((n,), torch.nan) if answer.variance is None else answer.variance[:, 0, 0]
    return answer.output[:, 0].numpy(), variance.numpy()


def _adapted(learner: Learner, theta: Theta, support: Examples, x: torch.Tensor, task_loss: TaskLoss) -> Predictive:
    """What is said of x [N, 1, D] after adapting, or where adapting did harm on its own support what θ says."""
    fresh = learner.start(theta, len(x))
    said = [
        learner.predict(theta, phi, torch.cat([support.x, x], 1))
        for phi in (learner.adapt(theta, fresh, support), fresh)
    ]
    after, before = (task_mean(task_loss(answer.output[:, :-1], support.y), support.mask) for answer in said)
    good = (after <= before).view(-1, 1, 1)  # never true of NaN
    new, old = said
    output = torch.where(good, new.output, old.output)[:, -1:]
    if new.variance is None or old.variance is None:
        return Predictive(output)
    return Predictive(output, torch.where(good, new.variance, old.variance)[:, -1:])


def _normalized(x: Floats, weights: _Weights) -> torch.Tensor:
    """Raw features [..., D] as the network sees them: shifted, scaled, cut, missing as the mean; as many as θ has."""
    scaling = weights.scaling
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.nan_to_num((x - scaling.shift) * scaling.gain).clip(-_CLIP, _CLIP).astype(np.float32)
    return torch.nn.functional.pad(torch.from_numpy(scaled), (0, weights.features - x.shape[-1]))


def _in_units(units: _Units, phi: Phi, rows: Ints, y: Floats, output: Floats, variance: Floats) -> Predictions:
    """A regression's answers in the target's units; a method without a variance gets the task's recent residuals'."""
    shift, spread = units.shift[:, 0], units.spread[:, 0]
    answer, squared, seen = output.clip(-_CLIP, _CLIP), variance.astype(np.float64), units.normalized(y[:, None])[:, 0]
    for i, row in enumerate(rows.tolist()):
        squares, count = phi["residual"][row]
        if np.isnan(squared[i]):
            squared[i] = (_DOUBT + squares) / (_DOUBT + count)
        if not np.isnan(seen[i]):
            residual = float(seen[i] - answer[i])
            phi["residual"][row] = _FORGET * squares + residual * residual, _FORGET * count + 1
    mean = answer * spread + shift
    most = float(np.finfo(np.float32).max)
    return Predictions(mean[:, None].astype(np.float32), (squared * spread**2).clip(max=most).astype(np.float32))


def _cut(episodes: EpisodeTensors, support: int, features: int, kind: Kind) -> TaskBatch:
    """Segments [1, B, L] as episodes of T tasks: each segment at each cut that leaves something to ask for."""
    x, y, valid, scored = (tensor[0] for tensor in episodes)
    x = torch.nn.functional.pad(x, (0, features - x.shape[-1]))
    y = y if kind == "classification" else y.clamp(-_CLIP, _CLIP).unsqueeze(-1)
    length = y.shape[1]
    halves: list[tuple[Examples, Examples]] = []
    for cut in (at for at in _CUTS if at < length):
        past = torch.arange(cut - support, cut, device=x.device)
        future = torch.arange(cut, cut + _QUERY, device=x.device)
        there = [(of >= 0) & (of < length) for of in (past, future)]
        places = [of.clamp(0, length - 1) for of in (past, future)]
        masks = [valid[:, places[0]] * there[0], scored[:, places[1]] * valid[:, places[1]] * there[1]]
        halves.append(
            (Examples(x[:, places[0]], y[:, places[0]], masks[0]), Examples(x[:, places[1]], y[:, places[1]], masks[1]))
        )
    parts = [[torch.cat(tensors) for tensors in zip(*half, strict=True)] for half in zip(*halves, strict=True)]
    return TaskBatch(Examples(*parts[0]), Examples(*parts[1]))

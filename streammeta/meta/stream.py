"""Any `Learner` as the learner of a stream: few-shot learning on each task's last events, again for every event.

    φ of an event = adapt(θ, start(θ), the last S labelled events of its task)        answer = predict(θ, φ, x)

What is kept of a task is those raw events, so a new θ, or a new normalization, needs nothing rebuilt, and old events
are forgotten by leaving. φ of one event does not wait for φ of another: however many events come together, they are one
batch of tasks. Predictions do not depend on how events come together, but for the rounding of float32 (the default
learner's do not at all).

A meta-update cuts every segment at several places: up to S events before a cut are the support, the next ones the
query. On drift, "mix" keeps the newest quarter of the S events, "reset" none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from streammeta.errors import ConfigError
from streammeta.meta.base import (
    Episodes,
    Floats,
    Ints,
    Kind,
    Method,
    Phi,
    Predictions,
    Response,
    Scaling,
    Theta,
    Windows,
)
from streammeta.meta.catalogue import Problem, Tuning, build
from streammeta.meta.learner import Examples, Learner, TaskBatch
from streammeta.meta.outer import cpu_threads

__all__ = ["in_stream", "sized"]

_TOGETHER = 256  # events adapted to in one batch
_CUTS = (0, 1, 3, 7, 15, 31, 63)  # events before the query, in the episodes of a meta-update
_QUERY = 8  # events of a query
_CLIP = 6.0  # as the features of a meta-update's episodes are cut
_FORGET = 0.97  # of the residuals that a regression's variance is made of
_DOUBT = 4.0  # residuals that the prior of that variance, 1 in normalized units, counts for
_SEED_STRIDE = 1_000_003
_FIRST_LAYER = "layer0.weight"  # has a row a feature, after those of what else the network is told
_SIZES = ("features", "outputs")  # tensors of zeros in θ, which tell by their length what θ has grown to


class _Weights(NamedTuple):
    """θ as the event path reads it."""

    theta: Theta  # without the sizes
    scaling: Scaling
    features: int
    outputs: int


def in_stream(  # noqa: C901  a factory of closures, each of them short
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
    if name == "maml-ema":
        raise ConfigError(f"[learner] method: {name!r} averages over an outer loop of its own; wanted 'maml'")
    least = 2 if kind == "classification" else 1
    made: dict[int, Learner] = {}

    def learner(outputs: int) -> Learner:
        if outputs not in made:
            made[outputs] = build(name, Problem(kind, 1, outputs), tuning)
        return made[outputs]

    learner(least)  # a wrong name is found here

    def grow(old: Theta, fan_in: Sequence[int], outputs: int) -> Theta:
        sizes = [0 if size not in old else old[size].numel() for size in _SIZES]
        features, outputs = max(len(fan_in), sizes[0]), max(outputs, least, sizes[1])
        if [features, outputs] == sizes:
            return old
        return sized(_grown(old, learner(outputs), fan_in, features, seed), features, outputs)

    def phi_layout(features: int, _outputs: int) -> Mapping[str, tuple[tuple[int, ...], type[np.generic]]]:
        kept: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "support_x": ((support, features), np.float32),
            "support_y": ((support,), np.float32),
            "support_width": ((support,), np.int64),  # features there were at the event; 0: there is no event
        }
        return kept if kind == "classification" else kept | {"residual": ((2,), np.float64)}

    def run(weights: _Weights, phi: Phi, rows: Ints, x: Floats, y: Floats, outputs: int) -> Predictions:
        supports = _supports(phi, rows, x, y)
        found = [
            _answered(learner(weights.outputs), weights, kind, [part[i : i + _TOGETHER] for part in (*supports, x)])
            for i in range(0, rows.size, _TOGETHER)
        ]
        output, variance = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if kind == "classification":
            chances = np.exp(output[:, :outputs] - output[:, :outputs].max(1, keepdims=True, initial=-np.inf))
            return Predictions(chances / chances.sum(1, keepdims=True), np.zeros(rows.size, np.float32))
        return _in_units(weights.scaling, phi, rows, y, output[:, 0], variance)

    def restart(_weights: _Weights, phi: Phi, rows: Ints, response: Response) -> None:
        kept = support // 4 if response == "mix" else 0
        phi["support_width"][rows, : support - kept] = 0
        if "residual" in phi:
            phi["residual"][rows] = 0

    def rebuild(_weights: _Weights, phi: Phi, rows: Ints, windows: Windows, _outputs: int) -> None:
        features = min(windows.x.shape[2], phi["support_x"].shape[2])
        for row in rows.tolist():
            size, pushed = windows.y.shape[1], int(windows.pushed[row])
            n = min(support, size, pushed, int(windows.since[row]) + support // 4)
            at = np.arange(pushed - n, pushed) % size
            phi["support_x"][row, support - n :, :features] = windows.x[row, at, :features]
            phi["support_y"][row, support - n :] = windows.y[row, at]
            phi["support_width"][row] = np.where(np.arange(support) < support - n, 0, features)

    def tasks_of(old: Theta, episodes: Episodes) -> tuple[Learner, Theta, TaskBatch]:
        own = {at: p for at, p in old.items() if at not in _SIZES}
        return learner(old["outputs"].numel()), own, _cut(episodes, support, old["features"].numel(), kind)

    def loss(old: Theta, episodes: Episodes) -> torch.Tensor:
        of, own, tasks = tasks_of(old, episodes)
        return of.loss(own, tasks)

    def gradient(old: Theta, episodes: Episodes) -> tuple[torch.Tensor, Theta]:
        of, own, tasks = tasks_of(old, episodes)
        with cpu_threads(1):
            if name == "reptile":  # which has no loss that it descends: its pull, backwards, is the slope
                after = of.update(of.begin(own), tasks)
                return after.loss, old | {at: own[at] - p for at, p in after.theta.items()}
            leaves = {at: p.detach().requires_grad_() for at, p in own.items()}
            value = of.loss(leaves, tasks)
            slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return value.detach(), old | dict(zip(leaves, slopes, strict=True))  # the sizes are zeros, as their slopes

    return Method(
        members=1,
        init=lambda: grow(theta or {}, [], 0),
        grow=grow,
        phi_layout=phi_layout,
        compile=_compiled,
        run=run,
        restart=restart,
        rebuild=rebuild,
        loss=loss,
        gradient=gradient,
    )


def sized(theta: Theta, features: int, outputs: int) -> Theta:
    """θ that tells what it is for: D features and C outputs."""
    return theta | {"features": torch.zeros(features), "outputs": torch.zeros(outputs)}


def _grown(old: Theta, learner: Learner, fan_in: Sequence[int], features: int, seed: int) -> Theta:
    """θ for more features and outputs; what was there is unchanged, new features' weights depend on seed and slot."""
    theta = {}
    for name, p in learner.init(torch.Generator().manual_seed(seed)).items():  # for one feature
        grown = _with_rows(p, fan_in, features, seed) if name.endswith(_FIRST_LAYER) else p
        if name in old:
            corner = tuple(slice(n) for n in old[name].shape)
            grown = grown.clone()
            grown[corner] = old[name]
        theta[name] = grown
    return theta


def _with_rows(p: torch.Tensor, fan_in: Sequence[int], features: int, seed: int) -> torch.Tensor:
    """The first layer for so many features instead of one, which is its last row."""
    first, model = p[:-1], p[-1]
    rows = [model] * features
    if p.std() > 0:  # weights, not rates, which all begin alike
        for slot in range(len(fan_in)):
            generator = torch.Generator().manual_seed(seed * _SEED_STRIDE + slot + 1)
            rows[slot] = (2 * torch.rand(model.shape, generator=generator) - 1) * fan_in[slot] ** -0.5
    return torch.cat([first, torch.stack(rows)]) if rows else first


def _compiled(theta: Theta, scaling: Scaling) -> _Weights:
    own = {name: p for name, p in theta.items() if name not in _SIZES}
    return _Weights(own, scaling, theta["features"].numel(), theta["outputs"].numel())


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


def _answered(learner: Learner, weights: _Weights, kind: Kind, parts: Sequence[npt.NDArray[Any]]) -> Sequence[Floats]:
    """Outputs [N, C] and variances [N], in normalized units, of N events with their supports; NaN: no variance."""
    support_x, support_y, width, x = parts
    known = np.arange(support_x.shape[2]) < width[:, :, None]
    seen = _normalized(np.where(known, support_x, np.nan), weights)
    scaling = weights.scaling
    y = torch.from_numpy(support_y)
    y = y.long() if kind == "classification" else ((y - scaling.y_shift) / scaling.y_spread).unsqueeze(-1)
    support = Examples(seen, y, torch.from_numpy((width > 0).astype(np.float32)))
    with cpu_threads(1), torch.no_grad():
        phi = learner.adapt(weights.theta, learner.start(weights.theta, len(x)), support)
        answer = learner.predict(weights.theta, phi, _normalized(x[:, None], weights))
    n = len(x)
    variance = torch.full((n,), torch.nan) if answer.variance is None else answer.variance[:, 0, 0]
    return answer.output[:, 0].numpy(), variance.numpy()


def _normalized(x: Floats, weights: _Weights) -> torch.Tensor:
    """Raw features [..., D] as the network sees them: shifted, scaled, cut, missing as the mean; as many as θ has."""
    scaling = weights.scaling
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.nan_to_num((x - scaling.shift) * scaling.gain).clip(-_CLIP, _CLIP).astype(np.float32)
    return torch.nn.functional.pad(torch.from_numpy(scaled), (0, weights.features - x.shape[-1]))


def _in_units(scaling: Scaling, phi: Phi, rows: Ints, y: Floats, output: Floats, variance: Floats) -> Predictions:
    """A regression's answers in the target's units; a method without a variance gets the task's recent residuals'."""
    spread = variance.astype(np.float64)
    for i, row in enumerate(rows.tolist()):
        squares, count = phi["residual"][row]
        if np.isnan(spread[i]):
            spread[i] = (_DOUBT + squares) / (_DOUBT + count)
        if not np.isnan(y[i]):
            residual = (y[i] - scaling.y_shift) / scaling.y_spread - output[i]
            phi["residual"][row] = _FORGET * squares + residual * residual, _FORGET * count + 1
    mean = output * np.float32(scaling.y_spread) + np.float32(scaling.y_shift)
    return Predictions(mean[:, None].astype(np.float32), (spread * scaling.y_spread**2).astype(np.float32))


def _cut(episodes: Episodes, support: int, features: int, kind: Kind) -> TaskBatch:
    """Segments [1, B, L] as episodes of T tasks: each segment at each cut that leaves something to ask for."""
    x, y, valid, scored = (tensor[0] for tensor in episodes)
    x = torch.nn.functional.pad(x, (0, features - x.shape[-1]))
    y = y if kind == "classification" else y.unsqueeze(-1)
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

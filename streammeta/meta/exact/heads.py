"""Exact heads on a meta-learned encoder: the default learner.

Closed-form heads adapt in one event, have no step size to tune, and cost O(m²). For each task and each of K memories::

    z = [f_θ(x); 1]                         r = y − s_θ(x) − W0ᵀ z
    A_k ← γ_k A_k + z zᵀ                    B_k ← γ_k B_k + z rᵀ
    head_k(x) = s_θ(x) + W0ᵀ z + B_kᵀ (A_k + Λ_k)⁻¹ z

Λ stays outside the recursion, so forgetting never forgets the prior. It is diagonal, and f_θ ends in a linear layer
(after two of tanh), which turns z into the prior's own axes: together they are ALPaCA's full Λ. That is what makes a
few events enough: in which directions tasks differ is learned, and the others are not fitted. Without the linear
layer 77 % instead of 85 % were right at the 11th to 20th event of an unknown concept of simulated tasks. Classes are
one-hot targets; the logits of head k are its output times a learned scale, flattened where it knows little: scale_k /
√(1 + κ_k zᵀ(A_k + Λ_k)⁻¹z). Regression heads are Gaussian, with a noise estimated from the task's own residuals. The
K heads are mixed by their recent likelihood: weight_k ∝ prior_k · exp(ℓ_k), ℓ_k ← α ℓ_k + log p_k(y).

There are E such learners, each with its own start and its own segments in every meta-update, and the prediction is the
plain mean of theirs: small encoders err in different places, and that mean was better than likelihood weights. All of
their E · K heads are computed side by side, so that up to sixteen heads cost no more than one.

θ = (f, s, W0, Λ, γ, scale, κ, prior, α), with a leading dimension of E members, is trained by back-propagating the
prequential loss of whole segments through the recursion. The recursion has a parallel form: with chunks of n events, A
before chunk j is Σ over i < j of γ^{n(j−1−i)} S_i, S_i = Σ_t γ^{n−1−t} z_t z_tᵀ inside chunk i, so all chunks, memories
and segments are one batch of small Cholesky factorizations. On a GPU torch computes that (``loss``), on a CPU
compiled code (``gradient``).

Sources: Harrison, Sharma & Pavone (2018), ALPaCA, arXiv:1807.08912 (heads, and the meta-objective); Bertinetto et al.
(2019), R2-D2, arXiv:1805.08136 (scale of the logits); Hoeting et al. (1999) and Raftery et al. (2010) (model averaging
with forgetting); Lakshminarayanan et al. (2017), arXiv:1612.01474 (the ensemble).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streammeta.event import LabelValue
from streammeta.meta.base import (
    Axis,
    Episodes,
    Floats,
    Forget,
    Ints,
    Method,
    Phi,
    Predictions,
    Scaling,
    Theta,
    Windows,
)
from streammeta.meta.exact.event_kernel import (
    LANES,
    LONGEST_MEMORY,
    MOST_LOG_PRECISION,
    SHORTEST_MEMORY,
    Weights,
    remembered,
    run_classes,
    run_values,
)
from streammeta.meta.exact.gradient import loss_and_gradient
from streammeta.meta.names import Slot, generator_of
from streammeta.meta.settings import Kind, LearnerSettings
from streammeta.native.elementary import exp

__all__ = ["exact_heads"]

_FORGET_NOTHING, _NO_VARIANCE = np.zeros(0, np.uint8), np.zeros(0, np.float32)
_AXES = {"w1": Axis(features=1), "v": Axis(features=1, outputs=2), "u": Axis(outputs=2), "w0": Axis(outputs=2)}
_MOST_NOISE = 1e6  # times the noise of before, where targets get another unit
_SEED_STRIDE = 7919  # between the seeds of members
_PACE = {"u": 0.5, "v": 0.5, "w0": 0.5}  # what tasks share is what few tasks overfit first: it learns at half the rate


def exact_heads(settings: LearnerSettings, kind: Kind, seed: int = 0) -> Method:  # noqa: C901  a factory of short closures
    """The default learner as a tuple of functions; see the module's text for the equations.

    >>> method = exact_heads(LearnerSettings(), "classification")
    >>> theta = method.grow(method.init(), [Slot(name, None, 3) for name in "abc"], ["no", "yes"])
    >>> theta["w1"].shape, theta["w0"].shape
    ((5, 3, 32), (5, 17, 2))
    """
    classify = kind == "classification"
    m, heads = settings.encoded + 1, len(settings.memories)
    blocks = -(-settings.members * heads // LANES)
    seeds = [seed + _SEED_STRIDE * member for member in range(settings.members)]

    def phi_layout(_features: int, outputs: int) -> Mapping[str, tuple[tuple[int, ...], type[np.generic]]]:
        layout: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "A": ((blocks, m * (m + 1) // 2, LANES), np.float32),
            "B": ((blocks, m, outputs, LANES), np.float32),
            "logw": ((blocks, LANES), np.float32),
        }
        return layout if classify else layout | {"noise": ((blocks, 2, LANES), np.float32)}

    def run(weights: Weights, phi: Phi, rows: Ints, x: Floats, y: Floats, outputs: int) -> Predictions:
        mean, variance = np.empty((rows.size, outputs), np.float32), np.zeros(rows.size, np.float32)
        if classify:
            run_classes(weights, phi["A"], phi["B"], phi["logw"], rows, x, y, _FORGET_NOTHING, mean)
        else:
            state = phi["A"], phi["B"], phi["logw"], phi["noise"]
            run_values(weights, *state, rows, x, y, _FORGET_NOTHING, mean, variance)
        return Predictions(mean, variance)

    def restart(weights: Weights, phi: Phi, rows: Ints, forget: Forget) -> None:
        for name in ("A", "B") if classify else ("A", "B", "noise"):
            if Forget(forget) is Forget.PART:  # an error where it is no Forget, not a reset
                phi[name][rows] *= np.expand_dims(weights.slow, tuple(range(1, phi[name].ndim - 2)))
            else:
                phi[name][rows] = 0
        phi["logw"][rows] = 0

    def rebuild(weights: Weights, phi: Phi, rows: Ints, windows: Windows, outputs: int) -> None:
        phi["A"][rows], phi["B"][rows] = 0, 0
        of, x, y, forget = remembered(windows, np.arange(rows.size), weights.shift.size)
        of = rows[of]
        nothing = np.empty((0, outputs), np.float32)
        if classify:
            run_classes(weights, phi["A"], phi["B"], phi["logw"], of, x, y, forget, nothing)
        else:
            state = phi["A"], phi["B"], phi["logw"], phi["noise"]
            run_values(weights, *state, of, x, y, forget, nothing, _NO_VARIANCE)

    def loss(theta: Any, episodes: Any) -> Any:  # noqa: ANN401 tensors of torch
        from streammeta.meta.exact.loss import prequential_loss  # noqa: PLC0415  brings torch

        return prequential_loss(theta, episodes, settings.chunk, classify=classify)

    def gradient(theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
        if device != "cpu":
            from streammeta.meta.autograd import by_autograd  # noqa: PLC0415  brings torch

            return by_autograd(loss)(theta, episodes, device)
        return loss_and_gradient(theta, *episodes, chunk=settings.chunk, classify=classify)

    return Method(
        members=settings.members,
        init=lambda: _stack([_init(settings, kind, one) for one in seeds]),
        grow=lambda theta, slots, outputs: _grow(theta, slots, outputs, seeds),
        axes=lambda _theta: _AXES,
        phi_layout=phi_layout,
        compile=_compile,
        run=run,
        restart=restart,
        rebuild=rebuild,
        loss=loss,
        gradient=gradient,
        derived=("A", "B"),
        pace=_PACE,
        has_own_inputs=True,
        respread=_respread,
        describe=_describe,
    )


def _describe(weights: Weights, phi: Phi, rows: Ints) -> Mapping[str, list[float]]:
    """How long the K heads remember, shortest first, and their weights in the mixture: means over members and rows."""
    members, heads = weights.log_mix.shape
    memory = -1 / np.log(weights.memory.reshape(-1)[: members * heads].reshape(members, heads).astype(np.float64))
    order = memory.argsort(1)
    described = {"memory_events": np.take_along_axis(memory, order, 1).mean(0).tolist()}
    if rows.size:
        evidence = phi["logw"][rows].reshape(rows.size, -1)[:, : members * heads].reshape(-1, members, heads)
        mixed = np.exp(evidence + weights.log_mix)
        mixed /= mixed.sum(2, keepdims=True)
        described["mixture_weights"] = np.take_along_axis(mixed, order[None], 2).mean((0, 1)).tolist()
    return described


def _respread(phi: Phi, rows: Ints, factor: float) -> None:
    if "noise" in phi and factor:
        residuals, count = phi["noise"][rows, :, 0], phi["noise"][rows, :, 1]
        # targets have the variance 1 by now, and no head is left that was further off than that
        phi["noise"][rows, :, 0] = np.minimum(residuals * np.float32(min(factor * factor, _MOST_NOISE)), count)
    elif "noise" in phi:
        phi["noise"][rows] = 0


def _stack(members: Sequence[Theta]) -> Theta:
    return {name: np.stack([member[name] for member in members]) for name in members[0]}


def _init(settings: LearnerSettings, kind: Kind, seed: int) -> Theta:
    hidden, encoded, heads = settings.hidden, settings.encoded, len(settings.memories)
    random, real = np.random.default_rng(seed), np.float32
    theta: Theta = {
        "w1": np.zeros((0, hidden), real),
        "b1": random.standard_normal(hidden, real) * real(0.1),
        "w2": random.standard_normal((hidden, hidden), real) / real(math.sqrt(hidden)),
        "b2": random.standard_normal(hidden, real) * real(0.1),
        "w3": np.eye(hidden, encoded, dtype=real),
        "u": np.zeros((hidden, 0), real),
        "v": np.zeros((0, 0), real),
        "w0": np.zeros((encoded + 1, 0), real),
        "log_precision": np.zeros((heads, encoded + 1), real),
        "log_memory": np.array([math.log(memory) for memory in settings.memories], real),
        "log_mix": np.zeros(heads, real),
        "forget": np.array(math.log(0.95 / 0.05), real),
    }
    if kind == "classification":
        return theta | {"log_scale": np.full(heads, math.log(6.0), real), "log_leverage": np.zeros(heads, real)}
    return theta | {"log_noise": np.full(heads, math.log(0.5), real)}


def _grow(theta: Theta, slots: Sequence[Slot], outputs: Sequence[LabelValue], seeds: Sequence[int]) -> Theta:
    """θ for at least D features and C outputs. New inputs begin as seed, name and fan-in say, new outputs at 0."""
    members, old_features, hidden = theta["w1"].shape
    old_outputs = theta["u"].shape[2]
    more = len(slots) - old_features
    if more > 0:
        rows = np.stack([_input_rows(seed, slots[old_features:], hidden) for seed in seeds])
        theta = theta | {"w1": np.concatenate([theta["w1"], rows], 1)}
        theta["v"] = np.concatenate([theta["v"], np.zeros((members, more, old_outputs), np.float32)], 1)
    if len(outputs) > old_outputs:
        for name in ("u", "v", "w0"):
            p = theta[name]
            theta = theta | {name: np.pad(p, ((0, 0), (0, 0), (0, len(outputs) - old_outputs)))}
    return theta


def _input_rows(seed: int, slots: Sequence[Slot], hidden: int) -> Floats:
    """Normal weights [slots, H] of variance 1 / fan-in, each slot's from a generator of its name."""
    rows = [
        generator_of(seed, name, value).standard_normal(hidden, np.float32) * np.float32(max(fan_in, 1) ** -0.5)
        for name, value, fan_in in slots
    ]
    return np.stack(rows)


def _compile(theta: Theta, scaling: Scaling) -> Weights:
    """θ in lanes."""
    p = {name: np.asarray(array, np.float32) for name, array in theta.items()}
    tau = exp(p["log_memory"].clip(math.log(SHORTEST_MEMORY), math.log(LONGEST_MEMORY)))
    precision = exp(p["log_precision"].clip(-MOST_LOG_PRECISION, MOST_LOG_PRECISION))  # [E, K, m]
    scale = p["log_scale"] if "log_scale" in p else p["log_noise"]
    leverage = exp(p["log_leverage"]) if "log_leverage" in p else np.zeros_like(scale)
    w0 = _lanes(np.moveaxis(p["w0"], 0, -1).repeat(tau.shape[1], -1), 0.0)  # [m, C, G, 16]
    slow, owner = np.ones_like(tau), np.eye(len(tau), dtype=np.float32).repeat(tau.shape[1], 1)
    slow[np.arange(len(tau)), tau.argmax(1)] = 0
    by_feature = _lanes(precision.reshape(tau.size, -1).T, 1.0)  # [m, G, 16]
    return Weights(
        shift=scaling.shift,
        gain=scaling.gain,
        first=_layer(p["w1"], p["v"], p["b1"]),
        second=_layer(p["w2"], p["u"], p["b2"]),
        third=_columns(p["w3"]),
        w0=np.ascontiguousarray(np.moveaxis(w0, 2, 0)).reshape(-1, LANES),
        precision=np.ascontiguousarray(by_feature.swapaxes(0, 1)).reshape(-1, LANES),
        memory=_lanes(exp((-1 / tau).astype(np.float32)).reshape(-1), 1.0),
        scale=_lanes(exp(scale).reshape(-1), 1.0),
        leverage=_lanes(leverage.reshape(-1), 0.0),
        owner=_lanes(owner, 0.0).reshape(-1, LANES),
        slow=_lanes(slow.reshape(-1), 1.0),
        log_mix=np.ascontiguousarray(p["log_mix"]),
        forget=np.float32(1) / (np.float32(1) + exp(-p["forget"])),
        y_affine=np.array([scaling.y_shift, scaling.y_spread], np.float32),
    )


def _layer(w: Floats, skip: Floats, bias: Floats) -> Floats:
    """[[w, skip, 0], [bias, 0, 0]] [E, · + 1, ·], its width whole rows of lanes."""
    members, rows, width = w.shape
    out = np.zeros((members, rows + 1, -(-(width + skip.shape[2]) // LANES) * LANES), np.float32)
    out[:, :rows, :width], out[:, :rows, width : width + skip.shape[2]], out[:, rows, :width] = w, skip, bias
    return out


def _columns(w: Floats) -> Floats:
    """A matrix a member [E, J, F] with zero columns up to whole rows of lanes."""
    return _lanes(w, 0.0).reshape(*w.shape[:2], -1)


def _lanes(values: Floats, rest: float) -> Floats:
    """[..., E·K] as blocks of lanes [..., G, 16], ``rest`` in those left over."""
    blocks = -(-values.shape[-1] // LANES)
    padded = np.full((*values.shape[:-1], blocks * LANES), rest, np.float32)
    padded[..., : values.shape[-1]] = values
    return padded.reshape(*values.shape[:-1], blocks, LANES)

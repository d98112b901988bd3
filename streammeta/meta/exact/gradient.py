"""The meta-objective of the exact heads and its gradient, compiled for one CPU thread.

The same mathematics as ``streammeta.meta.exact.heads``, where torch differentiates; here reverse mode is by hand, so
that a meta-update costs what its arithmetic costs. Forward, for a chunk of n events, everything before it in A and B::

    h = tanh(w1ᵀx + b1)    z = [w3ᵀ tanh(w2ᵀh + b2); 1]    shared = uᵀh + vᵀx + w0ᵀz    rest = y − shared
    M = A + Λ              u = M⁻¹z                    own = Bᵀu                    leverage = zᵀu
    A ← γⁿA + Σ_τ γ^(n−1−τ) z_τ z_τᵀ                   B ← γⁿB + Σ_τ γ^(n−1−τ) z_τ rest_τᵀ
    ℓ ← α ℓ + max(log p, −14)                          loss = −mean log Σ_k softmax(prior + ℓ)_k p_k

Backward, ∂ for the derivative of the loss, F = 2 ∂A and G = ∂B those of the later chunks::

    ∂z_τ += γ^(n−1−τ) (F z_τ + G rest_τ)               ∂rest_τ += γ^(n−1−τ) Gᵀz_τ
    v = M⁻¹(B ∂own + z ∂leverage)                      ∂z += v + u ∂leverage
    F ← γⁿF − Σ (v uᵀ + u vᵀ)                          G ← γⁿG + Σ u ∂ownᵀ                  ∂Λ −= diag Σ v uᵀ

∂log γ needs no further matrix. γⁿ stands before A and B alone, so it gets n times the product γⁿ(⟨∂A, A⟩ + ⟨∂B, B⟩) of
∂ after and state before the chunk; and these products follow from each other: a chunk's events take away
Σ γ^(n−1−τ) (½ zᵀF z + zᵀG rest), its predictions add −leverage · ∂leverage − ⟨∂Λ, Λ⟩, because own does not change when
A, B and Λ grow in proportion, and the leverage shrinks in proportion.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.meta.exact.encoder_kernel import encoder_adjoint, layer, pad, product, residuals
from streammeta.meta.exact.gradient_kernel import heads, heads_adjoint, rows_needed
from streammeta.meta.exact.lanes_kernel import LANES, aligned
from streammeta.meta.exact.mixture_kernel import class_logits, class_loss, value_loss

__all__ = ["FloatArray", "loss_and_gradient"]

FloatArray: TypeAlias = npt.NDArray[np.floating]
_Arrays: TypeAlias = dict[str, FloatArray]
_Three: TypeAlias = tuple[FloatArray, FloatArray, FloatArray]
_ENCODER = ("w1", "v", "b1", "w2", "u", "b2", "w3", "w0")
_CLASS_LOSS = ("log_scale", "log_leverage", "log_mix", "forget")
_VALUE_LOSS = ("log_noise", "log_mix", "forget")


class _Targets(NamedTuple):
    """What segments are judged by, [S, T] each; T is a multiple of the chunk."""

    label: npt.NDArray[np.int64]  # class index; −1 in regression
    target: FloatArray  # 0 in classification
    valid: FloatArray
    share: FloatArray  # what the event counts in the loss


def loss_and_gradient(
    theta: Mapping[str, FloatArray],
    x: FloatArray,
    y: npt.NDArray[np.generic],
    valid: FloatArray,
    scored: FloatArray,
    *,
    chunk: int,
    classify: bool,
) -> tuple[float, dict[str, FloatArray]]:
    """Mean prequential negative log-likelihood of the mixture over the scored events, and its gradient.

    It keeps one thread busy, without the interpreter's lock, and its bits depend on nothing but its arguments. The loss
    is the mean over the E members of the ensemble, each with B segments of its own.

    Args:
        theta: the tensors of the exact heads, float32 or float64, which is what is computed in; not changed.
        x: normalized features [E, B, L, D], 0 where one is missing.
        y: class indices, or normalized targets [E, B, L].
        valid: 1 where there is an event [E, B, L].
        scored: 1 where the loss counts [E, B, L].
        chunk: events predicted from one state.
        classify: whether y are class indices.

    Returns:
        The loss, and its derivative by each array of ``theta``, of the same shape and type. A number that is not
        finite shows in the loss, as it does with torch.

    Raises:
        ValueError: shapes do not fit, a label is none of θ's classes, or a member has over sixteen heads.
    """
    real = theta["w1"].dtype
    parameters = {name: np.asarray(p, real, order="C") for name, p in theta.items()}
    _check_shapes(parameters, x, (y, valid, scored))
    events = x.shape[2] + -x.shape[2] % chunk
    with np.errstate(all="ignore"):  # what is not finite shows in the loss
        share = scored / (scored.sum((1, 2), keepdims=True) * len(x))
        size = x.shape[0] * x.shape[1]
        flat = [np.ascontiguousarray(part.reshape(size, *part.shape[2:]), real) for part in (x, valid, share)]
        judged = np.ascontiguousarray(y.reshape(size, -1), np.int64 if classify else real)
        rows, *targets, least, largest = pad(flat[0], judged, *flat[1:], events, classify)
        outputs = parameters["u"].shape[2]
        if least < 0 or largest >= outputs:
            raise ValueError(f"meta-gradient: got labels {least} to {largest}; wanted 0 to {outputs - 1}: grow θ first")
        return _through_encoders(parameters, rows, _Targets(*targets), chunk)


def _check_shapes(theta: _Arrays, x: FloatArray, others: tuple[npt.NDArray[np.generic], ...]) -> None:
    """The compiled loops look at no bounds: what does not fit must stop here."""
    members, features, hidden = theta["w1"].shape
    (m, outputs), memories = theta["w0"].shape[1:], theta["log_memory"].shape[1]
    if memories > LANES:
        raise ValueError(f"meta-gradient: got {memories} memories; wanted at most {LANES}")
    inner = theta["w2"].shape[2]
    wanted = {"b1": (hidden,), "w2": (hidden, inner), "b2": (inner,), "w3": (inner, m - 1)}
    wanted |= {"u": (hidden, outputs), "v": (features, outputs)}
    wanted |= {"log_precision": (memories, m), "log_mix": (memories,), "forget": ()}
    wanted |= {name: (memories,) for name in ("log_scale", "log_leverage", "log_noise") if name in theta}
    for name, shape in wanted.items():
        if theta[name].shape != (members, *shape):
            raise ValueError(
                f"meta-gradient: got {name} {theta[name].shape}; wanted {(members, *shape)}, as w1, w0, log_memory say"
            )
    fits = x.ndim == 4 and x.shape[0] == members and x.shape[3] == features and 0 not in x.shape[:3]
    if not fits or any(part.shape != x.shape[:3] for part in others):
        found = ", ".join(str(part.shape) for part in (x, *others))
        raise ValueError(
            f"meta-gradient: got x, y, valid, scored {found}; wanted [E, B, L, D] = [{members}, B, L, {features}], "
            "then [E, B, L]"
        )


def _through_encoders(theta: _Arrays, x: FloatArray, targets: _Targets, chunk: int) -> tuple[float, _Arrays]:
    """Loss and gradient for events x [S·T, D]: forward, there and back through the heads, backward."""
    (S, T), (members, H, inner), F = targets.valid.shape, theta["w2"].shape, theta["w3"].shape[2]
    N, C, real = len(x), theta["u"].shape[2], x.dtype
    own, kept = [slice(e * N // members, (e + 1) * N // members) for e in range(members)], []
    there = np.empty((N, F + 1), real), np.empty((N, C), real), np.empty((N, C), real)
    judged = [part.reshape(N) for part in targets[:3]]
    for e, rows in enumerate(own):
        first = layer(x[rows], theta["w1"][e], theta["v"][e], theta["b1"][e])
        np.tanh(first[:, :H], out=first[:, :H])
        second = layer(first, theta["w2"][e], theta["u"][e], theta["b2"][e])
        np.tanh(second[:, :inner], out=second[:, :inner])
        third = product(second, theta["w3"][e])
        kept.append((first, second, third))
        residuals(
            first,
            second,
            third,
            H,
            inner,
            theta["w0"][e],
            *(part[rows] for part in judged),
            *(part[rows] for part in there),
        )
    back = np.zeros_like(there[0]), np.zeros_like(there[1]), np.zeros_like(there[2])
    slope, loss = {name: np.zeros_like(p) for name, p in theta.items()}, 0.0
    for begin in range(0, S, LANES):  # LANES segments fill their blocks whatever K is
        some, events = slice(begin, begin + LANES), slice(begin * T, (begin + LANES) * T)
        member, judged_here = np.arange(S)[some] * members // S, _Targets._make(a[some] for a in targets)
        loss += _through_heads(theta, member, judged_here, chunk, _cut(there, events), _cut(back, events), slope)
    for e, rows in enumerate(own):
        parts = [theta[name][e] for name in ("w2", "u", "w3", "w0")]
        found = encoder_adjoint(x[rows], *kept[e], *parts, judged[2][rows], *(part[rows] for part in back))
        for name, part in zip(_ENCODER, found, strict=True):
            slope[name][e] = part
    return loss, slope


def _cut(three: _Three, events: slice) -> _Three:
    return three[0][events], three[1][events], three[2][events]


def _through_heads(
    theta: _Arrays,
    member: npt.NDArray[np.int64],
    targets: _Targets,
    chunk: int,
    there: _Three,
    back: _Three,
    slope: _Arrays,
) -> float:
    """The loss of some segments from ``there``, z, shared, rest; what it owes to these and to θ is added.

    ``member`` [S] is the member of each segment.
    """
    (S, T), (_, K, m), C = targets.valid.shape, theta["log_precision"].shape, there[1].shape[1]
    label, target, *masks = targets
    head = (member[:, None] * K + np.arange(K)).reshape(-1)
    blocks, state = -(-S * K // LANES), (theta["log_precision"].reshape(-1, m), theta["log_memory"].reshape(-1))
    memory = aligned(rows_needed(blocks, chunk, m, T, C), there[0].dtype)
    output, d_output = np.empty((2, blocks, T * C, LANES), memory.dtype)
    leverage = np.empty((blocks, T, LANES), memory.dtype)
    heads(*state, head, *there, chunk, memory, output, leverage)
    names = _CLASS_LOSS if "log_scale" in theta else _VALUE_LOSS
    parts, slopes = [theta[name].reshape(-1) for name in names], tuple(slope[name].reshape(-1) for name in names)
    if "log_scale" in theta:
        of_label = class_logits(output, leverage, *parts[:2], head, label, d_output)
        np.exp(d_output, out=d_output)
        loss, d_leverage = class_loss(output, leverage, *parts, head, label, *masks, d_output, of_label, slopes)
    else:
        loss, d_leverage = value_loss(output, leverage, *parts, head, target, *masks, d_output, slopes)
    ends = slope["log_precision"].reshape(-1, m), slope["log_memory"].reshape(-1)
    heads_adjoint(*state, head, chunk, memory, d_output, leverage, d_leverage, *back, *ends)
    return float(loss)

"""The meta-objective of the exact heads and its gradient, compiled for one CPU thread.

The same mathematics as ``streammeta.meta.exact_heads``, where torch differentiates; here reverse mode is by hand, so that
a meta-update costs what its arithmetic costs. Forward, for a chunk of n events, everything before it in A and B::

    h = tanh(w1ᵀx + b1)    z = [tanh(w2ᵀh + b2); 1]    shared = uᵀh + vᵀx + w0ᵀz    rest = y − shared
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

from streammeta.meta.exact_encoder_kernel import encoder_adjoint, layer, pad, residuals
from streammeta.meta.exact_gradient_kernel import LANES, heads, heads_adjoint, new_rooms
from streammeta.meta.exact_mixture_kernel import (
    class_likelihood,
    class_likelihood_adjoint,
    class_logits,
    mixture,
    mixture_adjoint,
    value_likelihood,
    value_likelihood_adjoint,
)

__all__ = ["FloatArray", "loss_and_gradient"]

FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.int64]
Arrays: TypeAlias = dict[str, FloatArray]
_ENCODER = ("w1", "v", "b1", "w2", "u", "b2", "w0")


class _Targets(NamedTuple):
    """What segments are judged by, [S, T] each; T a multiple of the chunk."""

    label: IntArray  # class index; −1 in regression
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
) -> tuple[float, Arrays]:
    """Mean prequential negative log-likelihood of the mixture over the scored events, and its gradient.

    Args:
        theta: the tensors of the exact heads, all float32 or all float64; not changed.
        x: normalized features [B, L, D], 0 where one is missing.
        y: class indices, or normalized targets [B, L].
        valid: 1 where there is an event [B, L].
        scored: 1 where the loss counts [B, L].
        chunk: events predicted from one state.
        classify: whether θ is that of a classifier.

    Returns:
        The loss, and its derivative by each array of ``theta``, of the same shape and type. Neither is finite where an
        input is not.

    Raises:
        ValueError: shapes do not fit, a label is none of θ's classes, or θ has more heads than a block has lanes.
    """
    real = theta["w1"].dtype
    parameters = {name: np.asarray(p, real, order="C") for name, p in theta.items()}
    _check(parameters, x, y, classify=classify)
    padded = x.shape[1] + -x.shape[1] % chunk
    rows, *targets = pad(x, y, valid, scored, padded, classify, parameters["w1"])
    with np.errstate(all="ignore"):  # what is not finite shows in the loss
        return _through(parameters, rows, _Targets(*targets), chunk)


def _check(theta: Arrays, x: FloatArray, y: npt.NDArray[np.generic], *, classify: bool) -> None:
    features, outputs, memories = theta["w1"].shape[0], theta["u"].shape[1], theta["log_memory"].size
    if x.ndim != 3 or x.shape[2] != features or x.shape[:2] != y.shape or 0 in x.shape:
        raise ValueError(f"exact_gradient: got x {x.shape} and y {y.shape}; wanted x [B, L, {features}] and y [B, L]")
    if classify and not 0 <= y.min() <= y.max() < outputs:
        raise ValueError(f"exact_gradient: got labels {y.min()} to {y.max()}; wanted 0 to {outputs - 1}: grow θ first")
    if memories > LANES:
        raise ValueError(f"exact_gradient: got {memories} memories; wanted at most {LANES}")


def _through(theta: Arrays, x: FloatArray, targets: _Targets, chunk: int) -> tuple[float, Arrays]:
    """Forward through the encoder, there and back through the heads, back through the encoder."""
    (S, T), (H, F) = targets.valid.shape, theta["w2"].shape
    first = layer(x, theta["w1"], theta["v"], theta["b1"])
    np.tanh(first[:, :H], out=first[:, :H])
    second = layer(first, theta["w2"], theta["u"], theta["b2"])
    np.tanh(second[:, :F], out=second[:, :F])
    z, shared, rest = residuals(first, second, H, F, theta["w0"], targets.label, targets.target, targets.valid)
    d_z, d_shared, d_rest = np.zeros_like(z), np.zeros_like(shared), np.zeros_like(rest)
    slope, loss = {name: np.zeros_like(theta[name]) for name in theta if name not in _ENCODER}, 0.0
    for begin in range(0, S, LANES):  # so many segments fill their blocks whatever K is
        part, some = slice(begin * T, (begin + LANES) * T), _Targets(*(a[begin : begin + LANES] for a in targets))
        ends = d_z[part], d_rest[part], d_shared[part]
        loss += _heads_there_and_back(theta, z[part], rest[part], shared[part], some, chunk, ends, slope)
    found = encoder_adjoint(
        x, first, second, theta["w2"], theta["u"], theta["w0"], targets.valid, d_z, d_shared, d_rest
    )
    return loss, slope | dict(zip(_ENCODER, found, strict=True))


def _heads_there_and_back(theta, z, rest, shared, targets, chunk, ends, slope):
    (S, T), (K, m), C = targets.valid.shape, theta["log_precision"].shape, rest.shape[1]
    past, spare, (output, d_output), others = new_rooms(z.dtype, -(-S * K // LANES), chunk, m, T, C)
    leverage, likelihood, d_leverage, d_likelihood, noise, count = others
    state = theta["log_precision"], theta["log_memory"]
    heads(*state, z, rest, shared, past, spare, output, leverage)
    classify = "log_scale" in theta
    if classify:
        logs = theta["log_scale"], theta["log_leverage"]
        class_logits(output, leverage, *logs, targets.label, d_output, likelihood)
        np.exp(d_output, out=d_output)
        class_likelihood(d_output, likelihood)
    else:
        value_likelihood(output, leverage, theta["log_noise"], targets.target, targets.valid, noise, count, likelihood)
    loss, *kept = mixture(likelihood, theta["log_mix"], theta["forget"], targets.valid, targets.share)
    mixture_adjoint(
        likelihood, theta["forget"], targets.valid, targets.share, *kept, d_likelihood, slope["log_mix"], slope["forget"]
    )
    if classify:
        class_likelihood_adjoint(
            output, leverage, *logs, targets.label, d_output, d_likelihood, d_leverage, slope["log_scale"], slope["log_leverage"]
        )
    else:
        value_likelihood_adjoint(
            output, leverage, theta["log_noise"], targets.target, targets.valid, noise, count, d_likelihood, d_output, d_leverage, slope["log_noise"]
        )
    heads_adjoint(*state, past, spare, d_output, leverage, d_leverage, *ends, slope["log_precision"], slope["log_memory"])
    return loss

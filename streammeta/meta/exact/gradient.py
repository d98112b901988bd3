"""The meta-objective of the exact heads and its gradient, compiled for one CPU thread (``native/segments*``).

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
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.meta.exact.event_kernel import LANES
from streammeta.native import _kernels as kernels

__all__ = ["FloatArray", "loss_and_gradient"]

FloatArray: TypeAlias = npt.NDArray[np.floating]
_SHARED = ("w1", "v", "b1", "w2", "u", "b2", "w3", "w0", "log_precision", "log_memory", "log_mix", "forget")
_CLASS_LOSS, _VALUE_LOSS = ("log_scale", "log_leverage"), ("log_noise",)


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
    size, length, features = x.shape[0] * x.shape[1], x.shape[2], x.shape[3]
    with np.errstate(all="ignore"):  # what is not finite shows in the loss
        share = scored / (scored.sum((1, 2), keepdims=True) * len(x))
        there, counts = (np.ascontiguousarray(part.reshape(size, length), real) for part in (valid, share))
        goals: npt.NDArray[Any] = np.ascontiguousarray(y.reshape(size, length), np.int64 if classify else real)
    outputs = parameters["u"].shape[2]
    least, largest = min(int(goals.min()), 0), max(int(goals.max()), 0)
    if classify and (least < 0 or largest >= outputs):
        raise ValueError(f"meta-gradient: got labels {least} to {largest}; wanted 0 to {outputs - 1}: grow θ first")
    names = _SHARED + (_CLASS_LOSS if classify else _VALUE_LOSS)
    slope = {name: np.zeros_like(p) for name, p in parameters.items()}
    segments = np.ascontiguousarray(x.reshape(size, length, features), real)
    given, found = tuple(parameters[name] for name in names), tuple(slope[name] for name in names)
    if classify:
        return kernels.class_segments_loss(given, segments, goals, there, counts, chunk, found), slope
    return kernels.value_segments_loss(given, segments, goals, there, counts, chunk, found), slope


def _check_shapes(theta: Mapping[str, FloatArray], x: FloatArray, others: tuple[npt.NDArray[np.generic], ...]) -> None:
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

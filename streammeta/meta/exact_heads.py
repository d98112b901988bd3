"""Exact heads on a meta-learned encoder: the default learner.

Closed-form heads adapt in one event, have no step size to tune, and cost O(m²). For each task and each of K memories::

    z = [tanh f_θ(x); 1]                    r = y − s_θ(x) − W0ᵀ z
    A_k ← γ_k A_k + z zᵀ                    B_k ← γ_k B_k + z rᵀ
    head_k(x) = s_θ(x) + W0ᵀ z + B_kᵀ (A_k + Λ_k)⁻¹ z

Λ stays outside the recursion, so forgetting never forgets the prior. Classes are one-hot targets; the logits of head k
are its output times a learned scale, flattened where it knows little: scale_k / √(1 + κ_k zᵀ(A_k + Λ_k)⁻¹z). Regression
heads are Gaussian, with a noise estimated from the task's own residuals. The K heads are mixed by their recent
likelihood: weight_k ∝ prior_k · exp(ℓ_k), ℓ_k ← α ℓ_k + log p_k(y).

θ = (f, s, W0, Λ, γ, scale, κ, prior, α) is trained by back-propagating the prequential loss of whole segments through
the recursion. The recursion has a parallel form: with chunks of n events, A before chunk j is Σ over i < j of
γ^{n(j−1−i)} S_i, S_i = Σ_t γ^{n−1−t} z_t z_tᵀ inside chunk i, so all chunks, memories and segments are one batch of
small Cholesky factorizations whose adjoint is written by hand.

Sources: Harrison, Sharma & Pavone (2018), ALPaCA, arXiv:1807.08912 (heads, and the meta-objective); Bertinetto et al.
(2019), R2-D2, arXiv:1805.08136 (scale of the logits); Hoeting et al. (1999) and Raftery et al. (2010) (model averaging
with forgetting).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch.nn.functional import one_hot

from streammeta.meta.base import Episodes, Floats, Ints, Kind, Method, Phi, Response, Scaling, Segment, Theta, Work
from streammeta.meta.exact_gradient import loss_and_gradient
from streammeta.meta.exact_kernel import Weights, adapt_rows, predict_classes, predict_values, rebuild_row
from streammeta.meta.outer import by_autograd

__all__ = ["LearnerSettings", "exact_heads"]

_LEAST_LOG = -14.0  # as in the kernel: no head is ruled out by one label
_PRIOR_COUNT, _NOISE_DECAY = 1.0, 0.99  # as in the kernel


class LearnerSettings(BaseModel, frozen=True, extra="forbid"):
    """Size and starting point of the default learner."""

    members: int = Field(3, ge=1, le=64, description="Encoders in the ensemble, each with its own seed and episodes.")
    hidden: int = Field(32, ge=1, le=4096, description="Units of an encoder's hidden layer.")
    encoded: int = Field(16, ge=1, le=512, description="Features the heads see; an event costs its square.")
    memories: tuple[float, ...] = Field(
        (8.0, 40.0, 200.0),
        min_length=1,
        max_length=8,
        description="Events each head remembers at the start (1 / (1 − γ)); meta-learned from there.",
    )
    chunk: int = Field(4, ge=1, le=64, description="Events predicted from one state inside a meta-update.")
    persistence: bool = Field(
        False, description="Mix in an expert that says: the same class as last time. For classes that come in runs."
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads of a meta-update; more pay only for large ones.")
    device: str = Field("auto", description='Where meta-updates run: "auto" (a GPU when there is one), "cpu", "cuda".')


def exact_heads(settings: LearnerSettings, kind: Kind, seed: int = 0) -> Method:  # noqa: C901  a factory of short closures
    """The default learner as a tuple of functions; see the module's text for the equations.

    >>> method = exact_heads(LearnerSettings(), "classification")
    >>> theta = method.grow(method.init(), [3, 3, 3], 2)
    >>> theta["w1"].shape, theta["w0"].shape
    (torch.Size([3, 32]), torch.Size([17, 2]))
    """
    classify = kind == "classification"
    m, heads = settings.encoded + 1, len(settings.memories)

    def phi_layout(outputs: int) -> Mapping[str, tuple[tuple[int, ...], type[np.generic]]]:
        return {
            "A": ((heads, m * (m + 1) // 2), np.float32),
            "B": ((heads, m, outputs), np.float32),
            "logw": ((heads,), np.float32),
            "noise": ((heads, 2), np.float32),
        }

    def predict(weights: Weights, phi: Phi, rows: Ints, x: Floats, outputs: int) -> Work:
        n = rows.size
        mean, variance = np.empty((n, outputs), np.float32), np.zeros(n, np.float32)
        z, shared = np.empty((n, m), np.float32), np.empty((n, outputs), np.float32)
        each = np.empty((n, heads, outputs if classify else 3), np.float32)
        if classify:
            predict_classes(weights, phi["A"], phi["B"], phi["logw"], rows, x, mean, z, shared, each)
        else:
            state = (phi["A"], phi["B"], phi["logw"], phi["noise"])
            predict_values(weights, *state, rows, x, mean, variance, z, shared, each)
        return Work(mean, variance, (z, shared, each))

    def adapt(weights: Weights, phi: Phi, rows: Ints, work: Work, y: Floats) -> None:
        state = (phi["A"], phi["B"], phi["logw"], phi["noise"])
        adapt_rows(weights, *state, rows, *work.kept, y, classify)

    def restart(weights: Weights, phi: Phi, rows: Ints, response: Response) -> None:
        affected = slice(None) if response == "reset" else int(np.argmax(weights.memory))
        for name in ("A", "B", "noise"):
            phi[name][rows, affected] = 0
        phi["logw"][rows] = 0

    def rebuild(weights: Weights, phi: Phi, row: int, window: Segment, outputs: int) -> None:
        slowest = int(np.argmax(weights.memory))
        rebuild_row(weights, phi["A"][row], phi["B"][row], slowest, window.since, window.x, window.y, outputs, classify)

    def loss(theta: Theta, episodes: Episodes) -> torch.Tensor:
        return _loss(theta, episodes, settings.chunk, classify=classify)

    def gradient(theta: Theta, episodes: Episodes) -> tuple[torch.Tensor, Theta]:
        if episodes.x.device.type != "cpu":
            return by_autograd(loss)(theta, episodes)
        arrays = {name: p.numpy() for name, p in theta.items()}
        segments = [tensor.numpy() for tensor in episodes]
        value, slopes = loss_and_gradient(arrays, *segments, chunk=settings.chunk, classify=classify)
        return torch.tensor(value, dtype=episodes.x.dtype), {
            name: torch.from_numpy(slope) for name, slope in slopes.items()
        }

    return Method(
        init=lambda: _init(settings, kind, seed),
        grow=lambda theta, fan_in, outputs: _grow(theta, fan_in, outputs, seed),
        phi_layout=phi_layout,
        compile=_compile,
        predict=predict,
        adapt=adapt,
        restart=restart,
        rebuild=rebuild,
        loss=loss,
        gradient=gradient,
    )


def _init(settings: LearnerSettings, kind: Kind, seed: int) -> Theta:
    hidden, encoded, heads = settings.hidden, settings.encoded, len(settings.memories)
    random = torch.Generator().manual_seed(seed)
    theta = {
        "w1": torch.zeros(0, hidden),
        "b1": torch.randn(hidden, generator=random) * 0.1,
        "w2": torch.randn(hidden, encoded, generator=random) / math.sqrt(hidden),
        "b2": torch.randn(encoded, generator=random) * 0.1,
        "u": torch.zeros(hidden, 0),
        "v": torch.zeros(0, 0),
        "w0": torch.zeros(encoded + 1, 0),
        "log_precision": torch.zeros(heads, encoded + 1),
        "log_memory": torch.tensor(settings.memories).log(),
        "log_mix": torch.zeros(heads),
        "forget": torch.tensor(math.log(0.95 / 0.05)),
    }
    if kind == "classification":
        return theta | {"log_scale": torch.full((heads,), math.log(6.0)), "log_leverage": torch.zeros(heads)}
    return theta | {"log_noise": torch.full((heads,), math.log(0.5))}


def _grow(theta: Theta, fan_in: Sequence[int], outputs: int, seed: int) -> Theta:
    """θ for at least D features and C outputs. New input weights depend on seed, slot and fan-in."""
    old_features, hidden = theta["w1"].shape
    old_outputs = theta["u"].shape[1]
    more = len(fan_in) - old_features
    if more > 0:
        random = [
            torch.Generator().manual_seed(seed * 1_000_003 + slot + 1) for slot in range(old_features, len(fan_in))
        ]
        scale = torch.tensor(fan_in[old_features:], dtype=torch.float32).rsqrt()
        rows = torch.stack([torch.randn(hidden, generator=one) for one in random]) * scale[:, None]
        theta = theta | {"w1": torch.cat([theta["w1"], rows])}
        theta["v"] = torch.cat([theta["v"], torch.zeros(more, old_outputs)])
    if outputs > old_outputs:
        for name in ("u", "v", "w0"):
            p = theta[name]
            theta = theta | {name: torch.cat([p, torch.zeros(p.shape[0], outputs - old_outputs)], 1)}
    return theta


def _memory(theta: Theta) -> torch.Tensor:
    """Log γ [K]: a memory of τ events is γ = exp(−1/τ), τ kept between 1.5 and 5,000."""
    return -torch.exp(-theta["log_memory"].clamp(math.log(1.5), math.log(5000.0)))


def _precision(theta: Theta) -> torch.Tensor:
    return torch.exp(theta["log_precision"].clamp(-6.0, 6.0))


def _compile(theta: Theta, scaling: Scaling) -> Weights:
    with torch.no_grad():
        scale = theta["log_scale"] if "log_scale" in theta else theta["log_noise"]
        leverage = torch.exp(theta["log_leverage"]) if "log_leverage" in theta else torch.zeros_like(scale)
        tensors = {
            **{name: theta[name] for name in ("w1", "b1", "w2", "b2", "u", "v", "w0", "log_mix")},
            "precision": _precision(theta),
            "memory": torch.exp(_memory(theta)),
            "scale": torch.exp(scale),
            "leverage": leverage,
            "forget": torch.sigmoid(theta["forget"]).reshape(1),
        }
    arrays = {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in tensors.items()}
    affine = np.array([scaling.y_shift, scaling.y_spread], np.float32)
    return Weights(shift=scaling.shift, gain=scaling.gain, y_affine=affine, **arrays)


class _Solve(torch.autograd.Function):
    """U = M⁻¹ Z for symmetric positive definite M, with ∂Z = M⁻¹ ∂U and ∂M = −∂Z Uᵀ."""

    @staticmethod
    def forward(ctx: Any, M: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        low = torch.linalg.cholesky_ex(M)[0]
        U = torch.cholesky_solve(Z, low)
        ctx.save_for_backward(low, U)
        return U

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401
        low, U = ctx.saved_tensors
        dZ = torch.cholesky_solve(gradients[0], low)
        return -dZ @ U.mT, dZ


def _encode(theta: Theta, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z [B, L, m] and what all tasks share, s_θ(x) + W0ᵀ z [B, L, C], from normalized x [B, L, D]."""
    hidden = torch.tanh(x @ theta["w1"] + theta["b1"])
    encoded = torch.tanh(hidden @ theta["w2"] + theta["b2"])
    z = torch.cat([encoded, torch.ones_like(encoded[..., :1])], -1)
    return z, hidden @ theta["u"] + x @ theta["v"] + z @ theta["w0"]


def _decays(log_memory: torch.Tensor, steps: int) -> torch.Tensor:
    """γ^(i−j−1) [K, steps, steps] where j < i, else 0: what is left before step i of what came at step j."""
    at = torch.arange(steps, device=log_memory.device)
    lag = at[:, None] - at[None, :] - 1
    powers = torch.exp(log_memory[:, None, None] * lag.clamp(min=0))
    return torch.where(lag >= 0, powers, torch.zeros_like(powers))


def _heads(theta: Theta, z: torch.Tensor, rest: torch.Tensor, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every head's own part Bᵀ(A + Λ)⁻¹z [B, K, L, C] and leverage zᵀ(A + Λ)⁻¹z [B, K, L], each chunk from the past.

    z [B, L, m] and rest = y − shared [B, L, C] hold zeros where there is no event; L is a multiple of ``chunk``.
    """
    segments, length, m = z.shape
    chunks, outputs = length // chunk, rest.shape[-1]
    log_memory = _memory(theta)
    zs = z.view(segments, chunks, chunk, m)
    inside = torch.exp(log_memory[:, None] * torch.arange(chunk - 1, -1, -1, device=z.device))  # [K, n]
    weighted = zs[:, :, None] * inside[:, :, None]  # [B, J, K, n, m]
    both = torch.cat([zs, rest.view(segments, chunks, chunk, outputs)], -1)
    sums = weighted.mT @ both[:, :, None]  # [B, J, K, m, m + C]
    before = torch.einsum("kij,bjkp->bikp", _decays(log_memory * chunk, chunks), sums.flatten(-2)).view_as(sums)
    M = before[..., :m] + torch.diag_embed(_precision(theta))
    columns = zs.mT[:, :, None].expand(-1, -1, log_memory.numel(), -1, -1)
    U = _Solve.apply(M, columns)
    own = (U.mT @ before[..., m:]).transpose(1, 2).flatten(2, 3)
    leverage = (U * columns).sum(-2).transpose(1, 2).flatten(2, 3)
    return own, leverage


def _class_likelihood(theta: Theta, output: torch.Tensor, leverage: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Log p_k(y_t) [B, K, L] of each head from its output [B, K, L, C]."""
    scale = torch.exp(theta["log_scale"])[:, None] / torch.sqrt(
        1 + torch.exp(theta["log_leverage"])[:, None] * leverage
    )
    logits = output * scale[..., None]
    return torch.log_softmax(logits, -1).gather(-1, y[:, None, :, None].expand(*logits.shape[:-1], 1)).squeeze(-1)


def _value_likelihood(
    theta: Theta, output: torch.Tensor, leverage: torch.Tensor, y: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Log N(y_t; output, σ²(1 + leverage)) [B, K, L]; σ² from the residuals so far, worth against a learned prior."""
    squared = (y[:, None] - output.squeeze(-1)).square()
    decay = torch.full((1,), math.log(_NOISE_DECAY), device=y.device, dtype=y.dtype)
    past = _decays(decay, y.shape[1])[0].mT  # [L, L]: sums over earlier events
    residuals = (squared / (1 + leverage) * valid[:, None]) @ past
    count = (valid @ past)[:, None]
    noise = (_PRIOR_COUNT * torch.exp(theta["log_noise"])[:, None] + residuals) / (_PRIOR_COUNT + count)
    variance = noise * (1 + leverage)
    return -0.5 * (squared / variance + torch.log(2 * math.pi * variance))


def _loss(theta: Theta, episodes: Episodes, chunk: int, *, classify: bool) -> torch.Tensor:
    """Mean prequential negative log-likelihood of the mixture over the scored events; a scalar."""
    short = -episodes.y.shape[1] % chunk
    if short:
        pad = torch.nn.functional.pad
        episodes = Episodes(pad(episodes.x, (0, 0, 0, short)), *(pad(t, (0, short)) for t in episodes[1:]))
    valid = episodes.valid
    z, shared = _encode(theta, episodes.x)
    outputs = shared.shape[-1]
    goal = one_hot(episodes.y, outputs).to(z.dtype) if classify else episodes.y[..., None]
    own, leverage = _heads(theta, z * valid[..., None], (goal - shared) * valid[..., None], chunk)
    output = own + shared[:, None]
    if classify:
        likelihood = _class_likelihood(theta, output, leverage, episodes.y)
    else:
        likelihood = _value_likelihood(theta, output, leverage, episodes.y, valid)
    kept = _decays(torch.nn.functional.logsigmoid(theta["forget"]).reshape(1), valid.shape[1])[0]
    evidence = (likelihood.clamp(min=_LEAST_LOG) * valid[:, None]) @ kept.mT
    weights = torch.log_softmax(evidence + theta["log_mix"][:, None], 1)
    mixed = torch.logsumexp(weights + likelihood, 1)
    return -(mixed * episodes.scored).sum() / episodes.scored.sum()

"""The meta-objective of the exact heads in torch: for a GPU, and what the compiled gradient is held against.

All members, segments, chunks and heads are one batch of small Cholesky factorizations with an adjoint by hand. Shapes:
E members, B segments, L events in J chunks of n, K memories, m encoded, C outputs. Equations: see
``streammeta.meta.exact.heads``.
"""

import math
from typing import Any

import torch
from torch.nn.functional import one_hot

from streammeta.meta.autograd import EpisodeTensors
from streammeta.meta.exact.event_kernel import LONGEST_MEMORY, MOST_LOG_PRECISION, SHORTEST_MEMORY
from streammeta.meta.learner import Theta

__all__ = ["prequential_loss"]

_LEAST_LOG = -14.0  # as in the kernel: no head is ruled out by one label
_PRIOR_COUNT, _NOISE_DECAY = 1.0, 0.99  # as in the kernel


def prequential_loss(theta: Theta, episodes: EpisodeTensors, chunk: int, *, classify: bool) -> torch.Tensor:
    """Mean prequential negative log-likelihood of the mixture over the scored events; a scalar."""
    short = -episodes.y.shape[2] % chunk
    if short:
        pad = torch.nn.functional.pad
        episodes = EpisodeTensors(pad(episodes.x, (0, 0, 0, short)), *(pad(t, (0, short)) for t in episodes[1:]))
    valid = episodes.valid
    z, shared = _encode(theta, episodes.x)
    goal = one_hot(episodes.y, shared.shape[-1]).to(z.dtype) if classify else episodes.y[..., None]
    own, leverage = _heads(theta, z * valid[..., None], (goal - shared) * valid[..., None], chunk)
    output = own + shared[:, :, None]
    if classify:
        likelihood = _class_likelihood(theta, output, leverage, episodes.y)
    else:
        likelihood = _value_likelihood(theta, output, leverage, episodes.y, valid)
    kept = _decays(torch.nn.functional.logsigmoid(theta["forget"]), valid.shape[2])
    evidence = (likelihood.clamp(min=_LEAST_LOG) * valid[:, :, None]) @ kept.mT[:, None]
    weights = torch.log_softmax(evidence + theta["log_mix"][:, None, :, None], 2)
    mixed = torch.logsumexp(weights + likelihood, 2)
    return -((mixed * episodes.scored).sum((1, 2)) / episodes.scored.sum((1, 2))).mean()


def _log_memory(theta: Theta) -> torch.Tensor:
    """Log γ [E, K]: a memory of τ events is γ = exp(−1/τ), τ kept between 1.5 and 5,000."""
    return -torch.exp(-theta["log_memory"].clamp(math.log(SHORTEST_MEMORY), math.log(LONGEST_MEMORY)))


def _precision(theta: Theta) -> torch.Tensor:
    """The diagonal of Λ [E, K, m]."""
    return torch.exp(theta["log_precision"].clamp(-MOST_LOG_PRECISION, MOST_LOG_PRECISION))


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
    """z [E, B, L, m] and what all tasks share, s_θ(x) + W0ᵀ z [E, B, L, C], from normalized x [E, B, L, D]."""
    flat = x.flatten(1, 2)
    hidden = torch.tanh(flat @ theta["w1"] + theta["b1"][:, None])
    inner = torch.tanh(hidden @ theta["w2"] + theta["b2"][:, None])
    encoded = inner @ theta["w3"]
    z = torch.cat([encoded, torch.ones_like(encoded[..., :1])], -1)
    shared = hidden @ theta["u"] + flat @ theta["v"] + z @ theta["w0"]
    return z.view(*x.shape[:3], -1), shared.view(*x.shape[:3], -1)


def _decays(log_decay: torch.Tensor, steps: int) -> torch.Tensor:
    """γ^(i−j−1) [..., steps, steps] where j < i, else 0: what is left before step i of what came at step j."""
    at = torch.arange(steps, device=log_decay.device)
    lag = at[:, None] - at[None, :] - 1
    powers = torch.exp(log_decay[..., None, None] * lag.clamp(min=0))
    return torch.where(lag >= 0, powers, torch.zeros_like(powers))


def _heads(theta: Theta, z: torch.Tensor, rest: torch.Tensor, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every head's own part Bᵀ(A + Λ)⁻¹z [E, B, K, L, C] and leverage zᵀ(A + Λ)⁻¹z [E, B, K, L], from the past chunks.

    z [E, B, L, m] and rest = y − shared [E, B, L, C] hold zeros where there is no event; L is a multiple of ``chunk``.
    """
    m, chunks, memory = z.shape[-1], z.shape[2] // chunk, _log_memory(theta)
    cut = (*z.shape[:2], chunks, chunk, -1)
    zs = z.view(cut)  # [E, B, J, n, m]
    inside = torch.exp(memory[..., None] * torch.arange(chunk - 1, -1, -1, device=z.device))  # [E, K, n]
    weighted = zs[:, :, :, None] * inside[:, None, None, :, :, None]  # [E, B, J, K, n, m]
    both = torch.cat([zs, rest.reshape(cut)], -1)
    sums = weighted.mT @ both[:, :, :, None]  # [E, B, J, K, m, m + C]
    before = torch.einsum("ekij,ebjkp->ebikp", _decays(memory * chunk, chunks), sums.flatten(-2)).view_as(sums)
    M = before[..., :m] + torch.diag_embed(_precision(theta))[:, None, None]
    columns = zs.mT[:, :, :, None].expand(-1, -1, -1, memory.shape[1], -1, -1)
    U = _Solve.apply(M, columns)
    own = (U.mT @ before[..., m:]).transpose(2, 3).flatten(3, 4)
    leverage = (U * columns).sum(-2).transpose(2, 3).flatten(3, 4)
    return own, leverage


def _class_likelihood(theta: Theta, output: torch.Tensor, leverage: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Log p_k(y_t) [E, B, K, L] of each head from its output [E, B, K, L, C]."""
    scale, flattening = (torch.exp(theta[name])[:, None, :, None] for name in ("log_scale", "log_leverage"))
    logits = output * (scale / torch.sqrt(1 + flattening * leverage))[..., None]
    chosen = y[:, :, None, :, None].expand(*logits.shape[:-1], 1)
    return torch.log_softmax(logits, -1).gather(-1, chosen).squeeze(-1)


def _value_likelihood(
    theta: Theta, output: torch.Tensor, leverage: torch.Tensor, y: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Log N(y_t; output, σ²(1 + leverage)) [E, B, K, L]; σ² from the residuals so far, against a learned prior."""
    squared = (y[:, :, None] - output.squeeze(-1)).square()
    decay = torch.tensor(math.log(_NOISE_DECAY), device=y.device, dtype=y.dtype)
    past = _decays(decay, y.shape[2]).mT  # [L, L]: sums over earlier events
    residuals = (squared / (1 + leverage) * valid[:, :, None]) @ past
    count = (valid @ past)[:, :, None]
    prior = torch.exp(theta["log_noise"])[:, None, :, None]
    variance = (_PRIOR_COUNT * prior + residuals) / (_PRIOR_COUNT + count) * (1 + leverage)
    return -0.5 * (squared / variance + torch.log(2 * math.pi * variance))

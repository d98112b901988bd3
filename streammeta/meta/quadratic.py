"""A batch of quadratic programs over simplexes, with exact gradients: what a support vector machine asks for.

    minimize over β [n, C]:  ½ tr(βᵀ K β) − tr(βᵀ G)        subject to  β ≥ 0,  Σ_k β_nk = total

Solved by accelerated projected gradient, then by one Newton step on the optimality conditions of the entries that are
free. That step is differentiable: at the solution its value adds nothing, and its derivative is the implicit function
theorem's. (qpth, a solver of its own kind, is no longer maintained; this one knows its constraints and needs no sparse
algebra.)

Sources: Beck & Teboulle (2009), FISTA; O'Donoghue & Candès (2015), arXiv:1204.3982 (restart); projection: Held, Wolfe &
Crowder (1974); differentiation of the solution: Amos & Kolter (2017), arXiv:1703.00443.
"""

import torch

__all__ = ["simplex_program"]

_STEPS = 300


def simplex_program(kernel: torch.Tensor, gain: torch.Tensor, *, total: float) -> torch.Tensor:
    """The solutions β [T, n, C], differentiable in ``kernel`` and ``gain``.

    Args:
        kernel: K [T, n, n], symmetric, positive definite.
        gain: G [T, n, C].
        total: what a row of β sums to, > 0.
    """
    with torch.no_grad():
        beta = _descended(kernel, gain, total)
    return _newton(kernel, gain, beta, total)


def _descended(kernel: torch.Tensor, gain: torch.Tensor, total: float) -> torch.Tensor:
    rate = 1 / torch.linalg.matrix_norm(kernel, float("inf")).view(-1, 1, 1)  # the norm bounds the largest eigenvalue
    beta = torch.full_like(gain, total / gain.shape[-1])
    ahead, speed = beta, torch.ones_like(rate)
    for _ in range(_STEPS):
        following = _on_simplex(ahead - rate * (kernel @ ahead - gain), total)
        step = following - beta
        back = ((ahead - following) * step).sum((1, 2), keepdim=True) > 0  # the momentum overshot: begin it again
        faster = torch.where(back, 1.0, (1 + (1 + 4 * speed.square()).sqrt()) / 2)
        ahead = following + torch.where(back, 0.0, (speed - 1) / faster) * step
        beta, speed = following, faster
    return beta


def _on_simplex(v: torch.Tensor, total: float) -> torch.Tensor:
    """The nearest point, row by row, with entries ≥ 0 that sum to ``total``."""
    falling = v.sort(-1, descending=True).values
    counts = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    shifts = (falling.cumsum(-1) - total) / counts
    support = ((falling > shifts).sum(-1, keepdim=True) - 1).clamp(min=0)  # the clamp: for rows of NaN
    return (v - shifts.gather(-1, support)).clamp(min=0)


def _newton(kernel: torch.Tensor, gain: torch.Tensor, beta: torch.Tensor, total: float) -> torch.Tensor:
    """β with its free entries moved to where their slopes are equal, row by row: [[K, 1], [1ᵀ, 0]] for those."""
    tasks, n, classes = gain.shape
    free = (beta > 1e-7 * total).to(gain.dtype)  # [T, n, C]
    slope = kernel @ beta - gain
    price = (slope * free).sum(-1, keepdim=True) / free.sum(-1, keepdim=True)  # of a row's constraint
    rest = ((slope - price.detach()) * free).reshape(tasks, n * classes)
    size = n * classes
    with torch.no_grad():
        wide = torch.kron(kernel, torch.eye(classes).to(kernel))  # [T, nC, nC], class by class K
        kept = free.reshape(tasks, size)
        wide = wide * kept.unsqueeze(1) * kept.unsqueeze(2) + torch.diag_embed(1 - kept)
        rows = torch.kron(torch.eye(n), torch.ones(1, classes)).to(kernel) * kept.unsqueeze(1)  # [T, n, nC]
        corner = kernel.new_zeros(tasks, n, n)
        system = torch.cat([torch.cat([wide, rows.mT], 2), torch.cat([rows, corner], 2)], 1)
    right = torch.cat([rest, rest.new_zeros(tasks, n)], 1)
    step: torch.Tensor = torch.linalg.solve(system, right)[:, :size]
    return beta - step.view(tasks, n, classes)

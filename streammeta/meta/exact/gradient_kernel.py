"""The heads over segments and their adjoint, compiled. Equations: see ``streammeta.meta.exact.gradient``.

The K heads of S segments are S · K recursions that do the same at the same time. Each is a *lane*, sixteen lanes are a
block, and every number of the mathematics is a row [16] of its block: a matrix [a, b] is a · b rows, and of a symmetric
one only the lower triangle is kept. Lane l of block i belongs to segment (16 i + l) // K and is head ``head[16 i + l]``
of the E · K heads of all members; lanes that are left over have no events. T events in J chunks of n.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.meta.exact.lanes_kernel import (
    LANES,
    add_products,
    add_row,
    compiled,
    copy_row,
    from_lanes,
    into_lanes,
    invert_root_row,
    scale,
)

__all__ = ["heads", "heads_adjoint", "rows_needed"]

_LEAST_MEMORY, _MOST_MEMORY, _MOST_PRECISION = math.log(1.5), math.log(5000.0), 6.0  # as in heads, log


class Past(NamedTuple):
    """A block on its way forward, for the way back."""

    decay: npt.NDArray[np.floating]  # [n + 1, 16] γ^(n−1−τ), what is left of event τ at its chunk's end; last row γⁿ
    precision: npt.NDArray[np.floating]  # [m, 16] diagonal of Λ
    z: npt.NDArray[np.floating]  # [T·m, 16]
    rest: npt.NDArray[np.floating]  # [T·C, 16] y − shared
    low: npt.NDArray[np.floating]  # [J·m·m, 16] Cholesky factors of A + Λ before each chunk, their diagonals inverted
    B: npt.NDArray[np.floating]  # [J·m·C, 16] before each chunk
    u: npt.NDArray[np.floating]  # [T·m, 16] (A + Λ)⁻¹z


class Spare(NamedTuple):
    """Room to work in, for one block after the other."""

    F: npt.NDArray[np.floating]  # [m·m, 16] forward it holds A
    G: npt.NDArray[np.floating]  # [m·C, 16]
    v: npt.NDArray[np.floating]  # [n·m, 16]
    diagonal: npt.NDArray[np.floating]  # [m, 16]
    inside: npt.NDArray[np.floating]  # [n, 16]
    product: npt.NDArray[np.floating]  # [1, 16]
    d_z: npt.NDArray[np.floating]  # [T·m, 16]
    d_rest: npt.NDArray[np.floating]  # [T·C, 16]
    d_precision: npt.NDArray[np.floating]  # [m, 16]
    d_log_gamma: npt.NDArray[np.floating]  # [1, 16]


@compiled
def _past_rows(n, m, T, C):
    return n + 1 + m + T * (m + C + m) + T // n * m * (m + C)


@compiled
def rows_needed(blocks, n, m, T, C):
    """How many rows of memory ``heads`` and ``heads_adjoint`` need."""
    return blocks * _past_rows(n, m, T, C) + m * (m + C) + n * (m + 1) + m + 1 + T * (m + C) + m + 1


@compiled
def _past(memory, i, n, m, T, C):
    """Where block i has its ``Past``."""
    a = i * _past_rows(n, m, T, C)
    b = a + n + 1
    c = b + m
    d = c + T * m
    e = d + T * C
    f = e + T // n * m * m
    g = f + T // n * m * C
    return Past(memory[a:b], memory[b:c], memory[c:d], memory[d:e], memory[e:f], memory[f:g], memory[g : g + T * m])


@compiled
def _spare(memory, blocks, n, m, T, C):
    """What comes after ``blocks`` of ``Past``."""
    a = blocks * _past_rows(n, m, T, C)
    b = a + m * m
    c = b + m * C
    d = c + n * m
    e = d + m
    f = e + n
    g = f + 1
    h = g + T * m
    i = h + T * C
    j = i + m
    first = memory[a:b], memory[b:c], memory[c:d], memory[d:e], memory[e:f], memory[f:g]
    return Spare(*first, memory[g:h], memory[h:i], memory[i:j], memory[j : j + 1])


@compiled
def _factor(low, at, m):
    """The lower triangle of the matrix [m, m] at row ``at`` becomes its Cholesky factor, the diagonal inverted."""
    for j in range(m):
        row = at + j * m
        add_products(low, row + j, m, m - j, -1, low, row, 1, low, row, m, 1, j)
        invert_root_row(low, row + j, low, row + j)
        scale(low, row + m + j, m, m - j - 1, low, row + j)


@compiled
def _solve(low, at, m, x, first, n):
    """The n vectors [m] from row ``first`` of x on become (A + Λ)⁻¹ times what they were."""
    for i in range(m):
        row = at + i * m
        add_products(x, first + i, m, n, -1, low, row, 1, x, first, m, 1, i)
        scale(x, first + i, m, n, low, row + i)
    for i in range(m - 1, -1, -1):
        row = at + i * m
        add_products(x, first + i, m, n, -1, low, row + m + i, m, x, first + i + 1, m, 1, m - 1 - i)
        scale(x, first + i, m, n, low, row + i)


@compiled
def _set_parameters(past, first, head, K, log_precision, log_memory):
    """Λ and the powers of γ of every lane; log γ = −1/τ. Lanes K apart are mostly the same head of two segments."""
    m, n, real = log_precision.shape[1], past.decay.shape[0] - 1, log_memory.dtype.type
    for lane in range(LANES):
        at = min(first + lane, head.size - 1)
        k = head[at]
        if lane >= K and k == head[at - K]:
            past.precision[:, lane], past.decay[:, lane] = past.precision[:, lane - K], past.decay[:, lane - K]
            continue
        for i in range(m):
            past.precision[i, lane] = math.exp(
                min(max(log_precision[k, i], real(-_MOST_PRECISION)), real(_MOST_PRECISION))
            )
        log_gamma = -math.exp(-min(max(log_memory[k], real(_LEAST_MEMORY)), real(_MOST_MEMORY)))
        for tau in range(n):
            past.decay[tau, lane] = math.exp(real(n - 1 - tau) * log_gamma)
        past.decay[n, lane] = math.exp(real(n) * log_gamma)


@compiled
def _recursion(past, own, leverage, spare):
    """Fill own [T·C, 16] = Bᵀ(A + Λ)⁻¹z and leverage [T, 16] = zᵀ(A + Λ)⁻¹z, and low, B, u of ``past``."""
    z, low, B, u, decay = past.z, past.low, past.B, past.u, past.decay
    n, m, T = decay.shape[0] - 1, past.precision.shape[0], leverage.shape[0]
    C = own.shape[0] // T
    A, weighted = spare.F, spare.v
    A[:], own[:], leverage[:], B[: m * C] = 0, 0, 0, 0
    u[:] = z
    for t in range(0, T, n):
        at, here = t // n * m * m, t // n * m * C
        for i in range(m):
            for r in range(i * m, i * m + i + 1):
                copy_row(low, at + r, A, r)
            add_row(low, at + i * m + i, past.precision, i)
        _factor(low, at, m)
        _solve(low, at, m, u, t * m, n)
        for s in range(t, t + n):
            add_products(leverage, s, 1, 1, 1, u, s * m, 1, z, s * m, 0, 1, m)
            add_products(own, s * C, 1, C, 1, u, s * m, 1, B, here, 1, C, m)
        if t + n == T:
            break
        weighted[:] = z[t * m : (t + n) * m]
        for tau in range(n):
            scale(weighted, tau * m, 1, m, decay, tau)
        B[here + m * C : here + 2 * m * C] = B[here : here + m * C]
        scale(B, here + m * C, 1, m * C, decay, n)
        for i in range(m):
            scale(A, i * m, 1, i + 1, decay, n)
            add_products(A, i * m, 1, i + 1, 1, weighted, i, m, z, t * m, 1, m, n)
            add_products(B, here + (m + i) * C, 1, C, 1, weighted, i, m, past.rest, t * C, 1, C, n)


@compiled
def heads(log_precision, log_memory, head, z, shared, rest, n, memory, output, leverage):
    """Every head's output [blocks, T·C, 16] and leverage [blocks, T, 16], each chunk from the past; fills ``memory``.

    log_precision [E·K, m] and log_memory [E·K] of all members, head [S·K] which of them each lane is. z [S·T, m],
    shared [S·T, C]; z and rest = y − shared are 0 where there is no event; T is a multiple of n.
    """
    m, (blocks, T, _), C = log_precision.shape[1], leverage.shape, rest.shape[1]
    K = head.size * T // z.shape[0]
    spare = _spare(memory, blocks, n, m, T, C)
    for i in range(blocks):
        past, first = _past(memory, i, n, m, T, C), i * LANES
        _set_parameters(past, first, head, K, log_precision, log_memory)
        into_lanes(z, first, K, past.z)
        into_lanes(rest, first, K, past.rest)
        _recursion(past, output[i], leverage[i], spare)
        into_lanes(shared, first, K, spare.d_rest)
        for r in range(output.shape[1]):
            add_row(output[i], r, spare.d_rest, r)


@compiled
def _sums_adjoint(past, F, G, d_z, d_rest, t, n, inside):
    """Through A ← … + Σ γ^(n−1−τ) z zᵀ and B ← … + Σ γ^(n−1−τ) z restᵀ of the chunk at event t.

    ``inside`` [n, 16] becomes what each of its events gives to ⟨∂A, A⟩ + ⟨∂B, B⟩.
    """
    z, rest, m, half = past.z, past.rest, past.precision.shape[0], past.z.dtype.type(0.5)
    C = G.shape[0] // m
    for i in range(m):
        add_products(d_z, t * m + i, m, n, 1, F, i * m, 1, z, t * m, m, 1, i + 1)
        add_products(d_z, t * m + i, m, n, 1, F, (i + 1) * m + i, m, z, t * m + i + 1, m, 1, m - 1 - i)
    for tau in range(n):
        s = t + tau
        inside[tau] = 0
        add_products(inside, tau, 1, 1, 1, z, s * m, 1, d_z, s * m, 0, 1, m)
        inside[tau] *= -half
        add_products(d_z, s * m, 1, m, 1, rest, s * C, 1, G, 0, C, 1, C)
        add_products(d_rest, s * C, 1, C, 1, z, s * m, 1, G, 0, 1, C, m)
        add_products(inside, tau, 1, 1, 1, z, s * m, 1, d_z, s * m, 0, 1, m)
        scale(inside, tau, 1, 1, past.decay, tau)
        scale(d_z, s * m, 1, m, past.decay, tau)
        scale(d_rest, s * C, 1, C, past.decay, tau)


@compiled
def _solve_adjoint(past, d_own, d_leverage, d_z, v, diagonal, t, n):
    """Through own = Bᵀu, leverage = zᵀu, u = (A + Λ)⁻¹z of the chunk at event t.

    v [n·m, 16] becomes (A + Λ)⁻¹∂u, and ``diagonal`` [m, 16] the diagonal of Σ v uᵀ; it is −∂Λ.
    """
    m, u = past.precision.shape[0], past.u
    C = past.rest.shape[0] * m // past.z.shape[0]
    at, here = t // n * m * m, t // n * m * C
    v[:], diagonal[:] = 0, 0
    for tau in range(n):
        s = t + tau
        add_products(v, tau * m, 1, m, 1, d_own, s * C, 1, past.B, here, C, 1, C)
    _solve(past.low, at, m, v, 0, n)
    for tau in range(n):
        s = t + tau
        add_products(v, tau * m, 1, m, 1, d_leverage, s, 0, u, s * m, 1, 0, 1)
        add_products(d_z, s * m, 1, m, 1, d_leverage, s, 0, u, s * m, 1, 0, 1)
    for i in range(n * m):
        add_row(d_z, t * m + i, v, i)
    for i in range(m):
        add_products(diagonal, i, 1, 1, 1, v, i, m, u, t * m + i, 0, m, n)


@compiled
def _recursion_adjoint(past, d_own, leverage, d_leverage, spare):
    """From ∂own [T·C, 16] and ∂leverage [T, 16] fill ∂z [T·m, 16], ∂rest [T·C, 16], ∂Λ [m, 16] and ∂log γ [1, 16].

    F = 2 ∂A and G = ∂B are those of the state after a chunk, then before it; ``product`` = ⟨∂A, A⟩ + ⟨∂B, B⟩.
    """
    n, m, T, z, u = past.decay.shape[0] - 1, past.precision.shape[0], leverage.shape[0], past.z, past.u
    C, real = d_own.shape[0] // T, z.dtype.type
    F, G, v, diagonal, inside, product, d_z, d_rest, d_precision, d_log_gamma = spare
    F[:], G[:], product[:], d_z[:], d_rest[:], d_precision[:], d_log_gamma[:] = 0, 0, 0, 0, 0, 0, 0
    for t in range(T - n, -1, -n):
        if t + n < T:
            _sums_adjoint(past, F, G, d_z, d_rest, t, n, inside)
            for tau in range(n):
                product[0] -= inside[tau]
                d_log_gamma[0] += real(n - 1 - tau) * inside[tau]
            d_log_gamma[0] += real(n) * product[0]
            scale(G, 0, 1, m * C, past.decay, n)
        _solve_adjoint(past, d_own, d_leverage, d_z, v, diagonal, t, n)
        d_precision -= diagonal
        add_products(product, 0, 1, 1, 1, past.precision, 0, 1, diagonal, 0, 0, 1, m)
        add_products(product, 0, 1, 1, -1, d_leverage, t, 1, leverage, t, 0, 1, n)
        for i in range(m if t > 0 else 0):
            scale(F, i * m, 1, i + 1, past.decay, n)
            add_products(F, i * m, 1, i + 1, -1, v, i, m, u, t * m, 1, m, n)
            add_products(F, i * m, 1, i + 1, -1, u, t * m + i, m, v, 0, 1, m, n)
            add_products(G, i * C, 1, C, 1, u, t * m + i, m, d_own, t * C, 1, C, n)


@compiled
def heads_adjoint(
    log_precision,
    log_memory,
    head,
    n,
    memory,
    d_output,
    leverage,
    d_leverage,
    d_z,
    d_shared,
    d_rest,
    d_log_precision,
    d_log_memory,
):
    """From ∂output and ∂leverage, as in ``heads``; the last five, ∂z to ∂log_memory, are added to."""
    m, (blocks, T, _), C, real = log_precision.shape[1], leverage.shape, d_rest.shape[1], log_memory.dtype.type
    K = head.size * T // d_z.shape[0]
    spare = _spare(memory, blocks, n, m, T, C)
    for i in range(blocks):
        past, first = _past(memory, i, n, m, T, C), i * LANES
        _recursion_adjoint(past, d_output[i], leverage[i], d_leverage[i], spare)
        from_lanes(spare.d_z, first, K, d_z)
        from_lanes(spare.d_rest, first, K, d_rest)
        from_lanes(d_output[i], first, K, d_shared)
        for lane in range(min(LANES, head.size - first)):
            k = head[first + lane]
            tau = log_memory[k]
            if real(_LEAST_MEMORY) < tau < real(_MOST_MEMORY):
                d_log_memory[k] += spare.d_log_gamma[0, lane] * math.exp(-tau)
            for a in range(m):
                if abs(log_precision[k, a]) < real(_MOST_PRECISION):
                    d_log_precision[k, a] += spare.d_precision[a, lane] * past.precision[a, lane]

"""The heads over segments and their adjoint, compiled. Equations: see ``streammeta.meta.exact_gradient``.

The K heads of S segments are S · K recursions that do the same at the same time. Each is a *lane*, sixteen lanes are a
block, and every number of the mathematics is a row [16] of its block: a matrix [a, b] is a · b rows, and of a symmetric
one only the lower triangle is kept. Lane l of block i belongs to segment (16 i + l) // K, head (16 i + l) % K; lanes
that are left over have no events.
"""

import math
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "heads", "heads_adjoint", "new_rooms"]

LANES = 16
_CACHE_LINE = 64  # bytes
_TOGETHER = 4  # rows computed in one sweep: they share what they load
_FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
_compiled = njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)
_LEAST_MEMORY, _MOST_MEMORY, _MOST_PRECISION = math.log(1.5), math.log(5000.0), 6.0  # as in exact_heads, log


class Past(NamedTuple):
    """All blocks on their way forward, for the way back. T events in J chunks of n. One block has no first axis."""

    decay: npt.NDArray  # [blocks, n + 1, 16] γ^(n−1−τ), what is left of event τ at its chunk's end; last row γⁿ
    precision: npt.NDArray  # [blocks, m, 16] diagonal of Λ
    z: npt.NDArray  # [blocks, T·m, 16]
    rest: npt.NDArray  # [blocks, T·C, 16] y − shared
    low: npt.NDArray  # [blocks, J·m·m, 16] Cholesky factors of A + Λ before each chunk; on the diagonal its inverse
    B: npt.NDArray  # [blocks, J·m·C, 16] before each chunk
    u: npt.NDArray  # [blocks, T·m, 16] (A + Λ)⁻¹z


class Spare(NamedTuple):
    """Room to work in."""

    F: npt.NDArray  # [m·m, 16] forward it holds A
    G: npt.NDArray  # [m·C, 16]
    v: npt.NDArray  # [n·m, 16]
    diagonal: npt.NDArray  # [m, 16]
    inside: npt.NDArray  # [n, 16]
    product: npt.NDArray  # [1, 16]
    d_z: npt.NDArray  # [T·m, 16]
    d_rest: npt.NDArray  # [T·C, 16]
    d_precision: npt.NDArray  # [m, 16]
    d_log_gamma: npt.NDArray  # [1, 16]


def new_rooms(real, blocks, n, m, T, C):
    """A ``Past``, a ``Spare``, two arrays [blocks, T·C, 16] and six [blocks, T, 16], all uninitialized.

    They are one piece, which begins with a cache line: a row that straddles two costs twice, and pieces that go back
    to the system more than their sums.
    """
    J = T // n
    past = (n + 1, m, T * m, T * C, J * m * m, J * m * C, T * m)
    spare = (m * m, m * C, n * m, m, n, 1, T * m, T * C, m, 1)
    counts = (*(blocks * rows for rows in past), *spare, *(blocks * T * C,) * 2, *(blocks * T,) * 6)
    memory = np.empty(LANES * real.itemsize * sum(counts) + _CACHE_LINE, np.uint8)
    begin = -memory.ctypes.data % _CACHE_LINE
    rows = memory[begin : begin + memory.size - _CACHE_LINE].view(real).reshape(-1, LANES)
    pieces = [rows[end - count : end] for count, end in zip(counts, accumulate(counts), strict=True)]
    shaped = [piece.reshape(blocks, -1, LANES) for piece in (*pieces[:7], *pieces[17:])]
    return Past(*shaped[:7]), Spare(*pieces[7:17]), shaped[7:9], shaped[9:]


def _row(context, builder, kind, array, at):
    """Where row ``at`` of an array [·, 16] lies, as a pointer to one vector."""
    vector = ir.VectorType(context.get_value_type(kind.dtype), LANES)
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [builder.mul(at, at.type(LANES))]), vector.as_pointer())


def _sums(together):
    """The loop of ``_add_products`` for so many rows, written in LLVM: numba would not keep the sums in registers."""

    @intrinsic
    def add(_typing, out, o, do, sign, a, i, di, b, j, dr, dj, count):
        size = types.intp
        signature = types.void(out, size, size, out.dtype, a, size, size, b, size, size, size, size)

        def generate(context, builder, signature, arguments):
            out, o, do, sign, a, i, di, b, j, dr, dj, count = arguments
            scalar = context.get_value_type(signature.args[0].dtype)
            vector, align = ir.VectorType(scalar, LANES), context.get_abi_sizeof(scalar)
            totals = [cgutils.alloca_once_value(builder, vector([0.0] * LANES)) for _ in range(together)]
            with cgutils.for_range(builder, count) as loop:
                at = builder.add(i, builder.mul(loop.index, di))
                left = builder.load(_row(context, builder, signature.args[4], a, at), align=align)
                for r, total in enumerate(totals):
                    at = builder.add(builder.add(j, builder.mul(loop.index, dj)), builder.mul(dr, dr.type(r)))
                    right = builder.load(_row(context, builder, signature.args[7], b, at), align=align)
                    product = builder.fmul(left, right, flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), product, flags=["contract", "reassoc"]), total)
            signs = vector(ir.Undefined)
            for lane in range(LANES):
                signs = builder.insert_element(signs, sign, ir.IntType(32)(lane))
            for r, total in enumerate(totals):
                to = _row(context, builder, signature.args[0], out, builder.add(o, builder.mul(do, do.type(r))))
                signed = builder.fmul(builder.load(total), signs, flags=["contract"])
                builder.store(builder.fadd(builder.load(to, align=align), signed, flags=["contract"]), to, align=align)
            return context.get_dummy_value()

        return signature, generate

    return add


_add_one, _add_four = _sums(1), _sums(_TOGETHER)


def _rowwise(operation):
    """Row o of ``out`` becomes an operation of itself and row i of ``a``."""

    @intrinsic
    def apply(_typing, out, o, a, i):
        signature = types.void(out, types.intp, a, types.intp)

        def generate(context, builder, signature, arguments):
            align = context.get_abi_sizeof(context.get_value_type(signature.args[0].dtype))
            to = _row(context, builder, signature.args[0], arguments[0], arguments[1])
            other = _row(context, builder, signature.args[2], arguments[2], arguments[3])
            result = operation(builder, builder.load(to, align=align), builder.load(other, align=align))
            builder.store(result, to, align=align)
            return context.get_dummy_value()

        return signature, generate

    return apply


def _inverse_root(builder, _, row):
    name = f"llvm.sqrt.v{LANES}{row.type.element.intrinsic_name}"
    root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(row.type, [row.type]), name)
    return builder.fdiv(row.type([1.0] * LANES), builder.call(root, [row]))


_multiply_row = _rowwise(lambda builder, row, other: builder.fmul(row, other))
_add_row = _rowwise(lambda builder, row, other: builder.fadd(row, other))
_copy_row = _rowwise(lambda builder, row, other: other)
_invert_root_row = _rowwise(_inverse_root)


@_compiled
def _add_products(out, o, do, rows, sign, a, i, di, b, j, dr, dj, count):
    """For r < rows: out[o + r·do] += sign · Σ over q < count of a[i + q·di] · b[j + r·dr + q·dj], lane by lane."""
    real, r = out.dtype.type, 0
    while r + _TOGETHER <= rows:
        _add_four(out, o + r * do, do, real(sign), a, i, di, b, j + r * dr, dr, dj, count)
        r += _TOGETHER
    while r < rows:
        _add_one(out, o + r * do, do, real(sign), a, i, di, b, j + r * dr, dr, dj, count)
        r += 1


@_compiled
def _scale(out, o, do, rows, factor, i):
    """For r < rows: out[o + r·do] *= factor[i], lane by lane."""
    for r in range(rows):
        _multiply_row(out, o + r * do, factor, i)


@_compiled
def _factor(low, at, m):
    """The lower triangle of a matrix [m, m] at row ``at`` becomes its Cholesky factor, with 1/diagonal on the diagonal."""
    for j in range(m):
        row = at + j * m
        _add_products(low, row + j, m, m - j, -1, low, row, 1, low, row, m, 1, j)
        _invert_root_row(low, row + j, low, row + j)
        _scale(low, row + m + j, m, m - j - 1, low, row + j)


@_compiled
def _solve(low, at, m, x, first, n):
    """The n vectors [m] from row ``first`` of x on become (A + Λ)⁻¹ times what they were."""
    for i in range(m):
        row = at + i * m
        _add_products(x, first + i, m, n, -1, low, row, 1, x, first, m, 1, i)
        _scale(x, first + i, m, n, low, row + i)
    for i in range(m - 1, -1, -1):
        row = at + i * m
        _add_products(x, first + i, m, n, -1, low, row + m + i, m, x, first + i + 1, m, 1, m - 1 - i)
        _scale(x, first + i, m, n, low, row + i)


@_compiled
def _into_lanes(events, first, K, lanes):
    """Every lane of ``lanes`` [T·Q, 16] gets the segment of its head, from ``events`` [S·T, Q]."""
    Q = events.shape[1]
    T = lanes.shape[0] // Q
    total = events.shape[0] // T * K
    for s in range(first // K, (min(first + LANES, total) - 1) // K + 1):
        begin, end = max(s * K - first, 0), min((s + 1) * K - first, LANES)
        for t in range(T):
            for i in range(Q):
                for lane in range(begin, end):
                    lanes[t * Q + i, lane] = events[s * T + t, i]
    if total - first < LANES:
        lanes[:, total - first :] = 0


@_compiled
def _from_lanes(lanes, first, K, events):
    """``events`` [S·T, Q] get what the heads of their segments have in ``lanes`` [T·Q, 16], added up."""
    Q = events.shape[1]
    T = lanes.shape[0] // Q
    total = events.shape[0] // T * K
    for s in range(first // K, (min(first + LANES, total) - 1) // K + 1):
        begin, end = max(s * K - first, 0), min((s + 1) * K - first, LANES)
        for t in range(T):
            for i in range(Q):
                value = events[s * T + t, i]
                for lane in range(begin, end):
                    value += lanes[t * Q + i, lane]
                events[s * T + t, i] = value


@_compiled
def _block(all_blocks, i):
    decay, precision, z, rest, low, B, u = all_blocks
    return Past(decay[i], precision[i], z[i], rest[i], low[i], B[i], u[i])


@_compiled
def _set_parameters(past, first, log_precision, log_memory):
    """Λ and the powers of γ of every lane; log γ = −1/τ."""
    (K, m), n, real = log_precision.shape, past.decay.shape[0] - 1, log_memory.dtype.type
    for lane in range(LANES):
        k = (first + lane) % K
        if lane >= K:
            past.precision[:, lane], past.decay[:, lane] = past.precision[:, lane - K], past.decay[:, lane - K]
            continue
        for i in range(m):
            past.precision[i, lane] = math.exp(min(max(log_precision[k, i], real(-_MOST_PRECISION)), real(_MOST_PRECISION)))
        log_gamma = -math.exp(-min(max(log_memory[k], real(_LEAST_MEMORY)), real(_MOST_MEMORY)))
        for tau in range(n):
            past.decay[tau, lane] = math.exp(real(n - 1 - tau) * log_gamma)
        past.decay[n, lane] = math.exp(real(n) * log_gamma)


@_compiled
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
                _copy_row(low, at + r, A, r)
            _add_row(low, at + i * m + i, past.precision, i)
        _factor(low, at, m)
        _solve(low, at, m, u, t * m, n)
        for s in range(t, t + n):
            _add_products(leverage, s, 1, 1, 1, u, s * m, 1, z, s * m, 0, 1, m)
            _add_products(own, s * C, 1, C, 1, u, s * m, 1, B, here, 1, C, m)
        if t + n == T:
            break
        weighted[:] = z[t * m : (t + n) * m]
        for tau in range(n):
            _scale(weighted, tau * m, 1, m, decay, tau)
        B[here + m * C : here + 2 * m * C] = B[here : here + m * C]
        _scale(B, here + m * C, 1, m * C, decay, n)
        for i in range(m):
            _scale(A, i * m, 1, i + 1, decay, n)
            _add_products(A, i * m, 1, i + 1, 1, weighted, i, m, z, t * m, 1, m, n)
            _add_products(B, here + (m + i) * C, 1, C, 1, weighted, i, m, past.rest, t * C, 1, C, n)


@_compiled
def heads(log_precision, log_memory, z, rest, shared, all_blocks, spare, output, leverage):
    """Every head's output [blocks, T·C, 16] and leverage [blocks, T, 16], each chunk from the past; fills ``all_blocks``.

    z [S·T, m], and rest = y − shared [S·T, C], are 0 where there is no event; T is a multiple of n.
    """
    K = log_memory.size
    for i in range(leverage.shape[0]):
        past, first = _block(all_blocks, i), i * LANES
        _set_parameters(past, first, log_precision, log_memory)
        _into_lanes(z, first, K, past.z)
        _into_lanes(rest, first, K, past.rest)
        _recursion(past, output[i], leverage[i], spare)
        _into_lanes(shared, first, K, spare.d_rest)
        for r in range(output.shape[1]):
            _add_row(output[i], r, spare.d_rest, r)


@_compiled
def _sums_adjoint(past, F, G, d_z, d_rest, t, n, inside):
    """Through A ← … + Σ γ^(n−1−τ) z zᵀ and B ← … + Σ γ^(n−1−τ) z restᵀ of the chunk at event t.

    ``inside`` [n, 16] becomes what each of its events gives to ⟨∂A, A⟩ + ⟨∂B, B⟩.
    """
    z, rest, m, half = past.z, past.rest, past.precision.shape[0], past.z.dtype.type(0.5)
    C = G.shape[0] // m
    for i in range(m):
        _add_products(d_z, t * m + i, m, n, 1, F, i * m, 1, z, t * m, m, 1, i + 1)
        _add_products(d_z, t * m + i, m, n, 1, F, (i + 1) * m + i, m, z, t * m + i + 1, m, 1, m - 1 - i)
    for tau in range(n):
        s = t + tau
        inside[tau] = 0
        _add_products(inside, tau, 1, 1, 1, z, s * m, 1, d_z, s * m, 0, 1, m)
        inside[tau] *= -half
        _add_products(d_z, s * m, 1, m, 1, rest, s * C, 1, G, 0, C, 1, C)
        _add_products(d_rest, s * C, 1, C, 1, z, s * m, 1, G, 0, 1, C, m)
        _add_products(inside, tau, 1, 1, 1, z, s * m, 1, d_z, s * m, 0, 1, m)
        _scale(inside, tau, 1, 1, past.decay, tau)
        _scale(d_z, s * m, 1, m, past.decay, tau)
        _scale(d_rest, s * C, 1, C, past.decay, tau)


@_compiled
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
        _add_products(v, tau * m, 1, m, 1, d_own, s * C, 1, past.B, here, C, 1, C)
    _solve(past.low, at, m, v, 0, n)
    for tau in range(n):
        s = t + tau
        _add_products(v, tau * m, 1, m, 1, d_leverage, s, 0, u, s * m, 1, 0, 1)
        _add_products(d_z, s * m, 1, m, 1, d_leverage, s, 0, u, s * m, 1, 0, 1)
    for i in range(n * m):
        _add_row(d_z, t * m + i, v, i)
    for i in range(m):
        _add_products(diagonal, i, 1, 1, 1, v, i, m, u, t * m + i, 0, m, n)


@_compiled
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
            _scale(G, 0, 1, m * C, past.decay, n)
        _solve_adjoint(past, d_own, d_leverage, d_z, v, diagonal, t, n)
        d_precision -= diagonal
        _add_products(product, 0, 1, 1, 1, past.precision, 0, 1, diagonal, 0, 0, 1, m)
        _add_products(product, 0, 1, 1, -1, d_leverage, t, 1, leverage, t, 0, 1, n)
        for i in range(m if t > 0 else 0):
            _scale(F, i * m, 1, i + 1, past.decay, n)
            _add_products(F, i * m, 1, i + 1, -1, v, i, m, u, t * m, 1, m, n)
            _add_products(F, i * m, 1, i + 1, -1, u, t * m + i, m, v, 0, 1, m, n)
            _add_products(G, i * C, 1, C, 1, u, t * m + i, m, d_own, t * C, 1, C, n)


@_compiled
def heads_adjoint(
    log_precision, log_memory, all_blocks, spare, d_output, leverage, d_leverage, d_z, d_rest, d_shared,
    d_log_precision, d_log_memory,
):
    """From ∂output and ∂leverage, as in ``heads``: ∂z, ∂rest, ∂shared, ∂log_precision, ∂log_memory are added to."""
    (K, m), T, real = log_precision.shape, leverage.shape[1], log_memory.dtype.type
    for i in range(leverage.shape[0]):
        past, first = _block(all_blocks, i), i * LANES
        _recursion_adjoint(past, d_output[i], leverage[i], d_leverage[i], spare)
        _from_lanes(spare.d_z, first, K, d_z)
        _from_lanes(spare.d_rest, first, K, d_rest)
        _from_lanes(d_output[i], first, K, d_shared)
        for lane in range(min(LANES, d_z.shape[0] // T * K - first)):
            k = (first + lane) % K
            tau = log_memory[k]
            if real(_LEAST_MEMORY) <= tau <= real(_MOST_MEMORY):
                d_log_memory[k] += spare.d_log_gamma[0, lane] * math.exp(-tau)
            for a in range(m):
                if abs(log_precision[k, a]) <= real(_MOST_PRECISION):
                    d_log_precision[k, a] += spare.d_precision[a, lane] * past.precision[a, lane]

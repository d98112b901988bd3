"""The heads over segments and their adjoint, compiled. Equations: see ``streammeta.meta.exact_gradient``.

The K heads of B segments are B · K recursions that do the same at the same time: each is a *lane*, sixteen lanes are a
block, and every number of the mathematics is a row [16] of a block. A matrix [a, b] is a·b rows, and of symmetric ones
only the lower triangle is kept. Lanes that are left over have Λ = 1 and no events.
"""

import math
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "Past", "heads", "heads_adjoint", "new_pasts"]

LANES = 16
_TOGETHER = 4  # rows computed in one sweep: they share what they load
_FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
_compiled = njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)


class Past(NamedTuple):
    """One block of lanes, forward; what its adjoint reads. T events in J chunks of n."""

    decay: npt.NDArray  # [n + 1, 16] γ^(n−1−τ) of event τ at the end of its chunk; last row γⁿ
    precision: npt.NDArray  # [m, 16] diagonal of Λ
    z: npt.NDArray  # [T·m, 16]
    rest: npt.NDArray  # [T·C, 16] y − shared
    low: npt.NDArray  # [J·m·m, 16] Cholesky factors of A + Λ before each chunk, 1/diagonal on the diagonal
    B: npt.NDArray  # [J·m·C, 16] before each chunk
    u: npt.NDArray  # [T·m, 16] (A + Λ)⁻¹z


def new_pasts(blocks, events, chunk, m, outputs, real):
    """Memory for so many blocks, in one piece: returned to the system and fetched again, pages cost more than sums."""
    chunks = events // chunk
    rows = (chunk + 1, m, events * m, events * outputs, chunks * m * m, chunks * m * outputs, events * m)
    ends = list(accumulate(rows, initial=0))
    memory = np.empty((blocks, ends[-1], LANES), real)
    return [Past(*(block[i:j] for i, j in pairwise(ends))) for block in memory]


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


@intrinsic
def _scale_row(_typing, out, o, factor, i):
    """Row o of ``out`` times row i of ``factor``."""
    signature = types.void(out, types.intp, factor, types.intp)

    def generate(context, builder, signature, arguments):
        align = context.get_abi_sizeof(context.get_value_type(signature.args[0].dtype))
        to = _row(context, builder, signature.args[0], arguments[0], arguments[1])
        by = _row(context, builder, signature.args[2], arguments[2], arguments[3])
        product = builder.fmul(builder.load(to, align=align), builder.load(by, align=align))
        builder.store(product, to, align=align)
        return context.get_dummy_value()

    return signature, generate


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
        _scale_row(out, o + r * do, factor, i)


@_compiled
def _factor(low, at, m):
    """The lower triangle of a matrix [m, m] at row ``at`` becomes its Cholesky factor, with 1/diagonal on the diagonal."""
    one = low.dtype.type(1)
    for j in range(m):
        row = at + j * m
        _add_products(low, row + j, m, m - j, -1, low, row, 1, low, row, m, 1, j)
        for lane in range(LANES):
            low[row + j, lane] = one / math.sqrt(low[row + j, lane])
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
def _decayed(past, t, n, m):
    """γ^(n−1−τ) z of the chunk that begins at event t, [n·m, 16]."""
    weighted = past.z[t * m : (t + n) * m].copy()
    for tau in range(n):
        _scale(weighted, tau * m, 1, m, past.decay, tau)
    return weighted


@_compiled
def heads(past, own, leverage, chunk):
    """Fill own [T·C, 16] = Bᵀ(A + Λ)⁻¹z and leverage [T, 16] = zᵀ(A + Λ)⁻¹z, and low, B, u of ``past``."""
    decay, precision, z, rest, low, B, u = past
    n, m, events = chunk, precision.shape[0], leverage.shape[0]
    outputs = own.shape[0] // events
    A, size = np.zeros((m * m, LANES), z.dtype), m * outputs
    own[:], leverage[:], B[:size] = 0, 0, 0
    u[:] = z
    for j in range(events // n):
        t, at, here = j * n, j * m * m, j * size
        for i in range(m):
            low[at + i * m : at + i * m + i + 1] = A[i * m : i * m + i + 1]
            low[at + i * m + i] += precision[i]
        _factor(low, at, m)
        _solve(low, at, m, u, t * m, n)
        for s in range(t, t + n):
            _add_products(leverage, s, 1, 1, 1, u, s * m, 1, z, s * m, 0, 1, m)
            _add_products(own, s * outputs, 1, outputs, 1, u, s * m, 1, B, here, 1, outputs, m)
        if t + n == events:
            break
        B[here + size : here + 2 * size] = B[here : here + size]
        _scale(B, here + size, 1, size, decay, n)
        weighted = _decayed(past, t, n, m)
        for i in range(m):
            _scale(A, i * m, 1, i + 1, decay, n)
            _add_products(A, i * m, 1, i + 1, 1, weighted, i, m, z, t * m, 1, m, n)
            _add_products(B, here + size + i * outputs, 1, outputs, 1, weighted, i, m, rest, t * outputs, 1, outputs, n)


@_compiled
def _sums_adjoint(past, F, G, d_z, d_rest, t, n, inside):
    """Through A ← … + Σ γ^(n−1−τ) z zᵀ and B ← … + Σ γ^(n−1−τ) z restᵀ of the chunk at event t.

    ``inside`` [n, 16] becomes what each of its events gives to ⟨∂A, A⟩ + ⟨∂B, B⟩.
    """
    z, rest, m, half = past.z, past.rest, past.precision.shape[0], past.z.dtype.type(0.5)
    outputs = G.shape[0] // m
    for i in range(m):
        _add_products(d_z, t * m + i, m, n, 1, F, i * m, 1, z, t * m, m, 1, i + 1)
        _add_products(d_z, t * m + i, m, n, 1, F, (i + 1) * m + i, m, z, t * m + i + 1, m, 1, m - 1 - i)
    for tau in range(n):
        s = t + tau
        inside[tau] = 0
        _add_products(inside, tau, 1, 1, 1, z, s * m, 1, d_z, s * m, 0, 1, m)
        inside[tau] *= -half
        _add_products(d_z, s * m, 1, m, 1, rest, s * outputs, 1, G, 0, outputs, 1, outputs)
        _add_products(d_rest, s * outputs, 1, outputs, 1, z, s * m, 1, G, 0, 1, outputs, m)
        _add_products(inside, tau, 1, 1, 1, z, s * m, 1, d_z, s * m, 0, 1, m)
        _scale(inside, tau, 1, 1, past.decay, tau)
        _scale(d_z, s * m, 1, m, past.decay, tau)
        _scale(d_rest, s * outputs, 1, outputs, past.decay, tau)


@_compiled
def _solve_adjoint(past, d_own, d_leverage, d_z, v, diagonal, t, n):
    """Through own = Bᵀu, leverage = zᵀu, u = (A + Λ)⁻¹z of the chunk at event t.

    v [n·m, 16] becomes (A + Λ)⁻¹∂u, and ``diagonal`` [m, 16] the diagonal of Σ v uᵀ; it is −∂Λ.
    """
    m, u = past.precision.shape[0], past.u
    outputs = past.rest.shape[0] * m // past.z.shape[0]
    at, here = t // n * m * m, t // n * m * outputs
    v[:], diagonal[:] = 0, 0
    for tau in range(n):
        s = t + tau
        _add_products(v, tau * m, 1, m, 1, d_own, s * outputs, 1, past.B, here, outputs, 1, outputs)
    _solve(past.low, at, m, v, 0, n)
    for tau in range(n):
        s = t + tau
        _add_products(v, tau * m, 1, m, 1, d_leverage, s, 0, u, s * m, 1, 0, 1)
        _add_products(d_z, s * m, 1, m, 1, d_leverage, s, 0, u, s * m, 1, 0, 1)
    for i in range(n * m):
        d_z[t * m + i] += v[i]
    for i in range(m):
        _add_products(diagonal, i, 1, 1, 1, v, i, m, u, t * m + i, 0, m, n)


@_compiled
def heads_adjoint(past, d_own, d_leverage, leverage, d_z, d_rest, d_precision, d_log_memory, chunk):
    """From ∂own [T·C, 16] and ∂leverage [T, 16] fill ∂z [T·m, 16], ∂rest [T·C, 16], ∂Λ [m, 16] and ∂log γ [1, 16].

    F = 2 ∂A and G = ∂B hold the adjoint of the state after a chunk, then of the state before it.
    """
    n, m, events, z, u = chunk, past.precision.shape[0], leverage.shape[0], past.z, past.u
    outputs, real = d_own.shape[0] // events, z.dtype.type
    F, G = np.zeros((m * m, LANES), z.dtype), np.zeros((m * outputs, LANES), z.dtype)
    v, diagonal = np.empty((n * m, LANES), z.dtype), np.empty((m, LANES), z.dtype)
    inside, product = np.empty((n, LANES), z.dtype), np.zeros((1, LANES), z.dtype)
    d_z[:], d_rest[:], d_precision[:], d_log_memory[:] = 0, 0, 0, 0
    for t in range(events - n, -1, -n):
        if t + n < events:
            _sums_adjoint(past, F, G, d_z, d_rest, t, n, inside)
            for tau in range(n):
                product[0] -= inside[tau]
                d_log_memory[0] += real(n - 1 - tau) * inside[tau]
            d_log_memory[0] += real(n) * product[0]
            _scale(G, 0, 1, m * outputs, past.decay, n)
        _solve_adjoint(past, d_own, d_leverage, d_z, v, diagonal, t, n)
        d_precision -= diagonal
        _add_products(product, 0, 1, 1, 1, past.precision, 0, 1, diagonal, 0, 0, 1, m)
        _add_products(product, 0, 1, 1, -1, d_leverage, t, 1, leverage, t, 0, 1, n)
        for i in range(m if t > 0 else 0):
            _scale(F, i * m, 1, i + 1, past.decay, n)
            _add_products(F, i * m, 1, i + 1, -1, v, i, m, u, t * m, 1, m, n)
            _add_products(F, i * m, 1, i + 1, -1, u, t * m + i, m, v, 0, 1, m, n)
            _add_products(G, i * outputs, 1, outputs, 1, u, t * m + i, m, d_own, t * outputs, 1, outputs, n)

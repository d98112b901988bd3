"""Sixteen numbers at a time: the compiled loops under the gradient of the exact heads.

Arrays are rows of sixteen, [·, 16]. Rows are written by their index, and walks over rows by a start and a stride, so
that one loop serves matrices, their transposes and their triangles. Numba keeps compiled code until the file of its
function changes; whoever changes this one deletes ``__pycache__``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "FAST",
    "LANES",
    "add_products",
    "add_row",
    "add_scaled",
    "aligned",
    "compiled",
    "copy_row",
    "decay_rows",
    "exp_rows",
    "from_lanes",
    "into_lanes",
    "invert_root_row",
    "multiply_row",
    "scale",
    "tanh_rows",
]

LANES = 16
_CACHE_LINE = 64  # bytes
_TOGETHER = 4  # rows computed in one sweep: they share what they load
FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
# Inlined, always: a function that several kernels call would else be compiled in each, with other roundings, and the
# copy that a process loads first would answer for all, so that a process that compiles had other bits than the next.
compiled = njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True, forceinline=True)


def aligned(rows: int, real: np.dtype[np.floating]) -> npt.NDArray[np.floating]:
    """An uninitialized array [rows, 16] that begins with a cache line: a row that straddles two costs twice."""
    size = rows * LANES * real.itemsize
    memory = np.empty(size + _CACHE_LINE, np.uint8)
    begin = -memory.ctypes.data % _CACHE_LINE
    return memory[begin : begin + size].view(real).reshape(rows, LANES)


def _row(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Where row ``at`` of an array [·, 16] lies, as a pointer to one vector."""
    vector = ir.VectorType(context.get_value_type(kind.dtype), LANES)
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [builder.mul(at, at.type(LANES))]), vector.as_pointer())


def _splat(builder: Any, number: Any, vector: Any) -> Any:
    """The same number in every lane."""
    lanes = vector(ir.Undefined)
    for lane in range(LANES):
        lanes = builder.insert_element(lanes, number, ir.IntType(32)(lane))
    return lanes


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c, rounded once where the machine can; the same for a row alone and for four, so bits do not differ."""
    name = f"llvm.fmuladd.v{LANES}{a.type.element.intrinsic_name}"
    kind = ir.FunctionType(a.type, [a.type, a.type, a.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _sums(together: int, *, broadcast: bool) -> Any:
    """The loop of ``add_products`` or ``add_scaled`` for so many rows; numba itself keeps no sums in registers."""

    @intrinsic
    def add(_typing, out, _o, _do, _sign, a, _i, _di, b, _j, _dr, _dj, _count):
        size = types.intp
        signature = types.void(out, size, size, out.dtype, a, size, size, b, size, size, size, size)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, o, do, sign, a, i, di, b, j, dr, dj, count = arguments
            scalar = context.get_value_type(signature.args[0].dtype)
            vector, align = ir.VectorType(scalar, LANES), context.get_abi_sizeof(scalar)
            totals = [cgutils.alloca_once_value(builder, vector([0.0] * LANES)) for _ in range(together)]
            with cgutils.for_range(builder, count) as loop:
                at = builder.add(i, builder.mul(loop.index, di))
                left = builder.load(_row(context, builder, signature.args[4], a, at), align=align)
                for r, total in enumerate(totals):
                    at = builder.add(builder.add(j, builder.mul(loop.index, dj)), builder.mul(dr, dr.type(r)))
                    if broadcast:
                        data = context.make_array(signature.args[7])(context, builder, b).data
                        right = _splat(builder, builder.load(builder.gep(data, [at])), vector)
                    else:
                        right = builder.load(_row(context, builder, signature.args[7], b, at), align=align)
                    builder.store(_multiply_add(builder, left, right, builder.load(total)), total)
            signs = _splat(builder, sign, vector)
            for r, total in enumerate(totals):
                to = _row(context, builder, signature.args[0], out, builder.add(o, builder.mul(do, do.type(r))))
                signed = builder.fmul(builder.load(total), signs, flags=["contract"])
                builder.store(builder.fadd(builder.load(to, align=align), signed, flags=["contract"]), to, align=align)
            return context.get_dummy_value()

        return signature, generate

    return add


_one_product, _four_products = _sums(1, broadcast=False), _sums(_TOGETHER, broadcast=False)
_one_scaled, _four_scaled = _sums(1, broadcast=True), _sums(_TOGETHER, broadcast=True)


@intrinsic
def decay_rows(_typing, out, _o, _rows, decay, _g, a, _i, b, _j):
    """For r < rows: out[o + r] = decay[g] · out[o + r] + a[i] · b[j + r], lane by lane."""
    size = types.intp
    signature = types.void(out, size, size, decay, size, a, size, b, size)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, o, rows, decay, g, a, i, b, j = arguments
        align = context.get_abi_sizeof(context.get_value_type(signature.args[0].dtype))
        kept = builder.load(_row(context, builder, signature.args[3], decay, g), align=align)
        left = builder.load(_row(context, builder, signature.args[5], a, i), align=align)
        with cgutils.for_range(builder, rows) as loop:
            to = _row(context, builder, signature.args[0], out, builder.add(o, loop.index))
            right = _row(context, builder, signature.args[7], b, builder.add(j, loop.index))
            product = builder.fmul(left, builder.load(right, align=align))
            builder.store(_multiply_add(builder, kept, builder.load(to, align=align), product), to, align=align)
        return context.get_dummy_value()

    return signature, generate


def _rowwise(operation: Callable[[Any, Any, Any], Any]) -> Any:
    """Row o of ``out`` becomes an operation of itself and row i of ``a``."""

    @intrinsic
    def apply(_typing, out, _o, a, _i):
        signature = types.void(out, types.intp, a, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            align = context.get_abi_sizeof(context.get_value_type(signature.args[0].dtype))
            to = _row(context, builder, signature.args[0], arguments[0], arguments[1])
            other = _row(context, builder, signature.args[2], arguments[2], arguments[3])
            result = operation(builder, builder.load(to, align=align), builder.load(other, align=align))
            builder.store(result, to, align=align)
            return context.get_dummy_value()

        return signature, generate

    return apply


def _inverse_root(builder: Any, _: Any, row: Any) -> Any:
    name = f"llvm.sqrt.v{LANES}{row.type.element.intrinsic_name}"
    root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(row.type, [row.type]), name)
    return builder.fdiv(row.type([1.0] * LANES), builder.call(root, [row]))


multiply_row = _rowwise(lambda builder, row, other: builder.fmul(row, other))
add_row = _rowwise(lambda builder, row, other: builder.fadd(row, other))
copy_row = _rowwise(lambda _builder, _row, other: other)
invert_root_row = _rowwise(_inverse_root)


@compiled
def add_products(out, o, do, rows, sign, a, i, di, b, j, dr, dj, count):
    """For r < rows: out[o + r·do] += sign · Σ over q < count of a[i + q·di] · b[j + r·dr + q·dj], lane by lane."""
    real, r = out.dtype.type, 0
    while r + _TOGETHER <= rows:
        _four_products(out, o + r * do, do, real(sign), a, i, di, b, j + r * dr, dr, dj, count)
        r += _TOGETHER
    while r < rows:
        _one_product(out, o + r * do, do, real(sign), a, i, di, b, j + r * dr, dr, dj, count)
        r += 1


@compiled
def add_scaled(out, o, do, rows, a, i, di, b, j, dr, dj, count):
    """For r < rows: out[o + r·do] += Σ over q < count of a[i + q·di] times the number j + r·dr + q·dj of b."""
    one, r = out.dtype.type(1), 0
    while r + _TOGETHER <= rows:
        _four_scaled(out, o + r * do, do, one, a, i, di, b, j + r * dr, dr, dj, count)
        r += _TOGETHER
    while r < rows:
        _one_scaled(out, o + r * do, do, one, a, i, di, b, j + r * dr, dr, dj, count)
        r += 1


@compiled
def scale(out, o, do, rows, factor, i):
    """For r < rows: out[o + r·do] *= factor[i], lane by lane."""
    for r in range(rows):
        multiply_row(out, o + r * do, factor, i)


@compiled
def tanh_rows(rows, count, panels):
    """Tanh, in place, of the first ``count`` columns of a float32 matrix; each of its rows is ``panels`` of ``rows``.

    By a rational function within 3e-7 of it, which runs on all lanes at once.
    """
    for r in range(rows.shape[0]):
        for lane in range(min(max(count - r % panels * LANES, 0), LANES)):
            x = min(max(rows[r, lane], np.float32(-7.9)), np.float32(7.9))
            q = x * x
            p = q * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
            p = q * p + np.float32(-8.60467152213735e-11)
            p = q * p + np.float32(5.12229709037114e-08)
            p = q * p + np.float32(1.48572235717979e-05)
            p = q * p + np.float32(6.37261928875436e-04)
            p = q * p + np.float32(4.89352455891786e-03)
            d = q * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
            d = q * d + np.float32(2.26843463243900e-03)
            d = q * d + np.float32(4.89352518554385e-03)
            rows[r, lane] = x * p / d


@compiled
def exp_rows(rows, begin, count):
    """Exp of float32 rows from ``begin`` on, in place, within 2e-7 of it; below −87 it is 0, NaN stays NaN."""
    power = np.empty(LANES, np.int32)
    two = power.view(np.float32)
    for r in range(begin, begin + count):
        for lane in range(LANES):
            x = min(max(rows[r, lane], np.float32(-87.0)), np.float32(88.0))
            n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
            f = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
            p = f * np.float32(1.9875691500e-4) + np.float32(1.3981999507e-3)
            p = f * p + np.float32(8.3334519073e-3)
            p = f * p + np.float32(4.1665795894e-2)
            p = f * p + np.float32(1.6666665459e-1)
            p = f * p + np.float32(5.0000001201e-1)
            power[lane] = (np.int32(n) + np.int32(127)) << np.int32(23)
            rows[r, lane] = (f * f * p + f + np.float32(1)) * two[lane] + (rows[r, lane] - rows[r, lane])


@compiled
def into_lanes(events, first, K, lanes):
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


@compiled
def from_lanes(lanes, first, K, events):
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

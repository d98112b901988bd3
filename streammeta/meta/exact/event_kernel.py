"""The event path of the exact heads, compiled: encode, predict, adapt, one event after the other.

Events are independent but for the state of their task's row, and each is computed by the same instructions, so a
prediction has the same bits however events were grouped into calls. The E · K heads of a task are *lanes*: lane
e · K + k is memory k of member e, sixteen lanes are a block, and every number of the mathematics is a row [16] of its
block, for all heads at once. A_k is symmetric: only its lower triangle is kept, entry (i, j ≤ i) at row i(i+1)/2 + j.
Lanes left over see no features, so their state stays 0. Equations: see ``streammeta.meta.exact.heads``.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from streammeta.meta.base import Floats
from streammeta.meta.exact.lanes_kernel import (
    FAST,
    LANES,
    add_products,
    add_row,
    add_scaled,
    copy_row,
    decay_rows,
    exp_rows,
    invert_root_row,
    multiply_row,
    tanh_rows,
)

__all__ = ["FORGET_AFTER", "FORGET_BEFORE", "Weights", "remembered", "run_classes", "run_values"]

_compiled = njit(fastmath=FAST, error_model="numpy", cache=True, forceinline=True)  # inlined: see lanes_kernel
_CLIP = np.float32(6.0)  # normalized features are cut here: one wild value must not own the encoder
_LEAST = np.float32(1e-6)  # no head's probability for a label counts as less
_LEAST_LOG = np.float32(-14)
_HALF_LOG_TAU = np.float32(0.5 * math.log(2 * math.pi))
_PRIOR_COUNT = np.float32(1.0)  # how many residuals the meta-learned noise is worth
_NOISE_DECAY = np.float32(0.99)
_ENCODED_TOGETHER = 64  # events; the encoder is faster with several
FORGET_BEFORE, FORGET_AFTER = 1, 2  # an event: see ``run_classes``


class Weights(NamedTuple):
    """θ and the normalization as the event path reads them.

    D features, E members, H hidden, m = F + 1 encoded, C outputs, K memories; G blocks of lanes. Matrices have zero
    columns up to the next multiple of sixteen (·).
    """

    shift: Floats  # [D]
    gain: Floats  # [D]
    first: Floats  # [E, D + 1, ·] = [w1, v]; the last row is [b1, 0]
    second: Floats  # [E, H + 1, ·] = [w2, u]; the last row is [b2, 0]
    third: Floats  # [E, J, ·] = w3
    w0: Floats  # [G·m·C, 16] prior mean of the heads
    precision: Floats  # [G·m, 16] diagonal of Λ_k
    memory: Floats  # [G, 16] γ_k
    scale: Floats  # [G, 16] logits a unit of head output; for regression the prior noise variance
    leverage: Floats  # [G, 16] how much predictive variance flattens the logits
    owner: Floats  # [E·G, 16] 1 where the lane is the member's, else 0
    slow: Floats  # [G, 16] 0 in each member's slowest memory, which a drift makes forget, else 1
    log_mix: Floats  # [E, K] mixing prior
    forget: Floats  # [E] α, forgetting of the evidence for each head
    y_affine: Floats  # [2] shift and spread of the target


class _Room(NamedTuple):
    """Room to work in, for one event after the other."""

    low: Floats  # [m·m, 16] Cholesky factor of A + Λ, its diagonal inverted
    u: Floats  # [m, 16] (A + Λ)⁻¹z
    z: Floats  # [G·m, 16]
    s: Floats  # [G·C, 16] s_θ(x) + W0ᵀz
    output: Floats  # [G·C, 16] heads; of classes the probabilities
    spread: Floats  # [G, 16] zᵀ(A + Λ)⁻¹z; in regression the predictive variance
    row: Floats  # [2, 16]
    weights: Floats  # [E·K] of the heads in the mixture


@_compiled
def _room(blocks, m, C, heads):
    f = np.float32
    return _Room(
        np.zeros((m * m, LANES), f),
        np.zeros((m, LANES), f),
        np.zeros((blocks * m, LANES), f),
        np.zeros((blocks * C, LANES), f),
        np.zeros((blocks * C, LANES), f),
        np.zeros((blocks, LANES), f),
        np.zeros((2, LANES), f),
        np.zeros(heads, f),
    )


@_compiled
def _encode(w, xs, C):
    """z [E, N, m] = [f_θ(x); 1] and s_θ(x) [E, N, C] of raw events xs [N, D]; NaN is missing."""
    (members, _, inner), outer, H = w.second.shape, w.first.shape[2], w.second.shape[1] - 1
    J, last = w.third.shape[1:]
    m = w.precision.shape[0] // w.memory.shape[0]
    N, D = xs.shape
    x, h = np.ones((N, D + 1), np.float32), np.empty((N, H + 1), np.float32)
    z, s = np.ones((members, N, m), np.float32), np.empty((members, N, C), np.float32)
    for n in range(N):
        for i in range(D):
            value = (xs[n, i] - w.shift[i]) * w.gain[i]
            if value == value:  # noqa: PLR0124  NaN is missing: it adds nothing, as the mean does
                x[n, i] = min(max(value, -_CLIP), _CLIP)
            else:
                x[n, i] = 0
    first, second = np.empty((N, outer), np.float32), np.empty((N, inner), np.float32)
    third = np.empty((N, last), np.float32)
    for e in range(members):
        first[:], second[:], third[:] = 0, 0, 0
        _add_product(x, w.first[e], first)
        tanh_rows(first.reshape(-1, LANES), H, outer // LANES)
        h[:, :H], h[:, H] = first[:, :H], 1
        _add_product(h, w.second[e], second)
        s[e] = first[:, H : H + C] + second[:, J : J + C]
        tanh_rows(second.reshape(-1, LANES), J, inner // LANES)
        _add_product(second, w.third[e], third)
        z[e, :, : m - 1] = third[:, : m - 1]
    return z, s


@_compiled
def _add_product(a, b, out):
    """Out [N, ·] += a[:, :P] b for b [P, ·]."""
    panels = b.shape[1] // LANES
    for i in range(panels):
        add_scaled(
            out.reshape(-1, LANES),
            i,
            panels,
            a.shape[0],
            b.reshape(-1, LANES),
            i,
            panels,
            a,
            0,
            a.shape[1],
            1,
            b.shape[0],
        )


@_compiled
def _into_lanes(w, z, s, n, to_z, to_s):
    """Event n of z [E, N, m] into the lanes of to_z [G·m, 16], and s_θ(x) + W0ᵀz into those of to_s [G·C, 16]."""
    (members, N, m), C, blocks = z.shape, s.shape[2], w.memory.shape[0]
    known = w.w0.shape[0] // (blocks * m)
    to_z[:], to_s[:] = 0, 0
    for g in range(blocks):
        add_scaled(to_z, g * m, 1, m, w.owner, g, blocks, z, n * m, 1, N * m, members)
        add_scaled(to_s, g * C, 1, C, w.owner, g, blocks, s, n * C, 1, N * C, members)
        add_products(to_s, g * C, 1, C, 1, to_z, g * m, 1, w.w0, g * m * known, 1, known, m)


@_compiled
def _head_outputs(A, a, B, b, wide, precision, p, g, room):
    """Block g of ``room``: output = s + Bᵀ(A + Λ)⁻¹z and spread = zᵀ(A + Λ)⁻¹z.

    A begins at row ``a``, B at row ``b`` with ``wide`` rows for each encoded feature, Λ at row ``p``.
    """
    low, u, z, output, spread = room.low, room.u, room.z, room.output, room.spread
    m, C = u.shape[0], output.shape[0] // spread.shape[0]
    here = g * m
    for i in range(m):
        for j in range(i + 1):
            copy_row(low, i * m + j, A, a)
            a += 1
        add_row(low, i * m + i, precision, p + i)
    for j in range(m):
        row = j * m
        add_products(low, row + j, m, m - j, -1, low, row, 1, low, row, m, 1, j)
        invert_root_row(low, row + j, low, row + j)
        for i in range(j + 1, m):
            multiply_row(low, i * m + j, low, row + j)
    spread[g] = 0
    for i in range(m):
        copy_row(u, i, z, here + i)
        add_products(u, i, 1, 1, -1, low, i * m, 1, u, 0, 0, 1, i)
        multiply_row(u, i, low, i * m + i)
    add_products(spread, g, 1, 1, 1, u, 0, 1, u, 0, 0, 1, m)
    for i in range(m - 1, -1, -1):
        add_products(u, i, 1, 1, -1, low, (i + 1) * m + i, m, u, i + 1, 0, 1, m - 1 - i)
        multiply_row(u, i, low, i * m + i)
    for c in range(g * C, g * C + C):
        copy_row(output, c, room.s, c)
    add_products(output, g * C, 1, C, 1, u, 0, 1, B, b, 1, wide, m)


@_compiled
def _mixing(log_mix, evidence, e, weights):
    """Fill the weights of member e's heads: softmax(prior + evidence [G, 16])."""
    K = log_mix.shape[1]
    top, total = np.float32(-1e30), np.float32(0)
    for k in range(K):
        at = e * K + k
        weights[at] = log_mix[e, k] + evidence[at // LANES, at % LANES]
        top = max(top, weights[at])
    for k in range(e * K, (e + 1) * K):
        weights[k] = math.exp(weights[k] - top)
        total += weights[k]
    for k in range(e * K, (e + 1) * K):
        weights[k] /= total


@_compiled
def _probabilities(w, g, room):
    """Block g of ``room.output`` becomes class probabilities: softmax(output · scale / √(1 + κ spread))."""
    C = room.output.shape[0] // room.spread.shape[0]
    one, output, begin = np.float32(1), room.output, g * C
    factor, top = room.row[0], room.row[1]
    for lane in range(LANES):
        factor[lane] = w.scale[g, lane] / math.sqrt(one + w.leverage[g, lane] * room.spread[g, lane])
        top[lane] = -np.inf
    for c in range(begin, begin + C):
        for lane in range(LANES):
            output[c, lane] *= factor[lane]
            top[lane] = max(top[lane], output[c, lane])
    for c in range(begin, begin + C):
        for lane in range(LANES):
            output[c, lane] -= top[lane]
    exp_rows(output, begin, C)
    for lane in range(LANES):
        top[lane] = 0
    for c in range(begin, begin + C):
        for lane in range(LANES):
            top[lane] += output[c, lane]
    for lane in range(LANES):
        top[lane] = one / top[lane]
    for c in range(begin, begin + C):
        for lane in range(LANES):
            output[c, lane] *= top[lane]


@_compiled
def _accumulate(A, a, B, b, wide, memory, g, z, s):
    """A ← γ A + z zᵀ and B ← γ B + z rᵀ in all lanes of block g; s [G·C, 16] holds r = y − s_θ(x) − W0ᵀz."""
    m, C = z.shape[0] // memory.shape[0], s.shape[0] // memory.shape[0]
    for i in range(m):
        decay_rows(A, a, i + 1, memory, g, z, g * m + i, z, g * m)
        decay_rows(B, b, C, memory, g, z, g * m + i, s, g * C)
        a += i + 1
        b += wide


@_compiled
def _residual(s, blocks, goal, label):
    """s [G·C, 16] becomes y − s; y is one-hot of ``label`` where that is ≥ 0."""
    C = s.shape[0] // blocks
    for g in range(blocks):
        for c in range(C):
            y = goal
            if label >= 0:
                y = np.float32(1) if c == label else np.float32(0)
            for lane in range(LANES):
                s[g * C + c, lane] = y - s[g * C + c, lane]


@_compiled
def _learn_evidence(w, evidence, likelihood, K):
    """ℓ ← α ℓ + max(log p, −14) for every head, evidence [G, 16]; then the best of each member has 0."""
    for e in range(w.forget.size):
        top = np.float32(-1e30)
        for k in range(e * K, (e + 1) * K):
            block, lane = k // LANES, k % LANES
            evidence[block, lane] = w.forget[e] * evidence[block, lane] + max(likelihood[k], _LEAST_LOG)
            top = max(top, evidence[block, lane])
        for k in range(e * K, (e + 1) * K):
            evidence[k // LANES, k % LANES] -= top


@_compiled
def run_classes(w, A, B, logw, rows, xs, ys, forget, mean):
    """Fill mean [N, C] for events xs [N, D] of these rows, in order, and learn each label ys [N] that is no NaN.

    A [T, G, P, 16], B [T, G, m, ·, 16] and logw [T, G, 16] are the tasks' state. Where mean is [0, C] nothing is
    predicted, and only A and B learn: by the same instructions, so that they get the same bits. forget [N], or [0]
    for none: FORGET_BEFORE and FORGET_AFTER empty each member's slowest head of the row, around that event.
    """
    (E, K), (predicted, C), (_, G, P, _), (m, wide) = w.log_mix.shape, mean.shape, A.shape, B.shape[2:4]
    flat_A, flat_B, share = A.reshape(-1, LANES), B.reshape(-1, LANES), np.float32(1) / np.float32(E)
    room, likelihood = _room(G, m, C, E * K), np.empty(E * K, np.float32)
    for begin in range(0, rows.size, _ENCODED_TOGETHER):
        z, s = _encode(w, xs[begin : begin + _ENCODED_TOGETHER], C)
        for n in range(begin, min(begin + _ENCODED_TOGETHER, rows.size)):
            row, evidence = rows[n], logw[rows[n]]
            if forget.size > 0 and forget[n] == FORGET_BEFORE:
                _forget_slowest(w, A[row], B[row])
            _into_lanes(w, z, s, n - begin, room.z, room.s)
            if predicted > 0:
                for g in range(G):
                    a, b = (row * G + g) * P, (row * G + g) * m * wide
                    _head_outputs(flat_A, a, flat_B, b, wide, w.precision, g * m, g, room)
                    _probabilities(w, g, room)
                for c in range(C):
                    mean[n, c] = 0
                for e in range(E):
                    _mixing(w.log_mix, evidence, e, room.weights)
                    for k in range(e * K, (e + 1) * K):
                        weight = share * room.weights[k]
                        for c in range(C):
                            mean[n, c] += weight * room.output[k // LANES * C + c, k % LANES]
            if not ys[n] >= 0:  # NaN: no label yet
                continue
            label = int(ys[n])
            if predicted > 0:
                for k in range(E * K):
                    likelihood[k] = math.log(max(room.output[k // LANES * C + label, k % LANES], _LEAST))
                _learn_evidence(w, evidence, likelihood, K)
            _residual(room.s, G, np.float32(0), label)
            for g in range(G):
                a, b = (row * G + g) * P, (row * G + g) * m * wide
                _accumulate(flat_A, a, flat_B, b, wide, w.memory, g, room.z, room.s)
            if forget.size > 0 and forget[n] == FORGET_AFTER:
                _forget_slowest(w, A[row], B[row])


@_compiled
def run_values(w, A, B, logw, noise, rows, xs, ys, forget, mean, variance):
    """As ``run_classes``, for targets: fill mean [N, 1] and variance [N]; noise [T, G, 2, 16] is state, too."""
    (E, K), predicted, (_, G, P, _), (m, wide) = w.log_mix.shape, mean.shape[0], A.shape, B.shape[2:4]
    one, half = np.float32(1), np.float32(0.5)
    flat_A, flat_B, share = A.reshape(-1, LANES), B.reshape(-1, LANES), one / np.float32(E)
    room, likelihood, y_shift, y_spread = (
        _room(G, m, 1, E * K),
        np.empty(E * K, np.float32),
        w.y_affine[0],
        w.y_affine[1],
    )
    for begin in range(0, rows.size, _ENCODED_TOGETHER):
        z, s = _encode(w, xs[begin : begin + _ENCODED_TOGETHER], 1)
        for n in range(begin, min(begin + _ENCODED_TOGETHER, rows.size)):
            row, evidence, residuals = rows[n], logw[rows[n]], noise[rows[n]]
            if forget.size > 0 and forget[n] == FORGET_BEFORE:
                _forget_slowest(w, A[row], B[row])
            _into_lanes(w, z, s, n - begin, room.z, room.s)
            if predicted > 0:
                for g in range(G):
                    a, b = (row * G + g) * P, (row * G + g) * m * wide
                    _head_outputs(flat_A, a, flat_B, b, wide, w.precision, g * m, g, room)
                first, second = np.float32(0), np.float32(0)
                for e in range(E):
                    _mixing(w.log_mix, evidence, e, room.weights)
                    for k in range(e * K, (e + 1) * K):
                        g, lane = k // LANES, k % LANES
                        own = _PRIOR_COUNT * w.scale[g, lane] + residuals[g, 0, lane]
                        own /= _PRIOR_COUNT + residuals[g, 1, lane]
                        likelihood[k] = own * (one + room.spread[g, lane])  # the variance, for now
                        first += share * room.weights[k] * room.output[g, lane]
                for k in range(E * K):
                    gap = room.output[k // LANES, k % LANES] - first
                    second += share * room.weights[k] * (likelihood[k] + gap * gap)
                mean[n, 0] = first * y_spread + y_shift
                variance[n] = second * y_spread * y_spread
            if ys[n] != ys[n]:
                continue
            target = (ys[n] - y_shift) / y_spread
            if predicted > 0:
                for k in range(E * K):
                    g, lane = k // LANES, k % LANES
                    gap = target - room.output[g, lane]
                    squared = gap * gap / (one + room.spread[g, lane])
                    residuals[g, 0, lane] = _NOISE_DECAY * residuals[g, 0, lane] + squared
                    residuals[g, 1, lane] = _NOISE_DECAY * residuals[g, 1, lane] + one
                    likelihood[k] = -half * (gap * gap / likelihood[k] + math.log(likelihood[k])) - _HALF_LOG_TAU
                _learn_evidence(w, evidence, likelihood, K)
            _residual(room.s, G, target, -1)
            for g in range(G):
                a, b = (row * G + g) * P, (row * G + g) * m * wide
                _accumulate(flat_A, a, flat_B, b, wide, w.memory, g, room.z, room.s)
            if forget.size > 0 and forget[n] == FORGET_AFTER:
                _forget_slowest(w, A[row], B[row])


@_compiled
def _forget_slowest(w, A, B):
    """What each member's slowest head of a row has seen until now was another law."""
    for g in range(w.slow.shape[0]):
        for i in range(A.shape[1]):
            multiply_row(A[g], i, w.slow, g)
        for i in range(B.shape[1]):
            for c in range(B.shape[2]):
                multiply_row(B[g, i], c, w.slow, g)


@_compiled
def remembered(windows, rows, features):
    """What these rows remember, oldest first, as ``run_classes`` wants it: rows [N], x [N, D], y [N], forget [N].

    Each member's slowest head counts only the last ``since`` events: those after the task's last drift.
    """
    (window_x, window_y, pushed, since), total = windows, 0
    W = window_y.shape[1]
    for row in rows:
        total += min(pushed[row], W)
    of, forget = np.empty(total, np.int64), np.zeros(total, np.uint8)
    xs, ys, at = np.empty((total, features), np.float32), np.empty(total, np.float32), 0
    for row in rows:
        n = min(pushed[row], W)
        for t in range(n):
            place = (pushed[row] - n + t) % W
            of[at], ys[at] = row, window_y[row, place]
            xs[at] = window_x[row, place, :features]
            if t == n - since[row] and t > 0:
                forget[at] = FORGET_BEFORE
            at += 1
        if since[row] <= 0 and n > 0:
            forget[at - 1] = FORGET_AFTER
    return of, xs, ys, forget

"""The event path of the exact heads, compiled: encode, predict, adapt, rebuild, one row after another.

Rows are independent and each is computed by the same scalar code, so a prediction has the same bits whichever events
stood beside it in a poll. A_k is symmetric: only its lower triangle is kept, packed row by row (entry i, j ≤ i at
i(i+1)/2 + j). Equations: see ``streammeta.meta.exact_heads``.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from streammeta.meta.base import Floats

__all__ = ["Weights", "adapt_rows", "predict_classes", "predict_values", "rebuild_row"]

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
_CLIP = np.float32(6.0)  # normalized features are cut here: one wild value must not own the encoder
_LEAST = np.float32(1e-6)  # no head's probability for a label counts as less
_HALF_LOG_TAU = np.float32(0.5 * math.log(2 * math.pi))
_PRIOR_COUNT = np.float32(1.0)  # how many residuals the meta-learned noise is worth
_NOISE_DECAY = np.float32(0.99)


class Weights(NamedTuple):
    """θ and the normalization as contiguous arrays; D features, H hidden, m = F + 1 encoded, K memories."""

    shift: Floats  # [D]
    gain: Floats  # [D]
    w1: Floats  # [D, H]
    b1: Floats  # [H]
    w2: Floats  # [H, F]
    b2: Floats  # [F]
    u: Floats  # [H, C] shared output from the hidden layer
    v: Floats  # [D, C] shared output, linear skip
    w0: Floats  # [m, C] prior mean of the heads
    precision: Floats  # [K, m] diagonal of Λ_k
    memory: Floats  # [K] γ_k
    scale: Floats  # [K] logits a unit of head output; for regression the prior noise variance
    leverage: Floats  # [K] how much predictive variance flattens the logits
    log_mix: Floats  # [K] mixing prior, log
    forget: Floats  # [1] α, forgetting of the evidence for each head
    y_affine: Floats  # [2] shift and spread of the target


@njit(fastmath=_FAST, cache=True)
def _tanh(values):
    """Tanh of a vector in place, by a rational function within 3e-7 of it; it runs on all lanes at once."""
    for i in range(values.size):
        x = min(max(values[i], np.float32(-7.9)), np.float32(7.9))
        q = x * x
        p = q * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
        p = q * p + np.float32(-8.60467152213735e-11)
        p = q * p + np.float32(5.12229709037114e-08)
        p = q * p + np.float32(1.48572235717979e-05)
        p = q * p + np.float32(6.37261928875436e-04)
        p = q * p + np.float32(4.89352455891786e-03)
        r = q * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
        r = q * r + np.float32(2.26843463243900e-03)
        r = q * r + np.float32(4.89352518554385e-03)
        values[i] = x * p / r


@njit(fastmath=_FAST, cache=True)
def _encode(w, x, h, z, s):
    """Fill z [m] = [tanh f_θ(x); 1] and s [C] = s_θ(x) + W0ᵀ z from raw x [D]; a missing feature is NaN."""
    known = w.u.shape[1]
    h[:] = w.b1
    s[:] = 0
    for i in range(w.w1.shape[0]):
        xi = (x[i] - w.shift[i]) * w.gain[i]
        if xi == xi and xi != 0:  # noqa: PLR0124  NaN is missing: it adds nothing, as the mean does
            xi = min(max(xi, -_CLIP), _CLIP)
            for j in range(h.size):
                h[j] += xi * w.w1[i, j]
            for c in range(known):
                s[c] += xi * w.v[i, c]
    _tanh(h)
    features = w.b2.size
    z[:features] = w.b2
    for j in range(h.size):
        for f in range(features):
            z[f] += h[j] * w.w2[j, f]
        for c in range(known):
            s[c] += h[j] * w.u[j, c]
    _tanh(z[:features])
    z[features] = 1
    for f in range(features + 1):
        for c in range(known):
            s[c] += z[f] * w.w0[f, c]


@njit(fastmath=_FAST, cache=True)
def _solve(packed, precision, z, low, out):
    """out = (A + Λ)⁻¹ z by Cholesky in ``low`` [m, m]; returns the leverage zᵀ (A + Λ)⁻¹ z.

    The diagonal of ``low`` holds the inverse of the factor's: a product is cheaper than a quotient.
    """
    m = z.size
    at = 0
    for i in range(m):
        for j in range(i):
            total = packed[at + j]
            for t in range(j):
                total -= low[i, t] * low[j, t]
            low[i, j] = total * low[j, j]
        total = packed[at + i] + precision[i]
        for t in range(i):
            total -= low[i, t] * low[i, t]
        low[i, i] = np.float32(1) / math.sqrt(total)
        at += i + 1
    for i in range(m):
        total = z[i]
        for t in range(i):
            total -= low[i, t] * out[t]
        out[i] = total * low[i, i]
    leverage = np.float32(0)
    for i in range(m):
        leverage += out[i] * out[i]
    for i in range(m - 1, -1, -1):
        out[i] *= low[i, i]
        for t in range(i):
            out[t] -= low[i, t] * out[i]
    return leverage


@njit(fastmath=_FAST, cache=True)
def _mixing(logw, log_mix, weights):
    """weights [K] = softmax(prior + evidence)."""
    top = np.float32(-1e30)
    for k in range(weights.size):
        weights[k] = log_mix[k] + logw[k]
        top = max(top, weights[k])
    total = np.float32(0)
    for k in range(weights.size):
        weights[k] = math.exp(weights[k] - top)
        total += weights[k]
    for k in range(weights.size):
        weights[k] /= total


@njit(fastmath=_FAST, cache=True)
def predict_classes(w, A, B, logw, rows, xs, mean, zs, shared, heads):
    """Fill mean [N, C], zs [N, m], shared [N, C], heads [N, K, C] for raw events xs [N, D]."""
    n, classes, m, heads_count = rows.size, mean.shape[1], zs.shape[1], w.memory.size
    h = np.empty(w.b1.size, np.float32)
    low = np.empty((m, m), np.float32)
    out = np.empty(m, np.float32)
    weights = np.empty(heads_count, np.float32)
    for e in range(n):
        row, z, s = rows[e], zs[e], shared[e]
        _encode(w, xs[e], h, z, s)
        _mixing(logw[row], w.log_mix, weights)
        mean[e] = 0
        for k in range(heads_count):
            spread = _solve(A[row, k], w.precision[k], z, low, out)
            logits = heads[e, k]
            logits[:] = s
            for i in range(m):
                for c in range(classes):
                    logits[c] += out[i] * B[row, k, i, c]
            scale = w.scale[k] / math.sqrt(np.float32(1) + w.leverage[k] * spread)
            top = np.float32(-1e30)
            for c in range(classes):
                logits[c] *= scale
                top = max(top, logits[c])
            total = np.float32(0)
            for c in range(classes):
                logits[c] = math.exp(logits[c] - top)
                total += logits[c]
            for c in range(classes):
                logits[c] /= total
                mean[e, c] += weights[k] * logits[c]


@njit(fastmath=_FAST, cache=True)
def predict_values(w, A, B, logw, noise, rows, xs, mean, variance, zs, shared, heads):
    """Fill mean [N, 1], variance [N], zs, shared [N, 1], heads [N, K, (mean, variance, leverage)] for raw events xs."""
    n, m, heads_count = rows.size, zs.shape[1], w.memory.size
    h = np.empty(w.b1.size, np.float32)
    low = np.empty((m, m), np.float32)
    out = np.empty(m, np.float32)
    weights = np.empty(heads_count, np.float32)
    for e in range(n):
        row, z = rows[e], zs[e]
        _encode(w, xs[e], h, z, shared[e])
        _mixing(logw[row], w.log_mix, weights)
        first, second = np.float32(0), np.float32(0)
        for k in range(heads_count):
            spread = _solve(A[row, k], w.precision[k], z, low, out)
            value = shared[e, 0]
            for i in range(m):
                value += out[i] * B[row, k, i, 0]
            residual_variance = (_PRIOR_COUNT * w.scale[k] + noise[row, k, 0]) / (_PRIOR_COUNT + noise[row, k, 1])
            heads[e, k, 0] = value
            heads[e, k, 1] = residual_variance * (np.float32(1) + spread)
            heads[e, k, 2] = spread
            first += weights[k] * value
        for k in range(heads_count):
            gap = heads[e, k, 0] - first
            second += weights[k] * (heads[e, k, 1] + gap * gap)
        mean[e, 0] = first * w.y_affine[1] + w.y_affine[0]
        variance[e] = second * w.y_affine[1] * w.y_affine[1]


@njit(fastmath=_FAST, cache=True)
def _accumulate(A, B, memory, z, s, target, label):
    """A ← γ A + z zᵀ and B ← γ B + z (target − s)ᵀ for one head; ``label`` ≥ 0 makes the target one-hot."""
    at = 0
    for i in range(z.size):
        for j in range(i + 1):
            A[at + j] = memory * A[at + j] + z[i] * z[j]
        at += i + 1
        for c in range(s.size):
            goal = target
            if label >= 0:
                goal = np.float32(1) if c == label else np.float32(0)
            B[i, c] = memory * B[i, c] + z[i] * (goal - s[c])


@njit(fastmath=_FAST, cache=True)
def adapt_rows(w, A, B, logw, noise, rows, zs, shared, heads, ys, classify):
    """Learn labels ys [N] (class index or raw target): evidence and noise of each head, then A and B."""
    for e in range(rows.size):
        row = rows[e]
        label = int(ys[e]) if classify else -1
        target = (ys[e] - w.y_affine[0]) / w.y_affine[1]
        top = np.float32(-1e30)
        for k in range(w.memory.size):
            if classify:
                likelihood = math.log(max(heads[e, k, label], _LEAST))
            else:
                gap = target - heads[e, k, 0]
                likelihood = -np.float32(0.5) * (gap * gap / heads[e, k, 1] + math.log(heads[e, k, 1])) - _HALF_LOG_TAU
                noise[row, k, 0] = _NOISE_DECAY * noise[row, k, 0] + gap * gap / (np.float32(1) + heads[e, k, 2])
                noise[row, k, 1] = _NOISE_DECAY * noise[row, k, 1] + np.float32(1)
            logw[row, k] = w.forget[0] * logw[row, k] + max(likelihood, np.float32(-14))
            top = max(top, logw[row, k])
            _accumulate(A[row, k], B[row, k], w.memory[k], zs[e], shared[e], target, label)
        for k in range(w.memory.size):
            logw[row, k] -= top


@njit(fastmath=_FAST, cache=True)
def rebuild_row(w, A, B, slowest, since, xs, ys, outputs, classify):
    """A [K, P] and B [K, m, C] of one row again from its window xs [n, D], ys [n]; oldest first.

    The slowest head counts only the last ``since`` events: those after the task's last drift.
    """
    n, m = xs.shape[0], w.b2.size + 1
    h = np.empty(w.b1.size, np.float32)
    z = np.empty(m, np.float32)
    s = np.empty(outputs, np.float32)
    A[:] = 0
    B[:] = 0
    for t in range(n):
        _encode(w, xs[t], h, z, s)
        label = int(ys[t]) if classify else -1
        target = (ys[t] - w.y_affine[0]) / w.y_affine[1]
        for k in range(w.memory.size):
            if k != slowest or n - t <= since:
                _accumulate(A[k], B[k], w.memory[k], z, s, target, label)

"""Likelihoods of the heads and their mixture, forward and backward, compiled; and products of matrices.

Equations: see ``streammeta.meta.exact_gradient``; lanes: see ``streammeta.meta.exact_gradient_kernel``. The loops over
lanes have a fixed length, which the compiler turns into single instructions.
"""

import math

import numpy as np
from numba import njit

from streammeta.meta.exact_gradient_kernel import LANES

__all__ = [
    "add_product",
    "add_transposed_product",
    "class_likelihood",
    "class_likelihood_adjoint",
    "class_logits",
    "from_lanes",
    "into_lanes",
    "mixture",
    "value_likelihood",
    "value_likelihood_adjoint",
]

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
_compiled = njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)
_LEAST_LOG = -14.0  # no head is ruled out by one label
_PRIOR_COUNT, _NOISE_DECAY = 1.0, 0.99
_LOG_TAU = math.log(2 * math.pi)


@_compiled
def add_product(a, b, out):
    """Out += a b, for a [N, P], b [P, Q]; four rows of b at a time."""
    whole = a.shape[1] - a.shape[1] % 4
    for i in range(a.shape[0]):
        for p in range(0, whole, 4):
            a0, a1, a2, a3 = a[i, p], a[i, p + 1], a[i, p + 2], a[i, p + 3]
            for q in range(b.shape[1]):
                out[i, q] += a0 * b[p, q] + a1 * b[p + 1, q] + a2 * b[p + 2, q] + a3 * b[p + 3, q]
        for p in range(whole, a.shape[1]):
            for q in range(b.shape[1]):
                out[i, q] += a[i, p] * b[p, q]


@_compiled
def add_transposed_product(a, b, out):
    """Out += aᵀ b, for a [N, P], b [N, Q]; four rows of both at a time."""
    whole = a.shape[0] - a.shape[0] % 4
    for i in range(0, whole, 4):
        for p in range(a.shape[1]):
            a0, a1, a2, a3 = a[i, p], a[i + 1, p], a[i + 2, p], a[i + 3, p]
            for q in range(b.shape[1]):
                out[p, q] += a0 * b[i, q] + a1 * b[i + 1, q] + a2 * b[i + 2, q] + a3 * b[i + 3, q]
    for i in range(whole, a.shape[0]):
        for p in range(a.shape[1]):
            for q in range(b.shape[1]):
                out[p, q] += a[i, p] * b[i, q]


@_compiled
def into_lanes(segments, first, heads, lanes):
    """Lane l of ``lanes`` [R, 16] = the segment [B, R] of head ``first + l``; zeros where there is none."""
    used = min(LANES, segments.shape[0] * heads - first)
    for b in range(first // heads, (first + used - 1) // heads + 1):
        begin, end = max(b * heads - first, 0), min((b + 1) * heads - first, LANES)
        for r in range(lanes.shape[0]):
            for lane in range(begin, end):
                lanes[r, lane] = segments[b, r]
    if used < LANES:
        lanes[:, used:] = 0


@_compiled
def from_lanes(lanes, first, heads, segments):
    """Each segment [B, R] gets what its heads' ``lanes`` [R, 16] hold, added up."""
    used = min(LANES, segments.shape[0] * heads - first)
    for b in range(first // heads, (first + used - 1) // heads + 1):
        begin, end = max(b * heads - first, 0), min((b + 1) * heads - first, LANES)
        for r in range(lanes.shape[0]):
            total = segments[b, r]
            for lane in range(begin, end):
                total += lanes[r, lane]
            segments[b, r] = total


@_compiled
def class_logits(output, leverage, scale, flattening, y, first, heads, logits, likelihood):
    """Fill logits [T·C, 16], shifted so that the largest is 0, and ``likelihood`` [T, 16] with that of the label."""
    events, one = leverage.shape[0], leverage.dtype.type(1)
    classes = output.shape[0] // events
    factor, top = np.empty(LANES, leverage.dtype), np.empty(LANES, leverage.dtype)
    used = min(LANES, y.shape[0] * heads - first)
    for t in range(events):
        for lane in range(LANES):
            factor[lane] = scale[lane] / math.sqrt(one + flattening[lane] * leverage[t, lane])
            top[lane] = -np.inf
        for c in range(t * classes, (t + 1) * classes):
            for lane in range(LANES):
                logits[c, lane] = output[c, lane] * factor[lane]
                top[lane] = max(top[lane], logits[c, lane])
        for c in range(t * classes, (t + 1) * classes):
            for lane in range(LANES):
                logits[c, lane] -= top[lane]
        likelihood[t] = 0
        for lane in range(used):
            likelihood[t, lane] = logits[t * classes + y[(first + lane) // heads, t], lane]


@_compiled
def class_likelihood(p, likelihood):
    """From exp(logits) the probabilities p [T·C, 16], and log p of the label [T, 16]."""
    events, one = likelihood.shape[0], p.dtype.type(1)
    classes = p.shape[0] // events
    total = np.empty(LANES, p.dtype)
    for t in range(events):
        total[:] = 0
        for c in range(t * classes, (t + 1) * classes):
            for lane in range(LANES):
                total[lane] += p[c, lane]
        for lane in range(LANES):
            likelihood[t, lane] -= math.log(total[lane])
            total[lane] = one / total[lane]
        for c in range(t * classes, (t + 1) * classes):
            for lane in range(LANES):
                p[c, lane] *= total[lane]


@_compiled
def class_likelihood_adjoint(
    output, leverage, scale, flattening, y, first, heads, p, d_likelihood, d_leverage, d_scale, d_flattening
):
    """From ∂likelihood [T, 16]: p becomes ∂output [T·C, 16]; ∂leverage, ∂log scale [16] and ∂log κ [16]."""
    events, real = leverage.shape[0], leverage.dtype.type
    classes, one, half = output.shape[0] // events, real(1), real(0.5)
    factor, gain = np.empty(LANES, leverage.dtype), np.empty(LANES, leverage.dtype)
    used = min(LANES, y.shape[0] * heads - first)
    for t in range(events):
        for lane in range(used):
            p[t * classes + y[(first + lane) // heads, t], lane] -= one
        for lane in range(LANES):
            factor[lane] = scale[lane] / math.sqrt(one + flattening[lane] * leverage[t, lane])
            gain[lane] = 0
        for c in range(t * classes, (t + 1) * classes):
            for lane in range(LANES):
                p[c, lane] *= -d_likelihood[t, lane] * factor[lane]
                gain[lane] += p[c, lane] * output[c, lane]
        for lane in range(LANES):
            flat = one / (one + flattening[lane] * leverage[t, lane])
            d_scale[lane] += gain[lane]
            d_leverage[t, lane] = -half * gain[lane] * flattening[lane] * flat
            d_flattening[lane] += d_leverage[t, lane] * leverage[t, lane]


@_compiled
def value_likelihood(output, leverage, prior, y, valid, noise, count, likelihood):
    """Fill noise σ² [T, 16], count [T, 16] and log N(y; output, σ²(1 + leverage)) [T, 16]."""
    real = leverage.dtype.type
    one, half, kept = real(1), real(0.5), real(_NOISE_DECAY)
    residuals, seen = np.zeros(LANES, leverage.dtype), np.zeros(LANES, leverage.dtype)
    for t in range(leverage.shape[0]):
        for lane in range(LANES):
            squared, spread = (y[t, lane] - output[t, lane]) ** 2, one + leverage[t, lane]
            count[t, lane] = real(_PRIOR_COUNT) + seen[lane]
            noise[t, lane] = (real(_PRIOR_COUNT) * prior[lane] + residuals[lane]) / count[t, lane]
            variance = noise[t, lane] * spread
            likelihood[t, lane] = -half * (squared / variance + math.log(variance) + real(_LOG_TAU))
            residuals[lane] = kept * residuals[lane] + valid[t, lane] * squared / spread
            seen[lane] = kept * seen[lane] + valid[t, lane]


@_compiled
def value_likelihood_adjoint(
    output, leverage, prior, y, valid, noise, count, d_likelihood, d_output, d_leverage, d_prior
):
    """From ∂likelihood [T, 16]: ∂output [T, 16], ∂leverage [T, 16] and ∂log prior [16]."""
    real = leverage.dtype.type
    one, half, kept = real(1), real(0.5), real(_NOISE_DECAY)
    d_residuals = np.zeros(LANES, leverage.dtype)  # of the sum after this event
    for t in range(leverage.shape[0] - 1, -1, -1):
        for lane in range(LANES):
            gap, spread = y[t, lane] - output[t, lane], one + leverage[t, lane]
            variance, share = noise[t, lane] * spread, valid[t, lane] / spread
            given = d_likelihood[t, lane] / variance
            d_variance = half * given * (gap * gap / variance - one)
            d_squared = d_residuals[lane] * share - half * given
            d_noise = d_variance * spread / count[t, lane]
            d_leverage[t, lane] = d_variance * noise[t, lane] - d_residuals[lane] * share * gap * gap / spread
            d_output[t, lane] = -(d_squared + d_squared) * gap
            d_prior[lane] += d_noise * real(_PRIOR_COUNT) * prior[lane]
            d_residuals[lane] = kept * d_residuals[lane] + d_noise


@_compiled
def mixture(likelihood, log_mix, forget, valid, scored, d_likelihood, d_mix):
    """The loss, and its derivative by α; fills ∂likelihood [blocks, T, 16] and ∂log mix [K].

    Args: likelihood [blocks, T, 16] of each head; log_mix [K]; forget α; valid, scored [B, T].
    """
    K, (segments, events), real = log_mix.size, valid.shape, log_mix.dtype.type
    evidence, state = np.zeros((events + 1, K), log_mix.dtype), np.empty(K, log_mix.dtype)
    prior, posterior = np.empty((events, K), log_mix.dtype), np.empty((events, K), log_mix.dtype)
    given = np.empty(K, log_mix.dtype)
    loss, d_forget, events_scored = real(0), real(0), scored.sum()
    d_likelihood[:], d_mix[:] = 0, 0
    for b in range(segments):
        for t in range(events):
            for k in range(K):
                at = b * K + k
                given[k] = likelihood[at // LANES, t, at % LANES]
                state[k] = evidence[t, k] + log_mix[k]
                evidence[t + 1, k] = forget * evidence[t, k] + max(given[k], real(_LEAST_LOG)) * valid[b, t]
            weight = _normalize(state, prior[t])
            state += given
            loss -= (_normalize(state, posterior[t]) - weight) * scored[b, t] / events_scored
        d_state = state
        d_state[:] = 0  # of the evidence after this event
        for t in range(events - 1, -1, -1):
            g = -scored[b, t] / events_scored
            for k in range(K):
                at = b * K + k
                block, lane = at // LANES, at % LANES
                passed = valid[b, t] if likelihood[block, t, lane] >= real(_LEAST_LOG) else real(0)
                d_likelihood[block, t, lane] = g * posterior[t, k] + d_state[k] * passed
                d_forget += d_state[k] * evidence[t, k]
                d_weight = g * (posterior[t, k] - prior[t, k])
                d_mix[k] += d_weight
                d_state[k] = forget * d_state[k] + d_weight
    return loss, d_forget


@_compiled
def _normalize(logs, weights):
    """Weights = softmax(logs); returns log Σ exp(logs)."""
    top, total = logs.max(), logs.dtype.type(0)
    for k in range(logs.size):
        weights[k] = math.exp(logs[k] - top)
        total += weights[k]
    for k in range(logs.size):
        weights[k] /= total
    return top + math.log(total)

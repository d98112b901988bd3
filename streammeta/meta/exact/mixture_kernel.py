"""Likelihoods of the heads and their mixture, forward and backward, compiled.

Equations: see ``streammeta.meta.exact.gradient``; lanes and blocks: see ``streammeta.meta.exact.gradient_kernel``.
Loops over lanes have a fixed length, which the compiler turns into single instructions. S segments, T events each.
"""

import math

import numpy as np

from streammeta.meta.exact.lanes_kernel import LANES, compiled

__all__ = ["class_logits", "class_loss", "value_loss"]

_LEAST_LOG, _PRIOR_COUNT, _NOISE_DECAY = -14.0, 1.0, 0.99  # as in heads
_LOG_TAU = math.log(2 * math.pi)


@compiled
def _of_heads(logs, head, first):
    """exp(logs) [E·K] for the lanes of the block that begins with lane ``first``."""
    lanes = np.empty(LANES, logs.dtype)
    for lane in range(LANES):
        lanes[lane] = math.exp(logs[head[min(first + lane, head.size - 1)]])
    return lanes


@compiled
def _add_by_head(lanes, head, first, d_logs):
    """What lanes [16] have found, added to their heads."""
    for lane in range(min(LANES, head.size - first)):
        d_logs[head[first + lane]] += lanes[lane]


@compiled
def class_logits(output, leverage, log_scale, log_leverage, head, label, p):
    """Fill p [blocks, T·C, 16] with logits, the largest 0; returns the label's [blocks, T, 16]."""
    (blocks, T, _), real, K = leverage.shape, log_scale.dtype.type, head.size // label.shape[0]
    C, one = output.shape[1] // T, real(1)
    factor, top = np.empty(LANES, log_scale.dtype), np.empty(LANES, log_scale.dtype)
    of_label = np.zeros_like(leverage)
    for i in range(blocks):
        first = i * LANES
        scale, flattening = _of_heads(log_scale, head, first), _of_heads(log_leverage, head, first)
        used = min(LANES, head.size - first)
        for t in range(T):
            for lane in range(LANES):
                factor[lane] = scale[lane] / math.sqrt(one + flattening[lane] * leverage[i, t, lane])
                top[lane] = -np.inf
            for c in range(t * C, (t + 1) * C):
                for lane in range(LANES):
                    p[i, c, lane] = output[i, c, lane] * factor[lane]
                    top[lane] = max(top[lane], p[i, c, lane])
            for c in range(t * C, (t + 1) * C):
                for lane in range(LANES):
                    p[i, c, lane] -= top[lane]
            for lane in range(used):
                of_label[i, t, lane] = p[i, t * C + label[(first + lane) // K, t], lane]
    return of_label


@compiled
def _class_likelihood(p, likelihood):
    """From exp(logits) the probabilities p [blocks, T·C, 16], and log p of the label [blocks, T, 16]."""
    (blocks, T, _), one = likelihood.shape, p.dtype.type(1)
    C, total = p.shape[1] // T, np.empty(LANES, p.dtype)
    for i in range(blocks):
        for t in range(T):
            total[:] = 0
            for c in range(t * C, (t + 1) * C):
                for lane in range(LANES):
                    total[lane] += p[i, c, lane]
            for lane in range(LANES):
                likelihood[i, t, lane] -= math.log(total[lane])
                total[lane] = one / total[lane]
            for c in range(t * C, (t + 1) * C):
                for lane in range(LANES):
                    p[i, c, lane] *= total[lane]


@compiled
def _class_likelihood_adjoint(
    output, leverage, log_scale, log_leverage, head, label, p, d_likelihood, d_leverage, d_log_scale, d_log_leverage
):
    """From ∂likelihood [blocks, T, 16]: p becomes ∂output [blocks, T·C, 16]; ∂leverage, ∂log_scale, ∂log_leverage."""
    (blocks, T, _), real, K = leverage.shape, log_scale.dtype.type, head.size // label.shape[0]
    C, one, half = output.shape[1] // T, real(1), real(0.5)
    factor, gain = np.empty(LANES, log_scale.dtype), np.empty(LANES, log_scale.dtype)
    of_scale, of_leverage = np.empty(LANES, log_scale.dtype), np.empty(LANES, log_scale.dtype)
    for i in range(blocks):
        first = i * LANES
        scale, flattening = _of_heads(log_scale, head, first), _of_heads(log_leverage, head, first)
        of_scale[:], of_leverage[:] = 0, 0
        for t in range(T):
            for lane in range(min(LANES, head.size - first)):
                p[i, t * C + label[(first + lane) // K, t], lane] -= one
            for lane in range(LANES):
                factor[lane] = -d_likelihood[i, t, lane] * scale[lane]
                factor[lane] /= math.sqrt(one + flattening[lane] * leverage[i, t, lane])
                gain[lane] = 0
            for c in range(t * C, (t + 1) * C):
                for lane in range(LANES):
                    p[i, c, lane] *= factor[lane]
                    gain[lane] += p[i, c, lane] * output[i, c, lane]
            for lane in range(LANES):
                flat = flattening[lane] / (one + flattening[lane] * leverage[i, t, lane])
                of_scale[lane] += gain[lane]
                d_leverage[i, t, lane] = -half * gain[lane] * flat
                of_leverage[lane] += d_leverage[i, t, lane] * leverage[i, t, lane]
        _add_by_head(of_scale, head, first, d_log_scale)
        _add_by_head(of_leverage, head, first, d_log_leverage)


@compiled
def _value_likelihood(output, leverage, log_noise, head, target, valid, noise, count, likelihood):
    """Fill log N(target; output, σ²(1 + leverage)), σ² = ``noise`` and its ``count``, all [blocks, T, 16]."""
    (blocks, T, _), real, K = leverage.shape, log_noise.dtype.type, head.size // valid.shape[0]
    one, half, kept, prior_count = real(1), real(0.5), real(_NOISE_DECAY), real(_PRIOR_COUNT)
    for i in range(blocks):
        prior, first = _of_heads(log_noise, head, i * LANES), i * LANES
        for lane in range(min(LANES, head.size - first)):
            s, residuals, seen = (first + lane) // K, real(0), real(0)
            for t in range(T):
                squared, spread = (target[s, t] - output[i, t, lane]) ** 2, one + leverage[i, t, lane]
                count[i, t, lane] = prior_count + seen
                noise[i, t, lane] = (prior_count * prior[lane] + residuals) / count[i, t, lane]
                variance = noise[i, t, lane] * spread
                likelihood[i, t, lane] = -half * (squared / variance + math.log(variance) + real(_LOG_TAU))
                residuals = kept * residuals + valid[s, t] * squared / spread
                seen = kept * seen + valid[s, t]


@compiled
def _value_likelihood_adjoint(
    output, leverage, log_noise, head, target, valid, noise, count, d_likelihood, d_output, d_leverage, d_log_noise
):
    """From ∂likelihood fill ∂output and ∂leverage, all [blocks, T, 16]; ∂log_noise [K] is added to."""
    (blocks, T, _), real, K = leverage.shape, log_noise.dtype.type, head.size // valid.shape[0]
    one, half, kept, prior_count = real(1), real(0.5), real(_NOISE_DECAY), real(_PRIOR_COUNT)
    d_output[:], d_leverage[:] = 0, 0
    for i in range(blocks):
        prior, first = _of_heads(log_noise, head, i * LANES), i * LANES
        for lane in range(min(LANES, head.size - first)):
            s, d_residuals, d_prior = (first + lane) // K, real(0), real(0)  # of the sum after an event
            for t in range(T - 1, -1, -1):
                gap, spread = target[s, t] - output[i, t, lane], one + leverage[i, t, lane]
                variance, share = noise[i, t, lane] * spread, valid[s, t] / spread
                given = half * d_likelihood[i, t, lane] / variance
                d_variance = given * (gap * gap / variance - one)
                d_squared = d_residuals * share - given
                d_noise = d_variance * spread / count[i, t, lane]
                d_output[i, t, lane] = -(d_squared + d_squared) * gap
                d_leverage[i, t, lane] = d_variance * noise[i, t, lane] - d_residuals * share * gap * gap / spread
                d_prior += d_noise * prior_count * prior[lane]
                d_residuals = kept * d_residuals + d_noise
            d_log_noise[head[first + lane]] += d_prior


@compiled
def _normalize(logs, weights):
    """Weights = softmax(logs) [K]; returns log Σ exp(logs)."""
    top, total = logs[0], logs.dtype.type(0)
    for k in range(1, logs.size):
        top = max(top, logs[k])
    for k in range(logs.size):
        weights[k] = math.exp(logs[k] - top)
        total += weights[k]
    for k in range(logs.size):
        weights[k] /= total
    return top + math.log(total)


@compiled
def _mixture(likelihood, log_mix, forget, head, valid, share):
    """The loss −Σ share · log Σ exp(mixing + likelihood), and what its adjoint reads, [S, T, K] each.

    Args: likelihood [blocks, T, 16] of each lane; log_mix [E·K]; forget [E], the logit of α; valid, share [S, T].
    Returns: loss, evidence before each event, mixing weights before it (prior) and with its label (posterior).
    """
    (S, T), real = valid.shape, log_mix.dtype.type
    K = head.size // S
    evidence, prior = np.zeros((S, T + 1, K), log_mix.dtype), np.empty((S, T, K), log_mix.dtype)
    posterior, logs, loss = np.empty_like(prior), np.empty(K, log_mix.dtype), real(0)
    for s in range(S):
        alpha = real(1) / (real(1) + math.exp(-forget[head[s * K] // K]))
        for t in range(T):
            for k in range(K):
                logs[k] = evidence[s, t, k] + log_mix[head[s * K + k]]
            normal = _normalize(logs, prior[s, t])
            for k in range(K):
                given = likelihood[(s * K + k) // LANES, t, (s * K + k) % LANES]
                logs[k] += given
                evidence[s, t + 1, k] = alpha * evidence[s, t, k] + max(given, real(_LEAST_LOG)) * valid[s, t]
            loss -= (_normalize(logs, posterior[s, t]) - normal) * share[s, t]
    return loss, evidence, prior, posterior


@compiled
def _mixture_adjoint(
    likelihood, forget, head, valid, share, evidence, prior, posterior, d_likelihood, d_log_mix, d_forget
):
    """Fill ∂likelihood [blocks, T, 16]; ∂log_mix [E·K] and ∂forget [E] are added to."""
    (S, T, K), real = prior.shape, d_log_mix.dtype.type
    d_evidence = np.empty(K, d_log_mix.dtype)  # of the evidence after an event
    d_likelihood[:] = 0
    for s in range(S):
        member = head[s * K] // K
        alpha, d_alpha = real(1) / (real(1) + math.exp(-forget[member])), real(0)
        d_evidence[:] = 0
        for t in range(T - 1, -1, -1):
            for k in range(K):
                block, lane = (s * K + k) // LANES, (s * K + k) % LANES
                passed = valid[s, t] if likelihood[block, t, lane] > real(_LEAST_LOG) else real(0)
                d_likelihood[block, t, lane] = d_evidence[k] * passed - share[s, t] * posterior[s, t, k]
                d_alpha += d_evidence[k] * evidence[s, t, k]
                d_log = share[s, t] * (prior[s, t, k] - posterior[s, t, k])
                d_log_mix[head[s * K + k]] += d_log
                d_evidence[k] = alpha * d_evidence[k] + d_log
        d_forget[member] += d_alpha * alpha * (real(1) - alpha)


@compiled
def class_loss(
    output, leverage, log_scale, log_leverage, log_mix, forget, head, label, valid, share, p, likelihood, slopes
):
    """From exp(logits) p: the loss; p becomes ∂output, ∂leverage is returned, ``slopes`` are added to."""
    d_log_scale, d_log_leverage, d_log_mix, d_forget = slopes
    d_likelihood, d_leverage = np.empty_like(leverage), np.empty_like(leverage)
    _class_likelihood(p, likelihood)
    loss, evidence, prior, posterior = _mixture(likelihood, log_mix, forget, head, valid, share)
    _mixture_adjoint(
        likelihood, forget, head, valid, share, evidence, prior, posterior, d_likelihood, d_log_mix, d_forget
    )
    _class_likelihood_adjoint(
        output, leverage, log_scale, log_leverage, head, label, p, d_likelihood, d_leverage, d_log_scale, d_log_leverage
    )
    return loss, d_leverage


@compiled
def value_loss(output, leverage, log_noise, log_mix, forget, head, target, valid, share, d_output, slopes):
    """The loss; ∂output is filled, ∂leverage is returned, ``slopes`` are added to."""
    d_log_noise, d_log_mix, d_forget = slopes
    noise, count, likelihood = np.empty_like(leverage), np.empty_like(leverage), np.empty_like(leverage)
    d_likelihood, d_leverage = np.empty_like(leverage), np.empty_like(leverage)
    _value_likelihood(output, leverage, log_noise, head, target, valid, noise, count, likelihood)
    loss, evidence, prior, posterior = _mixture(likelihood, log_mix, forget, head, valid, share)
    _mixture_adjoint(
        likelihood, forget, head, valid, share, evidence, prior, posterior, d_likelihood, d_log_mix, d_forget
    )
    _value_likelihood_adjoint(
        output, leverage, log_noise, head, target, valid, noise, count, d_likelihood, d_output, d_leverage, d_log_noise
    )
    return loss, d_leverage

"""The mixture of one event, compiled. Equations: see ``streammeta.engine.experts.mixture``."""

import math

import numpy as np
from numba import njit

__all__ = ["add_class_evidence", "add_value_evidence", "mix_classes", "mix_values"]

_LEAST = 1e-6  # no probability of a label counts as less
_MOST_SURPRISE = 14.0  # nats below a Gaussian's own peak
_PRIOR_SPREAD = 4.0  # an expert nothing is known of may err twice as far as the learner thinks it does itself
_compiled = njit(error_model="numpy", cache=True)


@_compiled
def _weights(evidence, log_favour):
    weights = evidence.copy()
    weights[0] += log_favour
    weights = np.exp(weights - weights.max())
    return weights / weights.sum()


@_compiled
def mix_classes(p, said, doubt, evidence, log_favour):
    """Parts [1 + 2K, C] and their mixture [C], from the learner's p [C] and what K experts said [K, C]."""
    K, C = said.shape
    parts, mixed = np.empty((1 + 2 * K, C)), np.zeros(C)
    total = 0.0
    for c in range(C):
        parts[0, c] = max(p[c], 0.0) + _LEAST
        total += parts[0, c]
    parts[0] /= total
    for k in range(K):
        total = 0.0
        for c in range(C):
            total += said[k, c]
        trust = 1.0 - doubt[k] if total > 0 else 0.0
        product = 0.0
        for c in range(C):
            q = (1.0 - trust) * parts[0, c]
            if trust > 0:
                q += trust * said[k, c] / total
            parts[1 + k, c] = q
            parts[1 + K + k, c] = parts[0, c] * q + 1e-12
            product += parts[1 + K + k, c]
        parts[1 + K + k] /= product
    weights = _weights(evidence, log_favour)
    for r in range(1 + 2 * K):
        mixed += weights[r] * parts[r]
    return parts, mixed


@_compiled
def add_class_evidence(parts, label, evidence, decay):
    """Forget a little, and add log p(label) of each part."""
    for r in range(evidence.size):
        likelihood = parts[r, label] if label < parts.shape[1] else 0.0
        evidence[r] = decay * evidence[r] + math.log(max(likelihood, _LEAST))


@_compiled
def mix_values(mean, variance, said, noise, evidence, log_favour):
    """Parts [1 + 2K, 2] (mean, variance) and the moments [2] of their mixture; NaN in ``said`` [K] is no opinion.

    An expert's variance is that of its own errors in this task, noise [K, 2] (sum of squares, count), with the
    learner's for a prior.
    """
    K = said.size
    parts, mixed = np.empty((1 + 2 * K, 2)), np.zeros(2)
    parts[0, 0], parts[0, 1] = mean, variance
    for k in range(K):
        if np.isnan(said[k]):
            parts[1 + k], parts[1 + K + k] = parts[0], parts[0]
            continue
        spread = (_PRIOR_SPREAD * variance + noise[k, 0]) / (1.0 + noise[k, 1])
        parts[1 + k, 0], parts[1 + k, 1] = said[k], spread
        precision = 1.0 / variance + 1.0 / spread  # errors of the two go together: the product counts for one of them
        parts[1 + K + k, 0] = (mean / variance + said[k] / spread) / precision
        parts[1 + K + k, 1] = 2.0 / precision
    weights = _weights(evidence, log_favour)
    for r in range(1 + 2 * K):
        mixed[0] += weights[r] * parts[r, 0]
    for r in range(1 + 2 * K):
        mixed[1] += weights[r] * (parts[r, 1] + (parts[r, 0] - mixed[0]) ** 2)
    return parts, mixed


@_compiled
def add_value_evidence(parts, y, evidence, decay, noise, noise_decay):
    """Forget a little, add log N(y) of each part, and each expert's own squared error."""
    for r in range(evidence.size):
        surprise = min(0.5 * (y - parts[r, 0]) ** 2 / parts[r, 1], _MOST_SURPRISE)
        evidence[r] = decay * evidence[r] - surprise - 0.5 * math.log(parts[r, 1])
    for k in range(noise.shape[0]):
        noise[k, 0] = noise_decay * noise[k, 0] + (y - parts[1 + k, 0]) ** 2
        noise[k, 1] = noise_decay * noise[k, 1] + 1.0

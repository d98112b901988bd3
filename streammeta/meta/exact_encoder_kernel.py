"""The encoder over segments and its adjoint, compiled. Equations: see ``streammeta.meta.exact_gradient``.

What reads the same thing is one product: [w1, v] for the features, [w2, u] for the hidden layer. N events at once.
"""

import numpy as np
from numba import njit

__all__ = ["affine", "encoder_adjoint", "residuals"]

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
_compiled = njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)


@_compiled
def _add_product(a, P, b, out):
    """Out += a[:, :P] b, for b [P, Q]; four rows of b at a time."""
    whole = P - P % 4
    for i in range(a.shape[0]):
        for p in range(0, whole, 4):
            a0, a1, a2, a3 = a[i, p], a[i, p + 1], a[i, p + 2], a[i, p + 3]
            for q in range(out.shape[1]):
                out[i, q] += a0 * b[p, q] + a1 * b[p + 1, q] + a2 * b[p + 2, q] + a3 * b[p + 3, q]
        for p in range(whole, P):
            for q in range(out.shape[1]):
                out[i, q] += a[i, p] * b[p, q]


@_compiled
def _add_transposed_product(a, P, b, out):
    """Out [P, Q] += a[:, :P]ᵀ b; four rows of both at a time."""
    whole = a.shape[0] - a.shape[0] % 4
    for i in range(0, whole, 4):
        for p in range(P):
            a0, a1, a2, a3 = a[i, p], a[i + 1, p], a[i + 2, p], a[i + 3, p]
            for q in range(out.shape[1]):
                out[p, q] += a0 * b[i, q] + a1 * b[i + 1, q] + a2 * b[i + 2, q] + a3 * b[i + 3, q]
    for i in range(whole, a.shape[0]):
        for p in range(P):
            for q in range(out.shape[1]):
                out[p, q] += a[i, p] * b[i, q]


@_compiled
def affine(a, w, bias):
    """[a[:, :P] w + [bias, 0]] for w [P, Q]: columns beyond the bias have none."""
    out = np.zeros((a.shape[0], w.shape[1]), a.dtype)
    out[:, : bias.size] = bias
    _add_product(a, w.shape[0], w, out)
    return out


@_compiled
def residuals(first, second, H, F, w0, label, target, valid):
    """shared = s_θ(x) + W0ᵀz and rest = y − shared, [N, C] both; rest is 0 where there is no event.

    first [N, H + C] = [h, x v], second [N, F + C] = [tanh f_θ(x), h u]; y is one-hot of ``label`` where that is ≥ 0.
    """
    shared = first[:, H:] + second[:, F:]
    shared += w0[F]
    _add_product(second, F, w0, shared)
    rest = np.empty_like(shared)
    for i in range(shared.shape[0]):
        for c in range(shared.shape[1]):
            rest[i, c] = (target[i] - shared[i, c]) * valid[i]
        if label[i] >= 0:
            for c in range(shared.shape[1]):
                rest[i, c] = -shared[i, c] * valid[i]
            rest[i, label[i]] += valid[i]
    return shared, rest


@_compiled
def encoder_adjoint(x, first, second, H, F, weights, w0, d_z, d_shared):
    """∂w1, ∂v, ∂b1, ∂w2, ∂u, ∂b2, ∂w0 from ∂z [N, m] and ∂shared [N, C]; ``weights`` = [w2, u]."""
    N, C, one = x.shape[0], d_shared.shape[1], first.dtype.type(1)
    d_second, d_first = np.empty((N, F + C), x.dtype), np.zeros((N, H + C), x.dtype)
    d_second[:, :F], d_second[:, F:] = d_z[:, :F], d_shared
    _add_product(d_shared, C, w0[:F].T.copy(), d_second[:, :F])
    for i in range(N):
        for f in range(F):
            d_second[i, f] *= one - second[i, f] * second[i, f]
    back = d_first[:, :H]
    _add_product(d_second, F + C, weights.T.copy(), back)
    for i in range(N):
        for j in range(H):
            d_first[i, j] *= one - first[i, j] * first[i, j]
    d_first[:, H:] = d_shared
    outer, inner, d_w0 = np.zeros((x.shape[1], H + C), x.dtype), np.zeros((H, F + C), x.dtype), np.zeros_like(w0)
    _add_transposed_product(x, x.shape[1], d_first, outer)
    _add_transposed_product(first, H, d_second, inner)
    _add_transposed_product(second, F, d_shared, d_w0)
    d_b1, d_b2 = np.zeros(H, x.dtype), np.zeros(F, x.dtype)
    for i in range(N):
        d_b1 += d_first[i, :H]
        d_b2 += d_second[i, :F]
        d_w0[F] += d_shared[i]
    return outer[:, :H].copy(), outer[:, H:].copy(), d_b1, inner[:, :F].copy(), inner[:, F:].copy(), d_b2, d_w0

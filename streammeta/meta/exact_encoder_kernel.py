"""The encoder over segments and its adjoint, compiled. Equations: see ``streammeta.meta.exact_gradient``.

What reads the same thing is one product: [w1, v] for the features, [w2, u] for the hidden layer. N events at once.
"""

import numpy as np
from numba import njit

__all__ = ["encoder_adjoint", "layer", "pad", "residuals"]

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # no nnan, no ninf: bad numbers must stay visible
_compiled = njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)


@_compiled
def _add_product(a, P, b, out, Q):
    """out[:, :Q] += a[:, :P] b, for b [P, Q]; four rows of b at a time."""
    whole = P - P % 4
    for i in range(a.shape[0]):
        for p in range(0, whole, 4):
            a0, a1, a2, a3 = a[i, p], a[i, p + 1], a[i, p + 2], a[i, p + 3]
            for q in range(Q):
                out[i, q] += a0 * b[p, q] + a1 * b[p + 1, q] + a2 * b[p + 2, q] + a3 * b[p + 3, q]
        for p in range(whole, P):
            for q in range(Q):
                out[i, q] += a[i, p] * b[p, q]


@_compiled
def _add_transposed_product(a, P, b, out):
    """out[:P] += a[:, :P]ᵀ b; four rows of both at a time."""
    whole = a.shape[0] - a.shape[0] % 4
    for i in range(0, whole, 4):
        for p in range(P):
            a0, a1, a2, a3 = a[i, p], a[i + 1, p], a[i + 2, p], a[i + 3, p]
            for q in range(b.shape[1]):
                out[p, q] += a0 * b[i, q] + a1 * b[i + 1, q] + a2 * b[i + 2, q] + a3 * b[i + 3, q]
    for i in range(whole, a.shape[0]):
        for p in range(P):
            for q in range(b.shape[1]):
                out[p, q] += a[i, p] * b[i, q]


@_compiled
def _beside(a, b):
    """[a, b] for matrices of as many rows."""
    both = np.empty((a.shape[0], a.shape[1] + b.shape[1]), a.dtype)
    both[:, : a.shape[1]] = a
    both[:, a.shape[1] :] = b
    return both


@_compiled
def pad(x, y, valid, scored, T, classify, like):
    """Segments of L events, T ≥ L each in the type of ``like``: x [S·T, D]; label (−1 in regression), target, valid and
    share of the loss [S, T].
    """
    (S, L, D), real = x.shape, like.dtype.type
    rows, label = np.zeros((S * T, D), like.dtype), np.full((S, T), 0 if classify else -1)
    target, there, share = (np.zeros((S, T), like.dtype), np.zeros((S, T), like.dtype), np.zeros((S, T), like.dtype))
    each = real(1) / real(scored.sum())
    for s in range(S):
        for t in range(L):
            rows[s * T + t] = x[s, t]
            if classify:
                label[s, t] = int(y[s, t])
            else:
                target[s, t] = y[s, t]
            there[s, t], share[s, t] = valid[s, t], scored[s, t] * each
    return rows, label, target, there, share


@_compiled
def layer(a, w, more, bias):
    """[a[:, :P] w + bias, a[:, :P] more] for w and more of P rows."""
    both = _beside(w, more)
    out = np.zeros((a.shape[0], both.shape[1]), a.dtype)
    out[:, : bias.size] = bias
    _add_product(a, both.shape[0], both, out, both.shape[1])
    return out


@_compiled
def residuals(first, second, H, F, w0, label, target, valid):
    """z [N, F + 1], shared = s_θ(x) + W0ᵀz and rest = y − shared [N, C]; z and rest are 0 where there is no event.

    first [N, H + C] = [h, x v], second [N, F + C] = [tanh f_θ(x), h u]; y is one-hot of ``label`` where that is ≥ 0.
    """
    N, C = first.shape[0], w0.shape[1]
    label, target, valid = label.reshape(N), target.reshape(N), valid.reshape(N)
    z, shared, rest = np.empty((N, F + 1), w0.dtype), np.empty((N, C), w0.dtype), np.empty((N, C), w0.dtype)
    for i in range(N):
        for c in range(C):
            shared[i, c] = first[i, H + c] + second[i, F + c] + w0[F, c]
    _add_product(second, F, w0, shared, C)
    for i in range(N):
        for f in range(F):
            z[i, f] = second[i, f] * valid[i]
        z[i, F] = valid[i]
        for c in range(C):
            rest[i, c] = (target[i] - shared[i, c]) * valid[i]
        if label[i] >= 0:
            rest[i, label[i]] += valid[i]
    return z, shared, rest


@_compiled
def encoder_adjoint(x, first, second, w2, u, w0, valid, d_z, d_shared, d_rest):
    """∂w1, ∂v, ∂b1, ∂w2, ∂u, ∂b2, ∂w0 from ∂z [N, F + 1], ∂shared and ∂rest [N, C]."""
    (N, C), (H, F), one = d_shared.shape, w2.shape, w0.dtype.type(1)
    inner, valid = _beside(w2, u), valid.reshape(N)
    d_first, d_second = np.zeros((N, H + C), w0.dtype), np.empty((N, F + C), w0.dtype)
    d_w1, d_w2, d_w0 = np.zeros((x.shape[1], H + C), w0.dtype), np.zeros_like(inner), np.zeros_like(w0)
    d_b1, d_b2, total = np.zeros(H, w0.dtype), np.zeros(F, w0.dtype), np.empty((N, C), w0.dtype)
    for i in range(N):
        for c in range(C):
            total[i, c] = d_shared[i, c] - d_rest[i, c] * valid[i]
            d_second[i, F + c] = total[i, c]
            d_w0[F, c] += total[i, c]
        for f in range(F):
            d_second[i, f] = d_z[i, f] * valid[i]
    _add_product(total, C, w0[:F].T.copy(), d_second, F)
    for i in range(N):
        for f in range(F):
            d_second[i, f] *= one - second[i, f] * second[i, f]
            d_b2[f] += d_second[i, f]
    _add_product(d_second, F + C, inner.T.copy(), d_first, H)
    for i in range(N):
        for j in range(H):
            d_first[i, j] *= one - first[i, j] * first[i, j]
            d_b1[j] += d_first[i, j]
        d_first[i, H:] = total[i]
    _add_transposed_product(x, x.shape[1], d_first, d_w1)
    _add_transposed_product(first, H, d_second, d_w2)
    _add_transposed_product(second, F, total, d_w0[:F])
    return d_w1[:, :H].copy(), d_w1[:, H:].copy(), d_b1, d_w2[:, :F].copy(), d_w2[:, F:].copy(), d_b2, d_w0

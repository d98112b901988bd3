"""The encoder over segments and its adjoint, compiled. Equations: see ``streammeta.meta.exact.gradient``.

What reads the same thing is one product: [w1, v] for the features, [w2, u] for the hidden layer. Matrices have zero
columns up to the next multiple of sixteen, so that every row is whole rows of lanes. N = S · T events at once.
"""

import numpy as np

from streammeta.meta.exact.lanes_kernel import LANES, add_scaled, compiled

__all__ = ["encoder_adjoint", "layer", "pad", "product", "residuals"]


@compiled
def _zeros(rows, columns, like):
    """A matrix with at least so many columns."""
    return np.zeros((rows, -(-columns // LANES) * LANES), like.dtype)


@compiled
def _add_product(a, P, b, out):
    """The first columns of ``out`` += a[:, :P] b, for b [P, ·]."""
    wide, panels = out.shape[1] // LANES, b.shape[1] // LANES
    for i in range(panels):
        add_scaled(
            out.reshape(-1, LANES), i, wide, out.shape[0], b.reshape(-1, LANES), i, panels, a, 0, a.shape[1], 1, P
        )


@compiled
def _add_transposed_product(a, P, b, out):
    """The first P rows of ``out`` += a[:, :P]ᵀ b; both as wide."""
    panels, lanes = out.shape[1] // LANES, out.reshape(-1, LANES)
    for i in range(panels):
        add_scaled(lanes, i, panels, P, b.reshape(-1, LANES), i, panels, a, 0, 1, a.shape[1], a.shape[0])


@compiled
def _beside(a, b):
    """[a, b]."""
    both = _zeros(a.shape[0], a.shape[1] + b.shape[1], a)
    both[:, : a.shape[1]] = a
    both[:, a.shape[1] : a.shape[1] + b.shape[1]] = b
    return both


@compiled
def _transposed(a):
    out = _zeros(a.shape[1], a.shape[0], a)
    out[:, : a.shape[0]] = a.T
    return out


@compiled
def pad(x, y, valid, share, T, classify):
    """Segments x [S, L, D] of L events with their [S, L] become segments of T ≥ L.

    Returns: x [S·T, D]; label (−1 in regression), target (0 in classification), valid and share of the loss [S, T];
    least and largest label.
    """
    (S, L, D), real, least, largest = x.shape, x.dtype.type, 0, 0
    rows, label = np.zeros((S * T, D), x.dtype), np.full((S, T), 0 if classify else -1)
    target, there, counts = np.zeros((S, T), x.dtype), np.zeros((S, T), x.dtype), np.zeros((S, T), x.dtype)
    for s in range(S):
        for t in range(L):
            for d in range(D):
                rows[s * T + t, d] = x[s, t, d]
            if classify:
                label[s, t] = int(y[s, t])
                least, largest = min(least, label[s, t]), max(largest, label[s, t])
            else:
                target[s, t] = real(y[s, t])
            there[s, t], counts[s, t] = valid[s, t], share[s, t]
    return rows, label, target, there, counts, least, largest


@compiled
def layer(a, w, more, bias):
    """[a[:, :P] w + bias, a[:, :P] more] for w and more of P rows."""
    out = _zeros(a.shape[0], w.shape[1] + more.shape[1], a)
    out[:, : bias.size] = bias
    _add_product(a, w.shape[0], _beside(w, more), out)
    return out


@compiled
def product(a, w):
    """a[:, :P] w for w of P rows."""
    out = _zeros(a.shape[0], w.shape[1], a)
    _add_product(a, w.shape[0], _beside(w, w[:, :0]), out)
    return out


@compiled
def residuals(first, second, third, H, J, w0, label, target, valid, z, shared, rest):
    """Fill z [N, F + 1], shared = s_θ(x) + W0ᵀz and rest = y − shared [N, C]; z and rest are 0 where no event is.

    first [N, ·] = [h, x v], second [N, ·] = [i, h u] of J inner units i = tanh(w2ᵀh + b2), third [N, ·] = w3ᵀi; y is
    one-hot of ``label`` where that is ≥ 0.
    """
    N, (m, C) = first.shape[0], w0.shape
    F, inner = m - 1, _zeros(N, C, w0)
    _add_product(third, F, _beside(w0[:F], w0[:F, :0]), inner)
    for i in range(N):
        for f in range(F):
            z[i, f] = third[i, f] * valid[i]
        z[i, F] = valid[i]
        for c in range(C):
            shared[i, c] = first[i, H + c] + second[i, J + c] + inner[i, c] + w0[F, c]
            rest[i, c] = (target[i] - shared[i, c]) * valid[i]
        if label[i] >= 0:
            rest[i, label[i]] += valid[i]


@compiled
def encoder_adjoint(x, first, second, third, w2, u, w3, w0, valid, d_z, d_shared, d_rest):
    """∂w1, ∂v, ∂b1, ∂w2, ∂u, ∂b2, ∂w3, ∂w0 from ∂z [N, F + 1], ∂shared and ∂rest [N, C]."""
    (N, C), (H, J), F, one = d_shared.shape, w2.shape, w3.shape[1], w0.dtype.type(1)
    total, d_third, d_inner = _zeros(N, C, w0), _zeros(N, F, w0), _zeros(N, J, w0)
    d_second, d_first = _zeros(N, J + C, w0), _zeros(N, H + C, w0)
    d_b1, d_b2, d_w0 = np.zeros(H, w0.dtype), np.zeros(J, w0.dtype), _zeros(F + 1, C, w0)
    for i in range(N):
        for c in range(C):
            total[i, c] = d_shared[i, c] - d_rest[i, c] * valid[i]
            d_w0[F, c] += total[i, c]
            d_second[i, J + c] = total[i, c]
    _add_product(total, C, _transposed(w0[:F]), d_third)
    for i in range(N):
        for f in range(F):
            d_third[i, f] += d_z[i, f] * valid[i]
    _add_product(d_third, F, _transposed(w3), d_inner)
    for i in range(N):
        for j in range(J):
            d_second[i, j] = d_inner[i, j] * (one - second[i, j] * second[i, j])
            d_b2[j] += d_second[i, j]
    _add_product(d_second, J + C, _transposed(_beside(w2, u)[:, : J + C]), d_first)
    for i in range(N):
        for j in range(H):
            d_first[i, j] *= one - first[i, j] * first[i, j]
            d_b1[j] += d_first[i, j]
        for c in range(C):
            d_first[i, H + c] = total[i, c]
    of_first, of_second, of_third = _zeros(x.shape[1], H + C, w0), _zeros(H, J + C, w0), _zeros(J, F, w0)
    _add_transposed_product(x, x.shape[1], d_first, of_first)
    _add_transposed_product(first, H, d_second, of_second)
    _add_transposed_product(second, J, d_third, of_third)
    _add_transposed_product(third, F, total, d_w0)
    d_w1, d_v, d_w2, d_u = of_first[:, :H], of_first[:, H : H + C], of_second[:, :J], of_second[:, J : J + C]
    return d_w1.copy(), d_v.copy(), d_b1, d_w2.copy(), d_u.copy(), d_b2, of_third[:, :F].copy(), d_w0[:, :C].copy()

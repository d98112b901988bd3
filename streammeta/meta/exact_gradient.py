"""The meta-objective of the exact heads and its gradient, compiled for the CPU.

The same mathematics as ``streammeta.meta.exact_heads``. TODO
"""

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.meta.exact_gradient_kernel import LANES, heads, heads_adjoint, new_pasts
from streammeta.meta.exact_mixture_kernel import (
    add_product,
    add_transposed_product,
    class_likelihood,
    class_likelihood_adjoint,
    class_logits,
    from_lanes,
    into_lanes,
    mixture,
    value_likelihood,
    value_likelihood_adjoint,
)

__all__ = ["loss_and_gradient"]

FloatArray: TypeAlias = npt.NDArray[np.floating]


def _product(a, b):
    out = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    add_product(a, b, out)
    return out


def _transposed_product(a, b):
    out = np.zeros((a.shape[1], b.shape[1]), a.dtype)
    add_transposed_product(a, b, out)
    return out


def loss_and_gradient(theta, x, y, valid, scored, *, chunk, classify):
    short = -x.shape[1] % chunk
    if short:
        x = np.pad(x, ((0, 0), (0, short), (0, 0)))
        y, valid, scored = (np.pad(a, ((0, 0), (0, short))) for a in (y, valid, scored))
    B, T, D = x.shape
    real = theta["w1"].dtype
    K, m = theta["log_precision"].shape
    C = theta["u"].shape[1]
    F = m - 1
    H = theta["w1"].shape[1]
    rows = np.ascontiguousarray(x.reshape(B * T, D))
    # encoder
    first = np.concatenate([theta["w1"], theta["v"]], 1)
    second = np.concatenate([theta["w2"], theta["u"]], 1)
    pre = _product(rows, first)
    h = np.tanh(pre[:, :H] + theta["b1"])
    mid = _product(h, second)
    z = np.ones((B * T, m), real)
    np.tanh(mid[:, :F] + theta["b2"], out=z[:, :F])
    shared = pre[:, H:] + mid[:, F:]
    add_product(z, theta["w0"], shared)
    goal = np.eye(C, dtype=real)[y.reshape(-1)] if classify else y.reshape(-1, 1)
    mask = valid.reshape(-1, 1)
    # lanes
    log_memory = -np.exp(-np.clip(theta["log_memory"], math.log(1.5), math.log(5000.0)))
    precision = np.exp(np.clip(theta["log_precision"], -6, 6))
    blocks = -(-B * K // LANES)
    head = np.arange(blocks * LANES).reshape(blocks, LANES) % K
    lag = np.append(np.arange(chunk - 1, -1, -1), chunk).astype(real)
    zm = (z * mask).reshape(B, T * m)
    rest = ((goal - shared) * mask).reshape(B, T * C)
    shared_r = shared.reshape(B, T * C)
    pasts = new_pasts(blocks, T, chunk, m, C, real)
    output = np.empty((blocks, T * C, LANES), real)
    leverage = np.empty((blocks, T, LANES), real)
    lik = np.empty((blocks, T, LANES), real)
    log_scale = theta["log_scale"] if classify else theta["log_noise"]
    scale = np.exp(log_scale)[head]
    if classify:
        kappa = np.exp(theta["log_leverage"])[head]
        p = np.empty_like(output)
    else:
        noise, count, yl, vl = (np.empty_like(lik) for _ in range(4))
    lanes_shared = np.empty((T * C, LANES), real)
    for i, past in enumerate(pasts):
        past.decay[:] = np.exp(log_memory[head[i]] * lag[:, None])
        past.precision[:] = precision[head[i]].T
        at = i * LANES
        into_lanes(zm, at, K, past.z)
        into_lanes(rest, at, K, past.rest)
        heads(past, output[i], leverage[i], chunk)
        into_lanes(shared_r, at, K, lanes_shared)
        output[i] += lanes_shared
        if classify:
            class_logits(output[i], leverage[i], scale[i], kappa[i], y, at, K, p[i], lik[i])
            np.exp(p[i], out=p[i])
            class_likelihood(p[i], lik[i])
        else:
            into_lanes(y, at, K, yl[i])
            into_lanes(valid, at, K, vl[i])
            value_likelihood(output[i], leverage[i], scale[i], yl[i], vl[i], noise[i], count[i], lik[i])
    d_lik = np.empty_like(lik)
    d_mix = np.empty(K, real)
    alpha = real.type(1 / (1 + np.exp(-theta["forget"])))
    loss, d_forget = mixture(lik, theta["log_mix"], alpha, valid, scored, d_lik, d_mix)
    dzl, drl = np.empty((T * m, LANES), real), np.empty((T * C, LANES), real)
    dz, d_shared, d_rest = np.zeros((B, T * m), real), np.zeros((B, T * C), real), np.zeros((B, T * C), real)
    d_lev = np.empty((T, LANES), real)
    d_scale, d_kappa = np.zeros((blocks, LANES), real), np.zeros((blocks, LANES), real)
    d_prec, d_mem = np.empty((blocks, m, LANES), real), np.empty((blocks, 1, LANES), real)
    for i, past in enumerate(pasts):
        at = i * LANES
        if classify:
            d_out = p[i]
            class_likelihood_adjoint(
                output[i], leverage[i], scale[i], kappa[i], y, at, K, d_out, d_lik[i], d_lev, d_scale[i], d_kappa[i]
            )
        else:
            d_out = np.empty((T * C, LANES), real)
            value_likelihood_adjoint(
                output[i], leverage[i], scale[i], yl[i], vl[i], noise[i], count[i], d_lik[i], d_out, d_lev, d_scale[i]
            )
        heads_adjoint(past, d_out, d_lev, leverage[i], dzl, drl, d_prec[i], d_mem[i], chunk)
        from_lanes(dzl, at, K, dz)
        from_lanes(drl, at, K, d_rest)
        from_lanes(d_out, at, K, d_shared)
    d_shared = d_shared.reshape(-1, C) - d_rest.reshape(-1, C) * mask
    dz = dz.reshape(-1, m) * mask
    g = {}
    g["w0"] = _transposed_product(z, d_shared)
    add_product(d_shared, np.ascontiguousarray(theta["w0"].T), dz)
    d_mid = np.concatenate([dz[:, :F] * (1 - z[:, :F] ** 2), d_shared], 1)
    d_second = _transposed_product(h, d_mid)
    d_h = _product(d_mid, np.ascontiguousarray(second.T)) * (1 - h * h)
    d_pre = np.concatenate([d_h, d_shared], 1)
    d_first = _transposed_product(rows, d_pre)
    g["w1"], g["v"] = d_first[:, :H], d_first[:, H:]
    g["w2"], g["u"] = d_second[:, :F], d_second[:, F:]
    g["b1"], g["b2"] = d_h.sum(0), d_mid[:, :F].sum(0)
    n = B * K
    per_head = lambda lanes: lanes.reshape(-1)[:n].reshape(B, K).sum(0)
    g["log_mix"] = d_mix
    g["forget"] = np.asarray(d_forget * alpha * (1 - alpha))
    g["log_scale" if classify else "log_noise"] = per_head(d_scale)
    if classify:
        g["log_leverage"] = per_head(d_kappa)
    inside = (theta["log_memory"] >= math.log(1.5)) & (theta["log_memory"] <= math.log(5000.0))
    g["log_memory"] = per_head(d_mem) * -log_memory * inside
    lp = theta["log_precision"]
    dp = d_prec.transpose(0, 2, 1).reshape(-1, m)[:n].reshape(B, K, m).sum(0)
    g["log_precision"] = dp * precision * ((lp >= -6) & (lp <= 6))
    return float(loss), g

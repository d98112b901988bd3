// θ of the exact heads as the event path reads it, and the mathematics of one event: what predicting, learning and
// scoring have in common.
//
// Equations: see streammeta/meta/exact/heads.py; layout: see streammeta/meta/exact/event_kernel.py. Lanes are heads of
// one task, never events; those left over see no features.
#pragma once

#include <algorithm>
#include <utility>

#include "array.hpp"
#include "lanes.hpp"

namespace streammeta::event {

constexpr float PRIOR_COUNT = 1;  // how many residuals the meta-learned noise is worth

using Numbers = Array<const float, 1>;
using Matrix = Array<const float, 2>;
using Matrices = Array<const float, 3>;

// `Weights` of event_kernel.py, in its order.
struct Weights {
    Numbers shift, gain;
    Matrices first, second, third;
    Matrix w0, precision, memory, scale, leverage, owner, slow, log_mix;
    Numbers forget, y_affine;
    Index E, K, G, m, H, J;  // members, heads of each, blocks of lanes, encoded features and 1, hidden, inner

    explicit Weights(nb::tuple fields) {
        require(fields.size() == 15, "weights: wanted the 15 arrays of `Weights`");
        shift = take<const float, 1>(fields[0], "shift"), gain = take<const float, 1>(fields[1], "gain");
        first = take<const float, 3>(fields[2], "first"), second = take<const float, 3>(fields[3], "second");
        third = take<const float, 3>(fields[4], "third"), w0 = take<const float, 2>(fields[5], "w0");
        precision = take<const float, 2>(fields[6], "precision"), memory = take<const float, 2>(fields[7], "memory");
        scale = take<const float, 2>(fields[8], "scale"), leverage = take<const float, 2>(fields[9], "leverage");
        owner = take<const float, 2>(fields[10], "owner"), slow = take<const float, 2>(fields[11], "slow");
        log_mix = take<const float, 2>(fields[12], "log_mix"), forget = take<const float, 1>(fields[13], "forget");
        y_affine = take<const float, 1>(fields[14], "y_affine");
        E = log_mix.shape[0], K = log_mix.shape[1], G = memory.shape[0], m = precision.shape[0] / std::max<Index>(G, 1);
        H = second.shape[1] - 1, J = third.shape[1];
        const bool lanes = memory.shape[1] == LANES && precision.shape[1] == LANES && w0.shape[1] == LANES &&
                           scale.shape == memory.shape && leverage.shape == memory.shape &&
                           slow.shape == memory.shape && owner.shape[0] == E * G && owner.shape[1] == LANES;
        const bool members = first.shape[0] == E && second.shape[0] == E && third.shape[0] == E && forget.size() == E;
        require(lanes && members && E * K <= G * LANES && first.shape[1] == shift.size() + 1 &&
                    gain.size() == shift.size() && y_affine.size() == 2 && first.shape[2] % LANES == 0 &&
                    second.shape[2] % LANES == 0 && third.shape[2] % LANES == 0 && m - 1 <= third.shape[2],
                "weights: arrays that do not fit each other");
    }
};

// For one event after the other.
struct Workspace {
    Index m, C, G;
    Rows<float> low, u, z, s, output, spread, weights, logs;
    Workspace(const Weights& w, Index C)
        : m(w.m), C(C), G(w.G), low(m * m), u(m), z(G * m), s(G * C), output(G * C), spread(G), weights(G), logs(G) {
        clear_rows(weights.data(), G), clear_rows(logs.data(), G);
    }
};

// `work.low` becomes L of A + Λ = L Lᵀ for block g of a row, with 1 over its diagonal.
inline void factor_block(const Weights& w, const float* A, Index g, Workspace& work) {
    const Index m = work.m;
    float* low = work.low.data();
    const float* precision = w.precision.data + g * m * LANES;
    const auto at = [m](float* matrix, Index i, Index j) { return matrix + (i * m + j) * LANES; };
    for (Index i = 0; i < m; i++) {
        copy_rows(at(low, i, 0), A, i + 1);
        A += (i + 1) * LANES;
        (load(at(low, i, i)) + load(precision + i * LANES)).store(at(low, i, i));
    }
    for (Index j = 0; j < m; j++) {
        add_products(at(low, j, j), m, m - j, -1, at(low, j, 0), 1, at(low, j, 0), m, 1, j);
        const Row<float> inverse = broadcast<float>(1) / root(load(at(low, j, j)));
        inverse.store(at(low, j, j));
        if (j + 1 < m) scale(at(low, j + 1, j), m, m - j - 1, inverse);
    }
}

// Block g of the workspace, factored: output = s + Bᵀ(A + Λ)⁻¹z and spread = zᵀ(A + Λ)⁻¹z.
inline void solve_block(const float* B, Index wide, Index g, Workspace& work) {
    const Index m = work.m, C = work.C;
    float *low = work.low.data(), *u = work.u.data(), *z = work.z.data() + g * m * LANES;
    const auto at = [m](float* matrix, Index i, Index j) { return matrix + (i * m + j) * LANES; };
    copy_rows(u, z, m);
    for (Index i = 0; i < m; i++) {
        add_products(u + i * LANES, 1, 1, -1, at(low, i, 0), 1, u, 0, 1, i);
        scale(u + i * LANES, 1, 1, load(at(low, i, i)));
    }
    float* spread = work.spread.data() + g * LANES;
    clear_rows(spread, 1);
    add_products(spread, 1, 1, 1, u, 1, u, 0, 1, m);
    for (Index i = m - 1; i >= 0; i--) {
        if (i + 1 < m)
            add_products(u + i * LANES, 1, 1, -1, at(low, i + 1, i), m, u + (i + 1) * LANES, 0, 1, m - 1 - i);
        scale(u + i * LANES, 1, 1, load(at(low, i, i)));
    }
    float* output = work.output.data() + g * C * LANES;
    copy_rows(output, work.s.data() + g * C * LANES, C);
    add_products(output, 1, C, 1, u, 1, B, 1, wide, m);
}

inline void predict_block(const Weights& w, const float* A, const float* B, Index wide, Index g, Workspace& work) {
    factor_block(w, A, g, work);
    solve_block(B, wide, g, work);
}

// The weights of each member's heads: softmax(prior + evidence).
inline void mix(const Weights& w, const float* evidence, Workspace& work) {
    float* weights = work.weights.data();
    for (Index e = 0; e < w.E; e++) {
        float top = -1e30f, *own = weights + e * w.K;
        for (Index k = 0; k < w.K; k++) {
            own[k] = w.log_mix[e][k] + evidence[e * w.K + k];
            top = std::max(top, own[k]);
        }
        for (Index k = 0; k < w.K; k++) own[k] -= top;
    }
    for (Index g = 0; g < w.G; g++) exponential(load(weights + g * LANES)).store(weights + g * LANES);
    for (Index e = 0; e < w.E; e++) {
        float total = 0, *own = weights + e * w.K;
        for (Index k = 0; k < w.K; k++) total += own[k];
        for (Index k = 0; k < w.K; k++) own[k] /= total;
    }
}

// The mean and variance of an event's normalized target; `work.logs` becomes each head's predictive variance. `own` is
// the share of the target's own noise in it: 1, or 0 for how far the mean alone may be wrong.
inline std::pair<float, float> predict_value(const Weights& w, const float* evidence, const float* noise, float own,
                                             Workspace& work) {
    const float share = 1.f / float(w.E), *weights = work.weights.data(), *output = work.output.data();
    float *variance = work.logs.data(), mean = 0, spread = 0;
    mix(w, evidence, work);
    for (Index g = 0; g < w.G; g++) {
        const float* of = noise + 2 * g * LANES;
        const Row<float> prior = load(w.scale.data + g * LANES) * PRIOR_COUNT;
        const Row<float> residual = (prior + load(of)) / (load(of + LANES) + PRIOR_COUNT);
        (residual * (load(work.spread.data() + g * LANES) + own)).store(variance + g * LANES);
    }
    for (Index k = 0; k < w.E * w.K; k++) mean += share * weights[k] * output[k];
    for (Index k = 0; k < w.E * w.K; k++) {
        const float gap = output[k] - mean;
        spread += share * weights[k] * (variance[k] + gap * gap);
    }
    return {mean, spread};
}

}  // namespace streammeta::event

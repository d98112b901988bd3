// Likelihoods of the heads over segments and their mixture, forward and backward.
//
// Equations: see streammeta/meta/exact/gradient.py; lanes and blocks: see segments_heads.hpp. In the mixture lanes are
// segments, of which there are at most sixteen at a time.
#pragma once

#include <vector>

#include "segments_heads.hpp"

namespace streammeta {

// What segments are judged by, [S·T] each.
template <class T>
struct Targets {
    const int64_t* label;             // class index; −1 in regression
    const T *target, *valid, *share;  // 0 in classification; 1 where there is an event; what it counts in the loss
};
// Parameters of the losses, one number a head [E·K] or a member [E], or their derivatives.
template <class T>
struct LossParameters {
    T *log_scale, *log_leverage;  // of classes
    T* log_noise;                 // of targets
    T *log_mix, *forget;
};

// Of the lanes of a block: exp of its heads' parameter; and what lanes found, added to their heads.
template <class T>
Row<T> of_heads(const Shapes& s, const T* logs, const int64_t* head, Index first) {
    T lanes[LANES];
    for (Index lane = 0; lane < LANES; lane++) lanes[lane] = logs[head[std::min(first + lane, s.lanes() - 1)]];
    return exponential(load(lanes));
}
template <class T>
void add_by_head(const Shapes& s, const Row<T>& found, const int64_t* head, Index first, T* d_logs) {
    T lanes[LANES];
    found.store(lanes);
    for (Index lane = 0; lane < std::min(LANES, s.lanes() - first); lane++) d_logs[head[first + lane]] += lanes[lane];
}

// Of a block: probabilities p [T·C, 16] = softmax(output · scale / √(1 + κ leverage)), and log p of the label [T, 16].
template <class T>
void class_likelihood(const Shapes& s, const T* output, const T* leverage, const LossParameters<const T>& of,
                      const int64_t* head, Index first, const int64_t* label, T* p, T* likelihood) {
    const Row<T> scale = of_heads(s, of.log_scale, head, first), flattening = of_heads(s, of.log_leverage, head, first);
    const Row<T> one = broadcast<T>(1);
    const Index used = std::min(LANES, s.lanes() - first);
    for (Index t = 0; t < s.T; t++, p += s.C * LANES, output += s.C * LANES) {
        const Row<T> factor = scale / root(fused(flattening, load(leverage + t * LANES), one));
        Row<T> top = broadcast<T>(-std::numeric_limits<T>::infinity()), total = broadcast<T>(0);
        for (Index c = 0; c < s.C; c++) {
            const Row<T> logit = load(output + c * LANES) * factor;
            logit.store(p + c * LANES);
            top = larger(logit, top);
        }
        T of_label[LANES] = {};
        for (Index lane = 0; lane < used; lane++) {
            of_label[lane] = p[label[(first + lane) / s.K * s.T + t] * LANES + lane];
        }
        for (Index c = 0; c < s.C; c++) {
            const Row<T> part = exponential(load(p + c * LANES) - top);
            part.store(p + c * LANES);
            total = total + part;
        }
        (load(of_label) - top - logarithm(total)).store(likelihood + t * LANES);
        const Row<T> inverse = one / total;
        for (Index c = 0; c < s.C; c++) (load(p + c * LANES) * inverse).store(p + c * LANES);
    }
}
// From ∂likelihood [T, 16]: p becomes ∂output [T·C, 16]; ∂leverage [T, 16] is filled, ∂ of parameters added to.
template <class T>
void class_likelihood_adjoint(const Shapes& s, const T* output, const T* leverage, const LossParameters<const T>& of,
                              const int64_t* head, Index first, const int64_t* label, T* p, const T* d_likelihood,
                              T* d_leverage, const LossParameters<T>& slope) {
    const Row<T> scale = of_heads(s, of.log_scale, head, first), flattening = of_heads(s, of.log_leverage, head, first);
    const Row<T> one = broadcast<T>(1);
    Row<T> of_scale = broadcast<T>(0), of_leverage = of_scale;
    const Index used = std::min(LANES, s.lanes() - first);
    for (Index t = 0; t < s.T; t++, p += s.C * LANES, output += s.C * LANES) {
        for (Index lane = 0; lane < used; lane++) p[label[(first + lane) / s.K * s.T + t] * LANES + lane] -= 1;
        const Row<T> own = load(leverage + t * LANES), spread = fused(flattening, own, one);
        const Row<T> factor = load(d_likelihood + t * LANES) * scale / root(spread) * T(-1);
        Row<T> gain = broadcast<T>(0);
        for (Index c = 0; c < s.C; c++) {
            const Row<T> slope_c = load(p + c * LANES) * factor;
            slope_c.store(p + c * LANES);
            gain = fused(slope_c, load(output + c * LANES), gain);
        }
        const Row<T> d_own = gain * T(-0.5) * flattening / spread;
        d_own.store(d_leverage + t * LANES);
        of_scale = of_scale + gain;
        of_leverage = fused(d_own, own, of_leverage);
    }
    add_by_head(s, of_scale, head, first, slope.log_scale);
    add_by_head(s, of_leverage, head, first, slope.log_leverage);
}

template <class T>
constexpr T NOISE_KEPT = T(0.99);  // as on the event path; a prior counts as one residual

// What regression remembers of a block, [T, 16] each: σ² before each event and its count; targets and events by lane.
template <class T>
struct Noise {
    Rows<T> variance, count, target, valid;
    explicit Noise(const Shapes& s) : variance(s.T), count(s.T), target(s.T), valid(s.T) {}
};
// Of a block: log N(target; output, σ²(1 + leverage)) [T, 16], σ² from the lane's own residuals.
template <class T>
void value_likelihood(const Shapes& s, const T* output, const T* leverage, const LossParameters<const T>& of,
                      const int64_t* head, Index first, const Targets<T>& targets, const Noise<T>& noise,
                      T* likelihood) {
    constexpr T LOG_TAU = T(1.83787706640934548356);
    const Row<T> prior = of_heads(s, of.log_noise, head, first), one = broadcast<T>(1);
    const Row<T> kept = broadcast<T>(NOISE_KEPT<T>);
    into_lanes(s, targets.target, first, 1, noise.target.data());
    into_lanes(s, targets.valid, first, 1, noise.valid.data());
    Row<T> residuals = broadcast<T>(0), seen = residuals;
    for (Index i = 0; i < s.T * LANES; i += LANES) {
        const Row<T> gap = load(noise.target.data() + i) - load(output + i), squared = gap * gap;
        const Row<T> spread = one + load(leverage + i), count = one + seen, own = (prior + residuals) / count;
        const Row<T> variance = own * spread, valid = load(noise.valid.data() + i);
        count.store(noise.count.data() + i), own.store(noise.variance.data() + i);
        ((squared / variance + logarithm(variance) + LOG_TAU) * T(-0.5)).store(likelihood + i);
        residuals = fused(kept, residuals, valid * squared / spread);
        seen = fused(kept, seen, valid);
    }
}
// From ∂likelihood: fill ∂output and ∂leverage [T, 16]; ∂log_noise is added to.
template <class T>
void value_likelihood_adjoint(const Shapes& s, const T* output, const T* leverage, const LossParameters<const T>& of,
                              const int64_t* head, Index first, const Noise<T>& noise, const T* d_likelihood,
                              T* d_output, T* d_leverage, const LossParameters<T>& slope) {
    const Row<T> prior = of_heads(s, of.log_noise, head, first), one = broadcast<T>(1);
    const Row<T> kept = broadcast<T>(NOISE_KEPT<T>);
    Row<T> d_residuals = broadcast<T>(0), d_prior = d_residuals;  // of the sum after an event
    for (Index i = (s.T - 1) * LANES; i >= 0; i -= LANES) {
        const Row<T> gap = load(noise.target.data() + i) - load(output + i), spread = one + load(leverage + i);
        const Row<T> own = load(noise.variance.data() + i), variance = own * spread;
        const Row<T> share = load(noise.valid.data() + i) / spread;
        const Row<T> given = load(d_likelihood + i) * T(0.5) / variance;
        const Row<T> d_variance = given * (gap * gap / variance - one), d_squared = d_residuals * share - given;
        const Row<T> d_noise = d_variance * spread / load(noise.count.data() + i);
        (d_squared * gap * T(-2)).store(d_output + i);
        (d_variance * own - d_residuals * share * gap * gap / spread).store(d_leverage + i);
        d_prior = fused(d_noise, prior, d_prior);
        d_residuals = fused(kept, d_residuals, d_noise);
    }
    add_by_head(s, d_prior, head, first, slope.log_noise);
}

// softmax over k of logs [K, 16], into weights [K, 16]; returns log Σ exp.
template <class T>
INLINE Row<T> normalize(const T* logs, Index K, T* weights) {
    Row<T> top = load(logs), total = broadcast<T>(0);
    for (Index k = 1; k < K; k++) top = larger(load(logs + k * LANES), top);
    for (Index k = 0; k < K; k++) {
        const Row<T> part = exponential(load(logs + k * LANES) - top);
        part.store(weights + k * LANES);
        total = total + part;
    }
    const Row<T> inverse = broadcast<T>(1) / total;
    for (Index k = 0; k < K; k++) (load(weights + k * LANES) * inverse).store(weights + k * LANES);
    return top + logarithm(total);
}

// The loss −Σ share · log Σ_k softmax(prior + ℓ)_k p_k; the likelihoods [blocks, T, 16] become their derivatives.
//
// ∂log_mix [E·K] and ∂forget [E], the logit of α, are added to.
template <class T>
T mixture_loss(const Shapes& s, T* likelihood, const LossParameters<const T>& of, const int64_t* head,
               const Targets<T>& targets, const LossParameters<T>& slope) {
    constexpr T LEAST_LOG = -14;
    const auto [S, events, n, K, m, C] = s;
    const auto place = [events, K](Index segment, Index k, Index t) {
        const Index lane = segment * K + k;
        return (lane / LANES * events + t) * LANES + lane % LANES;
    };
    Rows<T> log_mix(K), alpha(1), logs(K), valid(events), share(events), d_evidence(K), d_log_mix(K);
    Rows<T> given(events * K), evidence((events + 1) * K), prior(events * K), posterior(events * K);
    clear_rows(log_mix.data(), K), clear_rows(alpha.data(), 1), clear_rows(evidence.data(), K);
    clear_rows(valid.data(), events), clear_rows(share.data(), events), clear_rows(given.data(), events * K);
    for (Index i = 0; i < S; i++) {
        alpha.data()[i] = 1 / (1 + exponential(-of.forget[head[i * K] / K]));
        for (Index k = 0; k < K; k++) log_mix.data()[k * LANES + i] = of.log_mix[head[i * K + k]];
        for (Index t = 0; t < events; t++) {
            valid.data()[t * LANES + i] = targets.valid[i * events + t];
            share.data()[t * LANES + i] = targets.share[i * events + t];
            for (Index k = 0; k < K; k++) given.data()[(t * K + k) * LANES + i] = likelihood[place(i, k, t)];
        }
    }
    const Row<T> kept = load(alpha.data()), least = broadcast<T>(LEAST_LOG), zero = broadcast<T>(0);
    Row<T> loss = zero;
    for (Index t = 0; t < events; t++) {
        const Row<T> there = load(valid.data() + t * LANES);
        T *own = evidence.data() + t * K * LANES, *next = own + K * LANES;
        for (Index k = 0; k < K * LANES; k += LANES) (load(own + k) + load(log_mix.data() + k)).store(logs.data() + k);
        const Row<T> before = normalize(logs.data(), K, prior.data() + t * K * LANES);
        for (Index k = 0; k < K * LANES; k += LANES) {
            const Row<T> log_p = load(given.data() + t * K * LANES + k);
            (load(logs.data() + k) + log_p).store(logs.data() + k);
            fused(kept, load(own + k), larger(log_p, least) * there).store(next + k);
        }
        const Row<T> after = normalize(logs.data(), K, posterior.data() + t * K * LANES);
        loss = loss - (after - before) * load(share.data() + t * LANES);
    }
    clear_rows(d_evidence.data(), K), clear_rows(d_log_mix.data(), K);  // d_evidence: of the evidence after an event
    Row<T> d_alpha = zero;
    for (Index t = events - 1; t >= 0; t--) {
        const Row<T> there = load(valid.data() + t * LANES), counts = load(share.data() + t * LANES);
        for (Index k = 0; k < K * LANES; k += LANES) {
            const Index at = t * K * LANES + k;
            const Row<T> log_p = load(given.data() + at), later = load(d_evidence.data() + k);
            const Row<T> passed = each([](auto x, auto y, auto z) INLINE_LAMBDA { return x > y ? z : z - z; }, log_p,
                                       least, later * there);
            const Row<T> with_label = load(posterior.data() + at);
            (passed - counts * with_label).store(given.data() + at);
            d_alpha = fused(later, load(evidence.data() + at), d_alpha);
            const Row<T> d_log = counts * (load(prior.data() + at) - with_label);
            (load(d_log_mix.data() + k) + d_log).store(d_log_mix.data() + k);
            fused(kept, later, d_log).store(d_evidence.data() + k);
        }
    }
    T lanes[LANES], of_alpha[LANES], sum = 0;
    loss.store(lanes), d_alpha.store(of_alpha);
    for (Index i = 0; i < S; i++) {
        const T own = alpha.data()[i];
        sum += lanes[i];
        slope.forget[head[i * K] / K] += of_alpha[i] * own * (1 - own);
        for (Index k = 0; k < K; k++) {
            slope.log_mix[head[i * K + k]] += d_log_mix.data()[k * LANES + i];
            for (Index t = 0; t < events; t++) likelihood[place(i, k, t)] = given.data()[(t * K + k) * LANES + i];
        }
    }
    return sum;
}

}  // namespace streammeta

// The event path of the exact heads: encode, predict, adapt, one event after the other.
//
// Equations: see streammeta/meta/exact/heads.py; layout: see streammeta/meta/exact/event_kernel.py. Events are
// independent but for the state of their task's row, and each is computed by the same instructions, so a prediction has
// the same bits however events were grouped into calls. Lanes are heads of one task, never events; those left over see
// no features.
#include <algorithm>

#include "array.hpp"
#include "lanes.hpp"

namespace streammeta {

namespace {

constexpr float CLIP = 6;         // normalized features are cut here: one wild value must not own the encoder
constexpr float LEAST = 1e-6f;    // no head's probability for a label counts as less
constexpr float LEAST_LOG = -14;  // nor its log-likelihood
constexpr float PRIOR_COUNT = 1;  // how many residuals the meta-learned noise is worth
constexpr float NOISE_DECAY = 0.99f;
constexpr float HALF_LOG_TAU = 0.918938533204672742f;
constexpr Index ENCODED_TOGETHER = 64;  // events; the encoder is faster with several
constexpr uint8_t FORGET_BEFORE = 1, FORGET_AFTER = 2;

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

// φ of all tasks: A [T, G, P, 16], lower triangles; B [T, G, m, ·, 16]; evidence [T, G, 16]; in regression noise.
struct State {
    Array<float, 4> A;
    Array<float, 5> B;
    Array<float, 3> evidence;
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

// out [N, ·] += a [N, wide of a] b [P, ·], in panels of lanes.
void add_matrix_product(const float* a, Index a_width, const float* b, Index P, Index width, Index N, float* out) {
    const Index panels = width / LANES;
    for (Index i = 0; i < panels; i++) {
        add_scaled(out + i * LANES, panels, N, b + i * LANES, panels, a, a_width, 1, P);
    }
}

// tanh of the first `count` columns of rows [N, width].
void tanh_columns(float* rows, Index N, Index width, Index count) {
    const auto tanh = [](auto x) INLINE_LAMBDA { return hyperbolic_tangent(x); };
    for (Index n = 0; n < N; n++, rows += width) {
        Index i = 0;
        for (; i + LANES <= count; i += LANES) each(tanh, load(rows + i)).store(rows + i);
        for (; i < count; i++) rows[i] = tanh(rows[i]);
    }
}

// The encoder, for some events at once: z [E, n, m] = [f_θ(x); 1] and s_θ(x) [E, n, C].
class Encoder {
  public:
    Encoder(const Weights& w, Index C, Index most)
        : w_(w),
          C_(C),
          D_(w.shift.size()),
          x_(rows(most * (D_ + 1))),
          h_(rows(most * (w.H + 1))),
          first_(rows(most * w.first.shape[2])),
          second_(rows(most * w.second.shape[2])),
          third_(rows(most * w.third.shape[2])),
          z_(rows(w.E * most * w.m)),
          s_(rows(w.E * most * C)) {}

    // Raw events xs [N, D]; NaN is missing.
    void encode(const float* xs, Index N) {
        const Index outer = w_.first.shape[2], inner = w_.second.shape[2], last = w_.third.shape[2], H = w_.H;
        const Index J = w_.J, m = w_.m;
        float *x = x_.data(), *h = h_.data(), *first = first_.data(), *second = second_.data(), *third = third_.data();
        N_ = N;
        for (Index n = 0; n < N; n++) {
            float* row = x + n * (D_ + 1);
            for (Index d = 0; d < D_; d++) {
                const float value = (xs[n * D_ + d] - w_.shift[d]) * w_.gain[d];
                row[d] = value == value ? clamp(value, -CLIP, CLIP) : 0;  // missing adds nothing, as the mean does
            }
            row[D_] = 1;
        }
        for (Index e = 0; e < w_.E; e++) {
            std::fill_n(first, N * outer, 0.f), std::fill_n(second, N * inner, 0.f), std::fill_n(third, N * last, 0.f);
            add_matrix_product(x, D_ + 1, w_.first[e].data, D_ + 1, outer, N, first);
            tanh_columns(first, N, outer, H);
            for (Index n = 0; n < N; n++) {
                std::copy_n(first + n * outer, H, h + n * (H + 1));
                h[n * (H + 1) + H] = 1;
            }
            add_matrix_product(h, H + 1, w_.second[e].data, H + 1, inner, N, second);
            float* s = s_.data() + e * N * C_;
            for (Index n = 0; n < N; n++) {
                for (Index c = 0; c < C_; c++) s[n * C_ + c] = first[n * outer + H + c] + second[n * inner + J + c];
            }
            tanh_columns(second, N, inner, J);
            add_matrix_product(second, inner, w_.third[e].data, J, last, N, third);
            float* z = z_.data() + e * N * m;
            for (Index n = 0; n < N; n++) {
                std::copy_n(third + n * last, m - 1, z + n * m);
                z[n * m + m - 1] = 1;
            }
        }
    }

    // Event n: z into the lanes of `work.z`, and s_θ(x) + W0ᵀz into those of `work.s`.
    void into_lanes(Index n, Workspace& work) const {
        const Index m = w_.m, G = w_.G, known = w_.w0.shape[0] / (G * m);
        clear_rows(work.z.data(), G * m), clear_rows(work.s.data(), G * C_);
        for (Index g = 0; g < G; g++) {
            float *z = work.z.data() + g * m * LANES, *s = work.s.data() + g * C_ * LANES;
            const float *owner = w_.owner.data + g * LANES, *w0 = w_.w0.data + g * m * known * LANES;
            add_scaled(z, 1, m, owner, G, z_.data() + n * m, 1, N_ * m, w_.E);
            add_scaled(s, 1, C_, owner, G, s_.data() + n * C_, 1, N_ * C_, w_.E);
            add_products(s, 1, C_, 1, z, 1, w0, 1, known, m);
        }
    }

  private:
    static Index rows(Index numbers) { return (numbers + LANES - 1) / LANES; }
    const Weights& w_;
    Index C_, D_, N_ = 0;
    Rows<float> x_, h_, first_, second_, third_, z_, s_;
};

// `work.low` becomes L of A + Λ = L Lᵀ for block g of a row, with 1 over its diagonal.
void factor_block(const Weights& w, const float* A, Index g, Workspace& work) {
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
void solve_block(const float* B, Index wide, Index g, Workspace& work) {
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

void predict_block(const Weights& w, const float* A, const float* B, Index wide, Index g, Workspace& work) {
    factor_block(w, A, g, work);
    solve_block(B, wide, g, work);
}

// Block g of the output becomes class probabilities: softmax(output · scale / √(1 + κ spread)).
void into_probabilities(const Weights& w, Index g, Workspace& work) {
    float *output = work.output.data() + g * work.C * LANES, *end = output + work.C * LANES;
    const Row<float> one = broadcast<float>(1);
    const Row<float> flat = one + load(w.leverage.data + g * LANES) * load(work.spread.data() + g * LANES);
    const Row<float> factor = load(w.scale.data + g * LANES) / root(flat);
    Row<float> top = broadcast<float>(-std::numeric_limits<float>::infinity()), total = broadcast<float>(0);
    for (float* p = output; p < end; p += LANES) {
        const Row<float> logit = load(p) * factor;
        logit.store(p);
        top = larger(logit, top);
    }
    for (float* p = output; p < end; p += LANES) {
        const Row<float> part = exponential(load(p) - top);
        part.store(p);
        total = total + part;
    }
    scale(output, 1, work.C, one / total);
}

// The weights of each member's heads: softmax(prior + evidence).
void mix(const Weights& w, const float* evidence, Workspace& work) {
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

// ℓ ← α ℓ + max(log p, −14) for every head, then the best of each member has 0.
void learn_evidence(const Weights& w, float* evidence, const float* logs) {
    for (Index e = 0; e < w.E; e++) {
        float top = -1e30f;
        for (Index k = e * w.K; k < (e + 1) * w.K; k++) {
            evidence[k] = w.forget[e] * evidence[k] + std::max(logs[k], LEAST_LOG);
            top = std::max(top, evidence[k]);
        }
        for (Index k = e * w.K; k < (e + 1) * w.K; k++) evidence[k] -= top;
    }
}

// A ← γ A + z zᵀ and B ← γ B + z rᵀ in all lanes of block g of a row; `work.s` becomes r = y − s.
void learn_block(const Weights& w, float* A, float* B, Index wide, float target, Index label, Index g,
                 Workspace& work) {
    const Row<float> kept = load(w.memory.data + g * LANES);
    float *z = work.z.data() + g * work.m * LANES, *s = work.s.data() + g * work.C * LANES;
    for (Index c = 0; c < work.C; c++) {
        const float y = label >= 0 ? float(c == label) : target;
        (broadcast<float>(y) - load(s + c * LANES)).store(s + c * LANES);
    }
    for (Index i = 0; i < work.m; i++, B += wide * LANES) {
        const Row<float> own = load(z + i * LANES);
        for (Index j = 0; j <= i; j++, A += LANES) fused(kept, load(A), own * load(z + j * LANES)).store(A);
        for (Index c = 0; c < work.C; c++) {
            float* to = B + c * LANES;
            fused(kept, load(to), own * load(s + c * LANES)).store(to);
        }
    }
}

// What each member's slowest head of a row has seen until now was another concept.
void forget_slowest(const Weights& w, Array<float, 3> A, Array<float, 4> B) {
    for (Index g = 0; g < w.G; g++) {
        const Row<float> slow = load(w.slow.data + g * LANES);
        scale(A[g].data, 1, A.shape[1], slow);
        scale(B[g].data, 1, B.shape[1] * B.shape[2], slow);
    }
}

// The class probabilities of an event [C], from the workspace.
void predict_classes(const Weights& w, const float* evidence, Workspace& work, float* mean) {
    const Index C = work.C;
    const float share = 1.f / float(w.E), *weights = work.weights.data(), *output = work.output.data();
    for (Index g = 0; g < w.G; g++) into_probabilities(w, g, work);
    mix(w, evidence, work);
    std::fill_n(mean, C, 0.f);
    for (Index k = 0; k < w.E * w.K; k++) {
        const float weight = share * weights[k], *own = output + k / LANES * C * LANES + k % LANES;
        for (Index c = 0; c < C; c++) mean[c] += weight * own[c * LANES];
    }
}

void learn_class_evidence(const Weights& w, float* evidence, Index label, Workspace& work) {
    const Row<float> least = broadcast<float>(LEAST);
    for (Index g = 0; g < w.G; g++) {
        const Row<float> p = load(work.output.data() + (g * work.C + label) * LANES);
        logarithm(larger(p, least)).store(work.logs.data() + g * LANES);
    }
    learn_evidence(w, evidence, work.logs.data());
}

// The mean and variance of an event's normalized target; `work.logs` becomes each head's predictive variance. `own` is
// the share of the target's own noise in it: 1, or 0 for how far the mean alone may be wrong.
std::pair<float, float> predict_value(const Weights& w, const float* evidence, const float* noise, float own,
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

void learn_value_evidence(const Weights& w, float* evidence, float* noise, float target, Workspace& work) {
    float* logs = work.logs.data();  // the predictive variances, until here
    const Row<float> one = broadcast<float>(1);
    for (Index g = 0; g < w.G; g++) {
        const Row<float> gap = broadcast<float>(target) - load(work.output.data() + g * LANES), squared = gap * gap;
        const Row<float> variance = load(logs + g * LANES);
        ((squared / variance + logarithm(variance)) * -0.5f - HALF_LOG_TAU).store(logs + g * LANES);
        const Row<float> residual = squared / (one + load(work.spread.data() + g * LANES));
        float found[LANES], *sum = noise + 2 * g * LANES, *count = sum + LANES;
        residual.store(found);
        for (Index lane = 0; lane < std::min(LANES, w.E * w.K - g * LANES); lane++) {
            sum[lane] = NOISE_DECAY * sum[lane] + found[lane];
            count[lane] = NOISE_DECAY * count[lane] + 1;
        }
    }
    learn_evidence(w, evidence, logs);
}

struct Events {
    Array<const int64_t, 1> rows;
    Matrix xs;
    Numbers ys;
    Array<const uint8_t, 1> forget;
    Index most_classes;  // 0 in regression
};

void check(const Weights& w, const State& state, const Events& events, Index C, Index predicted) {
    const auto& [rows, xs, ys, forget, classes] = events;
    const Index tasks = state.A.shape[0], N = rows.size();
    const bool fits = state.A.shape[1] == w.G && state.A.shape[2] == w.m * (w.m + 1) / 2 && state.A.shape[3] == LANES &&
                      state.B.shape[0] == tasks && state.B.shape[1] == w.G && state.B.shape[2] == w.m &&
                      state.B.shape[3] >= C && state.B.shape[4] == LANES && state.evidence.shape[0] == tasks &&
                      state.evidence.shape[1] == w.G && state.evidence.shape[2] == LANES;
    require(fits, "run: a state that does not fit the weights");
    require(C <= w.w0.shape[0] / (w.G * w.m), "run: more outputs than the weights have");
    require(w.H + C <= w.first.shape[2] && w.J + C <= w.second.shape[2], "run: more outputs than the encoder has");
    require(xs.shape[0] == N && xs.shape[1] == w.shift.size() && ys.size() == N && (predicted == 0 || predicted == N) &&
                (forget.size() == 0 || forget.size() == N),
            "run: events that do not fit the weights or each other");
    for (Index n = 0; n < N; n++) {
        require(rows[n] >= 0 && rows[n] < tasks, "run: a row that is not there");
        require(classes == 0 || !(ys[n] >= float(classes)), "run: a label that is no class");
    }
}

// All events in order; `predict(n, row)` and `learn(n, row)` are what differs between classes and targets.
template <class Predict, class Learn>
void run(const Weights& w, const State& state, const Events& events, bool predicted, Workspace& work, Predict predict,
         Learn learn) {
    const Index N = events.rows.size(), D = events.xs.shape[1], wide = state.B.shape[3];
    Encoder encoder(w, work.C, std::min(N, ENCODED_TOGETHER));
    for (Index begin = 0; begin < N; begin += ENCODED_TOGETHER) {
        const Index end = std::min(begin + ENCODED_TOGETHER, N);
        encoder.encode(events.xs.data + begin * D, end - begin);
        for (Index n = begin; n < end; n++) {
            const Index row = events.rows[n];
            const uint8_t forget = events.forget.size() ? events.forget[n] : 0;
            const auto A = state.A[row];
            const auto B = state.B[row];
            if (forget == FORGET_BEFORE) forget_slowest(w, A, B);
            encoder.into_lanes(n - begin, work);
            if (predicted) {
                for (Index g = 0; g < w.G; g++) predict_block(w, A[g].data, B[g].data, wide, g, work);
                predict(n, row);
            }
            const float y = events.ys[n];
            if (events.most_classes ? !(y >= 0) : y != y) continue;  // no label yet
            const auto [target, label] = learn(n, row);
            for (Index g = 0; g < w.G; g++) learn_block(w, A[g].data, B[g].data, wide, target, label, g, work);
            if (forget == FORGET_AFTER) forget_slowest(w, A, B);
        }
    }
}

void run_classes(nb::tuple weights, Array<float, 4> A, Array<float, 5> B, Array<float, 3> logw,
                 Array<const int64_t, 1> rows, Matrix xs, Numbers ys, Array<const uint8_t, 1> forget,
                 Array<float, 2> mean) {
    const Weights w(weights);
    const State state{A, B, logw};
    const auto [predicted, C] = mean.shape;
    const Events events{rows, xs, ys, forget, C};
    check(w, state, events, C, predicted);
    nb::gil_scoped_release released;
    Workspace work(w, C);
    const auto predict = [&](Index n, Index row) { predict_classes(w, logw[row].data, work, mean[n].data); };
    const auto learn = [&](Index n, Index row) {
        const Index label = Index(ys[n]);
        if (predicted) learn_class_evidence(w, logw[row].data, label, work);
        return std::pair<float, Index>{0.f, label};
    };
    run(w, state, events, predicted, work, predict, learn);
}

void run_values(nb::tuple weights, Array<float, 4> A, Array<float, 5> B, Array<float, 3> logw, Array<float, 4> noise,
                Array<const int64_t, 1> rows, Matrix xs, Numbers ys, Array<const uint8_t, 1> forget,
                Array<float, 2> mean, Array<float, 1> variance) {
    const Weights w(weights);
    const State state{A, B, logw};
    const Index predicted = mean.shape[0];
    const Events events{rows, xs, ys, forget, 0};
    check(w, state, events, 1, predicted);
    require(predicted == 0 || (mean.shape[1] == 1 && variance.size() == predicted),
            "run: wanted mean [N, 1], variance [N]");
    require(noise.shape[0] == A.shape[0] && noise.shape[1] == w.G && noise.shape[2] == 2 && noise.shape[3] == LANES,
            "run: a state that does not fit the weights");
    nb::gil_scoped_release released;
    Workspace work(w, 1);
    const float shift = w.y_affine[0], spread = w.y_affine[1];
    const auto predict = [&](Index n, Index row) {
        const auto [first, second] = predict_value(w, logw[row].data, noise[row].data, 1, work);
        mean[n][0] = first * spread + shift;
        variance[n] = second * spread * spread;
    };
    const auto learn = [&](Index n, Index row) {
        const float target = (ys[n] - shift) / spread;
        if (predicted) learn_value_evidence(w, logw[row].data, noise[row].data, target, work);
        return std::pair<float, Index>{target, -1};
    };
    run(w, state, events, predicted, work, predict, learn);
}

// What rows [N, K] expect of events xs [N, S, D], one for all K (S = 1) or one each (S = K); nothing is learned. Row −1
// is a task that learned nothing yet.
void score_values(nb::tuple weights, Array<const float, 4> A, Array<const float, 5> B, Array<const float, 3> logw,
                  Array<const float, 4> noise, Array<const int64_t, 2> rows, Matrices xs, Array<float, 2> mean,
                  Array<float, 2> doubt) {
    const Weights w(weights);
    const Index N = rows.shape[0], K = rows.shape[1], S = xs.shape[1], P = w.m * (w.m + 1) / 2, T = A.shape[0];
    const bool fits = A.shape[1] == w.G && A.shape[2] == P && A.shape[3] == LANES && B.shape[0] == T &&
                      B.shape[1] == w.G && B.shape[2] == w.m && B.shape[3] >= 1 && B.shape[4] == LANES &&
                      logw.shape[0] == T && logw.shape[1] == w.G && logw.shape[2] == LANES && noise.shape[0] == T &&
                      noise.shape[1] == w.G && noise.shape[2] == 2 && noise.shape[3] == LANES;
    require(fits, "score: a state that does not fit the weights");
    require(w.H + 1 <= w.first.shape[2] && w.J + 1 <= w.second.shape[2], "score: weights without an output");
    require(xs.shape[0] == N && (S == 1 || S == K) && xs.shape[2] == w.shift.size() && mean.shape == rows.shape &&
                doubt.shape == rows.shape,
            "score: events that do not fit the weights or each other");
    for (Index i = 0; i < N * K; i++) require(rows.data[i] >= -1 && rows.data[i] < T, "score: a row that is not there");
    nb::gil_scoped_release released;
    Workspace work(w, 1);
    const Index wide = B.shape[3];
    Rows<float> blank(w.G * std::max(P, w.m * wide + 2));
    clear_rows(blank.data(), w.G * std::max(P, w.m * wide + 2));
    const float shift = w.y_affine[0], spread = w.y_affine[1];
    const Index together = std::max<Index>(ENCODED_TOGETHER / S, 1);  // events whose K inputs are encoded at once
    Encoder encoder(w, 1, std::min(N, together) * S);
    for (Index begin = 0; begin < N; begin += together) {
        const Index end = std::min(begin + together, N);
        encoder.encode(xs.data + begin * S * w.shift.size(), (end - begin) * S);
        for (Index n = begin; n < end; n++) {
            for (Index k = 0; k < K; k++) {
                const Index row = rows[n][k];
                if (k < S) encoder.into_lanes((n - begin) * S + k, work);
                const bool is_factored = w.G == 1 && k > 0 && row == rows[n][k - 1];  // as it is with one head for all
                for (Index g = 0; g < w.G; g++) {
                    if (!is_factored) factor_block(w, row < 0 ? blank.data() : A[row][g].data, g, work);
                    solve_block(row < 0 ? blank.data() : B[row][g].data, wide, g, work);
                }
                const float* evidence = row < 0 ? blank.data() : logw[row].data;
                const float* residuals = row < 0 ? blank.data() : noise[row].data;
                const auto [first, second] = predict_value(w, evidence, residuals, 0, work);
                mean[n][k] = first * spread + shift;
                doubt[n][k] = second * spread * spread;
            }
        }
    }
}

// Fill what rows [R] remember, oldest first: of [N], x [N, D], y [N], forget [N].
void remember(Array<const float, 3> window_x, Array<const float, 2> window_y, Array<const int64_t, 1> pushed,
              Array<const int64_t, 1> since, Array<const int64_t, 1> rows, Array<int64_t, 1> of, Array<float, 2> x,
              Array<float, 1> y, Array<uint8_t, 1> forget) {
    const Index size = window_y.shape[1], features = x.shape[1];
    Index n = 0;
    require(features <= window_x.shape[2], "remembered: more features than a window has");
    for (Index i = 0; i < rows.size(); i++) {
        const Index row = rows[i];
        require(row >= 0 && row < pushed.size(), "remembered: a row that is not there");
        const Index count = std::min<Index>(pushed[row], size);
        require(n + count <= of.size(), "remembered: more events than were counted");
        for (Index t = 0; t < count; t++, n++) {
            const Index at = (pushed[row] - count + t) % size;
            of[n] = row, y[n] = window_y[row][at];
            std::copy_n(window_x[row][at].data, features, x[n].data);
            forget[n] = t > 0 && t == count - since[row] ? FORGET_BEFORE : 0;
        }
        if (since[row] <= 0 && count > 0) forget[n - 1] = FORGET_AFTER;
    }
}

}  // namespace

void bind_event(nb::module_& module) {
    module.def("run_classes", &run_classes);
    module.def("run_values", &run_values);
    module.def("score_values", &score_values);
    module.def("remember", &remember);
}

}  // namespace streammeta

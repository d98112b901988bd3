// The event path of the exact heads: encode, predict, adapt, one event after the other.
//
// Equations: see streammeta/meta/exact/heads.py; layout: see streammeta/meta/exact/event_kernel.py. Events are
// independent but for the state of their task's row, and each is computed by the same instructions, so a prediction has
// the same bits however events were grouped into calls. Lanes are heads of one task, never events; those left over see
// no features.
#include <algorithm>

#include "event_encoder.hpp"

namespace streammeta {

using namespace event;

namespace {

constexpr float LEAST = 1e-6f;    // no head's probability for a label counts as less
constexpr float LEAST_LOG = -14;  // nor its log-likelihood
constexpr float NOISE_DECAY = 0.99f;
constexpr float HALF_LOG_TAU = 0.918938533204672742f;
constexpr uint8_t FORGET_BEFORE = 1, FORGET_AFTER = 2;

// φ of all tasks: A [T, G, P, 16], lower triangles; B [T, G, m, ·, 16]; evidence [T, G, 16]; in regression noise.
struct State {
    Array<float, 4> A;
    Array<float, 5> B;
    Array<float, 3> evidence;
};

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
    module.def("remember", &remember);
}

}  // namespace streammeta

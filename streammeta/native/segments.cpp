// The meta-objective of the exact heads and its gradient. Equations: see streammeta/meta/exact/gradient.py.
#include <vector>

#include "array.hpp"
#include "segments_encoder.hpp"
#include "segments_heads.hpp"
#include "segments_loss.hpp"

namespace streammeta {

namespace {

// Names of θ, in the order of the tuples that Python hands over; `loss` has those of classes or of targets.
constexpr int W1 = 0, V = 1, B1 = 2, W2 = 3, U = 4, B2 = 5, W3 = 6, W0 = 7;
constexpr int LOG_PRECISION = 8, LOG_MEMORY = 9, LOG_MIX = 10, FORGET = 11, LOSS = 12;

template <class T>
Member<T> member(nb::tuple theta, Index e) {
    const auto matrix = [&](int at) { return take<const T, 3>(theta[at], "theta")[e]; };
    const auto vector = [&](int at) { return take<const T, 2>(theta[at], "theta")[e]; };
    return {matrix(W1), matrix(V), matrix(W2), matrix(U), matrix(W3), matrix(W0), vector(B1), vector(B2)};
}
template <class T>
Slope<T> slope_of(nb::tuple theta, Index e) {
    const auto matrix = [&](int at) { return take<T, 3>(theta[at], "slope")[e]; };
    const auto vector = [&](int at) { return take<T, 2>(theta[at], "slope")[e]; };
    return {matrix(W1), matrix(V), matrix(W2), matrix(U), matrix(W3), matrix(W0), vector(B1), vector(B2)};
}
template <class T, class Number = std::remove_const_t<T>>
LossParameters<T> loss_parameters(nb::tuple theta, bool classify) {
    const auto numbers = [&](int at) { return take<T, 2>(theta[at], "theta").data; };
    LossParameters<T> found{nullptr, nullptr, nullptr, numbers(LOG_MIX), take<T, 1>(theta[FORGET], "forget").data};
    if (classify) {
        found.log_scale = numbers(LOSS), found.log_leverage = numbers(LOSS + 1);
    } else {
        found.log_noise = numbers(LOSS);
    }
    return found;
}

// z, shared and rest of all segments, or their derivatives: [S·T, m], [S·T, C], [S·T, C].
template <class T>
struct Encoded {
    std::vector<T> z, shared, rest;
    Encoded(Index events, Index m, Index C) : z(events * m), shared(events * C), rest(events * C) {}
};

// The loss of at most sixteen segments from what was encoded of them; what it owes to that and to θ is added.
template <class T>
T through_heads(const Shapes& s, Index begin, const int64_t* head, Array<const T, 2> log_precision,
                Array<const T, 1> log_memory, const LossParameters<const T>& of, const Targets<T>& targets,
                const Encoded<T>& there, Encoded<T>& back, Array<T, 2> d_precision, Array<T, 1> d_memory,
                const LossParameters<T>& slope) {
    using L = Limits<T>;
    const Index m = s.m, C = s.C, rows = s.T * LANES, at = begin * s.T;
    Rows<T> output(s.blocks() * s.T * C), d_output(s.blocks() * s.T * C), leverage(s.blocks() * s.T);
    Rows<T> d_leverage(s.blocks() * s.T), likelihood(s.blocks() * s.T);
    std::vector<Past<T>> pasts;
    std::vector<Noise<T>> noises;
    const Spare<T> spare(s);
    for (Index i = 0; i < s.blocks(); i++) {
        const Index first = i * LANES;
        T *own = output.data() + i * rows * C, *of_z = leverage.data() + i * rows;
        pasts.emplace_back(s);
        const Past<T>& past = pasts.back();
        set_parameters(s, past, first, head, log_precision, log_memory);
        into_lanes(s, there.z.data() + at * m, first, m, past.z.data());
        into_lanes(s, there.rest.data() + at * C, first, C, past.rest.data());
        recursion(s, past, spare, own, of_z);
        into_lanes(s, there.shared.data() + at * C, first, C, spare.d_rest.data());
        for (Index r = 0; r < rows * C; r += LANES) (load(own + r) + load(spare.d_rest.data() + r)).store(own + r);
        if (of.log_scale) {
            class_likelihood(s, own, of_z, of, head, first, targets.label, d_output.data() + i * rows * C,
                             likelihood.data() + i * rows);
        } else {
            noises.emplace_back(s);
            value_likelihood(s, own, of_z, of, head, first, targets, noises.back(), likelihood.data() + i * rows);
        }
    }
    const T loss = mixture_loss(s, likelihood.data(), of, head, targets, slope);
    for (Index i = 0; i < s.blocks(); i++) {
        const Index first = i * LANES;
        T *own = output.data() + i * rows * C, *d_own = d_output.data() + i * rows * C;
        T *of_z = leverage.data() + i * rows, *d_z = d_leverage.data() + i * rows,
          *given = likelihood.data() + i * rows;
        if (of.log_scale) {
            class_likelihood_adjoint(s, own, of_z, of, head, first, targets.label, d_own, given, d_z, slope);
        } else {
            value_likelihood_adjoint(s, own, of_z, of, head, first, noises[i], given, d_own, d_z, slope);
        }
        const Past<T>& past = pasts[i];
        recursion_adjoint(s, past, spare, d_own, of_z, d_z);
        from_lanes(s, spare.d_z.data(), first, m, back.z.data() + at * m);
        from_lanes(s, spare.d_rest.data(), first, C, back.rest.data() + at * C);
        from_lanes(s, d_own, first, C, back.shared.data() + at * C);
        for (Index lane = 0; lane < std::min(LANES, s.lanes() - first); lane++) {
            const Index k = head[first + lane];
            const T tau = log_memory[k];
            if (L::LEAST_MEMORY < tau && tau < L::MOST_MEMORY) {
                d_memory[k] += spare.d_log_gamma.data()[lane] * exponential(-tau);
            }
            for (Index a = 0; a < m; a++) {
                if (std::abs(log_precision[k][a]) < L::MOST_PRECISION) {
                    const Index number = a * LANES + lane;
                    d_precision[k][a] += spare.d_precision.data()[number] * past.precision.data()[number];
                }
            }
        }
    }
    return loss;
}

// Segments of L events, padded to T ≥ L events, which are none: 0, label −1.
template <class From, class T>
std::vector<T> padded(Array<const From, 2> values, Index T_, T rest) {
    std::vector<T> out(values.shape[0] * T_, rest);
    for (Index s = 0; s < values.shape[0]; s++) {
        for (Index t = 0; t < values.shape[1]; t++) out[s * T_ + t] = T(values[s][t]);
    }
    return out;
}

// The loss; `slopes` are filled. x [S, L, D], labels or targets [S, L], valid and share [S, L]; S / E segments a
// member.
template <class T, class Y>
T segments_loss(nb::tuple theta, Array<const T, 3> x, Array<const Y, 2> y, Array<const T, 2> valid,
                Array<const T, 2> share, Index chunk, nb::tuple slopes) {
    constexpr bool classify = std::is_same_v<Y, int64_t>;
    require(theta.size() == LOSS + 1 + classify && slopes.size() == theta.size(), "segments: wanted all of θ, by name");
    const auto w1 = take<const T, 3>(theta[W1], "w1");
    const auto w0 = take<const T, 3>(theta[W0], "w0");
    const auto log_precision = take<const T, 3>(theta[LOG_PRECISION], "log_precision");
    const auto log_memory = take<const T, 2>(theta[LOG_MEMORY], "log_memory");
    const auto d_precision = take<T, 3>(slopes[LOG_PRECISION], "slope");
    const auto d_memory = take<T, 2>(slopes[LOG_MEMORY], "slope");
    const auto of = loss_parameters<const T>(theta, classify);
    const auto slope = loss_parameters<T>(slopes, classify);
    const auto [S, L, D] = x.shape;
    const Index E = w1.shape[0], K = log_memory.shape[1], m = w0.shape[1], C = w0.shape[2];
    const Index events = (L + chunk - 1) / chunk * chunk, each_member = S / E;
    require(S % E == 0 && D == w1.shape[1] && y.shape[0] == S && y.shape[1] == L && valid.shape == y.shape &&
                share.shape == y.shape && chunk > 0 && K <= LANES,
            "segments: shapes do not fit");
    std::vector<Member<T>> members;
    std::vector<Slope<T>> member_slopes;
    for (Index e = 0; e < E; e++)
        members.push_back(member<T>(theta, e)), member_slopes.push_back(slope_of<T>(slopes, e));
    nb::gil_scoped_release released;
    std::vector<T> rows(S * events * D);
    for (Index s = 0; s < S; s++) std::copy_n(x[s].data, L * D, rows.data() + s * events * D);
    const std::vector<int64_t> label =
        classify ? padded<Y, int64_t>(y, events, 0) : std::vector<int64_t>(S * events, -1);
    const std::vector<T> target = classify ? std::vector<T>(S * events) : padded<Y, T>(y, events, 0);
    const std::vector<T> there_is = padded<T, T>(valid, events, 0), counts = padded<T, T>(share, events, 0);
    for (const int64_t one : label) require(one < C && (one >= 0 || !classify), "segments: a label that is no class");
    Encoded<T> there(S * events, m, C), back(S * events, m, C);
    std::vector<Layers<T>> layers;
    for (Index e = 0; e < E; e++) {
        const Index at = e * each_member * events, N = each_member * events;
        layers.emplace_back(members[e], N);
        encode(members[e], rows.data() + at * D, N, label.data() + at, target.data() + at, there_is.data() + at,
               layers[e], there.z.data() + at * m, there.shared.data() + at * C, there.rest.data() + at * C);
    }
    T loss = 0;
    for (Index begin = 0; begin < S; begin += LANES) {  // as many segments fill their blocks whatever K is
        const Index some = std::min(LANES, S - begin), at = begin * events;
        std::vector<int64_t> head(some * K);
        for (Index i = 0; i < some * K; i++) head[i] = (begin + i / K) / each_member * K + i % K;
        const Targets<T> targets{label.data() + at, target.data() + at, there_is.data() + at, counts.data() + at};
        loss += through_heads<T>({some, events, chunk, K, m, C}, begin, head.data(), {log_precision.data, {E * K, m}},
                                 {log_memory.data, {E * K}}, of, targets, there, back, {d_precision.data, {E * K, m}},
                                 {d_memory.data, {E * K}}, slope);
    }
    for (Index e = 0; e < E; e++) {
        const Index at = e * each_member * events, N = each_member * events;
        encode_adjoint(members[e], rows.data() + at * D, N, there_is.data() + at, layers[e], back.z.data() + at * m,
                       back.shared.data() + at * C, back.rest.data() + at * C, member_slopes[e]);
    }
    return loss;
}

// Fill out [N, H] = x [N, D] w [D, H] + b [H].
void linear(Array<const float, 2> x, Array<const float, 2> w, Array<const float, 1> b, Array<float, 2> out) {
    const auto [N, D] = x.shape;
    const Index H = w.shape[1];
    require(w.shape[0] == D && b.size() == H && out.shape[0] == N && out.shape[1] == H, "linear: shapes do not fit");
    const Wide<float> found(N, H);
    for (Index n = 0; n < N; n++) std::copy_n(b.data, H, found[n]);
    add_product(x.data, D, D, beside(w, {nullptr, {D, 0}}), found);
    copy_columns(found, 0, out);
}

}  // namespace

void bind_segments(nb::module_& module) {
    module.def("linear", &linear);
    module.def("class_segments_loss", &segments_loss<float, int64_t>);
    module.def("class_segments_loss", &segments_loss<double, int64_t>);
    module.def("value_segments_loss", &segments_loss<float, float>);
    module.def("value_segments_loss", &segments_loss<double, double>);
}

}  // namespace streammeta

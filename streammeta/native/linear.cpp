// A linear model of all a partition's events. Equations: see streammeta/engine/experts/linear.py.
#include <algorithm>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

constexpr double FEWEST_LABELS = 10;  // before it says anything
constexpr double RATE = 0.5;
constexpr double MOST_AWAY = 6;  // spreads
constexpr double MOST_GAP = 8;   // of a target from what was said, in spreads: of a larger one no more is learned

// The state [2 + D, 2 + 2C]: labels and classes that there were; of the bias, then of each feature, a shift and a gain
// (the bias has the target's), weights [C], and sums of squared gradients [C].
struct Model {
    Array<double, 2> state;
    bool classify;

    enum { LABELS, CLASSES };
    enum { SHIFT, GAIN, WEIGHTS };
    double& labels() { return state[0][LABELS]; }
    double& classes() { return state[0][CLASSES]; }
    Index capacity() const { return (state.shape[1] - WEIGHTS) / 2; }
    Index inputs() const { return state.shape[0] - 1; }
    const double* unit(Index d) const { return state[1 + d].data; }
    double* weights(Index d) const { return state[1 + d].data + WEIGHTS; }
    double* squares(Index d) const { return state[1 + d].data + WEIGHTS + capacity(); }

    // Fill z [1 + D] with the bias and an event in spreads, 0 where a feature is missing.
    void normalize(Array<const float, 1> x, double* z) const {
        z[0] = 1;
        for (Index d = 1; d < inputs(); d++) {
            const double value = d <= x.size() ? (double(x[d - 1]) - unit(d)[SHIFT]) * unit(d)[GAIN] : NAN;
            z[d] = std::isnan(value) ? 0 : clamp(value, -MOST_AWAY, MOST_AWAY);
        }
    }
    // Probabilities [C] of the first classes, or a target [1] in spreads.
    void predict(const double* z, double* said, Index C) const {
        std::fill_n(said, C, 0.0);
        for (Index d = 0; d < inputs(); d++) {
            if (z[d] == 0) continue;
            const double* row = weights(d);
            for (Index c = 0; c < C; c++) said[c] += z[d] * row[c];
        }
        if (!classify) return;
        const double top = *std::max_element(said, said + C);
        double total = 0;
        for (Index c = 0; c < C; c++) total += said[c] = exponential(said[c] - top);
        for (Index c = 0; c < C; c++) said[c] /= total;
    }
    // Go down the gradients [C] of the loss by scores, so far that no score moves by more than its gradient.
    void step(const double* z, const double* gradients, Index C, double* reach) {
        std::fill_n(reach, C, 0.0);
        for (Index d = 0; d < inputs(); d++) {
            if (z[d] == 0) continue;
            double* row = squares(d);
            for (Index c = 0; c < C; c++) {
                const double g = gradients[c] * z[d];
                row[c] += g * g;
                reach[c] += z[d] * z[d] / root(1 + row[c]);
            }
        }
        for (Index c = 0; c < C; c++) reach[c] = gradients[c] * std::min(RATE, 1 / reach[c]);
        for (Index d = 0; d < inputs(); d++) {
            if (z[d] == 0) continue;
            double *row = weights(d), *sum = squares(d);
            for (Index c = 0; c < C; c++) row[c] -= reach[c] * z[d] / root(1 + sum[c]);
        }
    }
};

// Fill said [N, C] of events [N] of one partition that are asked, each under the labels before it, which are learned in
// turn: labels [N], NaN where there is none. Returns how many events were taken: fewer than all, where the next label
// has no weights.
int64_t linear_run(Array<double, 2> state, Array<const float, 2> xs, Array<const double, 1> labels,
                   Array<const bool, 1> asked, bool classify, Array<double, 2> said) {
    Model model{state, classify};
    const Index N = xs.shape[0];
    require(state.shape[0] >= 2 && state.shape[1] >= 4 && state.shape[1] % 2 == 0, "linear_run: a state of no model");
    require(labels.size() == N && asked.size() == N && said.shape[0] == N && said.shape[1] > 0 &&
                model.classes() >= 0 && model.classes() <= double(model.capacity()),
            "linear_run: shapes do not fit");
    const double shift = model.unit(0)[Model::SHIFT], gain = model.unit(0)[Model::GAIN];
    std::vector<double> z(model.inputs()), found(model.capacity()), gradients(model.capacity()),
        reach(model.capacity());
    for (Index i = 0; i < N; i++) {
        const bool is_labelled = !std::isnan(labels[i]), speaks = asked[i] && model.labels() >= FEWEST_LABELS;
        if (!is_labelled && !speaks) continue;
        if (is_labelled && classify) {
            require(labels[i] >= 0, "linear_run: a label that is no class");
            if (labels[i] >= double(model.capacity())) return i;
        }
        model.normalize(xs[i], z.data());
        Index C = classify ? Index(model.classes()) : 1;
        if (speaks) {
            model.predict(z.data(), found.data(), C);
            std::copy_n(found.data(), std::min(C, said.shape[1]), said[i].data);
            if (!classify) said[i][0] = shift + found[0] / gain;
        }
        if (!is_labelled) continue;
        const bool is_new = classify && labels[i] >= double(C);
        if (is_new) model.classes() = double(C = Index(labels[i]) + 1);
        if (is_new || !speaks) model.predict(z.data(), found.data(), C);
        for (Index c = 0; c < C; c++)
            gradients[c] = found[c] - (classify ? double(labels[i] == double(c)) : (labels[i] - shift) * gain);
        if (!classify) gradients[0] = clamp(gradients[0], -MOST_GAP, MOST_GAP);
        model.step(z.data(), gradients.data(), C, reach.data());
        model.labels() += 1;
    }
    return N;
}

}  // namespace

void bind_linear(nb::module_& module) { module.def("linear_run", &linear_run); }

}  // namespace streammeta

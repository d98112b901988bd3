// A linear model of all a partition's events, with intercepts of groups. Equations: see
// streammeta/engine/experts/linear.py.
#include <algorithm>
#include <array>
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

constexpr double INTERCEPT_DECAY = 0.99;  // of a group's labels
constexpr double INTERCEPT_PRIOR = 0.5;   // what their curvature begins with
constexpr double MOST_INTERCEPT = 1e38;
constexpr Index KINDS = 2;  // of groups: the task, and values of categories

void softmax(double* scores, Index C) {
    const double top = *std::max_element(scores, scores + C);
    double total = 0;
    for (Index c = 0; c < C; c++) total += scores[c] = exponential(scores[c] - top);
    for (Index c = 0; c < C; c++) scores[c] /= total;
}

// The state [2 + D, 2 + 2C], C > 1: labels and classes that there were, and of each kind of group its share and
// curvature; of the bias, then of each feature, a shift and a gain (the bias has the target's), weights [C], and sums
// of squared gradients [C].
struct Model {
    Array<double, 2> state;
    bool classify;

    enum { LABELS, CLASSES, KIND };
    enum { SHIFT, GAIN, WEIGHTS };
    double& labels() { return state[0][LABELS]; }
    double& classes() { return state[0][CLASSES]; }
    double& share(Index k) { return state[0][KIND + 2 * k]; }
    double& curvature(Index k) { return state[0][KIND + 2 * k + 1]; }
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
    // Scores [C] of the first classes, or a target [1] in spreads, without intercepts.
    void score(const double* z, double* scores, Index C) const {
        std::fill_n(scores, C, 0.0);
        for (Index d = 0; d < inputs(); d++) {
            if (z[d] == 0) continue;
            const double* row = weights(d);
            for (Index c = 0; c < C; c++) scores[c] += z[d] * row[c];
        }
    }
    // The gradient [C] of the loss by scores, where this is predicted [C].
    void differentiate(const double* found, double label, Index C, double* gradients) const {
        if (classify) {
            for (Index c = 0; c < C; c++) gradients[c] = found[c] - double(label == double(c));
        } else {
            gradients[0] = clamp(found[0] - (label - unit(0)[SHIFT]) * unit(0)[GAIN], -MOST_GAP, MOST_GAP);
        }
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

// The groups of one kind that an event is in: of each its intercepts [2, most], in units of the target, and the
// curvatures of the loss by them; and the sum of the intercepts [C] in spreads.
struct Groups {
    std::vector<Array<float, 2>> of;
    std::vector<double> sum;
    Index most = 0;

    void add_up(double gain, Index C) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (const auto& group : of) {
            for (Index c = 0; c < std::min(C, most); c++) sum[c] += gain * double(group[0][c]);
        }
    }
    // A Newton step of the share towards what these intercepts explain of a label.
    void weigh(const double* found, const double* gradients, Index C, bool classify, double& share, double& curvature) {
        double slope = 0, square = 0, mean = 0;
        for (Index c = 0; c < C; c++) {
            slope += sum[c] * gradients[c];
            square += (classify ? found[c] : 1) * sum[c] * sum[c];
            mean += classify ? found[c] * sum[c] : 0;
        }
        curvature += square - mean * mean;
        share = clamp(share - slope / (1 + curvature), 0.0, 1.0);
    }
    // A Newton step of each intercept, where with all of them in full this is predicted [C], with this gradient.
    void step(const double* found, const double* gradients, Index C, bool classify, double gain) {
        const double alike = gain * double(of.size());
        for (const auto& group : of) {
            for (Index c = 0; c < std::min(C, most); c++) {
                const double h = classify ? found[c] * (1 - found[c]) : 1;
                const double curvature = INTERCEPT_DECAY * double(group[1][c]) + h;
                group[1][c] = float(curvature);
                const double moved = double(group[0][c]) - gradients[c] / (curvature + INTERCEPT_PRIOR) / alike;
                group[0][c] = float(clamp(moved, -MOST_INTERCEPT, MOST_INTERCEPT));
            }
        }
    }
};

// Fill said [N, C] of events [N] of one partition that are asked, each under the labels before it, which are learned in
// turn: labels [N], NaN where there is none. An event's groups are its task's row in of_tasks [T, 2, C'], −1: none, and
// the rows of its values [N, M], modulo V, in of_values [V, 2, C'']; −1: none. Returns how many events were taken:
// fewer than all, where the next label has no weights.
int64_t linear_run(Array<double, 2> state, Array<float, 3> of_tasks, Array<float, 3> of_values,
                   Array<const int64_t, 1> rows, Array<const int64_t, 2> values, Array<const float, 2> xs,
                   Array<const double, 1> labels, Array<const bool, 1> asked, bool classify, Array<double, 2> said) {
    Model model{state, classify};
    const Index N = xs.shape[0], M = values.shape[1], V = of_values.shape[0];
    require(state.shape[0] >= 2 && state.shape[1] >= 6 && state.shape[1] % 2 == 0, "linear_run: a state of no model");
    require(labels.size() == N && asked.size() == N && said.shape[0] == N && said.shape[1] > 0 && rows.size() == N &&
                values.shape[0] == N && of_tasks.shape[1] == 2 && of_values.shape[1] == 2 && model.classes() >= 0 &&
                model.classes() <= double(model.capacity()),
            "linear_run: shapes do not fit");
    const double shift = model.unit(0)[Model::SHIFT], gain = model.unit(0)[Model::GAIN], own = classify ? 1 : gain;
    const Index most = model.capacity();
    std::vector<double> z(model.inputs()), scores(most), found(most), gradients(most), work(most);
    std::array<Groups, KINDS> kinds;
    for (auto& groups : kinds) groups.sum.resize(most);
    kinds[0].most = of_tasks.shape[2], kinds[1].most = of_values.shape[2];
    for (Index i = 0; i < N; i++) {
        const bool is_labelled = !std::isnan(labels[i]), speaks = asked[i] && model.labels() >= FEWEST_LABELS;
        if (!is_labelled && !speaks) continue;
        if (is_labelled && classify) {
            require(labels[i] >= 0, "linear_run: a label that is no class");
            if (labels[i] >= double(model.capacity())) return i;
        }
        model.normalize(xs[i], z.data());
        for (auto& groups : kinds) groups.of.clear();
        if (rows[i] >= 0) {
            require(rows[i] < of_tasks.shape[0], "linear_run: a task without a row");
            kinds[0].of.push_back(of_tasks[rows[i]]);
        }
        for (Index m = 0; m < M; m++) {
            if (values[i][m] >= 0 && V > 0) kinds[1].of.push_back(of_values[values[i][m] % V]);
        }
        const auto predict = [&](Index C) {
            model.score(z.data(), scores.data(), C);
            for (Index k = 0; k < KINDS; k++) {
                if (kinds[k].of.empty()) continue;
                kinds[k].add_up(own, C);
                for (Index c = 0; c < C; c++) scores[c] += model.share(k) * kinds[k].sum[c];
            }
            std::copy_n(scores.data(), C, found.data());
            if (classify) softmax(found.data(), C);
        };
        Index C = classify ? Index(model.classes()) : 1;
        if (speaks) {
            predict(C);
            std::copy_n(found.data(), std::min(C, said.shape[1]), said[i].data);
            if (!classify) said[i][0] = shift + found[0] / gain;
        }
        if (!is_labelled) continue;
        const bool is_new = classify && labels[i] >= double(C);
        if (is_new) model.classes() = double(C = Index(labels[i]) + 1);
        if (is_new || !speaks) predict(C);
        model.differentiate(found.data(), labels[i], C, gradients.data());
        for (Index k = 0; k < KINDS; k++) {
            Groups& groups = kinds[k];
            if (groups.of.empty()) continue;
            const double rest = 1 - model.share(k);
            groups.weigh(found.data(), gradients.data(), C, classify, model.share(k), model.curvature(k));
            std::vector<double>& full = work;
            for (Index c = 0; c < C; c++) full[c] = scores[c] + rest * groups.sum[c];
            if (classify) softmax(full.data(), C);
            std::vector<double>& slopes = groups.sum;  // it is not needed any more
            model.differentiate(full.data(), labels[i], C, slopes.data());
            groups.step(full.data(), slopes.data(), C, classify, own);
        }
        model.step(z.data(), gradients.data(), C, work.data());
        model.labels() += 1;
    }
    return N;
}

}  // namespace

void bind_linear(nb::module_& module) { module.def("linear_run", &linear_run); }

}  // namespace streammeta

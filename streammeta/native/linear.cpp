// A linear model of all a partition's events. Equations: see streammeta/engine/experts/linear.py.
#include <algorithm>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;

constexpr double FEWEST_LABELS = 10;  // before it says anything
constexpr double RATE = 0.5;
constexpr double MOST_AWAY = 6;  // spreads
constexpr double MOST_GAP = 8;   // of a target from what was said: of a larger one no more is learned
enum { LABELS, CLASSES, COUNTS };

struct Model {
    Array<float, 2> weights;  // [1 + D, C]: of the bias, then of features
    Array<float, 2> squares;  // [1 + D, C] sums of squared gradients, and 1
    bool classify;

    // Probabilities [C] of the first classes, or a target [1].
    void predict(const std::vector<double>& z, double* said, Index C) const {
        std::fill_n(said, C, 0.0);
        for (size_t d = 0; d < z.size(); d++) {
            if (z[d] == 0) continue;
            const float* row = weights[Index(d)].data;
            for (Index c = 0; c < C; c++) said[c] += z[d] * double(row[c]);
        }
        if (!classify) return;
        const double top = *std::max_element(said, said + C);
        double total = 0;
        for (Index c = 0; c < C; c++) total += said[c] = exponential(said[c] - top);
        for (Index c = 0; c < C; c++) said[c] /= total;
    }
    // Go down the gradients [C] of the loss by scores, so far that no score moves by more than its gradient.
    void step(const std::vector<double>& z, const double* gradients, Index C, std::vector<double>& reach) {
        std::fill_n(reach.begin(), C, 0.0);
        for (size_t d = 0; d < z.size(); d++) {
            if (z[d] == 0) continue;
            float* row = squares[Index(d)].data;
            for (Index c = 0; c < C; c++) {
                const double g = gradients[c] * z[d];
                row[c] = float(double(row[c]) + g * g);
                reach[c] += z[d] * z[d] / root(double(row[c]));
            }
        }
        for (Index c = 0; c < C; c++) reach[c] = gradients[c] * std::min(RATE, 1 / reach[c]);
        for (size_t d = 0; d < z.size(); d++) {
            if (z[d] == 0) continue;
            float *row = weights[Index(d)].data, *root_of = squares[Index(d)].data;
            for (Index c = 0; c < C; c++) row[c] = float(double(row[c]) - reach[c] * z[d] / root(double(root_of[c])));
        }
    }
};

// Fill said [N, C] of events [N] of one partition that are asked, each under the labels before it, which are learned in
// turn: labels [N], NaN where there is none. `counts` [COUNTS]: labels, and classes that there were. Returns how many
// events were taken: fewer than all, where the next label has no weights.
int64_t linear_run(Array<float, 2> weights, Array<float, 2> squares, Array<double, 1> counts, Array<const float, 2> xs,
                   Given shift, Given gain, Given labels, Array<const bool, 1> asked, bool classify,
                   Array<double, 2> said) {
    const Index N = xs.shape[0], D = weights.shape[0] - 1, known = weights.shape[1];
    require(weights.shape == squares.shape && D >= 0 && known > 0 && counts.size() == COUNTS &&
                shift.size() == gain.size() && labels.size() == N && asked.size() == N && said.shape[0] == N &&
                counts[CLASSES] >= 0 && counts[CLASSES] <= double(known),
            "linear_run: shapes do not fit");
    Model model{weights, squares, classify};
    const Index features = std::min({D, xs.shape[1], shift.size()});
    std::vector<double> z(1 + features), said_now(known), gradients(known), reach(known);
    z[0] = 1;
    for (Index i = 0; i < N; i++) {
        const bool is_labelled = !std::isnan(labels[i]), speaks = asked[i] && counts[LABELS] >= FEWEST_LABELS;
        if (!is_labelled && !speaks) continue;
        if (is_labelled && classify) {
            require(labels[i] >= 0, "linear_run: a label that is no class");
            if (labels[i] >= double(known)) return i;
        }
        for (Index d = 0; d < features; d++) {
            const double value = (double(xs[i][d]) - shift[d]) * gain[d];
            z[1 + d] = std::isnan(value) ? 0 : clamp(value, -MOST_AWAY, MOST_AWAY);
        }
        Index C = classify ? Index(counts[CLASSES]) : 1;
        if (speaks) {
            model.predict(z, said_now.data(), C);
            std::copy_n(said_now.data(), std::min(C, said.shape[1]), said[i].data);
        }
        if (!is_labelled) continue;
        const bool is_new = classify && labels[i] >= double(C);
        if (is_new) counts[CLASSES] = double(C = Index(labels[i]) + 1);
        if (is_new || !speaks) model.predict(z, said_now.data(), C);
        for (Index c = 0; c < C; c++)
            gradients[c] = said_now[c] - (classify ? double(labels[i] == double(c)) : labels[i]);
        if (!classify) gradients[0] = clamp(gradients[0], -MOST_GAP, MOST_GAP);
        model.step(z, gradients.data(), C, reach);
        counts[LABELS] += 1;
    }
    return N;
}

}  // namespace

void bind_linear(nb::module_& module) { module.def("linear_run", &linear_run); }

}  // namespace streammeta

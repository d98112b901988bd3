// One linear model an action of all a partition's tasks: see streammeta/engine/common_rewards.py for equations.
#include <algorithm>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

constexpr double MOST_AWAY = 5;   // spreads, of a feature
constexpr double MOST_ERROR = 8;  // deviations of errors: of a larger one no more is learned
constexpr double NOISE_DECAY = 0.99;
constexpr double DRIFT = 1e-6;  // variance that each coefficient gains at a reward, in that of the noise
constexpr double PRIOR = 0.1;   // variance of a coefficient before any reward, likewise
constexpr double FEWEST = 10;   // rewards before errors are known

// A feature by a scale [2, F], its mean and 1 / spread: 0 where either is unknown.
double normalized(const Array<double, 2>& scale, double x, Index f) {
    const double z = (x - scale[0][f]) * scale[1][f];
    return std::isnan(z) ? 0 : clamp(z, -MOST_AWAY, MOST_AWAY);
}

// Fill out [F + 1] with P z and return z^T P z, of one action's P, which is symmetric, and weights [F + 1, F + 2].
double project(const Array<double, 2>& action, const std::vector<double>& z, std::vector<double>& out) {
    const Index size = Index(z.size());
    std::fill(out.begin(), out.end(), 0.0);
    for (Index j = 0; j < size; j++) {
        const double* row = action[j].data;
        for (Index i = 0; i < size; i++) out[i] += z[j] * row[i];
    }
    double square = 0;
    for (Index i = 0; i < size; i++) square += z[i] * out[i];
    return std::max(square, 0.0);
}

double predict(const Array<double, 2>& action, const std::vector<double>& z) {
    double sum = 0;
    for (size_t i = 0; i < z.size(); i++) sum += z[i] * action[Index(i)][Index(z.size())];
    return sum;
}

void check(const Array<double, 2>& scale, const Array<double, 3>& model) {
    const Index F = scale.shape[1];
    require(scale.shape[0] == 2 && model.shape[1] == F + 1 && model.shape[2] == F + 2,
            "common rewards: a model of other features");
}

// Add events of features at these slots [F] of exact [N, D] to their counts, means, and sums of squares about them
// [3, F].
void common_observe(Array<const double, 2> exact, Array<const int64_t, 1> slots, Array<double, 2> moments) {
    require(moments.shape == std::array<Index, 2>{3, slots.size()}, "common_observe: shapes do not fit");
    for (Index f = 0; f < slots.size(); f++) {
        double &count = moments[0][f], &mean = moments[1][f], &squares = moments[2][f];
        if (slots[f] < 0 || slots[f] >= exact.shape[1]) continue;
        for (Index n = 0; n < exact.shape[0]; n++) {
            const double x = exact[n][slots[f]];
            if (std::isnan(x)) continue;
            const double gap = x - mean;
            mean += gap / (count += 1);
            squares += gap * (x - mean);
        }
    }
}

// What each of K actions is expected to earn [N, K] for events of features at these slots [F] of exact [N, D], beyond
// the origin, and the variance of that in the noise's. The model is [K, F + 1, F + 2]: P, then the weights.
void common_score(Array<const double, 2> exact, Array<const int64_t, 1> slots, Array<double, 2> scale,
                  Array<double, 3> model, Array<double, 2> means, Array<double, 2> variances) {
    const Index N = exact.shape[0], F = slots.size(), K = model.shape[0];
    check(scale, model);
    require(scale.shape[1] == F && means.shape == std::array<Index, 2>{N, K} && variances.shape == means.shape,
            "common_score: shapes do not fit");
    std::vector<double> z(F + 1), work(F + 1);
    for (Index n = 0; n < N; n++) {
        z[0] = 1;
        for (Index f = 0; f < F; f++)
            z[f + 1] = slots[f] >= 0 && slots[f] < exact.shape[1] ? normalized(scale, exact[n][slots[f]], f) : 0;
        for (Index k = 0; k < K; k++) {
            means[n][k] = predict(model[k], z);
            variances[n][k] = project(model[k], z, work);
        }
    }
}

// Learn in turn what actions [N] earned beyond the origin, of features xs [N, F]. Errors [2]: the sum of their squares
// and their number, forgotten slowly.
void common_learn(Array<const double, 2> xs, Array<const int64_t, 1> actions, Array<const double, 1> rewards,
                  Array<double, 2> scale, Array<double, 3> model, Array<double, 1> errors) {
    const Index N = xs.shape[0], F = xs.shape[1], K = model.shape[0];
    check(scale, model);
    require(scale.shape[1] == F && actions.size() == N && rewards.size() == N && errors.size() == 2,
            "common_learn: shapes do not fit");
    std::vector<double> z(F + 1), gain(F + 1);
    for (Index n = 0; n < N; n++) {
        require(actions[n] >= 0 && actions[n] < K, "common_learn: an action that is not there");
        const Array<double, 2> action = model[actions[n]];
        z[0] = 1;
        for (Index f = 0; f < F; f++) z[f + 1] = normalized(scale, xs[n][f], f);
        const double certain = 1 + project(action, z, gain);
        double error = rewards[n] - predict(action, z);
        if (errors[1] >= FEWEST && errors[0] > 0) {
            const double most = MOST_ERROR * root(errors[0] / errors[1]);
            error = clamp(error, -most, most);
        }
        errors[0] = NOISE_DECAY * errors[0] + error * error;
        errors[1] = NOISE_DECAY * errors[1] + 1;
        for (Index i = 0; i <= F; i++) {
            double* row = action[i].data;
            row[F + 1] += gain[i] * error / certain;
            for (Index j = 0; j <= F; j++) row[j] -= gain[i] * gain[j] / certain;
            row[i] = std::min(row[i] + DRIFT, PRIOR);
        }
    }
}

}  // namespace

void bind_common(nb::module_& module) {
    module.def("common_observe", &common_observe);
    module.def("common_score", &common_score);
    module.def("common_learn", &common_learn);
}

}  // namespace streammeta

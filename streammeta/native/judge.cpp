// Predictions judged by their labels, and what is counted of each task. See streammeta/engine/judge.py.
#include <algorithm>
#include <cmath>
#include <limits>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;
using Counts = Array<const int64_t, 1>;
using Numbers = Array<double, 1>;

constexpr double LEAST_PROBABILITY = 1e-6;  // no label's probability counts as less
constexpr double LEAST_VARIANCE = 1e-200;   // of targets in any unit
constexpr double LOG_TAU = 1.83787706640934548356;
constexpr double OUTSIDE = 1.6449 * 1.6449;  // z² of a target outside the central 90 % of a Gaussian
constexpr double NOTHING = std::numeric_limits<double>::quiet_NaN();

// What a detector sees of a label, in [0, 1]: of a class by its loss, or its error where it is to be binary; of a
// target by how many of its own variances it is away.
double watched_class(double loss, double error, bool binary) {
    return binary ? std::min(error, 1.0) : 1 - exponential(-std::max(loss, 0.0));
}
double watched_value(double error, double variance, bool binary) {
    const double squared = variance > 0 ? error * error / variance : NOTHING;
    if (binary && !std::isnan(squared)) return squared > OUTSIDE;
    return 1 - exponential(-0.5 * squared);
}

// Classes: mean [N, C] of which the first `known` [N] count; labels [N] are indices, NaN where there is none.
void judge_classes(Array<const double, 2> mean, Counts known, Given labels, bool binary, Array<int64_t, 1> best,
                   Numbers loss, Numbers error, Numbers watched) {
    const auto [N, C] = mean.shape;
    require(known.size() == N && labels.size() == N && best.size() == N && loss.size() == N && error.size() == N &&
                watched.size() == N,
            "judge_classes: events do not fit");
    for (Index i = 0; i < N; i++) {
        require(known[i] >= 0 && known[i] <= C, "judge_classes: more classes than there are");
        const double* p = mean[i].data;
        best[i] = known[i] ? std::max_element(p, p + known[i]) - p : -1;
        loss[i] = error[i] = watched[i] = NOTHING;
        if (std::isnan(labels[i])) continue;
        const double probability = labels[i] < double(known[i]) ? p[Index(labels[i])] : 0;
        loss[i] = -logarithm(std::max(probability, LEAST_PROBABILITY));
        error[i] = double(best[i]) != labels[i];
        watched[i] = watched_class(loss[i], error[i], binary);
    }
}

// Targets: Gaussian predictions [N]; `unit` [N] is the spread of each one's task.
void judge_values(Given mean, Given variance, Given unit, Given labels, bool binary, Numbers loss, Numbers error,
                  Numbers watched) {
    const Index N = mean.size();
    require(variance.size() == N && unit.size() == N && labels.size() == N && loss.size() == N && error.size() == N &&
                watched.size() == N,
            "judge_values: events do not fit");
    for (Index i = 0; i < N; i++) {
        loss[i] = error[i] = watched[i] = NOTHING;
        if (std::isnan(labels[i])) continue;
        const double gap = labels[i] - mean[i], spread = std::max(variance[i], LEAST_VARIANCE);
        loss[i] = 0.5 * (gap * gap / spread + logarithm(spread) + LOG_TAU);
        error[i] = std::abs(gap);
        watched[i] = watched_value(error[i] / unit[i], variance[i] / (unit[i] * unit[i]), binary);
    }
}

// Count these events [N], one after the other, in the columns of their tasks' rows: events (where `is_event`) and the
// time of the last one, labels, labels since a drift, and the running error, which looks back on `memory` labels.
// Before that, `age` [N] gets the task's labels so far and `since` [N] those since its last drift, −1: never one.
void count_events(nb::tuple columns, Counts rows, Array<const bool, 1> is_event, Given times, Given errors,
                  double memory, Array<int64_t, 1> age, Array<int64_t, 1> since) {
    require(columns.size() == 7, "count_events: columns are missing");
    const auto whole = [&](int at) { return take<int64_t, 1>(columns[at], "a task's count"); };
    const auto events = whole(0), labelled = whole(1), since_drift = whole(2), kept = whole(3), drifts = whole(4);
    const auto error = take<double, 1>(columns[5], "error"), seen_at = take<double, 1>(columns[6], "seen_at");
    const Index N = rows.size(), tasks = events.size();
    require(is_event.size() == N && times.size() == N && errors.size() == N && age.size() == N && since.size() == N &&
                labelled.size() == tasks && since_drift.size() == tasks && kept.size() == tasks &&
                drifts.size() == tasks && error.size() == tasks && seen_at.size() == tasks,
            "count_events: events do not fit");
    for (Index i = 0; i < N; i++) {
        const int64_t row = rows[i];
        require(row >= 0 && row < tasks, "count_events: a row that is not there");
        if (is_event[i]) {
            events[row]++;
            if (!std::isnan(times[i])) seen_at[row] = times[i];
        }
        age[i] = labelled[row];
        since[i] = drifts[row] ? since_drift[row] - kept[row] : -1;
        if (std::isnan(errors[i])) continue;
        labelled[row]++;
        since_drift[row]++;
        error[row] += (errors[i] - error[row]) / std::min(double(labelled[row]), memory);
    }
}

}  // namespace

void bind_judge(nb::module_& module) {
    module.def("watched_class", &watched_class);
    module.def("watched_value", &watched_value);
    module.def("judge_classes", &judge_classes);
    module.def("judge_values", &judge_values);
    module.def("count_events", &count_events);
}

}  // namespace streammeta

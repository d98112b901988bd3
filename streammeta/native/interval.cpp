// Central intervals of targets, recalibrated by their labels. Equations: see streammeta/engine/interval.py.
#include <algorithm>
#include <cmath>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;
using Indices = Array<const int64_t, 1>;
using Table = Array<double, 2>;

constexpr double WIDEST = 20, MOST_LEAN = 4;  // of a logarithm

enum Rule {
    QUANTILE,
    OUTSIDE,
    PARTITION_RATE,
    FIRST_RATE,
    PARTITION_LEAN,
    TASK_RATE,
    TASK_LEAN,
    TASK_DECAY,
    MOST_GAIN,
    RULES
};

// Fill bounds [N, 3] (lower, upper, events before) of Gaussian predictions [N] where they are NaN, each under the
// labels before it, which are learned in turn: labels [N], NaN where there is none. Offsets of tasks [T, 2] (width,
// lean) at rows [N], and those of partitions [P, 5] (width, lean, labels, events, events before the first label) at
// places [N], change; a place below zero has no interval and learns nothing.
void run_intervals(Given mean, Given variance, Given labels, Indices rows, Indices places, Given rule, Table of_tasks,
                   Table of_partitions, Table bounds) {
    const Index N = mean.size();
    require(variance.size() == N && labels.size() == N && rows.size() == N && places.size() == N &&
                bounds.shape[0] == N && bounds.shape[1] == 3 && rule.size() == RULES && of_tasks.shape[1] == 2 &&
                of_partitions.shape[1] == 5,
            "run_intervals: shapes do not fit");
    for (Index i = 0; i < N; i++) {
        if (places[i] < 0) continue;
        require(rows[i] >= 0 && rows[i] < of_tasks.shape[0] && places[i] < of_partitions.shape[0],
                "run_intervals: a row that is not there");
        double *task = of_tasks[rows[i]].data, *all = of_partitions[places[i]].data, *said = bounds[i].data;
        if (std::isnan(said[0])) {
            const double width = clamp(all[0] + task[0], -WIDEST, WIDEST);
            const double lean = clamp(all[1] + task[1], -MOST_LEAN, MOST_LEAN);
            const double spread = rule[QUANTILE] * std::sqrt(std::max(variance[i], 0.0));
            said[0] = mean[i] - spread * exponential(width - lean);
            said[1] = mean[i] + spread * exponential(width + lean);
            said[2] = all[3];
            all[3] += 1;
        }
        if (std::isnan(labels[i])) continue;
        if (all[4] == 0) all[4] = all[3];
        if (said[2] < all[4]) continue;  // predicted before any label was known
        const double above = labels[i] > said[1], below = labels[i] < said[0];
        const double excess = above + below - rule[OUTSIDE], side = above - below;
        const double most = rule[MOST_GAIN] / std::max(all[3] - said[2] - 1, 1.0);  // of a label that came late
        all[2] += 1;
        const double rate = std::max(rule[PARTITION_RATE], rule[FIRST_RATE] / std::sqrt(all[2]));
        all[0] = clamp(all[0] + std::min(rate, most) * excess, -WIDEST, WIDEST);
        all[1] = clamp(all[1] + std::min(rule[PARTITION_LEAN], most) * side, -MOST_LEAN, MOST_LEAN);
        task[0] = clamp(rule[TASK_DECAY] * task[0] + std::min(rule[TASK_RATE], most) * excess, -WIDEST, WIDEST);
        task[1] = clamp(rule[TASK_DECAY] * task[1] + std::min(rule[TASK_LEAN], most) * side, -MOST_LEAN, MOST_LEAN);
    }
}

}  // namespace

void bind_interval(nb::module_& module) { module.def("run_intervals", &run_intervals); }

}  // namespace streammeta

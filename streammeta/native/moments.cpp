// Running moments of features and targets. See streammeta/engine/moments.py.
#include <algorithm>
#include <cmath>

#include "array.hpp"

namespace streammeta {

// Moments [3, D] (count, mean, sum of squares about the mean) take in xs [N, D], one row after the other (Welford).
//
// NaN is missing. A value beyond `outlier` standard deviations counts as that far; after `memory` events they forget.
template <class T>
static void observe_moments(Array<double, 2> moments, Array<const T, 2> xs, double outlier, double memory) {
    const auto [events, features] = xs.shape;
    require(moments.shape[0] == 3 && moments.shape[1] == features, "observe_moments: features do not fit");
    double *count = moments[0].data, *mean = moments[1].data, *squares = moments[2].data;
    for (Index n = 0; n < events; n++) {
        for (Index d = 0; d < features; d++) {
            double x = xs[n][d];
            if (std::isnan(x)) continue;
            const double spread = count[d] >= 16 ? std::sqrt(squares[d] / count[d]) : 0.0;
            if (spread > 0) x = std::min(std::max(x, mean[d] - outlier * spread), mean[d] + outlier * spread);
            if (count[d] >= memory) {
                squares[d] *= 1 - 1 / memory;
            } else {
                count[d]++;
            }
            const double gap = x - mean[d];
            mean[d] += gap / count[d];
            squares[d] += gap * (x - mean[d]);
        }
    }
}

void bind_moments(nb::module_& module) {
    module.def("observe_moments", &observe_moments<float>).def("observe_moments", &observe_moments<double>);
}

}  // namespace streammeta

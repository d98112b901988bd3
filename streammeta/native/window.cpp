// Windows of labelled events, and segments cut out of them. See streammeta/engine/buffer.py.
#include <algorithm>
#include <cmath>

#include "array.hpp"

namespace streammeta {

using Windows = Array<float, 3>;  // [T, W, D], rings
using Labels = Array<float, 2>;   // [T, W]
using Rows = Array<const int64_t, 1>;

// Remember raw events xs [N, D] with labels ys [N], each in its row, in this order.
static void push(Windows window_x, Labels window_y, Array<int64_t, 1> pushed, Rows rows, Array<const float, 2> xs,
                 Array<const float, 1> ys) {
    const auto [tasks, size, width] = window_x.shape;
    const auto [events, features] = xs.shape;
    require(features <= width, "push: more features than a window has");
    for (Index n = 0; n < events; n++) {
        const int64_t row = rows[n];
        require(row >= 0 && row < tasks, "push: a row that is not there");
        const Index at = pushed[row] % size;
        float* to = window_x[row][at].data;
        std::copy_n(xs[n].data, features, to);
        std::fill(to + features, to + width, NAN);  // what was in its place may have been another task's
        window_y[row][at] = ys[n];
        pushed[row]++;
    }
}

// Fill xs [S, L, D] and ys [S, L] with segments of the rings, normalized, cut at ±clip; NaN becomes 0.
static void gather(Array<const float, 3> window_x, Array<const float, 2> window_y, Rows rows, Rows begins, Rows sizes,
                   Array<const float, 1> shift, Array<const float, 1> gain, float clip, Array<float, 3> xs,
                   Array<float, 2> ys) {
    const auto [tasks, size, width] = window_x.shape;
    const auto [segments, length, features] = xs.shape;
    require(features <= width && features == shift.size() && features == gain.size(), "gather: features do not fit");
    for (Index i = 0; i < segments; i++) {
        require(rows[i] >= 0 && rows[i] < tasks && sizes[i] <= length, "gather: a segment that is not there");
        for (Index t = 0; t < sizes[i]; t++) {
            const Index at = (begins[i] + t) % size;
            const float* from = window_x[rows[i]][at].data;
            ys[i][t] = window_y[rows[i]][at];
            for (Index d = 0; d < features; d++) {
                const float value = (from[d] - shift[d]) * gain[d];
                if (!std::isnan(value)) xs[i][t][d] = std::min(std::max(value, -clip), clip);
            }
        }
    }
}

void bind_window(nb::module_& module) {
    module.def("push", &push);
    module.def("gather", &gather);
}

}  // namespace streammeta

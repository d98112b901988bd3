// Windows of labelled events. See streammeta/engine/buffer.py.
#include <algorithm>
#include <cmath>

#include "array.hpp"

namespace streammeta {

using Windows = Array<float, 3>;  // [T, W, D], rings
using Rows = Array<const int64_t, 1>;

static void remember(float* to, Index width, const float* from, Index count) {
    std::copy_n(from, count, to);
    std::fill(to + count, to + width, NAN);  // what was in its place may have been another task's
}

// Remember events xs [N, D] and what float32 leaves out of some of their features, low [N, K], with labels ys [N], each
// in its row, in this order. Labels are float32 for classes and float64 for targets.
template <class Label>
static void push(Windows window_x, Windows window_low, Array<Label, 2> window_y, Array<int64_t, 1> pushed, Rows rows,
                 Array<const float, 2> xs, Array<const float, 2> low, Array<const double, 1> ys) {
    const auto [tasks, size, width] = window_x.shape;
    const Index events = xs.shape[0];
    require(xs.shape[1] <= width && low.shape[1] <= window_low.shape[2], "push: more features than a window has");
    for (Index n = 0; n < events; n++) {
        const int64_t row = rows[n];
        require(row >= 0 && row < tasks, "push: a row that is not there");
        const Index at = pushed[row] % size;
        remember(window_x[row][at].data, width, xs[n].data, xs.shape[1]);
        remember(window_low[row][at].data, window_low.shape[2], low[n].data, low.shape[1]);
        window_y[row][at] = static_cast<Label>(ys[n]);
        pushed[row]++;
    }
}

// The least and the greatest of the targets that the windows of these rows [M] remember; ∞ and −∞: none, or the row is
// −1.
static void target_range(Array<const double, 2> window_y, Array<const int64_t, 1> pushed, Rows rows,
                         Array<double, 1> least, Array<double, 1> greatest) {
    const auto [tasks, size] = window_y.shape;
    require(pushed.size() == tasks && least.size() == rows.size() && greatest.size() == rows.size(),
            "target_range: windows do not fit");
    for (Index i = 0; i < rows.size(); i++) {
        const int64_t row = rows[i];
        require(row >= -1 && row < tasks, "target_range: a row that is not there");
        const Index held = row < 0 ? 0 : std::min<Index>(pushed[row], size);
        double low = INFINITY, high = -INFINITY;
        for (Index place = 0; place < held; place++) {
            const double target = window_y[row][place];
            low = std::min(low, target), high = std::max(high, target);
        }
        least[i] = low, greatest[i] = high;
    }
}

void bind_window(nb::module_& module) {
    module.def("push", &push<float>);
    module.def("push", &push<double>);
    module.def("target_range", &target_range);
}

}  // namespace streammeta

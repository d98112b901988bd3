// Numbers as the learner sees them: one event, or a window. Equations: see streammeta/engine/scale.py.
#include "scale.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;
using Rows = Array<const int64_t, 1>;

constexpr double WIDE = 3;   // shared spreads, above which a task with an own view is not seen by the shared one
constexpr double CLIP = 20;  // spreads beyond which a number counts as this far away
constexpr int64_t NEW = -1;  // the number of an event that is in no window

// What normalizing needs beside a task's own row.
struct Frame {
    Given shift, gain;         // [D]
    Rows own;                  // [K] features with own views
    bool beside;               // own views are further inputs; else they replace the shared one
    std::vector<Index> place;  // [D] k of K, −1: none

    Frame(Given shift, Given gain, Rows own, bool beside)
        : shift(shift), gain(gain), own(own), beside(beside), place(shift.size(), -1) {
        require(gain.size() == shift.size(), "scale: shifts and gains do not fit");
        for (Index k = 0; k < own.size(); k++) {
            require(own[k] >= 0 && own[k] < shift.size(), "scale: a view of a feature that is not there");
            place[own[k]] = k;
        }
    }
    Index inputs() const { return shift.size() + (beside ? own.size() : 0); }
};

// A value of a unit before the present one as if it had been in it; of the unit before that one it is missing.
double in_present_unit(double value, int64_t number, const double* scale, Index step, double shift, double spread) {
    if (number == NEW || double(number) >= scale[SINCE * step]) return value;
    if (double(number) < scale[BEFORE * step]) return MISSING;
    const double was = scale[OLD_SPREAD * step] > 0 ? scale[OLD_SPREAD * step] : 1;
    return shift + (value - scale[OLD_SHIFT * step]) / was * spread;
}

// A feature in the view of all tasks, and in the task's own; NaN is missing.
struct Views {
    double seen, own;
};

// Feature d of an event: its value as float32, what that leaves out, and its task's scale from d on [ROWS] by `step`.
Views see_number(const Frame& frame, Index d, float high, float low, const double* of, Index step, int64_t number) {
    const double shift = frame.shift[d], gain = frame.gain[d];
    const bool is_coarse = std::abs(shift) * gain > COARSE;
    double value = high;
    if (frame.place[d] < 0) return {is_coarse ? MISSING : clamp((value - shift) * gain, -CLIP, CLIP), MISSING};
    const bool is_rounded = std::isnan(low);
    const double spread = of[SPREAD * step];
    const bool has = spread > 0;
    double own = MISSING;
    // Where float32 is enough, it stays: that some other task has a view of its own changes no bit of this one.
    if (!is_rounded && (has || std::abs(shift) * gain > PRECISE)) value += low;
    value = in_present_unit(value, number, of, step, has ? of[SHIFT * step] : shift, has ? spread : 1 / gain);
    if (has && !(is_rounded && std::abs(value) > COARSE * spread)) own = (value - of[SHIFT * step]) / spread;
    double seen = (value - shift) * gain;
    if (is_rounded && is_coarse) seen = MISSING;
    if (frame.beside && has && spread * gain > WIDE) seen = MISSING;  // hardly more than a sign
    if (!frame.beside && has) seen = own;
    return {clamp(seen, -CLIP, CLIP), clamp(own, -CLIP, CLIP)};
}

// One event: features [D], what float32 leaves out of some [K], its task's scale [ROWS, ·], into out [inputs].
void see(const Frame& frame, const float* high, const float* low, Array<const double, 2> scale, int64_t number,
         float* out) {
    const Index D = frame.shift.size();
    for (Index d = 0; d < D; d++) {
        const Index k = frame.place[d];
        const float rest = k < 0 ? 0 : low[k];
        const Views views = see_number(frame, d, high[d], rest, scale.data + d, scale.shape[1], number);
        out[d] = float(views.seen);
        if (k >= 0 && frame.beside) out[D + k] = float(views.own);
    }
}

// Fill out [N, inputs] for new events high [N, ≥ D], low [N, ≥ K] of these rows of scales [T, ROWS, ·].
void see_events(Array<const float, 2> high, Array<const float, 2> low, Array<const double, 3> scales, Rows rows,
                Given shift, Given gain, Rows own, bool beside, Array<float, 2> out) {
    const Frame frame(shift, gain, own, beside);
    const Index N = rows.size();
    require(high.shape[0] == N && low.shape[0] == N && out.shape[0] == N && high.shape[1] >= shift.size() &&
                low.shape[1] >= own.size() && scales.shape[1] == ROWS && scales.shape[2] >= shift.size() &&
                out.shape[1] == frame.inputs(),
            "see_events: features do not fit");
    for (Index i = 0; i < N; i++) {
        require(rows[i] >= 0 && rows[i] < scales.shape[0], "see_events: a row that is not there");
        see(frame, high[i].data, low[i].data, scales[rows[i]], NEW, out[i].data);
    }
}

// What K actions' heads see of events: their features `exact` [N, D], each of these again in the column that it has for
// the action (`crossed` [K, D]; −1: none), and 1 in the action's own column (`named` [K]; −1: none). Rows [N, K] are
// the actions' tasks; −1 has no view of its own. Fills starts [N·K + 1], columns and values [M] as `Few` has them, by
// ascending column, and returns M. See streammeta/decisions/scoring.py.
Index see_choices(Array<const double, 2> exact, Array<const int64_t, 2> crossed, Rows named,
                  Array<const int64_t, 2> rows, Array<const double, 3> scales, Given shift, Given gain, Rows own,
                  bool beside, Array<int64_t, 1> starts, Array<int64_t, 1> columns, Array<float, 1> values) {
    const Frame frame(shift, gain, own, beside);
    const auto [N, D] = exact.shape;
    const Index K = named.size();
    require(D == shift.size() && crossed.shape == std::array<Index, 2>{K, D} &&
                rows.shape == std::array<Index, 2>{N, K} && scales.shape[1] == ROWS && scales.shape[2] >= D &&
                starts.size() == N * K + 1 && columns.size() == values.size(),
            "see_choices: events do not fit");
    for (Index i = 0; i < K * D; i++) require(crossed.data[i] >= -1 && crossed.data[i] < D, "see_choices: no column");
    for (Index k = 0; k < K; k++) require(named[k] >= -1 && named[k] < D, "see_choices: no column");
    const std::vector<double> blank(ROWS * scales.shape[2], 0.0);
    std::vector<std::pair<Index, float>> found;
    std::vector<Index> there;
    Index count = 0;
    starts[0] = 0;
    for (Index n = 0; n < N; n++) {
        there.clear();
        for (Index d = 0; d < D; d++) {
            if (!std::isnan(exact[n][d])) there.push_back(d);
        }
        for (Index k = 0; k < K; k++) {
            const Index row = rows[n][k];
            require(row >= -1 && row < scales.shape[0], "see_choices: a row that is not there");
            const double* scale = row < 0 ? blank.data() : scales[row].data;
            const auto add = [&](Index d, double value) {
                const float high = float(value), low = float(value - double(high));
                const Views views = see_number(frame, d, high, low, scale + d, scales.shape[2], NEW);
                if (!std::isnan(views.seen)) found.push_back({d, float(views.seen)});
                if (beside && !std::isnan(views.own)) found.push_back({D + frame.place[d], float(views.own)});
            };
            found.clear();
            for (const Index d : there) {
                add(d, exact[n][d]);
                if (crossed[k][d] >= 0) add(crossed[k][d], exact[n][d]);
            }
            if (named[k] >= 0) add(named[k], 1);
            for (size_t i = 1; i < found.size(); i++) {  // a few numbers, nearly in order
                for (size_t j = i; j > 0 && found[j].first < found[j - 1].first; j--) std::swap(found[j], found[j - 1]);
            }
            require(count + Index(found.size()) <= columns.size(), "see_choices: more numbers than there is space for");
            for (const auto& [column, value] : found) {
                const bool again = count > starts[n * K + k] && columns[count - 1] == column;  // two names, one feature
                if (!again) count++;
                columns[count - 1] = column, values[count - 1] = value;
            }
            starts[n * K + k + 1] = count;
        }
    }
    return count;
}

// The label's number, of a task's labels, that lies at a place of a window of that size after `count` labels.
int64_t number_at(Index place, int64_t count, Index size) {
    const int64_t newest = count - 1, back = newest - place,
                  ago = back >= 0 ? back % size : size - 1 - (-back - 1) % size;
    return newest - ago;
}

// Fill out [R, W, inputs] for what the windows of these rows hold, in ≤ W places; others stay as they are.
void see_windows(Array<const float, 3> window_x, Array<const float, 3> low, Array<const int64_t, 1> count,
                 Array<const double, 3> scales, Rows rows, Given shift, Given gain, Rows own, bool beside,
                 Array<float, 3> out) {
    const Frame frame(shift, gain, own, beside);
    const auto [tasks, size, width] = window_x.shape;
    const Index R = rows.size();
    require(low.shape[0] == tasks && low.shape[1] == size && count.size() == tasks && scales.shape[0] == tasks &&
                width >= shift.size() && low.shape[2] >= own.size() && scales.shape[1] == ROWS &&
                scales.shape[2] >= shift.size() && out.shape[0] == R && out.shape[1] <= size &&
                out.shape[2] == frame.inputs(),
            "see_windows: features do not fit");
    for (Index r = 0; r < R; r++) {
        const int64_t row = rows[r];
        require(row >= 0 && row < tasks, "see_windows: a row that is not there");
        const Index held = std::min<Index>(count[row], size);
        require(held <= out.shape[1], "a window: more events than places for them");
        for (Index place = 0; place < held; place++) {
            const int64_t number = std::max<int64_t>(number_at(place, count[row], size), 0);
            see(frame, window_x[row][place].data, low[row][place].data, scales[row], number, out[r][place].data);
        }
    }
}

float see_target(double y, int64_t number, const double* scale, double shift, double spread, double most) {
    const bool has = scale[SPREAD] > 0;
    const double of = has ? scale[SHIFT] : shift, by = has ? scale[SPREAD] : spread;
    return float(clamp((in_present_unit(y, number, scale, 1, of, by) - of) / by, -most, most));
}

// A label that is cut off is no measurement: nothing is learned from it.
float learned_target(float seen, double most) { return std::abs(seen) >= float(most) ? float(MISSING) : seen; }

// Fill out [N] for new targets ys [N] of these rows of scales [T, ROWS, 1].
void see_targets(Given ys, Array<const double, 3> scales, Rows rows, double shift, double spread, double most,
                 Array<float, 1> out) {
    require(ys.size() == rows.size() && out.size() == rows.size() && scales.shape[1] == ROWS && scales.shape[2] == 1,
            "see_targets: targets do not fit");
    for (Index i = 0; i < rows.size(); i++) {
        require(rows[i] >= 0 && rows[i] < scales.shape[0], "see_targets: a row that is not there");
        out[i] = see_target(ys[i], NEW, scales[rows[i]].data, shift, spread, most);
    }
}

// Fill out [R, W] for the targets that the windows of these rows hold, likewise.
void see_target_windows(Array<const double, 2> window_y, Array<const int64_t, 1> count, Array<const double, 3> scales,
                        Rows rows, double shift, double spread, double most, Array<float, 2> out) {
    const auto [tasks, size] = window_y.shape;
    require(count.size() == tasks && scales.shape == std::array<Index, 3>{tasks, ROWS, 1} &&
                out.shape[0] == rows.size() && out.shape[1] <= size,
            "see_target_windows: targets do not fit");
    for (Index r = 0; r < rows.size(); r++) {
        const int64_t row = rows[r];
        require(row >= 0 && row < tasks, "see_target_windows: a row that is not there");
        const Index held = std::min<Index>(count[row], size);
        require(held <= out.shape[1], "a window: more events than places for them");
        for (Index place = 0; place < held; place++) {
            const int64_t number = std::max<int64_t>(number_at(place, count[row], size), 0);
            const float seen = see_target(window_y[row][place], number, scales[row].data, shift, spread, most);
            out[r][place] = learned_target(seen, most);
        }
    }
}

}  // namespace

void bind_scale(nb::module_& module) {
    module.def("see_events", &see_events);
    module.def("see_choices", &see_choices);
    module.def("see_windows", &see_windows);
    module.def("see_targets", &see_targets);
    module.def("see_target_windows", &see_target_windows);
}

}  // namespace streammeta

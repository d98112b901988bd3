// When a task's scale is looked at, and what a look finds. Rules, equations and source: streammeta/engine/looks.py.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

#include "array.hpp"
#include "number.hpp"
#include "scale.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;
using Count = Array<int64_t, 1>;  // of each task
using Rows = Array<const int64_t, 1>;

constexpr Index FIRST = 2;                   // labels of a task at its first look
constexpr int64_t STRAYS = 4, ASIDES = 8;    // labels in a row, far away or aside and close together: another unit
constexpr int64_t BOTH = 16;                 // one number holds both counts: strays + 16 · asides
constexpr double STRAY = 10, ASIDE = 3.5;    // spreads
constexpr double CLOSE = 0.125;              // of the spread: the standard deviation of values that lie close together
constexpr double FEW = 10;                   // labels that the shared scale is worth
constexpr double WIDER = 1.791759469228055;  // log 6
constexpr double FARTHER = 3;
constexpr double CHANCE = 14;       // log of one over how seldom values of one scale may lie so close
constexpr Index COUNTED = 8;        // labels of a task before it tells of the crowd
constexpr double CONSTANT = 1e-13;  // of the mean: less is rounding
constexpr double SAME = 0.01;       // of the spread; smaller changes of a view are none

// The shared scale of D numbers.
struct Shared {
    Given shift, gain, typical;
    Array<const bool, 1> known;
    Array<const int64_t, 1> company;  // −1: one task alone made it; 1: many do not fit
};

// One number of one task: its rows of the scale, and what the shared scale says of it.
struct Number {
    double* scale;  // [ROWS], `step` apart
    Index step;
    float& last;  // "scale.last"
    double shift, spread, typical;
    bool known;
    int64_t company;

    double& operator[](ScaleRow row) const { return scale[row * step]; }
    double shift_now() const { return (*this)[SPREAD] > 0 ? (*this)[SHIFT] : shift; }
    double spread_now() const { return (*this)[SPREAD] > 0 ? (*this)[SPREAD] : spread; }
};

struct Moments {
    Index count = 0;
    double mean = 0, spread = 0;  // 0 where none is there
};

struct Verdict {
    bool has_changed = false, unit_changed = false, is_wanted = false;  // wanted: a view of its own
};

// NaN is missing.
Moments moments(const double* values, Index n) {
    Moments found;
    for (Index i = 0; i < n; i++) {
        if (std::isnan(values[i])) continue;
        found.count++;
        found.mean += values[i];
    }
    found.mean /= std::max<Index>(found.count, 1);
    double squares = 0;
    for (Index i = 0; i < n; i++) {
        const double gap = values[i] - found.mean;
        if (!std::isnan(gap)) squares += gap * gap;
    }
    found.spread = std::sqrt(squares / std::max<Index>(found.count - 1, 1));
    return found;
}

// Whether the last values were all far away, or aside and close together: then the present unit began with the first.
bool begin_unit(const Number& number, const double* values, Index n, int64_t newest, bool is_far) {
    const Index count = is_far ? STRAYS : ASIDES;
    if (n < count || !number.known) return false;
    const double shift = number.shift_now(), spread = number.spread_now(), least = is_far ? STRAY : ASIDE;
    const double* last = values + n - count;
    for (Index i = 0; i < count; i++) {
        if (!(std::abs(last[i] - shift) > least * spread)) return false;
    }
    const double own = moments(last, count).spread;
    if (!(own > CONSTANT * std::abs(last[count - 1]))) return false;  // what stands still tells no unit
    if (!is_far && !(own < CLOSE * spread)) return false;
    number[BEFORE] = number[SINCE];
    number[OLD_SHIFT] = shift;
    number[OLD_SPREAD] = spread;
    number[SINCE] = double(newest - count + 1);
    return true;
}

// Values far away that are few, and no run of STRAYS, tell of no unit: they are as good as missing.
void drop_strays(const Number& number, double* values, Index n) {
    if (!number.known) return;
    const double shift = number.shift_now(), most = STRAY * number.spread_now();
    Index far = 0, there = 0;
    for (Index i = 0; i < n; i++) {
        far += std::abs(values[i] - shift) > most;
        there += !std::isnan(values[i]);
    }
    if (!far || 2 * far >= there) return;
    for (Index i = 0, run; i < n; i += run + 1) {
        for (run = 0; i + run < n && std::abs(values[i + run] - shift) > most;) run++;
        if (run < STRAYS) std::fill_n(values + i, run, MISSING);
    }
}

// A second float32 is wanted where values lie so far from zero, and change so little, that the first says too little.
bool is_rounded(const Number& number, const Moments& found, bool is_varied, double last) {
    const double far = std::abs(found.mean), before = number[EXACT];
    const bool is_coarse = found.count > 1 && far > PRECISE * found.spread;
    const bool is_exact = last == double(float(last)) || found.mean == 0;
    const bool moved = before != 0 && last != before && std::abs(last - before) <= far / PRECISE;
    number[EXACT] = !is_coarse ? 0 : std::isnan(last) ? before : last;
    if (!is_coarse) return false;
    return is_varied ? !is_exact || far > COARSE * found.spread : !is_exact && moved;
}

// Look at a number: values [n], oldest first, the newest of them label `newest` of the task. `crowd` [3], `step` apart.
Verdict look_at(const Number& number, double* values, Index n, int64_t newest, bool fills_window, Index undecided,
                int changed, double last, double* crowd, Index step) {
    Verdict verdict;
    const double former[] = {number[SINCE], number[BEFORE], number[OLD_SHIFT], number[OLD_SPREAD]};
    if (changed) verdict.unit_changed = begin_unit(number, values, n, newest, changed == 1);
    if (2 * undecided < n) std::fill_n(values + n - undecided, undecided, MISSING);
    const int64_t since = int64_t(number[SINCE]), first = newest - n + 1;
    if (since > first) std::fill_n(values, std::min<Index>(since - first, n), MISSING);
    drop_strays(number, values, n);

    const Moments found = moments(values, n);
    const bool is_varied = found.count > 1 && found.spread > CONSTANT * std::abs(found.mean);
    const double least = number.spread, gap = found.mean - number.shift, count = double(found.count);
    const double weight = count / (count + FEW), freedom = std::max(count - 1, 1.0);
    const double wider = WIDER / std::max(weight, 1e-9), narrower = std::max(wider, CHANCE / freedom);
    const double log_spread = logarithm(is_varied ? found.spread : least), ratio = log_spread - logarithm(least);
    bool is_misfit = std::abs(gap) * weight > FARTHER * least;
    for (const double wide : {ratio, log_spread - number.typical}) is_misfit |= wide > wider || -wide > narrower;
    is_misfit &= is_varied && number.known;
    const bool is_new_unit = since > 0 && !(fills_window && since <= first);
    const bool has_own =
        is_varied && number.known &&
        (number.company > 0 || (number.company == 0 ? is_misfit || is_new_unit : is_misfit && is_new_unit));
    if (verdict.unit_changed && !has_own) {  // then it is no other unit
        number[SINCE] = former[0], number[BEFORE] = former[1];
        number[OLD_SHIFT] = former[2], number[OLD_SPREAD] = former[3];
        verdict.unit_changed = false;
    }
    verdict.is_wanted = is_rounded(number, found, is_varied, last) || has_own;

    double shift = 0, spread = 0;
    if (has_own) {
        const double share = found.spread * found.spread / (found.spread * found.spread + gap * gap);
        shift = found.mean - gap * share / (count + share);
        spread = least * exponential(ratio * ratio * ratio / (ratio * ratio + 0.5 / freedom));
    }
    const bool had = number[SPREAD] > 0;
    const bool is_same =
        had && std::abs(shift - number[SHIFT]) <= SAME * spread && std::abs(logarithm(spread / number[SPREAD])) <= SAME;
    verdict.has_changed = has_own != had || (has_own && !is_same);
    if (verdict.has_changed) number[SHIFT] = shift, number[SPREAD] = spread;

    const float now = float(found.spread);
    if (is_varied && found.count >= COUNTED && now > 0) {
        const double before = number.last;
        crowd[0] = before == 0;
        crowd[step] = logarithm(double(now)) - (before == 0 ? 0.0 : logarithm(std::abs(before)));
        crowd[2 * step] = double(is_misfit) - (before < 0);
        number.last = is_misfit ? -now : now;
    }
    return verdict;
}

int64_t counted(int64_t counts, int64_t stray) {
    const int64_t far = counts % BOTH, aside = counts / BOTH;
    return (stray > 1 ? std::min(far + 1, STRAYS) : 0) + BOTH * (stray ? std::min(aside + 1, ASIDES) : 0);
}

bool is_another_unit(int64_t counts) { return counts % BOTH >= STRAYS || counts / BOTH >= ASIDES; }

// A task's last labels, exact where the second float32 was kept; NaN where float32 alone says too little.
void read_feature(Array<const float, 2> high, Array<const float, 2> low, Index d, Index own, int64_t first, Index n,
                  std::vector<double>& values) {
    const Index size = high.shape[0];
    for (Index i = 0; i < n; i++) values[i] = high[(first + i) % size][d];
    if (own < 0) return;
    std::vector<double> exact(n);
    for (Index i = 0; i < n; i++) exact[i] = values[i] + double(low[(first + i) % size][own]);  // NaN: not kept
    const Moments known = moments(exact.data(), n);
    for (Index i = 0; i < n; i++) {
        const bool is_coarse = std::abs(values[i]) > COARSE * known.spread && known.count > 1;
        values[i] = !std::isnan(exact[i]) ? exact[i] : is_coarse ? MISSING : values[i];
    }
}

template <class T, int N>
Array<T, N> part(nb::handle tuple, Index at, const char* name) {
    return take<T, N>(nb::handle(PyTuple_GetItem(tuple.ptr(), at)), name);
}

// Look at the task in `row`. windows: x, low, y, count. scales: x, y, last, y_last, next, epoch, strays, and labels of
// each task. shared: shift, gain, known, typical, company, and the same of the target without company. `last` [D]: the
// last labelled event, exact. crowd [3, D] and target_crowd [3, 1] are filled with what the crowd's sums gain.
//
// Says whether φ is to be derived again, the target's spread before in spreads of now, whether a unit changed, and
// which features want a view of their own.
nb::tuple look(nb::tuple windows, nb::tuple scales, Index row, nb::tuple shared, Rows own, int64_t epoch, bool classify,
               Given last, Array<double, 2> crowd, Array<double, 2> target_crowd) {
    require(windows.size() == 4 && scales.size() == 8 && shared.size() == 9, "look: arrays are missing");
    const auto window_x = part<const float, 3>(windows, 0, "window_x"), low = part<const float, 3>(windows, 1, "low");
    const auto pushed = part<const int64_t, 1>(windows, 3, "window_count");
    const auto scale_x = part<double, 3>(scales, 0, "scale.x"), scale_y = part<double, 3>(scales, 1, "scale.y");
    const auto last_x = part<float, 2>(scales, 2, "scale.last"), last_y = part<float, 2>(scales, 3, "scale.y_last");
    const auto next = part<int64_t, 1>(scales, 4, "scale.next"), epochs = part<int64_t, 1>(scales, 5, "scale.epoch");
    const auto strays = part<int64_t, 1>(scales, 6, "scale.strays");
    const auto labelled = part<const int64_t, 1>(scales, 7, "labelled");
    const Shared features{part<const double, 1>(shared, 0, "shift"), part<const double, 1>(shared, 1, "gain"),
                          part<const double, 1>(shared, 3, "typical"), part<const bool, 1>(shared, 2, "known"),
                          part<const int64_t, 1>(shared, 4, "company")};
    const Index D = features.shift.size(), tasks = window_x.shape[0], size = window_x.shape[1];
    const auto has_rows = [&](auto array) { return array.shape[0] == tasks; };
    require(row >= 0 && row < tasks && has_rows(low) && has_rows(pushed) && has_rows(scale_x) && has_rows(scale_y) &&
                has_rows(last_x) && has_rows(last_y) && has_rows(next) && has_rows(epochs) && has_rows(strays) &&
                has_rows(labelled) && low.shape[1] == size && size > 0,
            "look: a row that is not there");
    require(window_x.shape[2] >= D && scale_x.shape[2] >= D && last_x.shape[1] >= D && scale_x.shape[1] == ROWS &&
                scale_y.shape[1] == ROWS && scale_y.shape[2] == 1 && features.gain.size() == D &&
                features.typical.size() == D && features.known.size() == D && features.company.size() == D &&
                last.size() == D && low.shape[2] >= own.size() && crowd.shape == std::array<Index, 2>{3, D} &&
                target_crowd.shape == std::array<Index, 2>{3, 1},
            "look: features do not fit");

    const int64_t count = pushed[row], newest = count - 1;
    const Index n = Index(std::min<int64_t>(count, size));
    const int64_t first = count - n;
    int64_t counts = strays[row];
    const int changed = !is_another_unit(counts) ? 0 : counts % BOTH >= STRAYS ? 1 : 2;
    if (changed) strays[row] = counts = 0;
    const Index undecided = Index(std::min<int64_t>(std::max(counts % BOTH, counts / BOTH), n));

    std::vector<Index> place(D, -1);
    for (Index k = 0; k < own.size(); k++) {
        require(own[k] >= 0 && own[k] < D, "look: a view of a feature that is not there");
        place[own[k]] = k;
    }
    std::vector<double> values(n);
    Verdict all;
    nb::list births;
    double since = 0;
    for (Index d = 0; d < D; d++) {
        const Index width = scale_x.shape[2];
        const Number number{scale_x[row].data + d, width,
                            last_x[row][d],        features.shift[d],
                            1 / features.gain[d],  features.typical[d],
                            features.known[d],     features.company[d]};
        read_feature(window_x[row], low[row], d, place[d], first, n, values);
        const Verdict one =
            look_at(number, values.data(), n, newest, count >= size, undecided, changed, last[d], crowd.data + d, D);
        all.has_changed |= one.has_changed;
        all.unit_changed |= one.unit_changed;
        if (one.is_wanted && place[d] < 0) births.append(d);
        since = std::max(since, number[SINCE]);
    }
    double noise = 1;
    if (!classify) {
        const auto y = part<const double, 2>(windows, 2, "window_y");
        const auto shift = part<const double, 1>(shared, 5, "y_shift"), gain = part<const double, 1>(shared, 6, "gain");
        const auto known = part<const bool, 1>(shared, 7, "known");
        const auto typical = part<const double, 1>(shared, 8, "typical");
        require(shift.size() == 1 && gain.size() == 1 && known.size() == 1 && typical.size() == 1 && has_rows(y) &&
                    y.shape[1] == size && last_y.shape[1] == 1,
                "look: a target that does not fit");
        const Number number{scale_y[row].data, 1, last_y[row][0], shift[0], 1 / gain[0], typical[0], known[0], 0};
        const double before = number.spread_now();
        for (Index i = 0; i < n; i++) values[i] = y[row][(first + i) % size];
        const Verdict one =
            look_at(number, values.data(), n, newest, count >= size, undecided, changed, MISSING, target_crowd.data, 1);
        all.has_changed |= one.has_changed;
        all.unit_changed |= one.unit_changed;
        noise = before / number.spread_now();
        since = std::max(since, number[SINCE]);
    }
    const int64_t of_unit = std::max<int64_t>(count - int64_t(since), FIRST);
    next[row] = labelled[row] + std::min<int64_t>(of_unit, size);
    epochs[row] = epoch;
    return nb::make_tuple(all.has_changed || all.unit_changed, noise, all.unit_changed, births);
}

// How far away numbers of events are, in the view that fits best: 2 far, 1 aside, 0 neither. xs [N, D + K]: the shared
// views of D features, and the own ones of those in `own`, or K = 0. Labels ys [N] count where `with_target`.
void find_strays(Array<const float, 2> xs, Array<const float, 1> ys, Array<const bool, 1> known, Rows own,
                 bool with_target, Count strays) {
    const auto [events, inputs] = xs.shape;
    const Index D = known.size();
    require(inputs >= D && (inputs == D || inputs == D + own.size()) && ys.size() == events && strays.size() == events,
            "find_strays: numbers do not fit");
    std::vector<Index> place(D, -1);
    for (Index k = 0; k < inputs - D; k++) {
        require(own[k] >= 0 && own[k] < D, "find_strays: a view of a feature that is not there");
        place[own[k]] = D + k;
    }
    for (Index i = 0; i < events; i++) {
        const float* x = xs[i].data;
        float farthest = 0;
        for (Index d = 0; d < D; d++) {
            if (!known[d]) continue;
            const float mine = place[d] < 0 ? NAN : std::abs(x[place[d]]),
                        far = std::isnan(mine) ? std::abs(x[d]) : mine;
            if (far > farthest) farthest = far;
        }
        if (with_target && std::abs(ys[i]) > farthest) farthest = std::abs(ys[i]);
        strays[i] = (farthest > float(STRAY)) + (farthest > float(ASIDE));
    }
}

// How many of these events may be taken before a task comes that is to be looked at first: `most`, or less; if
// `at_once`, no more than up to the event after which a task is to be looked at.
Index until_look(Count labelled, Count next, Count strays, Rows rows, Given labels, Rows found, Index most,
                 bool at_once) {
    struct State {
        int64_t labelled, strays;
        bool is_due = false;
    };
    std::unordered_map<int64_t, State> states;
    require(most <= rows.size() && labels.size() == rows.size() && found.size() == rows.size() &&
                labelled.size() == next.size() && strays.size() == next.size(),
            "until_look: events do not fit");
    for (Index i = 0; i < most; i++) {
        const int64_t row = rows[i];
        require(row >= 0 && row < next.size(), "until_look: a row that is not there");
        const auto [at, is_new] = states.try_emplace(row, State{labelled[row], strays[row]});
        State& state = at->second;
        if (state.is_due) return i;
        if (std::isnan(labels[i])) continue;
        state.labelled++;
        state.strays = counted(state.strays, found[i]);
        state.is_due = state.labelled >= next[row] || is_another_unit(state.strays);
        if (state.is_due && at_once) return i + 1;
    }
    return most;
}

// The places of the events whose task is to be looked at after them, each the last labelled one of its task, in order;
// the counts of strays are brought up to date.
std::vector<Index> due_for_look(Count labelled, Count next, Count strays, Rows rows, Given labels, Rows found) {
    std::unordered_map<int64_t, Index> last;
    require(labels.size() == rows.size() && found.size() >= rows.size() && labelled.size() == next.size() &&
                strays.size() == next.size(),
            "due_for_look: events do not fit");
    for (Index i = 0; i < rows.size(); i++) {
        if (std::isnan(labels[i])) continue;
        require(rows[i] >= 0 && rows[i] < next.size(), "due_for_look: a row that is not there");
        last[rows[i]] = i;
        strays[rows[i]] = counted(strays[rows[i]], found[i]);
    }
    std::vector<Index> due;
    for (const auto& [row, i] : last) {
        if (labelled[row] >= next[row] || is_another_unit(strays[row])) due.push_back(i);
    }
    std::sort(due.begin(), due.end());
    return due;
}

}  // namespace

void bind_looks(nb::module_& module) {
    module.def("look", &look);
    module.def("find_strays", &find_strays);
    module.def("until_look", &until_look);
    module.def("due_for_look", &due_for_look);
}

}  // namespace streammeta

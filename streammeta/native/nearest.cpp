// What the nearest of many events say. Equations: see streammeta/engine/experts/nearest.py.
#include <algorithm>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;

constexpr Index NEAREST = 7;
constexpr Index FEWEST = 5;                                // events without which nothing is said
constexpr float MOST_AWAY = 6;                             // spreads
constexpr float CLOSEST = 1e-3f;                           // of √features: a distance below counts not much more
constexpr Index NUMBERS = 1 << 17, FEWEST_COMPARED = 256;  // numbers compared for an event; events, at least

// The event in spreads of all tasks; a missing feature is at the mean. Returns how many are not missing.
Index normalize(Array<const float, 1> x, Given shift, Given gain, Index D, float* z) {
    Index there = 0;
    for (Index d = 0; d < D; d++) {
        const float value = d < x.size() && d < shift.size() ? float((double(x[d]) - shift[d]) * gain[d]) : NAN;
        there += !std::isnan(value);
        z[d] = std::isnan(value) ? 0.f : clamp(value, -MOST_AWAY, MOST_AWAY);
    }
    return there;
}

// The events seen [D, M] and their labels [M], of which the last M of `count` are there: event e in place e mod M.
struct Memory {
    Array<float, 2> z;
    Array<float, 1> y;
    int64_t count;

    void add(const float* event, float label) {
        const Index D = z.shape[0], M = z.shape[1], place = count % M;
        for (Index d = 0; d < D; d++) z.data[d * M + place] = event[d];
        y[place] = label;
        count++;
    }
};

// Fill said [C] with what the nearest of the last events say of one that has so many features, > 0; the eldest first,
// of several as near.
//
// How many features others have, and where events lie in the memory, changes nothing: so polls do not.
void ask(const Memory& memory, const float* event, Index there, bool classify, std::vector<float>& squared,
         double* said, Index C) {
    const Index D = memory.z.shape[0], M = memory.z.shape[1];
    const Index held = std::min<Index>(std::clamp(NUMBERS / there, FEWEST_COMPARED, M), memory.count);
    const Index begin = (memory.count - held) % M, first = std::min(held, M - begin);
    std::fill_n(squared.data(), held, 0.f);
    const auto add = [&](const float* row, float own, float* sum, Index size) {
        for (Index m = 0; m < size; m++) {
            const float gap = row[m] - own;
            sum[m] += gap * gap;
        }
    };
    for (Index d = 0; d < D; d++) {
        add(memory.z.data + d * M + begin, event[d], squared.data(), first);
        add(memory.z.data + d * M, event[d], squared.data() + first, held - first);
    }
    float least[NEAREST];
    Index place[NEAREST], found = 0;
    for (Index m = 0; m < held; m++) {
        if (found == NEAREST && !(squared[m] < least[NEAREST - 1])) continue;
        Index at = found < NEAREST ? found++ : NEAREST - 1;
        for (; at > 0 && squared[m] < least[at - 1]; at--) least[at] = least[at - 1], place[at] = place[at - 1];
        least[at] = squared[m], place[at] = (begin + m) % M;
    }
    double total = 0, mean = 0;
    std::fill_n(said, C, 0.0);
    for (Index i = 0; i < found; i++) {
        const float away = root(least[i]) + CLOSEST * root(float(there));
        const double weight = 1 / double(away), label = memory.y[place[i]];
        total += weight;
        mean += weight * label;
        if (classify && label < double(C)) said[Index(label)] += weight;
    }
    if (classify) {
        for (Index c = 0; c < C; c++) said[c] /= total;
    } else {
        said[0] = mean / total;
    }
}

// Fill said [N, C] of events [N] of one partition that are asked, each under the labels before it, which are added in
// turn to the memory z [D, M], y [M] of `count` events: labels [N], NaN where there is none. Returns the new count.
int64_t ask_nearest(Array<float, 2> z, Array<float, 1> y, int64_t count, Array<const float, 2> xs, Given shift,
                    Given gain, Given labels, Array<const bool, 1> asked, bool classify, Array<double, 2> said) {
    const Index N = xs.shape[0], D = z.shape[0];
    require(z.shape[1] == y.size() && y.size() >= FEWEST_COMPARED && count >= 0 && shift.size() == gain.size() &&
                labels.size() == N && asked.size() == N && said.shape[0] == N && said.shape[1] > 0,
            "ask_nearest: shapes do not fit");
    Memory memory{z, y, count};
    std::vector<float> event(D), squared(y.size());
    for (Index i = 0; i < N; i++) {
        const bool is_asked = asked[i] && memory.count >= FEWEST, is_labelled = !std::isnan(labels[i]);
        require(!classify || !is_labelled || labels[i] >= 0, "ask_nearest: a label that is no class");
        const Index there = normalize(xs[i], shift, gain, D, event.data());
        if (is_asked && there > 0) ask(memory, event.data(), there, classify, squared, said[i].data, said.shape[1]);
        if (is_labelled) memory.add(event.data(), float(labels[i]));
    }
    return memory.count;
}

// Fill a memory z [D, M], y [M] with the last of `count` events of a ring x [R, 1 + features], labels [R].
void remember_nearest(Array<const float, 2> x, Array<const float, 1> labels, int64_t count, Given shift, Given gain,
                      Array<float, 2> z, Array<float, 1> y) {
    const Index R = x.shape[0], D = z.shape[0], M = z.shape[1];
    require(labels.size() == R && y.size() == M && R > 0 && x.shape[1] > 0 && shift.size() == gain.size(),
            "remember_nearest: shapes do not fit");
    Memory memory{z, y, std::max<int64_t>(count - std::min(M, R), 0)};
    std::vector<float> event(D);
    while (memory.count < count) {
        const Array<const float, 1> row = x[memory.count % R];
        normalize({row.data + 1, {row.size() - 1}}, shift, gain, D, event.data());
        memory.add(event.data(), labels[memory.count % R]);
    }
}

}  // namespace

void bind_nearest(nb::module_& module) {
    module.def("ask_nearest", &ask_nearest).def("remember_nearest", &remember_nearest);
}

}  // namespace streammeta

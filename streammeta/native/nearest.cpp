// What the nearest of many events say. Equations: see streammeta/engine/experts/nearest.py.
#include <algorithm>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"
#include "ring.hpp"

namespace streammeta {

namespace {

using Given = Array<const double, 1>;

constexpr Index NEAREST = 7;
constexpr Index FEWEST = 5;       // events without which nothing is said
constexpr float MOST_AWAY = 6;    // spreads
constexpr float CLOSEST = 1e-3f;  // of √features: a distance below counts not much more
constexpr Index BLOCK = 32;       // events side by side in memory
constexpr Index LANES_OF_ONE = REGISTER / sizeof(float), REGISTERS = BLOCK / LANES_OF_ONE;
constexpr float MISSING = -0.f;                            // the mean, as no known value is written
constexpr Index FEATURES_AT_ONCE = 4;                      // before it is looked whether a block is near enough
constexpr Index NUMBERS = 1 << 17, FEWEST_COMPARED = 256;  // numbers compared for an event; events, at least
constexpr double PAIRS_DECAY = 0.998, PRIOR_PAIRS = 10;    // of what is known of a feature; pairs that none is worth
constexpr double LEAST_WEIGHT = 0.05;                      // of a feature in the distance

// The event in spreads of all tasks; a missing feature is at the mean, as MISSING.
void normalize(Array<const float, 1> x, Given shift, Given gain, Index D, float* z) {
    for (Index d = 0; d < D; d++) {
        const float value = d < x.size() && d < shift.size() ? float((double(x[d]) - shift[d]) * gain[d]) : NAN;
        z[d] = std::isnan(value) ? MISSING : clamp(value, -MOST_AWAY, MOST_AWAY) + 0.f;
    }
}

bool is_missing(float z) { return z == 0 && std::signbit(z); }

// The events seen [M / BLOCK, D, BLOCK] and their labels [M], of which the last M of `count` are there: event e in
// place e mod M; and of how many of them each feature [D] is known.
struct Memory {
    Array<float, 3> z;
    Array<float, 1> y;
    Array<int64_t, 1> known;
    int64_t count;

    void add(const float* event, float label) {
        const Index D = z.shape[1], place = count % y.size();
        float* block = z[place / BLOCK].data + place % BLOCK;
        for (Index d = 0; d < D; d++) {
            known[d] += !is_missing(event[d]) - (count >= y.size() && !is_missing(block[d * BLOCK]));
            block[d * BLOCK] = event[d];
        }
        y[place] = label;
        count++;
    }
    // Leave out what none of the events has: it would be as far from all of them, and is not there in an event that is
    // asked before its feature is known. Returns how many features are left.
    Index compared(float* event) const {
        Index left = 0;
        for (Index d = 0; d < z.shape[1]; d++) {
            if (known[d] == 0) event[d] = MISSING;
            left += !is_missing(event[d]);
        }
        return left;
    }
};

// The nearest so far: squared distances in ascending order, and places.
struct Nearest {
    float squared[NEAREST];
    Index place[NEAREST], found = 0;

    float bound() const { return found < NEAREST ? INFINITY : squared[NEAREST - 1]; }
    void add(float distance, Index where) {
        if (!(distance < bound())) return;
        Index at = found < NEAREST ? found++ : NEAREST - 1;
        for (; at > 0 && distance < squared[at - 1]; at--) squared[at] = squared[at - 1], place[at] = place[at - 1];
        squared[at] = distance, place[at] = where;
    }
};

// What the relevance of each feature [D] is made of: the neighbours' number, and sums of the squared distances in it to
// those with the event's label and to others.
struct Relief {
    Array<double, 2> pairs;  // [3, ≥ D]

    // Fill weights [D], 1 in the mean of the features that an event has.
    void weigh(const float* event, std::vector<float>& weights) const {
        double total = 0, there = 0;
        for (Index d = 0; d < Index(weights.size()); d++) {
            const double same = pairs[1][d], other = pairs[2][d];
            const double prior = same + other > 0 ? PRIOR_PAIRS * (same + other) / (2 * pairs[0][d]) : 1;
            const double weight = std::max((other + prior) / (same + prior) - 1, 0.0) + LEAST_WEIGHT;
            weights[d] = float(weight);
            if (!is_missing(event[d])) total += weight, there++;
        }
        for (float& weight : weights) weight *= float(there / total);
    }

    // Learn from an event's neighbours: of targets, the half that is nearer to its own stands for the same label.
    void learn(const Memory& memory, const float* event, const Nearest& nearest, float label, bool classify) {
        struct Neighbour {
            float gap;
            Index place;
        } found[NEAREST];
        for (Index i = 0; i < nearest.found; i++)
            found[i] = {std::abs(memory.y[nearest.place[i]] - label), nearest.place[i]};
        std::stable_sort(found, found + nearest.found, [](auto& a, auto& b) { return a.gap < b.gap; });
        Index same = nearest.found / 2, other = nearest.found / 2;
        if (classify) {
            same = std::count_if(found, found + nearest.found, [](auto& one) { return one.gap == 0; });
            other = nearest.found - same;
        }
        if (!(same > 0 && other > 0 && found[0].gap < found[nearest.found - 1].gap)) return;
        for (Index d = 0; d < memory.z.shape[1]; d++) {
            if (is_missing(event[d])) continue;
            double sums[2] = {};
            for (Index i = 0; i < nearest.found; i++) {
                if (i >= same && i < nearest.found - other) continue;
                const Index place = found[i].place;
                const double gap = memory.z[place / BLOCK][d][place % BLOCK] - event[d];
                sums[i >= same] += gap * gap / double(i < same ? same : other);
            }
            const double news[3] = {1, sums[0], sums[1]};
            for (Index k = 0; k < 3; k++) pairs[k][d] = PAIRS_DECAY * pairs[k][d] + news[k];
        }
    }
};

// Compare an event with those in places begin ... end - 1, in this order. A block is left as soon as all of it is too
// far away: a sum of squares only grows.
void compare(const Memory& memory, const float* event, const float* weights, Index begin, Index end, Nearest& nearest) {
    const Index D = memory.z.shape[1];
    for (Index at = begin; at < end; at = (at / BLOCK + 1) * BLOCK) {
        const float* row = memory.z[at / BLOCK].data;
        const Floats bound = Floats{} + nearest.bound();
        Floats sum[REGISTERS] = {};
        bool is_near = true;
        for (Index d = 0; d < D && is_near;) {
            for (const Index stop = std::min(d + FEATURES_AT_ONCE, D); d < stop; d++, row += BLOCK) {
                for (Index r = 0; r < REGISTERS; r++) {
                    Floats gap;
                    __builtin_memcpy(&gap, row + r * LANES_OF_ONE, REGISTER);
                    gap -= event[d];
                    sum[r] += gap * gap * weights[d];
                }
            }
            Ints32 nearer{};
            for (const Floats& one : sum) nearer |= one < bound;
            int64_t any = 0;
            for (Index k = 0; k < REGISTER / 8; k++) any |= Ints64(nearer)[k];
            is_near = any != 0;
        }
        if (!is_near) continue;
        float squared[BLOCK];
        __builtin_memcpy(squared, sum, sizeof squared);
        for (Index m = at; m < std::min(end, (at / BLOCK + 1) * BLOCK); m++) nearest.add(squared[m % BLOCK], m);
    }
}

// The nearest of the last events to one that has so many features, > 0; the eldest first, of several as near.
//
// How many features others have, and where events lie in the memory, changes nothing: so polls do not.
Nearest find(const Memory& memory, const float* event, Index there, const float* weights) {
    const Index M = memory.y.size();
    const Index held = std::min<Index>(std::clamp(NUMBERS / there, FEWEST_COMPARED, M), memory.count);
    const Index begin = (memory.count - held) % M, first = std::min(held, M - begin);
    Nearest nearest;
    compare(memory, event, weights, begin, begin + first, nearest);
    compare(memory, event, weights, 0, held - first, nearest);
    return nearest;
}

// Fill said [C] with what the nearest say of an event that has so many features.
void answer(const Memory& memory, const Nearest& nearest, Index there, bool classify, double* said, Index C) {
    double total = 0, mean = 0;
    std::fill_n(said, C, 0.0);
    for (Index i = 0; i < nearest.found; i++) {
        const float away = root(nearest.squared[i]) + CLOSEST * root(float(there));
        const double weight = 1 / double(away), label = memory.y[nearest.place[i]];
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
// turn to the memory z, y [M], known [D] of `count` events, and teach the relevance of features, pairs [3, ≥ D]: labels
// [N], NaN where there is none. Returns the new count.
int64_t ask_nearest(Array<float, 3> z, Array<float, 1> y, Array<int64_t, 1> known, int64_t count,
                    Array<double, 2> pairs, Array<const float, 2> xs, Given shift, Given gain, Given labels,
                    Array<const bool, 1> asked, bool classify, Array<double, 2> said) {
    const Index N = xs.shape[0], D = z.shape[1];
    require(z.shape[2] == BLOCK && z.shape[0] * BLOCK == y.size() && known.size() == D && y.size() >= FEWEST_COMPARED &&
                count >= 0 && pairs.shape[0] == 3 && pairs.shape[1] >= D && shift.size() == gain.size() &&
                labels.size() == N && asked.size() == N && said.shape[0] == N && said.shape[1] > 0,
            "ask_nearest: shapes do not fit");
    Memory memory{z, y, known, count};
    Relief relief{pairs};
    std::vector<float> event(D), query(D), weights(D);
    for (Index i = 0; i < N; i++) {
        const bool is_labelled = !std::isnan(labels[i]);
        require(!classify || !is_labelled || labels[i] >= 0, "ask_nearest: a label that is no class");
        normalize(xs[i], shift, gain, D, event.data());
        if (memory.count >= FEWEST && (asked[i] || is_labelled)) {
            query = event;
            const Index there = memory.compared(query.data());
            if (there > 0) {
                relief.weigh(query.data(), weights);
                const Nearest nearest = find(memory, query.data(), there, weights.data());
                if (asked[i]) answer(memory, nearest, there, classify, said[i].data, said.shape[1]);
                if (is_labelled) relief.learn(memory, query.data(), nearest, as_in_ring(labels[i]), classify);
            }
        }
        if (is_labelled) memory.add(event.data(), as_in_ring(labels[i]));
    }
    return memory.count;
}

// Fill an empty memory, z [M / BLOCK, D, BLOCK] all MISSING, y [M], known [D], with the last of `count` events of a
// ring x [R, 1 + features], labels [R].
void remember_nearest(Array<const float, 2> x, Array<const float, 1> labels, int64_t count, Given shift, Given gain,
                      Array<float, 3> z, Array<float, 1> y, Array<int64_t, 1> known) {
    const Index R = x.shape[0], D = z.shape[1], M = y.size();
    require(labels.size() == R && z.shape[2] == BLOCK && z.shape[0] * BLOCK == M && known.size() == D && M > 0 &&
                R > 0 && x.shape[1] > 0 && shift.size() == gain.size(),
            "remember_nearest: shapes do not fit");
    Memory memory{z, y, known, std::max<int64_t>(count - std::min(M, R), 0)};
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

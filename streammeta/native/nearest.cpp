// What the nearest of many events say. Equations: see streammeta/engine/experts/nearest.py.
#include <algorithm>
#include <array>
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
constexpr double FORGOTTEN = 1e-100;                       // a sum of squares that says nothing any more
constexpr double LEAST_WEIGHT = 0.05;                      // of a feature in the distance
constexpr Index LENGTHS = 5, SHORTEST = 128;  // of the memory: the last 128 events, 256, ... 1,024, and all
constexpr double EVIDENCE_DECAY = 0.95, HALF_LABELS = 10;  // of a length; half of the labels that it then counts
constexpr double LEAST_LIKELY = 0.02, LEAST_ERROR = 1e-6;  // added to a likelihood; of the lengths' mean squared error

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

// The nearest so far: squared distances in ascending order, and places; in the end the share of each in what they say.
struct Nearest {
    float squared[NEAREST];
    double share[NEAREST];
    Index place[NEAREST], found = 0;

    float bound() const { return found < NEAREST ? INFINITY : squared[NEAREST - 1]; }
    void add(float distance, Index where) {
        if (!(distance < bound())) return;
        Index at = found < NEAREST ? found++ : NEAREST - 1;
        for (; at > 0 && distance < squared[at - 1]; at--) squared[at] = squared[at - 1], place[at] = place[at - 1];
        squared[at] = distance, place[at] = where;
    }
    void share_out(Index features) {
        double total = 0;
        for (Index i = 0; i < found; i++)
            total += share[i] = 1 / double(root(squared[i]) + CLOSEST * root(float(features)));
        for (Index i = 0; i < found; i++) share[i] /= total;
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
            const double prior = pairs[0][d] > 0 ? PRIOR_PAIRS * (same + other) / (2 * pairs[0][d]) + FORGOTTEN : 1;
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

// Compare an event with those in places begin ... end - 1, the newest first. A block is left as soon as all of it is
// too far away: a sum of squares only grows.
void compare(const Memory& memory, const float* event, const float* weights, Index begin, Index end, Nearest& nearest) {
    const Index D = memory.z.shape[1];
    for (Index at; begin < end; end = at) {
        const Index block = (end - 1) / BLOCK;
        at = std::max(begin, block * BLOCK);
        const float* row = memory.z[block].data;
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
        for (Index m = end - 1; m >= at; m--) nearest.add(squared[m % BLOCK], m);
    }
}

using Neighbours = std::array<Nearest, LENGTHS>;  // in the last events, by the memory's lengths

// The nearest of the last events to one that has so many features, > 0; the newest first, of several as near.
//
// How many features others have, and where events lie in the memory, changes nothing: so polls do not.
Neighbours find(const Memory& memory, const float* event, Index there, const float* weights) {
    const Index M = memory.y.size();
    const Index held = std::min<Index>(std::clamp(NUMBERS / there, FEWEST_COMPARED, M), memory.count);
    Neighbours found;
    Index newer = 0;  // events that were compared
    for (Index k = 0; k < LENGTHS; k++) {
        if (k > 0) found[k] = found[k - 1];
        const Index length = k + 1 < LENGTHS ? std::min(SHORTEST << k, held) : held;
        if (length == newer) continue;
        const Index begin = (memory.count - length) % M, end = (memory.count - newer - 1) % M + 1;
        if (begin < end) {
            compare(memory, event, weights, begin, end, found[k]);
        } else {
            compare(memory, event, weights, 0, end, found[k]);
            compare(memory, event, weights, begin, M, found[k]);
        }
        newer = length;
    }
    for (Nearest& one : found) one.share_out(there);
    return found;
}

using LogWeights = std::array<double, LENGTHS>;

// How well each length of the memory predicted labels lately: of classes sums of log likelihoods, of targets of squared
// errors.
struct Lengths {
    Array<double, 1> evidence;  // [LENGTHS]
    bool classify;

    // Their log weights, which are as for Gaussian errors of unknown variance where these are targets.
    LogWeights weigh() const {
        LogWeights logs;
        double mean = 0;
        for (Index k = 0; k < LENGTHS; k++) mean += evidence[k] / LENGTHS;
        for (Index k = 0; k < LENGTHS; k++)
            logs[k] = classify   ? evidence[k]
                      : mean > 0 ? -HALF_LABELS * logarithm(evidence[k] / mean + LEAST_ERROR)
                                 : 0;
        return logs;
    }

    // Fill said [C] with what neighbours in all lengths of the memory say, by these log weights.
    void answer(const Memory& memory, const Neighbours& found, const LogWeights& logs, double* said, Index C) const {
        const double top = *std::max_element(logs.begin(), logs.end());
        double total = 0;
        std::fill_n(said, C, 0.0);
        for (Index k = 0; k < LENGTHS; k++) {
            const double weight = exponential(logs[k] - top);
            for (Index i = 0; i < found[k].found; i++) {
                const double label = memory.y[found[k].place[i]], part = weight * found[k].share[i];
                if (!classify) said[0] += part * label;
                if (classify && label < double(C)) said[Index(label)] += part;
            }
            total += weight;
        }
        for (Index c = 0; c < C; c++) said[c] /= total;
    }

    // The best length by these log weights, the longest of several as good; all of them learn this label.
    Index learn(const Memory& memory, const Neighbours& found, const LogWeights& logs, float label) {
        for (Index k = 0; k < LENGTHS; k++) {
            double right = 0, gap = label;
            for (Index i = 0; i < found[k].found; i++) {
                const float y = memory.y[found[k].place[i]];
                gap -= found[k].share[i] * double(y);
                if (y == label) right += found[k].share[i];
            }
            evidence[k] = EVIDENCE_DECAY * evidence[k] + (classify ? logarithm(right + LEAST_LIKELY) : gap * gap);
        }
        Index best = LENGTHS - 1;
        for (Index k = LENGTHS - 2; k >= 0; k--)
            if (logs[k] > logs[best]) best = k;
        return best;
    }
};

// Fill said [N, C] of events [N] of one partition that are asked, each under the labels before it, which are added in
// turn to the memory z, y [M], known [D] of `count` events, and teach the relevance of features, pairs [3, ≥ D], and
// the evidence for lengths of the memory [LENGTHS]: labels [N], NaN where there is none. Returns the new count.
int64_t ask_nearest(Array<float, 3> z, Array<float, 1> y, Array<int64_t, 1> known, int64_t count,
                    Array<double, 2> pairs, Array<double, 1> evidence, Array<const float, 2> xs, Given shift,
                    Given gain, Given labels, Array<const bool, 1> asked, bool classify, Array<double, 2> said) {
    const Index N = xs.shape[0], D = z.shape[1];
    require(z.shape[2] == BLOCK && z.shape[0] * BLOCK == y.size() && known.size() == D && y.size() >= FEWEST_COMPARED &&
                count >= 0 && pairs.shape[0] == 3 && pairs.shape[1] >= D && evidence.size() == LENGTHS &&
                shift.size() == gain.size() && labels.size() == N && asked.size() == N && said.shape[0] == N &&
                said.shape[1] > 0,
            "ask_nearest: shapes do not fit");
    Memory memory{z, y, known, count};
    Relief relief{pairs};
    Lengths lengths{evidence, classify};
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
                const Neighbours found = find(memory, query.data(), there, weights.data());
                const LogWeights logs = lengths.weigh();
                if (asked[i]) lengths.answer(memory, found, logs, said[i].data, said.shape[1]);
                if (is_labelled) {
                    const Index best = lengths.learn(memory, found, logs, as_in_ring(labels[i]));
                    relief.learn(memory, query.data(), found[best], as_in_ring(labels[i]), classify);
                }
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

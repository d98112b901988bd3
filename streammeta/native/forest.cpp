// An online forest over a ring of labelled events. See streammeta/engine/experts/forest.py.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "array.hpp"
#include "number.hpp"
#include "ring.hpp"

namespace streammeta {

// A tree's nodes as integers [M, NODE]: where it splits, its first child (the second is next to it), and for a leaf the
// newest event in it, how many it links, and how many came since a split was last looked for.
enum { FEATURE, CHILD, HEAD, LINKED, SINCE, NODE };
constexpr Index MISSING_TO = SINCE;  // of an inner node, which counts no events: to which child a missing value goes
// A tree as numbers [TREE + BLOCKS]: nodes in use, loss lately, the open block of errors, blocks kept, restarts.
enum { USED, LOSS, OPEN_SUM, OPEN_COUNT, BLOCKS_KEPT, RESTARTS, TREE };
// Of a partition: count, mean and sum of squares of the targets; columns of the ring that any event has had.
enum { TARGETS, MEAN, SQUARES, COLUMNS, MOMENTS };
constexpr Index BLOCK = 32, BLOCKS = 128;                // errors in a block; blocks remembered
constexpr Index POINTS = 64;                             // of a leaf, looked at for a split
constexpr Index LEAST_LOOKED = 4, MOST_LOOKED = 32;      // features looked at for a split: half of them, but so many
constexpr Index MOST_NODES = 4096, MOST_COUNTS = 32768;  // of a tree; its nodes times classes
constexpr Index EVERY = 4;                               // events of a leaf between two looks for a split
constexpr Index FEWEST_OF_CLASSES = 4, FEWEST_OF_TARGETS = 16;  // before the first: a spread needs more
constexpr double PATIENCE = 16, LEAST_GAIN = 20;  // of a split: events in the leaf for a nat less; the least
constexpr int MOST_WEIGHT = 16;                   // of an event in a tree
constexpr Index FEWEST_LABELS = 10;               // before the forest says anything
constexpr double LOSS_DECAY = 0.98;
constexpr double RESOLUTION = 1e-7;  // of the mean: what single precision tells apart

struct Rule {
    double gain, parent, poisson, delta, memory, trust;
    bool classify;
    uint64_t seed;
};

static INLINE uint64_t mixed(uint64_t z) {  // splitmix64
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static INLINE double uniform(uint64_t z) { return double(mixed(z) >> 11) * 0x1p-53; }

// How often tree t counts event n: a Poisson number that is the same whenever it is asked for.
class Weights {
  public:
    Weights(double mean, uint64_t seed) : seed(seed) {
        double chance = exponential(-mean), sum = chance;
        for (int k = 0; k < MOST_WEIGHT; k++) {
            below[k] = sum;
            chance *= mean / (k + 1);
            sum += chance;
        }
    }
    int operator()(Index t, int64_t n) const {
        const double u = uniform(seed ^ mixed(uint64_t(n) * 64 + uint64_t(t)));
        int k = 0;
        for (const double one : below) k += u > one;
        return k;
    }

  private:
    uint64_t seed;
    double below[MOST_WEIGHT];  // the chance of a weight of k or less
};

// n log n of sums of weights, which are whole numbers: a leaf's points weigh at most POINTS * MOST_WEIGHT together.
static const std::vector<double>& n_log_n() {
    static const std::vector<double> table = [] {
        std::vector<double> made(POINTS * MOST_WEIGHT + 1, 0.0);
        for (size_t n = 1; n < made.size(); n++) made[n] = double(n) * logarithm(double(n));
        return made;
    }();
    return table;
}

struct Forest {
    Array<int32_t, 3> nodes;   // [T, M, NODE]
    Array<float, 2> cuts;      // [T, M]
    Array<float, 3> counts;    // [T, M, C] of classes; of targets: n, mean, sum of squares around it
    Array<float, 3> priors;    // [T, M, C] what a leaf says before its first event; of targets: mean, variance
    Array<int32_t, 2> links;   // [T, N] of each event in the ring, the one before it in its leaf; -1: none
    Array<double, 2> trees;    // [T, TREE + BLOCKS]
    Array<double, 1> moments;  // [MOMENTS]
    Array<float, 2> xs;        // [N, 1 + D] the ring: the task as a number, features
    Array<float, 1> ys;        // [N]
    Rule rule;
    Weights weight_of;

    Index ring() const { return xs.shape[0]; }
    Index fewest() const { return rule.classify ? FEWEST_OF_CLASSES : FEWEST_OF_TARGETS; }
    bool may_grow() const { return nodes.shape[1] < MOST_NODES && nodes.shape[1] * counts.shape[2] < MOST_COUNTS; }

    // The child of an inner node to which a value goes; a missing one goes where those of the split went.
    Index child_of(Index t, Index at, float value) const {
        const auto node = nodes[t][at];
        return node[CHILD] + (std::isnan(value) ? node[MISSING_TO] != 0 : !(value <= cuts[t][at]));
    }

    Index leaf_of(Index t, const float* x) const {
        Index at = 0;
        while (nodes[t][at][FEATURE] >= 0) at = child_of(t, at, x[nodes[t][at][FEATURE]]);
        return at;
    }

    // What a leaf says: class probabilities [C], or mean and variance.
    void ask(Index t, Index at, double* said) const {
        const auto count = counts[t][at], prior = priors[t][at];
        if (!rule.classify) {
            const double n = count[0], all = n + rule.parent;
            said[0] = (n * count[1] + rule.parent * prior[0]) / all;
            said[1] = (count[2] + rule.parent * prior[1]) / all;
            return;
        }
        const Index classes = count.size();
        double total = rule.parent;
        for (Index c = 0; c < classes; c++) total += count[c];
        for (Index c = 0; c < classes; c++) said[c] = (count[c] + rule.parent * prior[c]) / total;
    }

    void add(Index t, Index at, float y, double weight) {
        auto count = counts[t][at];
        if (!rule.classify) {
            if (count[0] > rule.memory) {
                count[2] *= float(rule.memory / count[0]);
                count[0] = float(rule.memory);
            }
            const double n = count[0] + weight, step = y - count[1];
            count[0] = float(n);
            count[1] += float(step * weight / n);
            count[2] += float(weight * step * (y - count[1]));
            return;
        }
        double total = 0;
        for (Index c = 0; c < count.size(); c++) total += count[c];
        if (total > rule.memory)
            for (Index c = 0; c < count.size(); c++) count[c] *= float(rule.memory / total);
        count[Index(y)] += float(weight);
    }

    void make_leaf(Index t, Index at) {
        auto node = nodes[t][at];
        node[FEATURE] = -1;
        node[CHILD] = node[HEAD] = -1;
        node[LINKED] = node[SINCE] = 0;
        for (Index c = 0; c < counts.shape[2]; c++) counts[t][at][c] = 0;
    }

    // Begin a tree again.
    void restart(Index t) {
        auto tree = trees[t];
        make_leaf(t, 0);
        tree[USED] = 1;
        tree[RESTARTS] += 1;
    }

    void link(Index t, Index at, int64_t n) {
        auto node = nodes[t][at];
        links[t][n % ring()] = node[HEAD];
        node[HEAD] = int32_t(n);
        node[LINKED] += 1;
    }

    // Learn event n, the newest in the ring, in tree t, where it is in this leaf.
    void learn(Index t, Index at, int64_t n) {
        const int weight = weight_of(t, n);
        if (weight == 0) return;
        add(t, at, ys[n % ring()], weight);
        link(t, at, n);
        auto node = nodes[t][at];
        if (++node[SINCE] >= EVERY && node[LINKED] >= fewest() && Index(trees[t][USED]) + 2 <= nodes.shape[1]) {
            node[SINCE] = 0;
            split(t, at, n);
        }
    }

    // A leaf's points as they were drawn for a look, and the best cut found so far.
    struct Points {
        Index count = 0;
        int64_t events[POINTS];
        Index places[POINTS];  // in the ring
        int weights[POINTS];
        double targets[POINTS];
        uint64_t order[POINTS];  // value and point, to be sorted
    };
    struct Cut {
        double gain = 0;
        Index feature = -1;
        float at = 0;
    };

    void split(Index t, Index at, int64_t newest) {
        Points points;
        Index& m = points.count;
        for (int64_t n = nodes[t][at][HEAD]; n >= 0 && newest - n < ring() && m < POINTS; n = links[t][n % ring()]) {
            points.events[m] = n;
            points.places[m] = n % ring();
            points.targets[m] = ys[n % ring()];
            points.weights[m++] = weight_of(t, n);
        }
        if (m < fewest()) return;
        const Index features = Index(moments[COLUMNS]);
        const Index looked = std::min(features, clamp((features + 1) / 2, LEAST_LOOKED, MOST_LOOKED));
        const uint64_t dice = mixed(rule.seed ^ mixed(uint64_t(newest) * 4096 + uint64_t(t) * 8 + 1)) + uint64_t(at);
        const double between = uniform(dice + 7);
        const auto feature = [&](Index f) {
            return looked == features ? f : Index(mixed(dice * 131 + uint64_t(f)) % uint64_t(features));
        };
        Cut best;
        // A board is parted by no single cut: a leaf in which many events found none takes a worse one.
        double wanted = std::max(rule.gain - double(nodes[t][at][LINKED]) / PATIENCE, LEAST_GAIN);
        if (rule.classify) {
            std::vector<int> total(counts.shape[2]), left(counts.shape[2]);
            Index present = 0;
            for (Index i = 0; i < m; i++) total[Index(points.targets[i])] += points.weights[i];
            int sum = 0;
            double most = 0;  // that a cut can gain: of classes that it parts without a rest
            for (const int one : total) present += one > 0, sum += one, most -= n_log_n()[one];
            most += n_log_n()[sum];
            wanted += double(present - 2);  // classes beyond two must gain more
            if (most < wanted) return;
            for (Index f = 0; f < looked; f++)
                if (sort(points, feature(f))) cut_classes(points, feature(f), between, total, left, best);
        } else {
            const double floor = 1e-3 * moments[SQUARES] / moments[TARGETS] + apart() * apart();
            for (Index f = 0; f < looked; f++)
                if (sort(points, feature(f))) cut_values(points, feature(f), between, floor, best);
        }
        if (best.feature < 0 || best.gain < wanted) return;
        const Index child = Index(trees[t][USED]);
        trees[t][USED] += 2;
        std::vector<double> said(std::max<Index>(counts.shape[2], 3));
        ask(t, at, said.data());
        for (Index side = 0; side < 2; side++) {
            make_leaf(t, child + side);
            for (Index c = 0; c < counts.shape[2]; c++) priors[t][child + side][c] = float(said[c]);
        }
        nodes[t][at][FEATURE] = int32_t(best.feature);
        nodes[t][at][CHILD] = int32_t(child);
        cuts[t][at] = best.at;
        // A missing value goes with those among the points, which came last in order; where none was, to the heavier
        // side.
        bool is_missing = false;
        int heavier = 0;
        for (Index i = 0; i < m; i++) {
            const float value = xs[points.places[i]][best.feature];
            is_missing |= std::isnan(value);
            heavier += value <= best.at ? -points.weights[i] : points.weights[i];
        }
        nodes[t][at][MISSING_TO] = is_missing || heavier > 0;
        for (Index i = m - 1; i >= 0; i--) {  // oldest first
            const Index to = child_of(t, at, xs[points.places[i]][best.feature]);
            add(t, to, float(points.targets[i]), points.weights[i]);
            link(t, to, points.events[i]);
        }
    }

    // Order points by a feature, a missing one last, those of equal value as they came; false: all have one value.
    bool sort(Points& points, Index feature) const {
        for (Index i = 0; i < points.count; i++) {
            const float found = xs[points.places[i]][feature], value = std::isnan(found) ? INFINITY : found + 0.0f;
            uint32_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;  // ordered as the values are
            points.order[i] = uint64_t(bits) << 32 | uint64_t(i);
        }
        std::sort(points.order, points.order + points.count);
        return points.order[0] >> 32 != points.order[points.count - 1] >> 32;
    }

    // The value of the i-th point in order.
    float value(const Points& points, Index i, Index feature) const {
        const float found = xs[points.places[uint32_t(points.order[i])]][feature];
        return std::isnan(found) ? INFINITY : found;
    }

    // Take this cut, after the i-th point in order, if it gains more than the best.
    void take(const Points& points, Index i, Index feature, double between, double gain, Cut& best) const {
        if (!(gain > best.gain)) return;
        const float low = value(points, i, feature), high = value(points, i + 1, feature);
        const float middle = low + float(between) * (high - low);
        best = {gain, feature, std::isinf(high) || !(middle < high) ? low : middle};
    }

    void cut_classes(const Points& points, Index feature, double between, const std::vector<int>& total,
                     std::vector<int>& left, Cut& best) const {
        const double* table = n_log_n().data();
        std::fill(left.begin(), left.end(), 0);
        int sum_left = 0, sum_right = 0;
        double terms_left = 0, terms_right = 0;
        for (const int one : total) sum_right += one, terms_right += table[one];
        const double whole = terms_right - table[sum_right];
        for (Index i = 0; i + 1 < points.count; i++) {
            const Index point = uint32_t(points.order[i]), c = Index(points.targets[point]);
            const int w = points.weights[point], before = left[c], rest = total[c] - before;
            terms_left += table[before + w] - table[before];
            terms_right += table[rest - w] - table[rest];
            left[c] += w, sum_left += w, sum_right -= w;
            if (points.order[i] >> 32 == points.order[i + 1] >> 32) continue;
            take(points, i, feature, between, terms_left - table[sum_left] + terms_right - table[sum_right] - whole,
                 best);
        }
    }

    void cut_values(const Points& points, Index feature, double between, double floor, Cut& best) const {
        double total[3] = {}, left[3] = {};
        for (Index i = 0; i < points.count; i++) {
            const double y = points.targets[i], w = points.weights[i];
            total[0] += w, total[1] += w * y, total[2] += w * y * y;
        }
        const double whole = gaussian(total[0], total[1], total[2], floor);
        for (Index i = 0; i + 1 < points.count; i++) {
            const Index point = uint32_t(points.order[i]);
            const double y = points.targets[point], w = points.weights[point];
            left[0] += w, left[1] += w * y, left[2] += w * y * y;
            if (points.order[i] >> 32 == points.order[i + 1] >> 32 || i < 3 || i + 4 >= points.count) continue;
            take(points, i, feature, between,
                 gaussian(left[0], left[1], left[2], floor) +
                     gaussian(total[0] - left[0], total[1] - left[1], total[2] - left[2], floor) - whole,
                 best);
        }
    }

    // log-likelihood of weighted targets under a Gaussian of their own, from their moments
    static double gaussian(double n, double sum, double squares, double floor) {
        if (n <= 0) return 0;
        return -0.5 * n * logarithm(std::max(squares / n - sum / n * (sum / n), 0.0) + floor);
    }

    // How far apart targets must be to be told apart, in their own unit; > 0.
    double apart() const { return std::max(RESOLUTION * std::abs(moments[MEAN]), 1e-150); }

    // Take in a target for what the roots say before their first event; returns the targets' spread.
    double observe(double y) {
        moments[TARGETS] += 1;
        const double step = y - moments[MEAN];
        moments[MEAN] += step / moments[TARGETS];
        moments[SQUARES] += step * (y - moments[MEAN]);
        const double variance = moments[SQUARES] / moments[TARGETS];
        for (Index t = 0; t < trees.shape[0]; t++)
            priors[t][0][0] = float(moments[MEAN]), priors[t][0][1] = float(variance);
        return root(variance);
    }

    // What the trees said, each weighted by its loss lately: the first `wanted` of class probabilities, or the mean.
    void answer(const double* ones, Index outputs, double* said, Index wanted) const {
        std::fill(said, said + wanted, 0.0);
        double sum = 0;
        for (Index t = 0; t < trees.shape[0]; t++) {
            const double weight = exponential(-rule.trust * trees[t][LOSS]);
            for (Index c = 0; c < wanted; c++) said[c] += weight * ones[t * outputs + c];
            sum += weight;
        }
        for (Index c = 0; c < wanted; c++) said[c] /= sum;
    }

    // Judge by a label what a tree said; true where it is to begin again.
    bool judge(Index t, const double* one, Index outputs, float y, double spread) {
        double error, loss;
        if (rule.classify) {
            const Index guess = std::max_element(one, one + outputs) - one;
            error = guess != Index(y);
            loss = -logarithm(std::max(one[Index(y)], 1e-6));
        } else {
            const double gap = std::abs(y - one[0]) / std::max(spread, apart());
            error = std::min(gap / 4, 1.0);
            loss = std::min(gap * gap, 16.0);
        }
        trees[t][LOSS] = LOSS_DECAY * trees[t][LOSS] + (1 - LOSS_DECAY) * loss;
        return rose(t, error);
    }

    // Note an error in [0, 1]; true where errors rose: then only the newest are remembered. As ADWIN, on blocks.
    bool rose(Index t, double error) {
        auto tree = trees[t];
        tree[OPEN_SUM] += error;
        tree[OPEN_COUNT] += 1;
        if (tree[OPEN_COUNT] < double(BLOCK)) return false;
        double* blocks = tree.data + TREE;
        Index kept = Index(tree[BLOCKS_KEPT]);
        if (kept == BLOCKS) {
            std::copy(blocks + 1, blocks + BLOCKS, blocks);
            kept--;
        }
        blocks[kept++] = tree[OPEN_SUM];
        tree[OPEN_SUM] = tree[OPEN_COUNT] = 0;
        bool found = false;
        for (bool cut = true; cut && kept > 1;) {
            cut = false;
            double all = 0, old = 0;
            for (Index i = 0; i < kept; i++) all += blocks[i];
            const double n = double(kept * BLOCK), p = all / n, variance = p * (1 - p);
            const double log_term = logarithm(2.0 * logarithm(n) / rule.delta);
            for (Index i = 0; i + 1 < kept; i++) {
                old += blocks[i];
                const double n0 = double((i + 1) * BLOCK), n1 = n - n0, inverse = 1 / n0 + 1 / n1;
                const double gap = (all - old) / n1 - old / n0;
                const double bound = root(2 * inverse * variance * log_term) + 2.0 / 3.0 * inverse * log_term;
                if (std::abs(gap) > bound) {
                    found |= gap > 0;
                    std::copy(blocks + i + 1, blocks + kept, blocks);
                    kept -= i + 1;
                    cut = true;
                    break;
                }
            }
        }
        tree[BLOCKS_KEPT] = double(kept);
        return found;
    }
};

static Rule rule_of(const std::vector<double>& numbers, bool classify, uint64_t seed) {
    require(numbers.size() == 6, "forest: wanted six numbers of its rule");
    return {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], classify, seed};
}

static Forest forest_of(nb::tuple state, Array<float, 2> xs, Array<float, 1> ys, const std::vector<double>& rule,
                        bool classify, uint64_t seed) {
    Forest forest{take<int32_t, 3>(state[0], "nodes"),
                  take<float, 2>(state[1], "cuts"),
                  take<float, 3>(state[2], "counts"),
                  take<float, 3>(state[3], "priors"),
                  take<int32_t, 2>(state[4], "links"),
                  take<double, 2>(state[5], "trees"),
                  take<double, 1>(state[6], "moments"),
                  xs,
                  ys,
                  rule_of(rule, classify, seed),
                  {rule[2], seed}};
    const Index count = forest.trees.shape[0], capacity = forest.nodes.shape[1];
    require(forest.nodes.shape[0] == count && forest.cuts.shape[0] == count && forest.counts.shape[0] == count &&
                forest.priors.shape[0] == count && forest.links.shape[0] == count && forest.moments.size() == MOMENTS,
            "forest: arrays of other numbers of trees");
    require(forest.nodes.shape[2] == NODE && forest.trees.shape[1] == TREE + BLOCKS &&
                forest.cuts.shape[1] == capacity && forest.counts.shape[1] == capacity &&
                forest.priors.shape == forest.counts.shape && forest.links.shape[1] == xs.shape[0] &&
                ys.shape[0] == xs.shape[0],
            "forest: arrays that do not fit");
    return forest;
}

// Predict and learn one event after another; said [N, C] or [N, 1] stays as it is where there is no opinion.
//
// The event's task number and features x [N, D], its label [N], NaN where there is none to learn, and whether it is to
// be predicted. `learned` counts the labels of the ring's life. Returns how many events were taken and how many labels
// learned: fewer than all, where the next label or split needs larger arrays.
static std::pair<int64_t, int64_t> forest_run(nb::tuple state, Array<float, 2> xs, Array<float, 1> ys,
                                              std::vector<double> rule, bool classify, uint64_t seed, int64_t learned,
                                              int64_t until, Array<const float, 1> tasks, Array<const float, 2> x,
                                              Array<const double, 1> labels, Array<const bool, 1> asked,
                                              Array<double, 2> said) {
    Forest forest = forest_of(state, xs, ys, rule, classify, seed);
    const Index N = x.shape[0], D = x.shape[1], width = xs.shape[1], T = forest.trees.shape[0];
    const Index outputs = classify ? forest.counts.shape[2] : 2, wanted = std::min(said.shape[1], outputs);
    require(
        width > D && tasks.size() == N && labels.size() == N && asked.size() == N && said.shape[0] == N && learned >= 0,
        "forest_run: events that do not fit");
    std::vector<float> row(width, std::numeric_limits<float>::quiet_NaN());
    std::vector<double> ones(T * outputs);
    std::vector<Index> leaves(T);
    for (Index i = 0; i < N; i++) {
        const double y = labels[i];
        const bool learns = !std::isnan(y);
        if (learns && classify) {
            require(y >= 0, "forest_run: a label that is no class");
            if (y >= double(outputs)) return {i, learned};
        }
        const bool speaks = asked[i] && learned >= FEWEST_LABELS;
        if (!speaks && !learns) continue;
        row[0] = tasks[i];
        std::copy(x[i].data, x[i].data + D, row.begin() + 1);
        for (Index t = 0; t < T; t++) {
            leaves[t] = forest.leaf_of(t, row.data());
            forest.ask(t, leaves[t], &ones[t * outputs]);
        }
        if (speaks) forest.answer(ones.data(), outputs, said[i].data, wanted);
        if (!learns) continue;
        const float label = as_in_ring(y);
        const double spread = classify ? 1.0 : forest.observe(label);
        for (Index d = width; d > Index(forest.moments[COLUMNS]); d--)
            if (!std::isnan(row[d - 1])) forest.moments[COLUMNS] = double(d);
        std::copy(row.begin(), row.end(), xs[learned % forest.ring()].data);
        ys[learned % forest.ring()] = label;
        double most = 0;
        for (Index t = 0; t < T; t++) {
            if (forest.judge(t, &ones[t * outputs], outputs, label, spread)) {
                forest.restart(t);
                leaves[t] = 0;
            }
            forest.learn(t, leaves[t], learned);
            most = std::max(most, forest.trees[t][USED]);
        }
        learned++;
        const bool is_full = Index(most) + 2 > forest.nodes.shape[1] && forest.may_grow();
        if (is_full || learned == until) return {i + 1, learned};
    }
    return {N, learned};
}

// Fill out [N] with N tags as numbers in [0, 1), the same in every process: their checksums, CRC-32 as in zlib.
static void number_tags(nb::list tags, Array<float, 1> out) {
    static const std::array<uint32_t, 256> of_byte = [] {
        std::array<uint32_t, 256> made{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t rest = i;
            for (int bit = 0; bit < 8; bit++) rest = rest >> 1 ^ (rest & 1 ? 0xEDB88320u : 0);
            made[i] = rest;
        }
        return made;
    }();
    require(out.size() == Index(tags.size()), "number_tags: wanted a place for each tag");
    for (Index i = 0; i < out.size(); i++) {
        Py_ssize_t length = 0;
        const char* text = PyUnicode_AsUTF8AndSize(tags[size_t(i)].ptr(), &length);
        if (!text) nb::raise_python_error();
        uint32_t sum = 0xFFFFFFFFu;
        for (Py_ssize_t k = 0; k < length; k++) sum = of_byte[(sum ^ uint8_t(text[k])) & 0xFF] ^ sum >> 8;
        out[i] = float(double(~sum) / 4294967296.0);
    }
}

void bind_forest(nb::module_& module) { module.def("forest_run", &forest_run).def("number_tags", &number_tags); }

}  // namespace streammeta

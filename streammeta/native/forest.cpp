// An online forest over a ring of labelled events. See streammeta/engine/experts/forest.py.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

// A tree's nodes as integers [M, NODE]: where it splits, its first child (the second is next to it), and for a leaf the
// newest event in it, how many it links, and how many came since a split was last looked for.
enum { FEATURE, CHILD, HEAD, LINKED, SINCE, NODE };
// A tree as numbers [TREE + BLOCKS]: nodes in use, loss lately, the open block of errors, blocks kept, restarts.
enum { USED, LOSS, OPEN_SUM, OPEN_COUNT, BLOCKS_KEPT, RESTARTS, TREE };
constexpr Index BLOCK = 32, BLOCKS = 128;  // errors in a block; blocks remembered
constexpr Index POINTS = 128;              // of a leaf, looked at for a split
constexpr Index LOOKED_AT = 32;            // features looked at for a split, where there are more
constexpr Index EVERY = 8, FEWEST = 16;    // events of a leaf between two looks; before the first
constexpr double LOSS_DECAY = 0.98;

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
static int weight_of(const Rule& rule, Index t, int64_t n) {
    const double u = uniform(rule.seed ^ mixed(uint64_t(n) * 64 + uint64_t(t)));
    double chance = exponential(-rule.poisson), sum = chance;
    int k = 0;
    while (u > sum && k < 16) {
        k++;
        chance *= rule.poisson / k;
        sum += chance;
    }
    return k;
}

static INLINE double n_log_n(double n) { return n > 0 ? n * logarithm(n) : 0.0; }

struct Forest {
    Array<int32_t, 3> nodes;   // [T, M, NODE]
    Array<float, 2> cuts;      // [T, M]
    Array<float, 3> counts;    // [T, M, C] of classes; of targets: n, mean, sum of squares around it
    Array<float, 3> priors;    // [T, M, C] what a leaf says before its first event; of targets: mean, variance
    Array<int32_t, 2> links;   // [T, N] of each event in the ring, the one before it in its leaf; -1: none
    Array<double, 2> trees;    // [T, TREE + BLOCKS]
    Array<const float, 2> xs;  // [N, D] the ring
    Array<const float, 1> ys;  // [N]
    Rule rule;

    Index ring() const { return xs.shape[0]; }

    Index leaf_of(Index t, const float* x) const {
        Index at = 0;
        const auto tree = nodes[t];
        while (tree[at][FEATURE] >= 0) at = tree[at][CHILD] + !(x[tree[at][FEATURE]] <= cuts[t][at]);
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

    // Begin a tree again; its root says what it said of all it had seen.
    void restart(Index t) {
        std::vector<double> said(counts.shape[2] + 2);
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

    // Learn event n, which is in the ring, in tree t; `newest`: the last event there.
    void learn(Index t, int64_t n, int64_t newest) {
        const int weight = weight_of(rule, t, n);
        if (weight == 0) return;
        const float* x = xs[n % ring()].data;
        const float y = ys[n % ring()];
        const Index at = leaf_of(t, x);
        add(t, at, y, weight);
        link(t, at, n);
        auto node = nodes[t][at];
        if (++node[SINCE] >= EVERY && node[LINKED] >= FEWEST && Index(trees[t][USED]) + 2 <= nodes.shape[1]) {
            node[SINCE] = 0;
            split(t, at, newest);
        }
    }

    void split(Index t, Index at, int64_t newest) {
        int64_t events[POINTS];
        double weights[POINTS];
        Index m = 0;
        for (int64_t n = nodes[t][at][HEAD]; n >= 0 && newest - n < ring() && m < POINTS; n = links[t][n % ring()]) {
            events[m] = n;
            weights[m++] = weight_of(rule, t, n);
        }
        if (m < FEWEST) return;
        const Index features = xs.shape[1], looked = std::min(features, LOOKED_AT);
        const uint64_t dice = mixed(rule.seed ^ mixed(uint64_t(newest) * 4096 + uint64_t(t) * 8 + 1)) + uint64_t(at);
        double best = 0;
        Index best_feature = -1;
        float best_cut = 0;
        std::pair<float, Index> order[POINTS];
        const Index classes = rule.classify ? counts.shape[2] : 3;
        std::vector<double> total(classes), left(classes);
        Index present = 0;
        double whole = 0, floor = 0;
        if (rule.classify) {
            double sum = 0;
            for (Index i = 0; i < m; i++) total[Index(ys[events[i] % ring()])] += weights[i];
            for (double one : total) whole += n_log_n(one), sum += one, present += one > 0;
            whole -= n_log_n(sum);
            if (present < 2) return;
        } else {
            for (Index i = 0; i < m; i++) {
                const double y = ys[events[i] % ring()];
                total[0] += weights[i], total[1] += weights[i] * y, total[2] += weights[i] * y * y;
            }
            floor = 1e-3 * priors[t][0][1] + 1e-12;
            whole = gaussian(total[0], total[1], total[2], floor);
            present = 2;
        }
        for (Index f = 0; f < looked; f++) {
            const Index d = looked == features ? f : Index(mixed(dice * 131 + uint64_t(f)) % uint64_t(features));
            for (Index i = 0; i < m; i++) {
                const float value = xs[events[i] % ring()][d];
                order[i] = {std::isnan(value) ? INFINITY : value, i};
            }
            std::sort(order, order + m);
            if (order[0].first == order[m - 1].first) continue;
            std::fill(left.begin(), left.end(), 0.0);
            double sum_left = 0, sum_right = 0, terms_left = 0, terms_right = 0;
            if (rule.classify)
                for (double one : total) sum_right += one, terms_right += n_log_n(one);
            for (Index i = 0; i + 1 < m; i++) {
                const Index point = order[i].second;
                const float y = ys[events[point] % ring()];
                const double w = weights[point];
                double found;
                if (rule.classify) {
                    const Index c = Index(y);
                    const double before = left[c], rest = total[c] - before;
                    terms_left += n_log_n(before + w) - n_log_n(before);
                    terms_right += n_log_n(rest - w) - n_log_n(rest);
                    left[c] += w, sum_left += w, sum_right -= w;
                    if (order[i].first == order[i + 1].first) continue;
                    found = terms_left - n_log_n(sum_left) + terms_right - n_log_n(sum_right) - whole;
                } else {
                    left[0] += w, left[1] += w * y, left[2] += w * double(y) * y;
                    if (order[i].first == order[i + 1].first || i < 3 || i + 4 >= m) continue;
                    found = gaussian(left[0], left[1], left[2], floor) +
                            gaussian(total[0] - left[0], total[1] - left[1], total[2] - left[2], floor) - whole;
                }
                if (found > best) {
                    best = found;
                    best_feature = d;
                    const float low = order[i].first, high = order[i + 1].first;
                    const float between = low + float(uniform(dice + 7)) * (high - low);
                    best_cut = std::isinf(high) || !(between < high) ? low : between;
                }
            }
        }
        if (best_feature < 0 || best < rule.gain + double(present - 2)) return;
        const Index child = Index(trees[t][USED]);
        trees[t][USED] += 2;
        std::vector<double> said(std::max<Index>(counts.shape[2], 3));
        ask(t, at, said.data());
        for (Index side = 0; side < 2; side++) {
            make_leaf(t, child + side);
            for (Index c = 0; c < counts.shape[2]; c++) priors[t][child + side][c] = float(said[c]);
        }
        nodes[t][at][FEATURE] = int32_t(best_feature);
        nodes[t][at][CHILD] = int32_t(child);
        cuts[t][at] = best_cut;
        for (Index i = m - 1; i >= 0; i--) {  // oldest first
            const Index to = child + !(xs[events[i] % ring()][best_feature] <= best_cut);
            add(t, to, ys[events[i] % ring()], weights[i]);
            link(t, to, events[i]);
        }
    }

    // log-likelihood of weighted targets under a Gaussian of their own, from their moments
    static double gaussian(double n, double sum, double squares, double floor) {
        if (n <= 0) return 0;
        return -0.5 * n * logarithm(std::max(squares / n - sum / n * (sum / n), 0.0) + floor);
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

static Forest forest_of(nb::tuple state, Array<const float, 2> xs, Array<const float, 1> ys,
                        const std::vector<double>& rule, bool classify, uint64_t seed) {
    Forest forest{take<int32_t, 3>(state[0], "nodes"),
                  take<float, 2>(state[1], "cuts"),
                  take<float, 3>(state[2], "counts"),
                  take<float, 3>(state[3], "priors"),
                  take<int32_t, 2>(state[4], "links"),
                  take<double, 2>(state[5], "trees"),
                  xs,
                  ys,
                  rule_of(rule, classify, seed)};
    const Index count = forest.trees.shape[0], room = forest.nodes.shape[1];
    require(forest.nodes.shape[0] == count && forest.cuts.shape[0] == count && forest.counts.shape[0] == count &&
                forest.priors.shape[0] == count && forest.links.shape[0] == count,
            "forest: arrays of other numbers of trees");
    require(forest.nodes.shape[2] == NODE && forest.trees.shape[1] == TREE + BLOCKS && forest.cuts.shape[1] == room &&
                forest.counts.shape[1] == room && forest.priors.shape == forest.counts.shape &&
                forest.links.shape[1] == xs.shape[0] && ys.shape[0] == xs.shape[0],
            "forest: arrays that do not fit");
    return forest;
}

// Class probabilities [C], or mean and variance [2], of an event x [D].
static void predict(const Forest& forest, const float* x, double* said, double* one) {
    const Index classes = forest.rule.classify ? forest.counts.shape[2] : 2;
    std::fill(said, said + classes, 0.0);
    double sum = 0;
    for (Index t = 0; t < forest.trees.shape[0]; t++) {
        const double weight = exponential(-forest.rule.trust * forest.trees[t][LOSS]);
        forest.ask(t, forest.leaf_of(t, x), one);
        for (Index c = 0; c < classes; c++) said[c] += weight * one[c];
        sum += weight;
    }
    for (Index c = 0; c < classes; c++) said[c] /= sum;
}

static void forest_ask(nb::tuple state, Array<const float, 2> xs, Array<const float, 1> ys, std::vector<double> rule,
                       bool classify, uint64_t seed, Array<const float, 1> x, Array<double, 1> said) {
    const Forest forest = forest_of(state, xs, ys, rule, classify, seed);
    require(x.size() == xs.shape[1], "forest_ask: x is of another width");
    require(said.size() == (classify ? forest.counts.shape[2] : 2), "forest_ask: said is of another width");
    std::vector<double> one(std::max<Index>(said.size(), 2));
    predict(forest, x.data, said.data, one.data());
}

// Learn event `number` of the ring, its newest; returns the most nodes that a tree uses.
static int64_t forest_learn(nb::tuple state, Array<const float, 2> xs, Array<const float, 1> ys,
                            std::vector<double> rule, bool classify, uint64_t seed, int64_t number, double spread) {
    Forest forest = forest_of(state, xs, ys, rule, classify, seed);
    const Index place = number % forest.ring(), classes = classify ? forest.counts.shape[2] : 2;
    const float* x = xs[place].data;
    const float y = ys[place];
    require(number >= 0 && (!classify || (y >= 0 && y < float(classes))), "forest_learn: a class that is not there");
    std::vector<double> one(std::max<Index>(classes, 2));
    double most = 0;
    for (Index t = 0; t < forest.trees.shape[0]; t++) {
        forest.ask(t, forest.leaf_of(t, x), one.data());
        double error, loss;
        if (classify) {
            const Index guess = std::max_element(one.begin(), one.begin() + classes) - one.begin();
            error = guess != Index(y);
            loss = -logarithm(std::max(one[Index(y)], 1e-6));
        } else {
            const double gap = std::abs(y - one[0]) / std::max(spread, 1e-12);
            error = std::min(gap / 4, 1.0);
            loss = std::min(gap * gap, 16.0);
        }
        auto tree = forest.trees[t];
        tree[LOSS] = LOSS_DECAY * tree[LOSS] + (1 - LOSS_DECAY) * loss;
        if (forest.rose(t, error)) forest.restart(t);
        forest.learn(t, number, number);
        most = std::max(most, tree[USED]);
    }
    return int64_t(most);
}

void bind_forest(nb::module_& module) {
    module.def("forest_ask", &forest_ask);
    module.def("forest_learn", &forest_learn);
}

}  // namespace streammeta

// Gaussian processes over a partition's last labelled events. Equations: see
// streammeta/engine/experts/gaussian_process.py.
//
// The four kernels lie side by side, number by number, so that one sweep over rows of the factors serves them all.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "array.hpp"
#include "number.hpp"
#include "ring.hpp"

namespace streammeta {

namespace {

constexpr Index KERNELS = 4;
constexpr Index KEPT = 128, MOST = 2 * KEPT;  // events that are kept, and at most
constexpr Index FEATURES = 24;                // compared, at most
constexpr Index CLASSES = 32;                 // that are distinguished
constexpr Index ROWS = 4;                     // of the factors that are solved together
constexpr Index LANES_OF_ONE = REGISTER / sizeof(float);
constexpr Index FEWEST_FOR_RELEVANCE = 8;             // events
constexpr float MOST_AWAY = 6, MOST_TARGET_AWAY = 8;  // spreads
constexpr float RELEVANCE_SHARE = 0.8f;               // of a feature's weight, the rest is equal for all
constexpr double LEAST_SHARE = 0.1;                   // of a feature's variance that labels never explain
constexpr double LEAST_SPREAD = 1e-6;                 // of the feature's size: below it is constant
constexpr float LENGTH_OF_LAPLACE = 0.6f, LENGTH_OF_SQUARES = 0.4f, RECENT = 3;
constexpr float INTERCEPT = 0.3f, OF_RECENT = 0.7f, OF_TASK = 0.5f;  // variances beside that of the features' kernel
constexpr float LEAST_MEAN = 0.01f, LEAST_LIKELY = 1e-3f;            // of a class
constexpr double EVIDENCE_DECAY = 0.97;
constexpr double MOST_SQUARE = 36;  // of an error, in its variance

enum Base { laplace, product, squares };
struct Kernel {
    Base base;
    bool is_recent, is_of_task;  // whether the task's last labels, and all of its labels, make events alike
    float noise;

    constexpr float total() const { return 1 + INTERCEPT + OF_RECENT * is_recent + OF_TASK * is_of_task; }
};
constexpr Kernel KERNEL[KERNELS] = {{laplace, true, false, 0.3f},
                                    {laplace, false, false, 0.05f},
                                    {product, true, true, 0.05f},
                                    {squares, false, false, 0.05f}};

using Four = std::array<float, KERNELS>;
typedef float SideBySide __attribute__((vector_size(KERNELS * sizeof(float))));

// Sums over count rows of products, for each kernel; rows are even in number, or padded by one of zeros in a.
INLINE Four sums(const float* a, const float* b, Index count) {
    constexpr Index TOGETHER = 4;
    const Index size = (count + count % 2) * KERNELS;
    Floats sum[TOGETHER] = {}, x, y;
    Index j = 0;
    for (; j + TOGETHER * LANES_OF_ONE <= size; j += TOGETHER * LANES_OF_ONE) {
#pragma GCC unroll 4
        for (Index k = 0; k < TOGETHER; k++) {
            __builtin_memcpy(&x, a + j + k * LANES_OF_ONE, REGISTER);
            __builtin_memcpy(&y, b + j + k * LANES_OF_ONE, REGISTER);
            sum[k] = fused(x, y, sum[k]);
        }
    }
    for (; j < size; j += LANES_OF_ONE) {
        __builtin_memcpy(&x, a + j, REGISTER);
        __builtin_memcpy(&y, b + j, REGISTER);
        sum[0] = fused(x, y, sum[0]);
    }
    float all[LANES_OF_ONE];
    const Floats total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    __builtin_memcpy(all, &total, REGISTER);
    Four found{};
    for (Index k = 0; k < LANES_OF_ONE; k++) found[k % KERNELS] += all[k];
    return found;
}

// One partition's. What it knows is made of the last events before it alone: `remember` of the same events in a ring
// makes the same, bit by bit.
class GaussianProcess {
  public:
    explicit GaussianProcess(bool classify)
        : classify_(classify),
          x_(MOST),
          factor_(begin_of(MOST) * KERNELS),
          inverse_(MOST * KERNELS),
          solved_((1 + CLASSES) * MOST * KERNELS),
          z_(FEATURES * MOST) {}

    int64_t count() const { return count_; }

    // Be what `count` events have taught, of which a ring x [R, 1 + D], labels [R] has the last.
    void remember(Array<const float, 2> x, Array<const float, 1> labels, int64_t count) {
        const Index R = x.shape[0];
        require(labels.size() == R && R >= MOST && x.shape[1] > 0 && count >= 0, "remember: shapes do not fit");
        const int64_t from = count < KEPT ? int64_t(std::bit_floor(uint64_t(count))) : count / KEPT * KEPT;
        events_ = 0;
        count_ = from;
        for (int64_t e = std::max<int64_t>(from - KEPT, 0); e < from; e++) keep(x[e % R], labels[e % R]);
        if (from > 0) begin_again();
        for (int64_t e = from; e < count; e++) {
            const Array<const float, 1> row = x[e % R];
            look_at(row[0], {row.data + 1, {row.size() - 1}});
            learn(labels[e % R]);
        }
    }

    // Fill said [N, C] of events [N] that are asked, and learn labels [N], NaN where there is none, in turn.
    void run(Array<const float, 1> tasks, Array<const float, 2> xs, Array<const double, 1> labels,
             Array<const bool, 1> asked, Array<double, 2> said) {
        const Index N = xs.shape[0];
        require(tasks.size() == N && labels.size() == N && asked.size() == N && said.shape[0] == N && said.shape[1] > 0,
                "run: shapes do not fit");
        for (Index i = 0; i < N; i++) {
            const bool is_labelled = !std::isnan(labels[i]);
            require(!classify_ || !is_labelled || labels[i] >= 0, "run: a label that is no class");
            if (!asked[i] && !is_labelled) continue;
            look_at(tasks[i], xs[i]);
            if (asked[i] && events_ > 0) answer(said[i]);
            if (is_labelled) learn(as_in_ring(labels[i]));
        }
    }

  private:
    static constexpr Index begin_of(Index row) { return row / 2 * (row / 2 + row % 2) * 2; }  // rows of even lengths

    // ---- events as they are kept -----------------------------------------------------------------------------------

    void keep(Array<const float, 1> event, float label) {
        x_[events_].assign(event.data, event.data + event.size());
        y_[events_++] = label;
    }
    static float feature(const std::vector<float>& x, Index d) { return 1 + d < Index(x.size()) ? x[1 + d] : NAN; }

    // With enough events, the oldest are left out; then features are chosen and scaled, and events learned in turn.
    void begin_again() {
        const Index kept = std::min(events_, KEPT);
        if (kept < events_) {
            std::rotate(x_.begin(), x_.begin() + (events_ - kept), x_.begin() + events_);
            std::copy(y_.begin() + (events_ - kept), y_.begin() + events_, y_.begin());
        }
        events_ = kept;
        scale_targets();
        choose_features();
        evidence_ = {};
        seen_ = {};
        classes_ = 0;
        std::fill(solved_.begin(), solved_.end(), 0.f);
        for (learned_ = 0; learned_ < events_;) {
            place(x_[learned_][0], {x_[learned_].data() + 1, {Index(x_[learned_].size()) - 1}});
            add(y_[learned_]);
        }
    }

    void scale_targets() {
        if (classify_) return;
        double mean = 0, variance = 0;
        for (Index i = 0; i < events_; i++) mean += double(y_[i]) / double(events_);
        for (Index i = 0; i < events_; i++) variance += (y_[i] - mean) * (y_[i] - mean) / double(events_);
        target_mean_ = mean;
        target_spread_ = variance > 0 ? root(variance) : 1;
    }

    struct Feature {
        Index place;
        double mean, gain, relevance;
    };

    // The share of a feature's variance that labels explain, against the rest: by means of classes, or by a line.
    double relevance_of(Index d, double mean, double total) const {
        double explained = 0;
        if (classify_) {
            std::array<double, CLASSES> sum{}, count{};
            for (Index i = 0; i < events_; i++) {
                const float x = feature(x_[i], d);
                if (std::isnan(x) || y_[i] >= float(CLASSES)) continue;
                sum[Index(y_[i])] += x - mean;
                count[Index(y_[i])]++;
            }
            for (Index c = 0; c < CLASSES; c++)
                if (count[c] > 0) explained += sum[c] * sum[c] / count[c];
        } else {
            double both = 0, targets = 0;
            for (Index i = 0; i < events_; i++) {
                const float x = feature(x_[i], d);
                if (std::isnan(x)) continue;
                both += (x - mean) * (y_[i] - target_mean_);
                targets += (y_[i] - target_mean_) * (y_[i] - target_mean_);
            }
            if (targets > 0) explained = both * both / targets;
        }
        explained = std::min(explained, total);
        return explained / (total - explained + LEAST_SHARE * total);
    }

    void choose_features() {
        Index width = 0;
        for (Index i = 0; i < events_; i++) width = std::max(width, Index(x_[i].size()) - 1);
        features_.clear();
        for (Index d = 0; d < width; d++) {
            double mean = 0, total = 0, known = 0;
            for (Index i = 0; i < events_; i++) {
                const float x = feature(x_[i], d);
                if (!std::isnan(x)) mean += x, known++;
            }
            if (known < 2) continue;
            mean /= known;
            for (Index i = 0; i < events_; i++) {
                const float x = feature(x_[i], d);
                if (!std::isnan(x)) total += (x - mean) * (x - mean);
            }
            const double spread = root(total / known);
            if (!(spread > LEAST_SPREAD * std::abs(mean)) || !std::isfinite(spread)) continue;
            features_.push_back(
                {d, mean, 1 / spread, events_ < FEWEST_FOR_RELEVANCE ? 1 : relevance_of(d, mean, total)});
        }
        if (Index(features_.size()) > FEATURES) {
            std::stable_sort(features_.begin(), features_.end(),
                             [](const Feature& a, const Feature& b) { return a.relevance > b.relevance; });
            features_.resize(FEATURES);
        }
        double total = 0;
        for (const Feature& one : features_) total += one.relevance;
        equal_ = features_.empty() ? 0 : 1 / float(features_.size());
        for (Index f = 0; f < Index(features_.size()); f++)
            relevant_[f] =
                total > 0 ? RELEVANCE_SHARE * float(features_[f].relevance / total) + (1 - RELEVANCE_SHARE) * equal_
                          : equal_;
    }

    // ---- an event among those learned ------------------------------------------------------------------------------

    void look_at(float task, Array<const float, 1> x) {
        row_.assign(1, task);
        row_.insert(row_.end(), x.data, x.data + x.size());
        place(task, x);
    }

    // Its features, and by every kernel how it is alike to the learned events: k, then v = L⁻¹ k, and v·u of each
    // class.
    void place(float task, Array<const float, 1> x) {
        const Index n = learned_, F = features_.size();
        float square = 0;
        for (Index f = 0; f < F; f++) {
            const float value = features_[f].place < x.size() ? x[features_[f].place] : NAN;
            const double z = (double(value) - features_[f].mean) * features_[f].gain;
            event_[f] = std::isnan(value) ? 0 : clamp(float(z), -MOST_AWAY, MOST_AWAY);
            square += relevant_[f] * event_[f] * event_[f];
        }
        task_now_ = task;
        rank_now_ = float(std::count(task_.begin(), task_.begin() + n, task));
        for (Index i = 0; i < n; i += LANES_OF_ONE) compare(i);
        for (Index k = 0; k < KERNELS; k++) {
            const float own = KERNEL[k].base == product ? KERNEL[k].total() - 1 + square : KERNEL[k].total();
            own_[k] = own / KERNEL[k].total() + KERNEL[k].noise;
        }
        for (Index i = 0; i < n; i += ROWS) solve(i, std::min(ROWS, n - i));
        std::fill_n(here_.data() + n * KERNELS, (n % 2) * KERNELS, 0.f);
        const Four explained = sums(here_.data(), here_.data(), n);
        for (Index k = 0; k < KERNELS; k++) variance_[k] = larger(own_[k] - explained[k], KERNEL[k].noise / 2);
        for (Index k = 0; k < KERNELS; k++) deviation_[k] = root(variance_[k]);
        if (classify_) {
            expect_classes();
        } else {
            expected_[1] = sums(here_.data(), solved(1), n);
        }
    }
    void expect_classes() {
        expected_[0] = sums(here_.data(), solved(0), learned_);
        total_ = {};
        for (Index c = 0; c < CLASSES; c++) {
            if (!seen_[c]) continue;
            expected_[1 + c] = sums(here_.data(), solved(1 + c), learned_);
            for (Index k = 0; k < KERNELS; k++) total_[k] += larger(mean_of(c, k), LEAST_MEAN);
        }
    }

    // v_i = (k_i − Σ_j L_ij v_j) / L_ii of so many events from here on, of which all before have theirs: what four rows
    // have in common is loaded once, and none waits for another but in the last few products.
    INLINE void solve(Index i, Index rows) {
        const float* row[ROWS];
        for (Index r = 0; r < ROWS; r++) row[r] = factor_.data() + begin_of(i + r) * KERNELS;
        Floats sum[ROWS] = {}, x, y;
        for (Index j = 0; j < i * KERNELS; j += LANES_OF_ONE) {
            __builtin_memcpy(&y, here_.data() + j, REGISTER);
#pragma GCC unroll 4
            for (Index r = 0; r < ROWS; r++) {
                __builtin_memcpy(&x, row[r] + j, REGISTER);
                sum[r] = fused(x, y, sum[r]);
            }
        }
        for (Index r = 0; r < rows; r++) {
            float all[LANES_OF_ONE];
            __builtin_memcpy(all, sum + r, REGISTER);
            SideBySide left, known, one, other;
            for (Index k = 0; k < KERNELS; k++) left[k] = alike_[k * MOST + i + r];
            for (Index k = 0; k < LANES_OF_ONE; k += KERNELS) {
                __builtin_memcpy(&known, all + k, sizeof known);
                left -= known;
            }
            for (Index q = 0; q < r; q++) {
                __builtin_memcpy(&one, row[r] + (i + q) * KERNELS, sizeof one);
                __builtin_memcpy(&other, here_.data() + (i + q) * KERNELS, sizeof other);
                left -= one * other;
            }
            __builtin_memcpy(&one, inverse_.data() + (i + r) * KERNELS, sizeof one);
            left *= one;
            __builtin_memcpy(here_.data() + (i + r) * KERNELS, &left, sizeof left);
        }
    }

    // Fill alike [KERNELS, ·] of a register of learned events that begins here.
    INLINE void compare(Index i) {
        Floats away{}, squared{}, both{}, z, tasks, ranks;
        for (Index f = 0; f < Index(features_.size()); f++) {
            __builtin_memcpy(&z, z_.data() + f * MOST + i, REGISTER);
            const Floats gap = z - event_[f];
            away += (gap < 0 ? -gap : gap) * relevant_[f];
            squared += gap * gap;
            both += z * (event_[f] * relevant_[f]);
        }
        __builtin_memcpy(&tasks, task_.data() + i, REGISTER);
        __builtin_memcpy(&ranks, rank_.data() + i, REGISTER);
        const Floats same = tasks == task_now_ ? all<Floats>(1) : all<Floats>(0);
        const Floats recent = same * exponential((ranks - rank_now_) / RECENT);
        const Floats base[] = {exponential(-away / LENGTH_OF_LAPLACE), both,
                               exponential(-squared * (equal_ / LENGTH_OF_SQUARES))};
        for (Index k = 0; k < KERNELS; k++) {
            Floats sum = base[KERNEL[k].base] + INTERCEPT;
            if (KERNEL[k].is_recent) sum += OF_RECENT * recent;
            if (KERNEL[k].is_of_task) sum += OF_TASK * same;
            sum /= KERNEL[k].total();
            __builtin_memcpy(alike_.data() + k * MOST + i, &sum, REGISTER);
        }
    }

    // ---- what is said and learned ----------------------------------------------------------------------------------

    // Of each kernel, how likely a class that was seen is.
    Four likely(Index c) const {
        Four found;
        for (Index k = 0; k < KERNELS; k++) found[k] = larger(mean_of(c, k), LEAST_MEAN) / total_[k];
        return found;
    }
    float mean_of(Index c, Index k) const { return expected_[1 + c][k] + (1 - expected_[0][k]) / float(classes_); }
    void answer(Array<double, 1> said) {
        const double top = *std::max_element(evidence_.begin(), evidence_.end());
        double weight[KERNELS], total = 0;
        for (Index k = 0; k < KERNELS; k++) total += weight[k] = exponential(evidence_[k] - top);
        if (!classify_) {
            double mean = 0;
            for (Index k = 0; k < KERNELS; k++) mean += weight[k] / total * expected_[1][k];
            said[0] = target_mean_ + target_spread_ * mean;
            return;
        }
        for (Index c = 0; c < std::min(CLASSES, said.size()); c++) {
            if (!seen_[c]) continue;
            const Four found = likely(c);
            for (Index k = 0; k < KERNELS; k++) said[c] += weight[k] / total * double(found[k]);
        }
    }

    void learn(float label) {
        keep({row_.data(), {Index(row_.size())}}, label);
        count_++;
        const bool is_new_scale = count_ < KEPT ? std::has_single_bit(uint64_t(count_)) : count_ % KEPT == 0;
        if (is_new_scale) return begin_again();
        add(label);
    }

    // Add the event that has been placed, with its label, to those learned.
    void add(float label) {
        const Index n = learned_;
        if (classify_) {
            add_class(label < float(CLASSES) ? Index(label) : CLASSES);
        } else {
            add_target(clamp(float((label - target_mean_) / target_spread_), -MOST_TARGET_AWAY, MOST_TARGET_AWAY));
        }
        std::copy_n(here_.data(), (n + n % 2) * KERNELS, factor_.data() + begin_of(n) * KERNELS);
        for (Index k = 0; k < KERNELS; k++) inverse_[n * KERNELS + k] = 1 / deviation_[k];
        for (Index f = 0; f < Index(features_.size()); f++) z_[f * MOST + n] = event_[f];
        task_[n] = task_now_;
        rank_[n] = rank_now_;
        learned_++;
    }
    void add_target(float y) {
        for (Index k = 0; k < KERNELS; k++) {
            const double gap = y - expected_[1][k], variance = variance_[k];
            const double square = std::min(gap * gap / variance, MOST_SQUARE);
            evidence_[k] = EVIDENCE_DECAY * evidence_[k] - (square + logarithm(variance)) / 2;
        }
        append(1, y);
    }
    // CLASSES: one of those that are not distinguished.
    void add_class(Index y) {
        if (y < CLASSES && seen_[y]) {
            const Four found = likely(y);
            for (Index k = 0; k < KERNELS; k++)
                evidence_[k] = EVIDENCE_DECAY * evidence_[k] + logarithm(double(larger(found[k], LEAST_LIKELY)));
        } else if (y < CLASSES) {
            seen_[y] = true;
            classes_++;
            expected_[1 + y] = {};
        }
        append(0, 1);
        for (Index c = 0; c < CLASSES; c++)
            if (seen_[c]) append(1 + c, c == y);
    }
    // The next number of u = L⁻¹ y, of a class or of ones.
    void append(Index c, float y) {
        for (Index k = 0; k < KERNELS; k++) solved(c)[learned_ * KERNELS + k] = (y - expected_[c][k]) / deviation_[k];
    }
    float* solved(Index c) { return solved_.data() + c * MOST * KERNELS; }

    bool classify_;
    int64_t count_ = 0;                  // events ever learned
    Index events_ = 0, learned_ = 0;     // that are kept, and that the factors have: the same but inside begin_again
    std::vector<std::vector<float>> x_;  // [MOST][1 + D] tasks and features as they came
    std::array<float, MOST> y_{};

    std::vector<Feature> features_;
    std::array<float, FEATURES> relevant_{}, event_{};  // weights of features, and an event's values
    float equal_ = 0;
    double target_mean_ = 0, target_spread_ = 1;

    std::vector<float> factor_, inverse_;      // rows of L, of even lengths, and one over its diagonal; [·, KERNELS]
    std::vector<float> solved_;                // [1 + CLASSES, MOST, KERNELS] u of ones and of classes, or of targets
    std::vector<float> z_;                     // [FEATURES, MOST]
    std::array<float, MOST> task_{}, rank_{};  // an event's task, and how many of its events came before
    std::array<bool, CLASSES> seen_{};
    Index classes_ = 0;
    std::array<double, KERNELS> evidence_{};

    std::vector<float> row_;  // of the event that is looked at; so are these
    float task_now_ = 0, rank_now_ = 0;
    std::array<float, MOST * KERNELS> alike_{}, here_{};
    Four own_{}, variance_{}, deviation_{}, total_{};  // total: of what classes are likely, before it is shared out
    std::array<Four, 1 + CLASSES> expected_{};
};

}  // namespace

void bind_gaussian_process(nb::module_& module) {
    nb::class_<GaussianProcess>(module, "GaussianProcess")
        .def(nb::init<bool>())
        .def_prop_ro("count", &GaussianProcess::count)
        .def("remember", &GaussianProcess::remember)
        .def("run", &GaussianProcess::run);
}

}  // namespace streammeta

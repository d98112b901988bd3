// ADWIN for many tasks: a window of each task's recent values, cut where the means of its two parts differ. Source and
// what differs from River's: see streammeta/engine/drift/adwin.py. The order of operations is River's, and so are bits.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <unordered_map>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

struct Parameters {
    double delta;
    int32_t clock;
    size_t max_buckets;
    double min_window_length, grace_period;
};

struct Bucket {
    double total, variance;
};

// An exponential histogram: level i has buckets of 2^i values, the oldest first.
struct Window {
    double total = 0, variance = 0, width = 0, total_width = 0;
    int32_t buckets = 0, most_buckets = 0, tick = 0, detections = 0;
    std::vector<std::vector<Bucket>> levels{1};

    void insert(double value, const Parameters& given) {
        levels[0].push_back({value, 0});
        if (++buckets > most_buckets) most_buckets = buckets;
        width += 1;
        if (width > 1) {
            const double gap = value - total / (width - 1);
            variance += (width - 1) * gap * gap / width;
        }
        total += value;
        merge(given);
    }

    // Where a level has one bucket too many, its two oldest become one of the next level.
    void merge(const Parameters& given) {
        for (size_t i = 0; levels[i].size() == given.max_buckets + 1; i++) {
            const double n = double(uint64_t(1) << i);
            const Bucket a = levels[i][0], b = levels[i][1];
            const double gap = a.total / n - b.total / n;
            if (i + 1 == levels.size()) levels.emplace_back();
            levels[i + 1].push_back({a.total + b.total, a.variance + b.variance + n * 0.5 * gap * gap});
            levels[i].erase(levels[i].begin(), levels[i].begin() + 2);
            buckets++;  // as River counts
        }
    }

    void drop_oldest() {
        const size_t last = levels.size() - 1;
        const double n = double(uint64_t(1) << last);
        const Bucket gone = levels[last][0];
        const double mean = gone.total / n;
        width -= n;
        total -= gone.total;
        const double gap = mean - total / width;
        variance -= gone.variance + n * width * gap * gap / (n + width);
        levels[last].erase(levels[last].begin());
        buckets--;
        if (levels[last].empty()) levels.pop_back();
    }

    // Whether some cut leaves two parts whose means differ by more than chance allows.
    bool is_cut(const Parameters& given) const {
        const double chance = logarithm(2.0 * logarithm(width) / given.delta), least = given.min_window_length;
        double n0 = 0, n1 = width, u0 = 0, u1 = total;
        for (size_t i = levels.size(); i-- > 0;) {
            const double n = double(uint64_t(1) << i);
            for (size_t k = 0; k < levels[i].size(); k++) {
                n0 += n;
                n1 -= n;
                u0 += levels[i][k].total;
                u1 -= levels[i][k].total;
                if (i == 0 && k + 1 == levels[i].size()) return false;
                if (n1 < least || n0 < least) continue;
                const double gap = u0 / n0 - u1 / n1;
                const double m = 1.0 / (n0 - least + 1.0) + 1.0 / (n1 - least + 1.0);
                const double bound = root(2.0 * m * (variance / width) * chance) + 2.0 / 3.0 * chance * m;
                if (std::abs(gap) > bound) return true;
            }
        }
        return false;
    }

    // Take a value; was the window cut, and is its mean higher than before?
    bool rises(double value, const Parameters& given) {
        const double before = (total + value) / (width + 1);
        insert(value, given);
        bool found = false;
        if (++tick % given.clock == 0 && width > given.grace_period) {
            while (is_cut(given)) {
                found = true;
                drop_oldest();
            }
        }
        total_width += width;
        detections += found;
        return found && total / width > before;
    }
};

struct Watch {
    int64_t warm_up_seen = 0;  // values let pass before watching began
    bool has_begun = false;
    Window window;
};

// The windows of many tasks, by row.
class Adwins {
  public:
    Adwins(int64_t warm_up, double delta, int32_t clock, int32_t max_buckets, int32_t min_window_length,
           int32_t grace_period)
        : warm_up_(warm_up),
          given_{delta, clock, size_t(max_buckets), double(min_window_length), double(grace_period)} {
        require(delta > 0 && clock > 0 && max_buckets > 1,
                "Adwins: wanted delta and clock above 0, max_buckets above 1");
    }

    // Let each row see its value, in order, up to the first drift; its place, or −1. A row that drifted begins again.
    // What is not in [0, 1] is not watched.
    Index watch(Array<const int64_t, 1> rows, Array<const double, 1> values) {
        require(rows.size() == values.size(), "watch: wanted a value for each row");
        for (Index i = 0; i < rows.size(); i++) {
            if (!(values[i] >= 0 && values[i] <= 1)) continue;
            Watch& watch = watches_[rows[i]];
            if (watch.warm_up_seen < warm_up_) {
                watch.warm_up_seen++;
                continue;
            }
            watch.has_begun = true;
            if (watch.window.rises(values[i], given_)) {
                watches_.erase(rows[i]);
                return i;
            }
        }
        return -1;
    }

    void reset(int64_t row) { watches_.erase(row); }

    // (warm_up_seen, sums, counts, levels) of a row, as `load` takes it; None: it has seen nothing. A level is the
    // totals of its buckets and their variances; before the first value that was watched there is none.
    nb::object state(int64_t row) const {
        const auto found = watches_.find(row);
        if (found == watches_.end()) return nb::none();
        const Watch& watch = found->second;
        const Window& w = watch.window;
        nb::list levels;
        for (const auto& level : w.levels) {
            nb::list totals, variances;
            for (const Bucket& bucket : level) {
                totals.append(bucket.total);
                variances.append(bucket.variance);
            }
            if (watch.has_begun) levels.append(nb::make_tuple(totals, variances));
        }
        return nb::make_tuple(watch.warm_up_seen, nb::make_tuple(w.total, w.variance, w.total_width),
                              nb::make_tuple(w.buckets, w.most_buckets, w.tick, w.detections), levels);
    }

    void load(int64_t row, int64_t warm_up_seen, std::tuple<double, double, double> sums,
              std::tuple<int32_t, int32_t, int32_t, int32_t> counts,
              const std::vector<std::pair<std::vector<double>, std::vector<double>>>& levels) {
        Watch watch{warm_up_seen, !levels.empty(), {}};
        Window& w = watch.window;
        std::tie(w.total, w.variance, w.total_width) = sums;
        std::tie(w.buckets, w.most_buckets, w.tick, w.detections) = counts;
        if (watch.has_begun) w.levels.clear();
        for (const auto& [totals, variances] : levels) {
            require(totals.size() == variances.size() && totals.size() <= given_.max_buckets, "load: bad buckets");
            std::vector<Bucket> level;
            for (size_t k = 0; k < totals.size(); k++) level.push_back({totals[k], variances[k]});
            w.width += double(level.size()) * double(uint64_t(1) << w.levels.size());
            w.levels.push_back(level);
        }
        watches_[row] = watch;
    }

  private:
    int64_t warm_up_;
    Parameters given_;
    std::unordered_map<int64_t, Watch> watches_;
};

}  // namespace

void bind_adwin(nb::module_& module) {
    nb::class_<Adwins>(module, "Adwins")
        .def(nb::init<int64_t, double, int32_t, int32_t, int32_t, int32_t>())
        .def("watch", &Adwins::watch)
        .def("reset", &Adwins::reset)
        .def("state", &Adwins::state)
        .def("load", &Adwins::load);
}

}  // namespace streammeta

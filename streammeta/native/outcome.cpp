// What a step answers, made for many events at once. See streammeta/engine/outcome.py.
#include <cmath>

#include "array.hpp"

namespace streammeta {

namespace {

// Of each event: what was predicted, and how it was judged; arrays over events [N].
struct Judgements {
    Array<const double, 2> means;   // [N, C] or [N, 1]
    Array<const int64_t, 1> known;  // classes that each prediction knew
    Array<const int64_t, 1> best;   // index of the likeliest class; −1: no class is known
    Array<const double, 1> variances, loss, error;
    Array<const int64_t, 1> versions, ages, sinces;
    Array<const bool, 1> is_labelled;

    explicit Judgements(nb::tuple of)
        : means(take<const double, 2>(of[0], "means")),
          known(take<const int64_t, 1>(of[1], "known")),
          best(take<const int64_t, 1>(of[2], "best")),
          variances(take<const double, 1>(of[3], "variances")),
          loss(take<const double, 1>(of[4], "loss")),
          error(take<const double, 1>(of[5], "error")),
          versions(take<const int64_t, 1>(of[6], "versions")),
          ages(take<const int64_t, 1>(of[7], "ages")),
          sinces(take<const int64_t, 1>(of[8], "sinces")),
          is_labelled(take<const bool, 1>(of[9], "is_labelled")) {}

    bool has(Index count) const {
        return means.shape[0] == count && known.size() == count && best.size() == count && variances.size() == count &&
               loss.size() == count && error.size() == count && versions.size() == count && ages.size() == count &&
               sinces.size() == count && is_labelled.size() == count;
    }
};

nb::dict probabilities(Array<const double, 1> mean, Index known, nb::list classes) {
    nb::dict found;
    for (Index c = 0; c < known && c < mean.size() && c < Index(classes.size()); c++) {
        found[classes[size_t(c)]] = mean[c];
    }
    return found;
}

// Make outcomes of this class for sources[first:first + N], and put each at its place in `into`. Where targets are
// predicted there are no classes to `classify`; where there are no intervals, `bounds` is empty, else [N, 2 or more].
void write_outcomes(nb::handle kind, nb::list sources, nb::list places, Index first, bool classify, nb::list classes,
                    nb::tuple of, nb::list signals, Array<const double, 2> bounds, nb::list into) {
    const Judgements judged(of);
    const Index count = Index(signals.size());
    require(judged.has(count) && Index(sources.size()) >= first + count && sources.size() == places.size(),
            "write_outcomes: events do not fit");
    const bool has_bounds = bounds.shape[0] > 0;
    require(!has_bounds || (bounds.shape[0] == count && bounds.shape[1] >= 2), "write_outcomes: bounds do not fit");
    for (Index i = 0; i < count; i++) {
        const Array<const double, 1> mean = judged.means[i];
        nb::object prediction = nb::none(), chances = nb::none(), variance = nb::none(), interval = nb::none();
        if (classify) {
            const int64_t best = judged.best[i];
            require(best < int64_t(classes.size()), "write_outcomes: wanted a class for each index");
            if (best >= 0) prediction = classes[size_t(best)];
            chances = probabilities(mean, Index(judged.known[i]), classes);
        } else {
            prediction = nb::float_(mean[0]);
            variance = nb::float_(judged.variances[i]);
        }
        if (has_bounds && !std::isnan(bounds[i][0])) interval = nb::make_tuple(bounds[i][0], bounds[i][1]);
        const bool labelled = judged.is_labelled[i];
        const nb::object loss = labelled ? nb::object(nb::float_(judged.loss[i])) : nb::none();
        const nb::object error = labelled ? nb::object(nb::float_(judged.error[i])) : nb::none();
        const nb::object since = judged.sinces[i] < 0 ? nb::none() : nb::object(nb::int_(judged.sinces[i]));
        into[size_t(nb::cast<Index>(places[size_t(first + i)]))] =
            kind(sources[size_t(first + i)], prediction, chances, variance, signals[size_t(i)], judged.versions[i],
                 loss, error, judged.ages[i], since, nb::none(), interval);
    }
}

}  // namespace

void bind_outcome(nb::module_& module) { module.def("write_outcomes", &write_outcomes); }

}  // namespace streammeta

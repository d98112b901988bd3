// Bayesian change-point detection, one value. Equations and source: see streammeta/engine/drift/changepoint.py.
#include <algorithm>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

constexpr double LEAST_PHI = 0.1, MOST_PHI = 1.5;
constexpr double EDGE =
    0.01;  // a mean nearer to 0 or 1 counts as this: no value is infinitely far from what was expected

struct Run {
    double weight, count, sum, before;  // before: the level that was expected when it began
    double mean() const { return (1 + sum) / (2 + count); }
};

// Take x into the runs [H, 4] and the dispersion [2]; returns the belief that the level rose.
static double update_changepoint(Array<double, 2> memory, Array<double, 1> dispersion, double x, double hazard) {
    const Index count = memory.shape[0];
    require(count >= 2 && memory.shape[1] == 4 && dispersion.size() == 2, "update_changepoint: wanted [H, 4] and [2]");
    Run *runs = reinterpret_cast<Run*>(memory.data), *least = runs;
    double expected = 0, kept = 0;
    for (Run* run = runs; run < runs + count; run++) {
        expected += run->weight * run->mean();
        kept += run->weight;
        if (run->weight < least->weight) least = run;
    }
    kept -= least->weight;
    const double phi = std::clamp(dispersion[0] / dispersion[1], LEAST_PHI, MOST_PHI);
    const double m = std::clamp(expected, EDGE, 1 - EDGE);
    dispersion[0] += (x - m) * (x - m) / (m * (1 - m));
    dispersion[1] += 1;
    double total = 0;
    for (Run* run = runs; run < runs + count; run++) {
        run->weight *= (1 - hazard) / kept;
        if (run == least) *run = {hazard, 0, 0, expected};
        if (run->weight > 0) {
            const double mean = run->mean();
            run->weight *= exponential((x * logarithm(mean) + (1 - x) * logarithm_of_one_plus(-mean)) / phi);
            run->count += 1;
            run->sum += x;
            total += run->weight;
        }
    }
    double belief = 0;
    for (Run* run = runs; run < runs + count; run++) {
        run->weight /= total;
        if (run->mean() > run->before) belief += run->weight;
    }
    return belief;
}

void bind_changepoint(nb::module_& module) { module.def("update_changepoint", &update_changepoint); }

}  // namespace streammeta

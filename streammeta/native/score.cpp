// What heads expect of events, with nothing learned: by this, actions are chosen. See streammeta/decisions/scoring.py.
#include <algorithm>
#include <vector>

#include "event_encoder.hpp"

namespace streammeta {

using namespace event;

namespace {

constexpr size_t FACTORS_KEPT = 16;  // rows that come again after a few others are not factored again

// What rows [M] expect of an event each, which has few numbers that are not missing; nothing is learned. Row −1 is a
// task that learned nothing yet. Rows that come again soon cost less.
void score_values(nb::tuple weights, Array<const float, 4> A, Array<const float, 5> B, Array<const float, 3> logw,
                  Array<const float, 4> noise, Array<const int64_t, 1> rows, Array<const int64_t, 1> starts,
                  Array<const int64_t, 1> columns, Numbers values, Array<float, 1> mean, Array<float, 1> doubt) {
    const Weights w(weights);
    const Few xs{starts, columns, values};
    const Index M = rows.size(), P = w.m * (w.m + 1) / 2, T = A.shape[0];
    const bool fits = A.shape[1] == w.G && A.shape[2] == P && A.shape[3] == LANES && B.shape[0] == T &&
                      B.shape[1] == w.G && B.shape[2] == w.m && B.shape[3] >= 1 && B.shape[4] == LANES &&
                      logw.shape[0] == T && logw.shape[1] == w.G && logw.shape[2] == LANES && noise.shape[0] == T &&
                      noise.shape[1] == w.G && noise.shape[2] == 2 && noise.shape[3] == LANES;
    require(fits, "score: a state that does not fit the weights");
    require(w.H + 1 <= w.first.shape[2] && w.J + 1 <= w.second.shape[2], "score: weights without an output");
    require(xs.fits(M, w.shift.size()) && mean.size() == M && doubt.size() == M,
            "score: events that do not fit the weights or each other");
    for (Index i = 0; i < M; i++) require(rows[i] >= -1 && rows[i] < T, "score: a row that is not there");
    nb::gil_scoped_release released;
    size_t oldest = 0;
    std::vector<Workspace> works;  // each with the factors of the row that it `holds`
    std::vector<Index> holds;
    works.reserve(FACTORS_KEPT);
    const auto work_of = [&](Index row) -> std::pair<Workspace&, bool> {
        const auto found = std::find(holds.begin(), holds.end(), row);
        if (w.G == 1 && found != holds.end()) return {works[size_t(found - holds.begin())], true};
        const size_t next = works.size() < FACTORS_KEPT ? works.size() : oldest++ % FACTORS_KEPT;
        if (next == works.size()) works.emplace_back(w, 1), holds.push_back(row);
        holds[next] = row;
        return {works[next], false};
    };
    const Index wide = B.shape[3];
    Rows<float> blank(w.G * std::max(P, w.m * wide + 2));
    clear_rows(blank.data(), w.G * std::max(P, w.m * wide + 2));
    const float shift = w.y_affine[0], spread = w.y_affine[1];
    Encoder encoder(w, 1, std::min(M, ENCODED_TOGETHER));
    for (Index begin = 0; begin < M; begin += ENCODED_TOGETHER) {
        const Index end = std::min(begin + ENCODED_TOGETHER, M);
        encoder.encode(xs, begin, end - begin);
        for (Index i = begin; i < end; i++) {
            const Index row = rows[i];
            const auto [work, is_factored] = work_of(row);
            encoder.into_lanes(i - begin, work);
            for (Index g = 0; g < w.G; g++) {
                if (!is_factored) factor_block(w, row < 0 ? blank.data() : A[row][g].data, g, work);
                solve_block(row < 0 ? blank.data() : B[row][g].data, wide, g, work);
            }
            const float* evidence = row < 0 ? blank.data() : logw[row].data;
            const float* residuals = row < 0 ? blank.data() : noise[row].data;
            const auto [first, second] = predict_value(w, evidence, residuals, 0, work);
            mean[i] = first * spread + shift;
            doubt[i] = second * spread * spread;
        }
    }
}

}  // namespace

void bind_score(nb::module_& module) { module.def("score_values", &score_values); }

}  // namespace streammeta

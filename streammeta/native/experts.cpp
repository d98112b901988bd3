// Experts beside the learner, and their mixture. Equations: see streammeta/engine/experts/.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Numbers = Array<double, 1>;
using Table = Array<double, 2>;
using Given = Array<const double, 1>;
using Features = Array<const float, 1>;

constexpr double CLIP = 6;               // as on the event path
constexpr double FORGET = 0.98;          // of a class, for each of its labels
constexpr double PRIOR_LABELS = 4;       // ν: labels that the variance within classes is worth
constexpr double LEAST_VARIANCE = 1e-6;  // of the variance of all events, within a class
constexpr double LEAST = 1e-6;           // no probability of a label counts as less
constexpr double MOST_SURPRISE = 14;     // nats below a Gaussian's own peak
constexpr double PRIOR_SPREAD =
    4;  // an expert nothing is known of may err twice as far as the learner thinks it does itself
constexpr double POOL_DECAY = 0.999, POOL_PRIOR = 3;  // of its curvature, and what it begins with
constexpr double LOG_POOL = 1;                        // favour of the pool
constexpr double LEAST_POOLED = 1e-4;                 // no probability counts as less in the pool
constexpr double STREAM_DECAY = 0.99;                 // of what is known of all tasks, at each label of any
constexpr double MOST_SQUARED = 100;                  // variances of the learner: of a larger error no more is kept
constexpr double STREAM_LABELS = 10;                  // labels of a task that it is worth, and that it needs itself
constexpr double INFINITE = std::numeric_limits<double>::infinity();

// A feature as the encoder sees it; NaN where it is missing.
double normalized(float value, float shift, float gain) { return clamp(double((value - shift) * gain), -CLIP, CLIP); }

// --- Gaussian classes -----------------------------------------------------------------------------------------------

// Fill said [heats, C] for x [D] from a task's counts [≥ C] and raw means and squares [≥ C, ≥ D].
void ask_gaussian(Given count, Array<const double, 2> mean, Array<const double, 2> square, Features x, Given within,
                  Features shift, Features gain, Table said) {
    const auto [heats, C] = said.shape;
    const Index D = x.size(), known = std::min(count.size(), std::min(mean.shape[0], square.shape[0]));
    require(within.size() == D && shift.size() == D && gain.size() == D && mean.shape[1] >= D && square.shape[1] >= D,
            "ask_gaussian: features do not fit");
    std::vector<double> scores(C, -INFINITE);
    for (Index c = 0; c < std::min(C, known); c++) {
        const double n = count[c];
        if (!(n > 0)) continue;
        const double df = n + PRIOR_LABELS;
        double score = logarithm(n);
        for (Index d = 0; d < D; d++) {
            const double z = normalized(x[d], shift[d], gain[d]);
            if (std::isnan(z)) continue;
            const double unit = double(gain[d]) * gain[d], inside = clamp(within[d] * unit, LEAST_VARIANCE, 1.0);
            double middle = 0, variance = 1;  // of a class that never had this feature
            if (!std::isnan(mean[c][d])) {
                middle = n * clamp((mean[c][d] - shift[d]) * gain[d], -CLIP, CLIP) / (n + inside);
                variance = (square[c][d] * unit + PRIOR_LABELS * inside) / df * (1 + 1 / (n + inside));
            }
            const double gap = z - middle;
            score -= 0.5 * ((df + 1) * logarithm_of_one_plus(gap * gap / (variance * df)) + logarithm(variance));
        }
        scores[c] = score;
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double power = 1;
    for (Index h = 0; h < heats; h++, power *= 0.5) {
        double total = 0;
        for (Index c = 0; c < C; c++) total += said[h][c] = exponential(power * (scores[c] - top));
        for (Index c = 0; c < C; c++) said[h][c] /= total;
    }
}

// Learn raw x [D] as of this class; `squares` [D] gets its square about a mean that was known, else NaN.
void add_to_class(Numbers count, Table mean, Table square, Index label, Features x, Numbers squares) {
    const Index D = x.size();
    require(label >= 0 && label < count.size() && label < mean.shape[0] && label < square.shape[0] &&
                mean.shape[1] >= D && square.shape[1] >= D && squares.size() >= D,
            "add_to_class: a label or feature that has no place");
    const double n = count[label], grown = FORGET * n + 1;
    double *of_mean = mean[label].data, *of_square = square[label].data;
    for (Index d = 0; d < D; d++) {
        const double value = x[d];
        if (std::isnan(value)) {  // as spread out as the class is
            of_square[d] *= FORGET + (n > 0 ? 1 / n : 0);
            continue;
        }
        const double gap = value - of_mean[d];
        if (std::isnan(gap)) {
            of_mean[d] = value;
            continue;
        }
        squares[d] = gap * gap * n / (n + 1);
        of_mean[d] += gap / grown;
        of_square[d] = FORGET * of_square[d] + gap * (value - of_mean[d]);
    }
    count[label] = grown;
}

// --- Neighbours -----------------------------------------------------------------------------------------------------

// Fill said [C] or [1] from the `most` nearest events in the row's window; a tie goes to the lower place.
template <class Label>
void ask_neighbours(Array<const float, 3> window_x, Array<const Label, 2> window_y, Array<const int64_t, 1> pushed,
                    Index row, Features x, Features shift, Features gain, Index most, bool classify, Numbers said) {
    const Index D = x.size(), width = window_x.shape[2];
    require(row >= 0 && row < pushed.size() && shift.size() >= D && gain.size() >= D, "ask_neighbours: do not fit");
    const Index seen = std::min<Index>(pushed[row], window_y.shape[1]), count = std::min(most, seen);
    require(count > 0, "ask_neighbours: the window is empty");
    const auto as_encoded = [&](double value) { return std::isnan(value) ? 0 : value; };  // missing is the mean
    std::vector<double> query(D), distances(count, INFINITE);
    std::vector<Index> places(count);
    for (Index d = 0; d < D; d++) query[d] = as_encoded(normalized(x[d], shift[d], gain[d]));
    for (Index at = 0; at < seen; at++) {
        const float* from = window_x[row][at].data;
        double distance = 0;
        for (Index d = 0; d < D && distance < distances[count - 1]; d++) {
            const float value = d < width ? from[d] : std::numeric_limits<float>::quiet_NaN();
            const double gap = query[d] - as_encoded(normalized(value, shift[d], gain[d]));
            distance += gap * gap;
        }
        if (!(distance < distances[count - 1])) continue;
        Index k = count - 1;
        for (; k > 0 && distances[k - 1] > distance; k--) distances[k] = distances[k - 1], places[k] = places[k - 1];
        distances[k] = distance, places[k] = at;
    }
    double spread = 0, total = 0;
    for (const double distance : distances) spread += distance / double(count);
    spread += 1e-9;
    std::fill_n(said.data, said.size(), 0.0);
    for (Index k = 0; k < count; k++) {
        const double weight = exponential(-distances[k] / spread);
        const double y = window_y[row][places[k]];
        total += weight;
        if (classify) {
            require(y >= 0 && y < double(said.size()), "ask_neighbours: a label that is no class");
            said[Index(y)] += weight;
        } else {
            said[0] += weight * y;
        }
    }
    for (Index c = 0; c < said.size(); c++) said[c] /= total;
}

// --- The mixture ----------------------------------------------------------------------------------------------------

// What labels of all a partition's tasks say of the parts, forgotten slowly: sums [2 + 2K] of log p_r(y) − log p(y),
// the pool's last; of targets sums [K] of the experts' squared errors in variances of the learner; the number of
// labels.
struct Stream {
    Numbers state;

    Index experts() const { return (state.size() - 3) / 3; }
    double labels() const { return state[state.size() - 1]; }
    // In the log evidence of a task.
    double gain(Index r) const { return STREAM_LABELS * state[r] / (labels() + STREAM_LABELS); }
    // The variance of an expert's errors, in the learner's.
    double spread(Index k) const {
        return (PRIOR_SPREAD * STREAM_LABELS + state[2 + 2 * experts() + k]) / (STREAM_LABELS + labels());
    }
    void forget() {
        for (double* one = state.data; one < state.data + state.size(); one++) *one *= STREAM_DECAY;
        state[state.size() - 1] += 1;
    }
    void add_gain(Index r, double gain) { state[r] += clamp(gain, -MOST_SURPRISE, MOST_SURPRISE); }
    void add_error(Index k, double squared) { state[2 + 2 * experts() + k] += std::min(squared, MOST_SQUARED); }
};

// The weights of the parts from their log evidence [1 + 2K] in a task, or one more with the pool, and in all; of an
// expert that has no opinion none, and of the pool none where no expert has.
std::vector<double> softmax(std::vector<double> weights, const Stream& stream, double log_favour,
                            const std::vector<char>& speaks) {
    const Index K = Index(speaks.size());
    for (size_t r = 0; r < weights.size(); r++) weights[r] += stream.gain(Index(r));
    weights[0] += log_favour;
    if (Index(weights.size()) > 1 + 2 * K) weights.back() += LOG_POOL;
    for (Index k = 0; k < K; k++)
        if (!speaks[k]) weights[1 + k] = weights[1 + K + k] = -INFINITE;
    if (std::find(speaks.begin(), speaks.end(), true) == speaks.end())
        std::fill(weights.begin() + 1, weights.end(), -INFINITE);
    const double top = *std::max_element(weights.begin(), weights.end());
    double total = 0;
    for (double& weight : weights) total += weight = weight == -INFINITE ? 0 : exponential(weight - top);
    for (double& weight : weights) weight /= total;
    return weights;
}

// The pool of the learner and K experts, whose exponents β are learned. Its state is [1 + K, 2 + K]: β, then H.
class Pool {
  public:
    Pool(Table state, Array<const double, 2> parts, Index classes)
        : state(state), size(state.shape[0]), classes(classes), logs(size * classes), p(classes) {
        for (Index k = 0; k < size; k++) {
            if (k > 0 && std::equal(parts[k].data, parts[k].data + classes, parts[0].data))
                continue;  // it said nothing
            for (Index c = 0; c < classes; c++) logs[k * classes + c] = logarithm(std::max(parts[k][c], LEAST_POOLED));
        }
        double top = -INFINITE, total = 0;
        for (Index c = 0; c < classes; c++) {
            p[c] = 0;
            for (Index k = 0; k < size; k++) p[c] += state[k][0] * logs[k * classes + c];
            top = std::max(top, p[c]);
        }
        for (double& one : p) total += one = exponential(one - top);
        for (double& one : p) one /= total;
    }
    const std::vector<double>& probabilities() const { return p; }

    // A Newton step on −log p(label), and on what keeps β near its start, under curvature that is forgotten slowly.
    void learn(Index label) {
        std::vector<double> mean(size), factor(size * size), step(size);
        for (Index k = 0; k < size; k++) {
            for (Index c = 0; c < classes; c++) mean[k] += p[c] * logs[k * classes + c];
        }
        const double pull = (1 - POOL_DECAY) * POOL_PRIOR;
        for (Index k = 0; k < size; k++) {
            for (Index l = 0; l <= k; l++) {
                double curvature = l == k ? pull : 0;
                for (Index c = 0; c < classes; c++)
                    curvature += p[c] * (logs[k * classes + c] - mean[k]) * (logs[l * classes + c] - mean[l]);
                state[k][1 + l] = state[l][1 + k] = POOL_DECAY * state[k][1 + l] + curvature;
            }
            step[k] = logs[k * classes + label] - mean[k] - pull * (state[k][0] - (k == 0));
        }
        for (Index k = 0; k < size; k++) {  // Cholesky, and forward
            for (Index l = 0; l <= k; l++) {
                double sum = state[k][1 + l];
                for (Index i = 0; i < l; i++) sum -= factor[k * size + i] * factor[l * size + i];
                factor[k * size + l] = l == k ? root(sum) : sum / factor[l * size + l];
            }
            for (Index i = 0; i < k; i++) step[k] -= factor[k * size + i] * step[i];
            step[k] /= factor[k * size + k];
        }
        for (Index k = size - 1; k >= 0; k--) {
            for (Index i = k + 1; i < size; i++) step[k] -= factor[i * size + k] * step[i];
            step[k] /= factor[k * size + k];
        }
        for (Index k = 0; k < size; k++) state[k][0] += step[k];
    }

  private:
    Table state;
    Index size, classes;
    std::vector<double> logs, p;  // [1 + K, C], [C]
};

// Fill parts [1 + 2K, C], and the mixture [C] of them and the pool, from the learner's p [C] and what K experts said
// [K, C]. `pooled` is the log evidence of the pool, beyond the learner's.
void mix_classes(Given p, Array<const double, 2> said, Given doubt, Given evidence, double pooled, Table pool,
                 Numbers stream, double log_favour, Table parts, Numbers mixed) {
    const auto [K, C] = said.shape;
    require(stream.size() == 3 + 3 * K && p.size() == C && mixed.size() == C && doubt.size() == K &&
                evidence.size() == 1 + 2 * K && parts.shape[0] == 1 + 2 * K && parts.shape[1] == C &&
                pool.shape[0] == 1 + K && pool.shape[1] == 2 + K,
            "mix_classes: shapes do not fit");
    std::vector<char> speaks(K, true);
    double total = 0, *own = parts[0].data;
    for (Index c = 0; c < C; c++) total += own[c] = std::max(p[c], 0.0) + LEAST;
    for (Index c = 0; c < C; c++) own[c] /= total;
    for (Index k = 0; k < K; k++) {
        double all_said = 0, product = 0, *with = parts[1 + k].data, *times = parts[1 + K + k].data;
        for (Index c = 0; c < C; c++) all_said += said[k][c];
        if (!(all_said > 0)) {  // no opinion: it will be believed as the learner is
            speaks[k] = false;
            std::copy_n(own, C, with);
            std::copy_n(own, C, times);
            continue;
        }
        const double trust = 1 - doubt[k];
        for (Index c = 0; c < C; c++) {
            with[c] = (1 - trust) * own[c] + trust * said[k][c] / all_said;
            product += times[c] = own[c] * with[c] + 1e-12;
        }
        for (Index c = 0; c < C; c++) times[c] /= product;
    }
    std::vector<double> logs(evidence.data, evidence.data + evidence.size());
    logs.push_back(evidence[0] + pooled);
    const std::vector<double> weights = softmax(std::move(logs), Stream{stream}, log_favour, speaks);
    std::fill_n(mixed.data, C, 0.0);
    for (Index r = 0; r < 1 + 2 * K; r++) {
        for (Index c = 0; c < C; c++) mixed[c] += weights[r] * parts[r][c];
    }
    if (weights.back() > 0) {
        const Pool of_all(pool, {parts.data, parts.shape}, C);
        for (Index c = 0; c < C; c++) mixed[c] += weights.back() * of_all.probabilities()[c];
    }
}

// Forget a little, and add log p(label) of each part and of the pool, which learns the label then.
//
// Parts [1 + 2K, ≥ C] of the C classes that were known when they were made: no other is one for the pool.
void add_class_evidence(Array<const double, 2> parts, Index classes, Index label, Numbers evidence, Numbers pooled,
                        Table pool, Numbers stream, double decay) {
    require(2 * stream.size() == 3 * (evidence.size() + 1) && parts.shape[0] == evidence.size() && label >= 0 &&
                classes <= parts.shape[1] && pooled.size() == 1 && 2 * pool.shape[0] == evidence.size() + 1 &&
                pool.shape[1] == 1 + pool.shape[0],
            "add_class_evidence: shapes do not fit");
    const auto log_of = [](double likelihood) { return logarithm(std::max(likelihood, LEAST)); };
    const double learner = log_of(label < classes ? parts[0][label] : 0);
    Stream all{stream};
    all.forget();
    for (Index r = 0; r < evidence.size(); r++) {
        const double log_p = log_of(label < classes ? parts[r][label] : 0);
        evidence[r] = decay * evidence[r] + log_p;
        all.add_gain(r, log_p - learner);
    }
    pooled[0] *= decay;
    if (label >= classes) return;
    Pool of_all(pool, parts, classes);
    const double gain = log_of(of_all.probabilities()[label]) - learner;
    pooled[0] += gain;
    all.add_gain(evidence.size(), gain);
    of_all.learn(label);
}

// Fill parts [1 + 2K, 2] (mean, variance) and the moments [2] of their mixture; NaN in `said` [K] is no opinion.
//
// An expert's variance is that of its own errors in this task, noise [K, 2] (sum of squares, count), with the learner's
// for a prior.
void mix_values(double mean, double variance, Given said, Array<const double, 2> noise, Given evidence, Numbers stream,
                double log_favour, Table parts, Numbers mixed) {
    const Index K = said.size(), R = 1 + 2 * K;
    require(stream.size() == 3 + 3 * K && noise.shape[0] == K && noise.shape[1] == 2 && evidence.size() == R &&
                parts.shape[0] == R && parts.shape[1] == 2 && mixed.size() == 2,
            "mix_values: shapes do not fit");
    struct Moments {
        double mean, variance;
    };
    const Stream all{stream};
    std::vector<char> speaks(K, true);
    Moments* part = reinterpret_cast<Moments*>(parts.data);
    part[0] = {mean, variance};
    for (Index k = 0; k < K; k++) {
        if (std::isnan(said[k])) {
            speaks[k] = false;
            part[1 + k] = part[1 + K + k] = part[0];
            continue;
        }
        const double spread = (all.spread(k) * variance + noise[k][0]) / (1 + noise[k][1]);
        const double precision =
            1 / variance + 1 / spread;  // errors of the two go together: the product counts for one
        part[1 + k] = {said[k], spread};
        part[1 + K + k] = {(mean / variance + said[k] / spread) / precision, 2 / precision};
    }
    const std::vector<double> weights = softmax({evidence.data, evidence.data + R}, all, log_favour, speaks);
    double first = 0, second = 0;
    for (Index r = 0; r < R; r++) first += weights[r] * part[r].mean;
    for (Index r = 0; r < R; r++) {
        const double gap = part[r].mean - first;
        second += weights[r] * (part[r].variance + gap * gap);
    }
    mixed[0] = first, mixed[1] = second;
}

// Forget a little, add log N(y) of each part, and the squared error of each expert that said something.
void add_value_evidence(Array<const double, 2> parts, double y, Numbers evidence, Numbers stream, double decay,
                        Table noise, double noise_decay) {
    require(2 * stream.size() == 3 * (evidence.size() + 1) && parts.shape[0] >= evidence.size() &&
                parts.shape[0] > noise.shape[0] && parts.shape[1] == 2 && noise.shape[1] == 2,
            "add_value_evidence: shapes do not fit");
    Stream all{stream};
    all.forget();
    double learner = 0;
    bool is_in_unit = true;  // the learner's variance: before the targets' unit is known, or where it jumps, it is not
    for (Index r = 0; r < evidence.size(); r++) {
        const double gap = y - parts[r][0], variance = parts[r][1];
        const double log_p = -std::min(0.5 * gap * gap / variance, MOST_SURPRISE) - 0.5 * logarithm(variance);
        if (r == 0) learner = log_p, is_in_unit = 0.5 * gap * gap / variance < MOST_SURPRISE;
        evidence[r] = decay * evidence[r] + log_p;
        all.add_gain(r, log_p - learner);
    }
    for (Index k = 0; k < noise.shape[0]; k++) {
        if (parts[1 + k][0] == parts[0][0] && parts[1 + k][1] == parts[0][1])
            continue;  // the learner's: it said nothing
        const double gap = y - parts[1 + k][0];
        if (is_in_unit) all.add_error(k, gap * gap / parts[0][1]);
        noise[k][0] = noise_decay * noise[k][0] + gap * gap;
        noise[k][1] = noise_decay * noise[k][1] + 1;
    }
}

// A run of events, each mixed under its task's evidence before its label adds to it: labels [N], NaN where none is
// learned.
//
// p [N, C], said [N, K, C], evidence [T, 1 + 2K] and pooled [T] of rows [N], pools [P, 1 + K, 2 + K] of partitions with
// the place [N] of each event's; where `given`, parts [N, 1 + 2K, C] were made before, of `known` [N] classes, and
// nothing is mixed.
void mix_class_run(Array<const double, 2> p, Array<const double, 3> said, Given doubt, Table evidence, Numbers pooled,
                   Array<double, 3> pools, Table streams, Array<const int64_t, 1> rows, Array<const int64_t, 1> place,
                   Given labels, Array<const bool, 1> given, Array<const int64_t, 1> known, double log_favour,
                   double decay, Array<double, 3> parts, Table mixed) {
    const Index N = p.shape[0];
    require(said.shape[0] == N && rows.size() == N && labels.size() == N && given.size() == N && parts.shape[0] == N &&
                mixed.shape[0] == N && place.size() == N && known.size() == N && pooled.size() == evidence.shape[0] &&
                streams.shape[0] == pools.shape[0],
            "mix_class_run: shapes do not fit");
    for (Index i = 0; i < N; i++) {
        const Index row = rows[i];
        require(row >= 0 && row < pooled.size() && place[i] >= 0 && place[i] < pools.shape[0],
                "mix_class_run: a row or partition that is not there");
        const Numbers own = evidence[row];
        const Table pool = pools[place[i]];
        const Numbers stream = streams[place[i]];
        if (!given[i])
            mix_classes(p[i], said[i], doubt, {own.data, own.shape}, pooled[row], pool, stream, log_favour, parts[i],
                        mixed[i]);
        if (std::isnan(labels[i])) continue;
        const Numbers beyond{pooled.data + row, {1}};
        add_class_evidence({parts[i].data, parts[i].shape}, known[i], Index(labels[i]), own, beyond, pool, stream,
                           decay);
    }
}

// As `mix_class_run`, of targets: means and variances [N], said [N, K], noise [T, K, 2], parts [N, 1 + 2K, 2].
void mix_value_run(Given means, Given variances, Array<const double, 2> said, Array<double, 3> noise, Table evidence,
                   Table streams, Array<const int64_t, 1> rows, Array<const int64_t, 1> place, Given labels,
                   Array<const bool, 1> given, double log_favour, double decay, double noise_decay,
                   Array<double, 3> parts, Table mixed) {
    const Index N = means.size();
    require(place.size() == N && variances.size() == N && said.shape[0] == N && rows.size() == N &&
                labels.size() == N && given.size() == N && parts.shape[0] == N && mixed.shape[0] == N,
            "mix_value_run: shapes do not fit");
    for (Index i = 0; i < N; i++) {
        require(rows[i] >= 0 && rows[i] < evidence.shape[0] && rows[i] < noise.shape[0] && place[i] >= 0 &&
                    place[i] < streams.shape[0],
                "mix_value_run: a row or partition that is not there");
        const Numbers own = evidence[rows[i]];
        const Table errors = noise[rows[i]];
        if (!given[i])
            mix_values(means[i], variances[i], said[i], {errors.data, errors.shape}, {own.data, own.shape},
                       streams[place[i]], log_favour, parts[i], mixed[i]);
        if (!std::isnan(labels[i]))
            add_value_evidence({parts[i].data, parts[i].shape}, labels[i], own, streams[place[i]], decay, errors,
                               noise_decay);
    }
}

}  // namespace

void bind_experts(nb::module_& module) {
    module.def("ask_gaussian", &ask_gaussian).def("add_to_class", &add_to_class);
    module.def("ask_neighbours", &ask_neighbours<float>).def("ask_neighbours", &ask_neighbours<double>);
    module.def("mix_classes", &mix_classes).def("add_class_evidence", &add_class_evidence);
    module.def("mix_values", &mix_values).def("add_value_evidence", &add_value_evidence);
    module.def("mix_class_run", &mix_class_run).def("mix_value_run", &mix_value_run);
}

}  // namespace streammeta

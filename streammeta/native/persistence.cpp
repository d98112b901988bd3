// How labels follow one another. Equations: see streammeta/engine/experts/persistence.py, and last_target.py of
// targets.
#include <algorithm>
#include <cmath>

#include "array.hpp"
#include "number.hpp"

namespace streammeta {

namespace {

using Indices = Array<const int64_t, 1>;
using Given = Array<const double, 1>;

constexpr Index MODELS = 3;
constexpr double LEAST = 1e-6;  // no probability of a label counts as less

enum Rule { FIRST_STAY, FIRST_LABELS, PRIOR_COUNT, RATE_DECAY, EVIDENCE_DECAY, MOST_COUNTS, SURE, LOG_ODDS, RULES };

// What is known of a partition. Labels have places by when they came first; counts are whole numbers.
struct Known {
    Array<double, 2> moves;  // [1 + M, M] from, to; the last row: of each label
    Array<double, 2> runs;   // [R, 2] stayed, seen, after so many of one label in a row
    Array<double, 1> rate;   // [2] stayed, seen, forgetting
    Array<double, 1> heat;   // [MODELS] evidence
    Indices places;          // of each class; -1: none

    Index place(Index label) const { return label >= 0 && label < places.size() ? Index(places[label]) : -1; }
};

double sum(const double* counts, Index size) {
    double total = 0;
    for (Index i = 0; i < size; i++) total += counts[i];
    return total;
}

// Forget half of what these counts hold, once they are many.
void halve(double* counts, Index size, double total, double most) {
    if (total < most) return;
    for (Index i = 0; i < size; i++) counts[i] = std::floor(counts[i] / 2);
}

struct Context {
    Index last, run;
    double row, stay, all, leave;  // the totals that the three models are made of

    // Was any label counted? A task may remember its last one longer than its partition: another one was forgotten.
    bool is_known() const { return all > 0.5; }
};

class Models {
  public:
    Models(const Known& known, Given rule) : known(known), rule(rule) {}

    Context at(Index last, Index run) const {
        const Index M = known.moves.shape[1], from = known.place(last);
        const double overall =
            (known.rate[0] + rule[FIRST_STAY] * rule[FIRST_LABELS]) / (known.rate[1] + rule[FIRST_LABELS]);
        const double* of_run = known.runs[run].data;
        const double stay = (of_run[0] + rule[PRIOR_COUNT] * overall) / (of_run[1] + rule[PRIOR_COUNT]);
        double all = 0.5;  // labels, and half a one of each class that came, and of one that did not
        for (Index c = 0; c < M; c++) all += known.moves[M][c] + (known.moves[M][c] > 0 ? 0.5 : 0);
        Context here{last, run, 0, std::min(stay, rule[SURE]), all, 0};
        here.row = from < 0 ? 0 : sum(known.moves[from].data, M);
        here.leave =
            here.row - (from < 0 ? 0 : known.moves[from][from]) + rule[PRIOR_COUNT] * (1 - frequency(here, last));
        return here;
    }

    // The probabilities of label y by each model.
    void say(const Context& here, Index y, double* said) const {
        const Index from = known.place(here.last), to = known.place(y);
        const double count = from < 0 || to < 0 ? 0 : known.moves[from][to];
        said[0] = frequency(here, y);
        const double moved = count + rule[PRIOR_COUNT] * said[0];
        said[1] = moved / (here.row + rule[PRIOR_COUNT]);
        said[2] = y == here.last ? here.stay : (1 - here.stay) * moved / here.leave;
    }

    void weigh(double* weights) const {
        for (Index m = 0; m < MODELS; m++) weights[m] = known.heat[m] + (m == 0 ? rule[LOG_ODDS] : 0);
        const double top = *std::max_element(weights, weights + MODELS);
        double total = 0;
        for (Index m = 0; m < MODELS; m++) total += weights[m] = exponential(weights[m] - top);
        for (Index m = 0; m < MODELS; m++) weights[m] /= total;
    }

  private:
    double frequency(const Context& here, Index y) const {
        const Index M = known.moves.shape[1], to = known.place(y);
        return ((to < 0 ? 0 : known.moves[M][to]) + 0.5) / here.all;
    }

    const Known& known;
    Given rule;
};

void count(Known& known, Given rule, const Models& models, Index last, Index run, Index label) {
    const Context here = models.at(last, run);
    double said[MODELS];
    models.say(here, label, said);
    for (Index m = 0; m < MODELS && here.is_known(); m++)
        known.heat[m] = rule[EVIDENCE_DECAY] * known.heat[m] + logarithm(std::max(said[m], LEAST));
    const double stayed = label == last;
    const double rates[2] = {stayed, 1};
    for (Index i = 0; i < 2; i++) known.rate[i] = rule[RATE_DECAY] * known.rate[i] + rates[i];
    double* of_run = known.runs[run].data;
    for (Index i = 0; i < 2; i++) of_run[i] += rates[i];
    halve(of_run, 2, of_run[1], rule[MOST_COUNTS]);
    const Index M = known.moves.shape[1], from = known.place(last), to = known.place(label);
    if (from < 0 || to < 0) return;
    known.moves[from][to] += 1;
    halve(known.moves[from].data, M, here.row + 1, rule[MOST_COUNTS]);
}

// Fill said [N, C] of events [N] of one partition that are asked, each under the labels before it, which are learned in
// turn: labels [N], NaN where there is none. A task's last label and how often it came in a row (last, length [T] at
// rows [N]) go into context [N, 2] where an event is asked, and are what its label, which may come later, is counted
// from: that of event origin[i], for the label at i; context is there where it was asked in an earlier call, or -1.
void follow_labels(Array<double, 2> moves, Array<double, 2> runs, Array<double, 1> rate, Array<double, 1> heat,
                   Indices places, Given rule, Array<int64_t, 1> last, Array<int64_t, 1> length, Indices rows,
                   Given labels, Array<const bool, 1> asked, Indices origin, Array<int64_t, 2> context,
                   Array<double, 2> said) {
    const auto [N, C] = said.shape;
    const Index M = moves.shape[1], R = runs.shape[0];
    bool fits = rows.size() == N && labels.size() == N && asked.size() == N && origin.size() == N &&
                context.shape[0] == N && context.shape[1] == 2 && last.size() == length.size() &&
                moves.shape[0] == M + 1 && runs.shape[1] == 2 && R > 1 && rate.size() == 2 && heat.size() == MODELS &&
                rule.size() == RULES;
    for (Index c = 0; fits && c < places.size(); c++) fits = places[c] < M;
    require(fits, "follow_labels: shapes do not fit");
    Known known{moves, runs, rate, heat, places};
    const Models models(known, rule);
    for (Index i = 0; i < N; i++) {
        require(rows[i] >= 0 && rows[i] < last.size() && origin[i] >= 0 && origin[i] < N,
                "follow_labels: a row that is not there");
        const Index row = rows[i], run = std::clamp<Index>(length[row], 0, R - 1);
        if (asked[i]) context[i][0] = last[row], context[i][1] = run;
        if (asked[i] && last[row] >= 0 && C > 1) {
            const Context here = models.at(last[row], run);
            if (here.is_known()) {
                double weights[MODELS], each[MODELS], total = 0;
                models.weigh(weights);
                for (Index c = 0; c < C; c++) {
                    models.say(here, c, each);
                    said[i][c] = 0;
                    for (Index m = 0; m < MODELS; m++) said[i][c] += weights[m] * each[m];
                    total += said[i][c] /= each[0];
                }
                for (Index c = 0; c < C; c++) said[i][c] /= total;
            }
        }
        if (std::isnan(labels[i])) continue;
        const Index label = Index(labels[i]), before = context[origin[i]][0], so_many = context[origin[i]][1];
        require(label >= 0, "follow_labels: a label that is no class");
        if (before >= 0 && so_many >= 0) count(known, rule, models, before, std::min(so_many, R - 1), label);
        if (const Index to = known.place(label); to >= 0) {
            moves[M][to] += 1;
            halve(moves[M].data, M, sum(moves[M].data, M), 2 * rule[MOST_COUNTS]);
        }
        length[row] = label == last[row] ? std::min(run + 1, R - 1) : 1;
        last[row] = label;
    }
}

enum TargetRule { SHARE, OF_THE_MEAN, COUNTS_KEPT, LOOKS_BACK, TARGET_RULES };
enum Task { TARGETS, LAST_TARGET, MEAN, TASK };  // of a task: how many targets, the last one, their mean

// Fill said [N] of events [N] of one partition that are asked, each under the targets before it, which are learned in
// turn: labels [N], NaN where there is none. It is the last target of the task (tasks [T, TASK] at rows [N]), while
// nearer [2] (labels to which that came nearer than the mean, and labels) says that it comes near; else NaN.
void follow_targets(Array<double, 1> nearer, Given rule, Array<double, 2> tasks, Indices rows, Given labels,
                    Array<const bool, 1> asked, Array<double, 1> said) {
    const Index N = rows.size();
    require(labels.size() == N && asked.size() == N && said.size() == N && nearer.size() == 2 &&
                rule.size() == TARGET_RULES && tasks.shape[1] == TASK,
            "follow_targets: shapes do not fit");
    for (Index i = 0; i < N; i++) {
        require(rows[i] >= 0 && rows[i] < tasks.shape[0], "follow_targets: a row that is not there");
        double* task = tasks[rows[i]].data;
        const bool is_near = nearer[0] > rule[SHARE] * (nearer[1] + rule[OF_THE_MEAN]);
        said[i] = asked[i] && task[TARGETS] > 0 && is_near ? task[LAST_TARGET] : std::nan("");
        if (std::isnan(labels[i])) continue;
        if (task[TARGETS] > 0) {
            const bool was_near = std::abs(labels[i] - task[LAST_TARGET]) < std::abs(labels[i] - task[MEAN]);
            nearer[0] = rule[COUNTS_KEPT] * nearer[0] + was_near;
            nearer[1] = rule[COUNTS_KEPT] * nearer[1] + 1;
        }
        task[TARGETS] += 1;
        task[LAST_TARGET] = labels[i];
        task[MEAN] += (labels[i] - task[MEAN]) / std::min(task[TARGETS], rule[LOOKS_BACK]);
    }
}

}  // namespace

void bind_persistence(nb::module_& module) {
    module.def("follow_labels", &follow_labels).def("follow_targets", &follow_targets);
}

}  // namespace streammeta

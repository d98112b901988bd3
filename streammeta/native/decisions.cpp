// Decisions and rewards of what is known, taken in together, and what became of them. See
// streammeta/decisions/alike.py.
#include <limits>

#include "known.hpp"

namespace streammeta {

using namespace known;

namespace {

// The names of attributes, made once for many objects.
struct Name {
    nb::object text;
    explicit Name(const char* name) : text(nb::steal(PyUnicode_InternFromString(name))) {}
    nb::object of(nb::handle object) const { return nb::steal(checked(PyObject_GetAttr(object.ptr(), text.ptr()))); }

  private:
    static PyObject* checked(PyObject* found) {
        if (!found) nb::raise_python_error();
        return found;
    }
};

bool contains(nb::handle set, nb::handle key) {
    const int found = PySet_Contains(set.ptr(), key.ptr());
    if (found < 0) nb::raise_python_error();
    return found > 0;
}

// What a dict has under this key; not valid: nothing.
nb::handle get(nb::handle dict, nb::handle key) {
    PyObject* found = PyDict_GetItemWithError(dict.ptr(), key.ptr());
    if (!found && PyErr_Occurred()) nb::raise_python_error();
    return found;
}

// Where decisions and rewards go: arrays over them, by their place in the part. See streammeta/decisions/alike.py.
struct Gathered {
    Array<bool, 1> is_choice;
    Array<int64_t, 2> rows;    // [·, K] of a decision's actions; of a reward the first alone
    Array<int64_t, 1> before;  // decisions of its task in this part
    Array<double, 1> rewards, times;
    Array<double, 2> exact;  // [·, D] features of decisions; NaN where nothing was filled in yet
    nb::list sources, keys;  // of a decision's K actions as a tuple; of a reward its task's

    explicit Gathered(nb::tuple of)
        : is_choice(take<bool, 1>(of[0], "is_choice")),
          rows(take<int64_t, 2>(of[1], "rows")),
          before(take<int64_t, 1>(of[2], "before")),
          rewards(take<double, 1>(of[3], "rewards")),
          times(take<double, 1>(of[4], "times")),
          exact(take<double, 2>(of[5], "exact")),
          sources(nb::borrow<nb::list>(of[6])),
          keys(nb::borrow<nb::list>(of[7])) {}

    bool holds(Index count) const {
        return is_choice.size() >= count && rows.shape[0] >= count && before.size() >= count &&
               rewards.size() >= count && times.size() >= count && exact.shape[0] >= count;
    }
};

// What is known, and how records are to be understood.
struct Known {
    nb::handle rows;                  // dict: key → row
    nb::handle waiting;               // dict: (partition, id) → tags of which a decision of that id waits
    nb::handle keys_of;               // dict: task → its actions' keys
    nb::handle make_keys;             // called with a task that is not there
    nb::handle task_of;               // dict: tag → task
    Array<const bool, 1> is_crossed;  // [D] the feature has columns under all actions that it will ever have
    Index crossed;                    // most columns of features under actions, of one event
    bool may_be_new;                  // a task without a row is a new one
    bool may_expire;                  // a decision may take the place of one that waits
    bool labels_are_rewards;          // else a label says which action is right

    Known(nb::tuple of)
        : rows(of[0]),
          waiting(of[1]),
          keys_of(of[2]),
          make_keys(of[3]),
          task_of(of[4]),
          is_crossed(take<const bool, 1>(of[5], "is_crossed")),
          crossed(nb::cast<Index>(of[6])),
          may_be_new(nb::cast<bool>(of[7])),
          may_expire(nb::cast<bool>(of[8])),
          labels_are_rewards(nb::cast<bool>(of[9])) {}
};

class Gathering {
  public:
    Gathering(const Known& known, const Features& features, const Labels& labels, Index partition, double before,
              Gathered& into)
        : known_(known), features_(features), labels_(labels), number_(partition), before_(before), into_(into) {}

    // Take in a reward; false where it is for Python, or depends on what is in this part.
    bool reward(Index at, nb::handle label) {
        const nb::object id = id_.of(label), task = task_.of(label), y = y_.of(label);
        if (known_.may_expire && ids_.size() > 0) return false;
        const nb::handle tags = get(known_.waiting, nb::make_tuple(number_, id));
        if (!tags.is_valid() || PyList_Size(tags.ptr()) != 1 || contains(learned_, id)) return false;
        const nb::object tag = nb::borrow(PyList_GetItem(tags.ptr(), 0));
        const nb::handle of = get(known_.task_of, tag);
        if (!of.is_valid() || (PyUnicode_GetLength(task.ptr()) > 0 && !of.equal(task))) return false;
        double earned = std::numeric_limits<double>::quiet_NaN();
        if (known_.labels_are_rewards && !labels_.read(y, earned)) return false;
        const nb::tuple key = nb::make_tuple(number_, tag);
        const Index row = find(known_.rows, key);
        if (row < 0) return false;
        learned_.add(id), rewarded_.add(of);
        into_.rows[at][0] = row;
        into_.rewards[at] = earned;
        into_.keys.append(key);
        return true;
    }

    // Take in a decision to make; false likewise.
    bool choice(Index at, nb::handle event) {
        const nb::object id = id_.of(event), task = task_.of(event), y = y_.of(event), ts = ts_.of(event);
        if (!action_.of(event).is_none() || !actions_.of(event).is_none()) return false;
        if (!y.is_none() && known_.labels_are_rewards) return false;
        if (!known_.labels_are_rewards && contains(rewarded_, task)) return false;  // else it comes in a later wave
        if (!id.is_none() && (contains(ids_, id) || get(known_.waiting, nb::make_tuple(number_, id)).is_valid())) {
            return false;
        }
        double time = std::numeric_limits<double>::quiet_NaN();
        if (!ts.is_none() && !((time = nb::cast<double>(ts)) < before_)) return false;
        nb::object keys = nb::borrow(get(known_.keys_of, task));
        if (!keys.is_valid()) keys = known_.make_keys(task);
        if (!find_rows(nb::cast<nb::tuple>(keys), into_.rows[at])) return false;
        if (!read(x_.of(event), into_.exact[at])) return false;
        const nb::handle count = get(decided_, task);
        const Index before = count.is_valid() ? nb::cast<Index>(count) : 0;
        decided_[task] = before + 1;
        if (!id.is_none()) ids_.add(id);
        if (!y.is_none()) rewarded_.add(task);
        into_.is_choice[at] = true;
        into_.before[at] = before;
        into_.times[at] = time;
        into_.keys.append(keys);
        return true;
    }

  private:
    bool find_rows(nb::tuple keys, Array<int64_t, 1> rows) const {
        require(Index(keys.size()) == rows.size(), "gather: wanted a key for each action");
        for (Index k = 0; k < rows.size(); k++) {
            const Index row = find(known_.rows, keys[size_t(k)]);
            if (row < 0 && !known_.may_be_new) return false;
            rows[k] = row;
        }
        return true;
    }

    // Features, of which either all are crossed with the actions or none, as those of the first decision.
    bool read(nb::object x, Array<double, 1> row) {
        bool is_read = features_.read(x.ptr(), row), has_columns = true;
        Index count = 0;
        for (Index d = 0; d < row.size(); d++) {
            if (row[d] != row[d]) continue;
            count++;
            has_columns = has_columns && known_.is_crossed[d];
        }
        const bool crossed = count > 0 && count * into_.rows.shape[1] <= known_.crossed;
        is_read = is_read && (has_columns || !crossed) && (decided_.size() == 0 || crossed == crossed_);
        if (!is_read) std::fill_n(row.data, row.size(), std::numeric_limits<double>::quiet_NaN());
        if (is_read) crossed_ = crossed;
        return is_read;
    }

    const Known& known_;
    const Features& features_;
    const Labels& labels_;
    const nb::int_ number_;
    const double before_;
    Gathered& into_;
    nb::set learned_, rewarded_, ids_;  // ids of rewards, tasks with one, ids of decisions: in this part
    nb::dict decided_;                  // task → its decisions in this part
    bool crossed_ = false;
    const Name id_{"id"}, task_{"task"}, y_{"y"}, ts_{"ts"}, x_{"x"}, action_{"action"}, actions_{"actions"};
};

// Take in events[begin:end], as long as each is of these kinds (event, label) and this partition, a decision among the
// configured actions or the reward of one that waits, of features that are known, and depends on none of the others.
// Returns how many these are.
Index gather(nb::object events, Index begin, Index end, nb::tuple kinds, nb::tuple features, nb::tuple labels,
             nb::tuple known, Index partition, double before, nb::tuple into) {
    Gathered gathered(into);
    const Known of(known);
    const Features space(features);
    const Labels numbers(labels);
    require(gathered.holds(end - begin) && of.is_crossed.size() == gathered.exact.shape[1],
            "gather: records do not fit");
    Gathering gathering(of, space, numbers, partition, before, gathered);
    const Name origin("origin"), number("partition");
    for (Index i = begin; i < end; i++) {
        const nb::object event = nb::steal(PySequence_GetItem(events.ptr(), i));
        if (!event.is_valid()) nb::raise_python_error();
        const bool is_label = event.type().is(kinds[1]);
        if (!is_label && !event.type().is(kinds[0])) return i - begin;
        if (nb::cast<Index>(number.of(origin.of(event))) != partition) return i - begin;
        if (!(is_label ? gathering.reward(i - begin, event) : gathering.choice(i - begin, event))) return i - begin;
        gathered.sources.append(event);
    }
    return end - begin;
}

// Put the features of events that wait into rows [N, D] of NaN: of waits[i], which has `slots` and `values`, into row
// i, for each i of `places`.
void fill_rows(Array<double, 2> rows, nb::list places, nb::dict waits) {
    const Name slots_of("slots"), values_of("values");
    for (nb::handle place : places) {
        const nb::object waiting = nb::borrow(get(waits, place));
        require(waiting.is_valid(), "fill_rows: a place where nothing waits");
        const Index i = nb::cast<Index>(place);
        require(i >= 0 && i < rows.shape[0], "fill_rows: a row that is not there");
        const nb::tuple slots = nb::cast<nb::tuple>(slots_of.of(waiting));
        const nb::object kept = values_of.of(waiting);
        const auto values = take<const double, 1>(kept, "values");
        require(values.size() == Index(slots.size()), "fill_rows: wanted a value for each slot");
        for (Index n = 0; n < values.size(); n++) {
            const Index slot = nb::cast<Index>(slots[size_t(n)]);
            require(slot >= 0 && slot < rows.shape[1], "fill_rows: a slot that is not there");
            rows[i][slot] = values[n];
        }
    }
}

nb::object by_name(nb::tuple names, Array<const double, 1> numbers) {
    nb::object found = nb::steal(PyDict_New());
    for (Index k = 0; k < numbers.size() && found.is_valid(); k++) {
        const nb::object number = nb::steal(PyFloat_FromDouble(numbers[k]));
        PyObject* name = PyTuple_GetItem(names.ptr(), k);
        if (!number.is_valid() || !name || PyDict_SetItem(found.ptr(), name, number.ptr()) < 0) found.reset();
    }
    if (!found.is_valid()) nb::raise_python_error();
    return found;
}

// Outcomes of what was learned, at these `places`, become outcomes of this class: of decisions and rewards that came as
// `sources` [N], with these `actions`. `choice` [N] says which of the decisions it is, −1: a reward; of those
// `taken` [·] is the action's number, and `propensities` and `scores` are [·, K]. Where the task `is_known`, the first
// of `signals` becomes the second: what is new is an action that was not tried yet.
void write_decisions(nb::handle kind, nb::list sources, Array<const int64_t, 1> places, nb::tuple names,
                     nb::list actions, Array<const int64_t, 1> choice, Array<const int64_t, 1> taken,
                     Array<const double, 2> propensities, Array<const double, 2> scores, Array<const double, 1> rewards,
                     Array<const bool, 1> is_known, nb::tuple signals, nb::list into) {
    const Index N = Index(sources.size()), K = Index(names.size()), decisions = taken.size();
    require(places.size() == N && Index(actions.size()) == N && choice.size() == N && rewards.size() == N &&
                is_known.size() == N && propensities.shape == std::array<Index, 2>{decisions, K} &&
                scores.shape == propensities.shape,
            "write_decisions: outcomes do not fit");
    const Name rejected("rejected"), prediction("prediction"), variance("variance"), signal("signal");
    const Name version("theta_version"), loss("loss"), error("error"), age("age"), since("since_drift");
    for (Index i = 0; i < N; i++) {
        const Index n = choice[i], at = places[i];
        require(at >= 0 && at < Index(into.size()) && n < decisions && (n < 0 || (taken[n] >= 0 && taken[n] < K)),
                "write_decisions: a place that is not there");
        const nb::object done = into[size_t(at)], source = sources[size_t(i)], why = rejected.of(done);
        if (!why.is_none()) {
            into[size_t(at)] = kind(source, nb::arg("rejected") = why);
            continue;
        }
        nb::object said = signal.of(done), chance = nb::none(), chances = nb::none(), expected = nb::none();
        if (n >= 0) {
            if (is_known[i] && said.is(signals[0])) said = signals[1];
            chance = nb::float_(propensities[n][taken[n]]);
            chances = by_name(names, propensities[n]), expected = by_name(names, scores[n]);
        }
        const nb::object reward = rewards[i] == rewards[i] ? nb::object(nb::float_(rewards[i])) : nb::none();
        into[size_t(at)] = kind(source, prediction.of(done), nb::none(), variance.of(done), said, version.of(done),
                                loss.of(done), error.of(done), age.of(done), since.of(done), nb::none(), nb::none(),
                                actions[size_t(i)], chance, chances, expected, reward);
    }
}

}  // namespace

void bind_decisions(nb::module_& module) {
    module.def("gather", &gather);
    module.def("fill_rows", &fill_rows);
    module.def("write_decisions", &write_decisions);
}

}  // namespace streammeta

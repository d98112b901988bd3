// Events of tasks, features and classes that are known, read at once. See streammeta/engine/admission.py.
#include <algorithm>
#include <cmath>
#include <limits>

#include "array.hpp"

namespace streammeta {

namespace {

// A finite number of Python's own kinds, below `largest`; false for anything else.
bool read_number(PyObject* value, double largest, double& number) {
    if (PyFloat_CheckExact(value)) {
        number = PyFloat_AsDouble(value);
    } else if (PyLong_CheckExact(value) || PyBool_Check(value)) {
        number = PyLong_AsDouble(value);
        if (number == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            return false;
        }
    } else {
        return false;
    }
    return -largest < number && number < largest;
}

bool is_name(PyObject* key, PyObject* name) {
    if (key == name) return true;
    if (!PyUnicode_Check(key)) return false;
    const int equal = PyObject_RichCompareBool(key, name, Py_EQ);
    if (equal < 0) PyErr_Clear();
    return equal > 0;
}

// What a dict has under this key, as a whole number; −1: nothing.
Index find(nb::handle dict, nb::handle key) {
    PyObject* found = PyDict_GetItemWithError(dict.ptr(), key.ptr());
    if (!found && PyErr_Occurred()) nb::raise_python_error();
    return found ? Index(PyLong_AsSsize_t(found)) : -1;
}

// How features are read: a space of slots, and the names that the last event of numbers alone had.
struct Features {
    nb::tuple names;               // that are expected, in this order
    Array<const int64_t, 1> plan;  // their slots
    nb::dict slot_of;              // (name, category's value or None) → slot
    bool lists;                    // a list of as many numbers means the same
    double largest;

    Index slot(PyObject* name, PyObject* value) const {
        return find(slot_of, nb::make_tuple(nb::handle(name), nb::handle(value)));
    }

    // One feature of a dict; false where it is for Python to read.
    bool read(Index i, PyObject* name, PyObject* value, Array<double, 1> row) const {
        if (value == Py_None) return true;  // it is missing
        double number = 1;
        const bool is_text = PyUnicode_CheckExact(value);
        if (!PyUnicode_CheckExact(name) || (!is_text && !read_number(value, largest, number))) return false;
        const bool expected = !is_text && i < plan.size() && is_name(name, PyTuple_GetItem(names.ptr(), i));
        const Index at = expected ? Index(plan[i]) : slot(name, is_text ? value : Py_None);
        if (at < 0 || at >= row.size()) return false;
        row[at] = number;
        return true;
    }

    // Put the features of an event into a row of NaN; false where they are for Python to read.
    bool read(PyObject* x, Array<double, 1> row) const {
        if (PyDict_CheckExact(x)) {
            Py_ssize_t at = 0;
            PyObject *key = nullptr, *value = nullptr;
            for (Index i = 0; PyDict_Next(x, &at, &key, &value); i++) {
                if (!read(i, key, value, row)) return false;
            }
            return true;
        }
        if (!lists || !PyList_CheckExact(x) || PyList_Size(x) != plan.size()) return false;
        for (Index i = 0; i < plan.size(); i++) {
            if (plan[i] >= row.size() || !read_number(PyList_GetItem(x, i), largest, row[plan[i]])) return false;
        }
        return true;
    }
};

// How labels are read.
struct Labels {
    nb::object index;  // class → its number; None: labels are targets
    nb::list classes;  // in the form in which they came first
    double largest;

    bool read(nb::handle y, double& label) const {
        if (index.is_none()) return !PyBool_Check(y.ptr()) && read_number(y.ptr(), largest, label);
        const Index found = find(index, y);
        if (found < 0 || !y.type().is(classes[size_t(found)].type())) return false;
        label = double(found);
        return true;
    }
};

// A part that is being filled: arrays over its events, and lists of the first ones. See streammeta/engine/part.py.
struct Part {
    Array<int64_t, 1> rows, partitions;
    Array<double, 1> labels, times;
    Array<double, 2> exact;  // NaN where nothing was filled in yet
    Array<bool, 1> is_event, is_labelled;
    nb::list places, sources, tasks;

    explicit Part(nb::tuple of)
        : rows(take<int64_t, 1>(of[0], "rows")),
          partitions(take<int64_t, 1>(of[1], "partitions")),
          labels(take<double, 1>(of[2], "labels")),
          times(take<double, 1>(of[3], "times")),
          exact(take<double, 2>(of[4], "exact")),
          is_event(take<bool, 1>(of[5], "is_event")),
          is_labelled(take<bool, 1>(of[6], "is_labelled")),
          places(nb::borrow<nb::list>(of[7])),
          sources(nb::borrow<nb::list>(of[8])),
          tasks(nb::borrow<nb::list>(of[9])) {}

    bool holds(Index count) const {
        return rows.size() >= count && partitions.size() >= count && labels.size() >= count && times.size() >= count &&
               exact.shape[0] >= count && is_event.size() >= count && is_labelled.size() >= count;
    }
};

// Add what is known of events[begin:end] to a part, as long as each is of this class and partition, of a task that has
// a row, comes `before` that time stamp, is none whose label is to come, and has features and a class that are known.
// Their tasks' `keys` are appended.
void admit(nb::object events, Index begin, Index end, nb::handle kind, nb::tuple features, nb::tuple labels,
           nb::handle rows, Index partition, double before, nb::tuple into, nb::list keys) {
    Part part(into);
    const Features space{nb::borrow<nb::tuple>(features[0]), take<const int64_t, 1>(features[1], "plan"),
                         nb::borrow<nb::dict>(features[2]), nb::cast<bool>(features[3]), nb::cast<double>(features[4])};
    require(space.plan.size() == Index(space.names.size()), "admit: wanted a slot for each name");
    const Labels known{labels[0], nb::borrow<nb::list>(labels[1]), nb::cast<double>(labels[2])};
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const nb::int_ number(partition);
    Index at = Index(part.sources.size());
    require(part.holds(at + end - begin), "admit: events do not fit");
    for (Index i = begin; i < end; i++, at++) {
        const nb::object event = nb::steal(PySequence_GetItem(events.ptr(), i));
        if (!event.is_valid()) nb::raise_python_error();
        if (!event.type().is(kind)) return;
        if (nb::cast<Index>(event.attr("origin").attr("partition")) != partition) return;
        const nb::object y = event.attr("y"), ts = event.attr("ts"), x = event.attr("x"), task = event.attr("task");
        double label = nan, time = nan;
        if (y.is_none() ? !event.attr("id").is_none() : !known.read(y, label)) return;
        if (!ts.is_none()) {
            time = nb::cast<double>(ts);
            if (!(time < before)) return;
        }
        const nb::tuple key = nb::make_tuple(number, task);
        const Index row = find(rows, key);
        if (row < 0) return;
        const Array<double, 1> filled = part.exact[at];
        if (!space.read(x.ptr(), filled)) {
            for (Index d = 0; d < filled.size(); d++) filled[d] = nan;
            return;
        }
        part.rows[at] = row;
        part.partitions[at] = partition;
        part.labels[at] = label;
        part.times[at] = time;
        part.is_event[at] = true;
        part.is_labelled[at] = !y.is_none();
        part.places.append(i);
        part.sources.append(event);
        part.tasks.append(task);
        keys.append(key);
    }
}

// Note that tasks of a partition were seen, in this order: `tasks` has of each tag (number, time, ts), those seen least
// recently first. Time goes on where two events in a row agree that it has: see streammeta/engine/presence.py. Returns
// the partition's number, time and ts after them.
nb::tuple see(nb::object tasks, nb::list keys, Array<const double, 1> times, Index number, nb::object time,
              nb::object ts) {
    require(times.size() == Index(keys.size()), "see: wanted a time for each key");
    const nb::object move_to_end = tasks.attr("move_to_end");
    double now = nb::cast<double>(time), last = nb::cast<double>(ts);
    for (Index i = 0; i < times.size(); i++) {
        if (!std::isnan(times[i])) {
            if (std::isnan(last)) {
                time = nb::float_(now = times[i]);
            } else if (times[i] > now && last > now) {
                time = nb::float_(now = std::min(times[i], last));
            }
            ts = nb::float_(last = times[i]);
        }
        const nb::object tag = keys[size_t(i)][1];
        tasks[tag] = nb::make_tuple(++number, time, ts);
        move_to_end(tag);
    }
    return nb::make_tuple(number, time, ts);
}

}  // namespace

void bind_admission(nb::module_& module) {
    module.def("admit", &admit);
    module.def("see", &see);
}

}  // namespace streammeta

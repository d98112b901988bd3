// Events of tasks, features and classes that are known, read at once. See streammeta/engine/admission.py.
#include <algorithm>
#include <cmath>
#include <limits>

#include "known.hpp"

namespace streammeta {

using namespace known;

namespace {

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
    const Features space(features);
    const Labels known(labels);
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

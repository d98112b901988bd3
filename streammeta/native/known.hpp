// How features and labels of an event are read where they are known; see streammeta/engine/admission.py.
#pragma once

#include "array.hpp"

namespace streammeta::known {

// A finite number of Python's own kinds, below `largest`; false for anything else.
inline bool read_number(PyObject* value, double largest, double& number) {
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

inline bool is_name(PyObject* key, PyObject* name) {
    if (key == name) return true;
    if (!PyUnicode_Check(key)) return false;
    const int equal = PyObject_RichCompareBool(key, name, Py_EQ);
    if (equal < 0) PyErr_Clear();
    return equal > 0;
}

// What a dict has under this key, as a whole number; −1: nothing.
inline Index find(nb::handle dict, nb::handle key) {
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

    explicit Features(nb::tuple of)
        : names(nb::borrow<nb::tuple>(of[0])),
          plan(take<const int64_t, 1>(of[1], "plan")),
          slot_of(nb::borrow<nb::dict>(of[2])),
          lists(nb::cast<bool>(of[3])),
          largest(nb::cast<double>(of[4])) {
        require(plan.size() == Index(names.size()), "features: wanted a slot for each name");
    }

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

    explicit Labels(nb::tuple of)
        : index(of[0]), classes(nb::borrow<nb::list>(of[1])), largest(nb::cast<double>(of[2])) {}

    bool read(nb::handle y, double& label) const {
        if (index.is_none()) return !PyBool_Check(y.ptr()) && read_number(y.ptr(), largest, label);
        const Index found = find(index, y);
        if (found < 0 || !y.type().is(classes[size_t(found)].type())) return false;
        label = double(found);
        return true;
    }
};

}  // namespace streammeta::known

// Events of one pattern read at once. See streammeta/engine/features.py.
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

// Whether x is a dict of exactly these names, in this order, with numbers; then they are in `out`.
bool read_pattern(PyObject* x, PyObject* names, double largest, Array<double, 1> out) {
    if (!PyDict_CheckExact(x) || PyDict_Size(x) != out.size()) return false;
    Py_ssize_t at = 0;
    PyObject *key = nullptr, *value = nullptr;
    for (Index i = 0; PyDict_Next(x, &at, &key, &value); i++) {
        if (!is_name(key, PyTuple_GetItem(names, i)) || !read_number(value, largest, out[i])) return false;
    }
    return true;
}

// The same of a list of as many numbers.
bool read_list(PyObject* x, double largest, Array<double, 1> out) {
    if (!PyList_CheckExact(x) || PyList_Size(x) != out.size()) return false;
    for (Index i = 0; i < out.size(); i++) {
        if (!read_number(PyList_GetItem(x, i), largest, out[i])) return false;
    }
    return true;
}

// Fill out [n, P] with the features `x` of events[begin:end] as long as each is of this class and has exactly these
// names, in this order, with numbers, or is a list of as many where `lists` says that it means the same. Says how many.
Index read_patterned(nb::object events, Index begin, Index end, nb::handle kind, nb::tuple names, bool lists,
                     double largest, Array<double, 2> out) {
    require(out.shape[0] >= end - begin && out.shape[1] == Index(names.size()), "read_patterned: events do not fit");
    for (Index i = begin; i < end; i++) {
        const nb::object event = nb::steal(PySequence_GetItem(events.ptr(), i));
        if (!event.is_valid()) nb::raise_python_error();
        if (!event.type().is(kind)) return i - begin;
        const nb::object x = event.attr("x");
        const Array<double, 1> row = out[i - begin];
        if (!read_pattern(x.ptr(), names.ptr(), largest, row) && !(lists && read_list(x.ptr(), largest, row))) {
            return i - begin;
        }
    }
    return end - begin;
}

}  // namespace

void bind_features(nb::module_& module) { module.def("read_patterned", &read_patterned); }

}  // namespace streammeta

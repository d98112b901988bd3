// numpy arrays as kernels see them: where they lie and their shape; no copy, no conversion.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace streammeta {

namespace nb = nanobind;
using Index = std::ptrdiff_t;

// An N-dimensional array in C order. `Array<const T, N>` takes read-only ones too.
template <class T, int N>
struct Array {
    T* data = nullptr;
    std::array<Index, N> shape{};

    Index size() const {
        Index product = 1;
        for (Index extent : shape) product *= extent;
        return product;
    }
    // The subarray at an index of the first dimension; of a vector the number.
    decltype(auto) operator[](Index i) const {
        if constexpr (N == 1) {
            return (data[i]);
        } else {
            Array<T, N - 1> part;
            Index step = 1;
            for (int d = 1; d < N; d++) step *= part.shape[d - 1] = shape[d];
            part.data = data + i * step;
            return part;
        }
    }
};

template <class T>
inline bool is_format(const Py_buffer& view) {
    const char* format = view.format[0] == '<' || view.format[0] == '=' ? view.format + 1 : view.format;
    if (view.itemsize != Index(sizeof(T)) || format[1] != 0) return false;
    if (std::is_floating_point_v<T>) return format[0] == 'f' || format[0] == 'd';
    if (std::is_same_v<T, bool>) return format[0] == '?';
    return std::string(std::is_signed_v<T> ? "bhilq" : "BHILQ").find(format[0]) != std::string::npos;
}

// False where `object` is no array of these numbers, dimensions and order.
template <class T, int N>
inline bool take(nb::handle object, Array<T, N>& array) {
    Py_buffer view;
    const int writable = std::is_const_v<T> ? 0 : PyBUF_WRITABLE;
    if (!PyObject_CheckBuffer(object.ptr())) return false;
    if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | writable) != 0) {
        PyErr_Clear();
        return false;
    }
    const bool fits = view.ndim == N && is_format<std::remove_const_t<T>>(view);
    if (fits) {
        array.data = static_cast<T*>(view.buf);
        for (int d = 0; d < N; d++) array.shape[d] = view.shape[d];
    }
    PyBuffer_Release(&view);  // who called keeps the array
    return fits;
}

// For values inside tuples; `name` is what the error calls it.
template <class T, int N>
inline Array<T, N> take(nb::handle object, const char* name) {
    Array<T, N> array;
    if (!take(object, array)) {
        const std::string wanted = std::to_string(N) + " dimensions of " + std::to_string(8 * sizeof(T)) + " bits";
        throw nb::type_error((std::string(name) + ": wanted an array in C order, " + wanted).c_str());
    }
    return array;
}

inline void require(bool fits, const char* message) {
    if (!fits) throw nb::value_error(message);
}

}  // namespace streammeta

namespace nanobind::detail {

template <class T, int N>
struct type_caster<streammeta::Array<T, N>> {
    using Number = std::remove_const_t<T>;
    using Here = streammeta::Array<T, N>;
    NB_TYPE_CASTER(Here, const_name("numpy.ndarray[") + const_name<std::is_floating_point_v<Number>>("float", "int") +
                             const_name<8 * sizeof(Number)>() + const_name(", ndim=") + const_name<N>() +
                             const_name("]"))

    bool from_python(handle source, uint8_t, cleanup_list*) noexcept { return streammeta::take(source, value); }
};

}  // namespace nanobind::detail

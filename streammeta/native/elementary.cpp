// exp, log and tanh of whole arrays, in place, with the same bits everywhere: numpy's differ by processor.
#include "array.hpp"
#include "lanes.hpp"

namespace streammeta {

template <class T, class F>
static void for_each(Array<T, 1> numbers, F f) {
    const Index whole = numbers.size() / LANES * LANES;
    for (Index i = 0; i < whole; i += LANES) each(f, load(numbers.data + i)).store(numbers.data + i);
    for (Index i = whole; i < numbers.size(); i++) numbers[i] = f(numbers[i]);
}
template <class T>
static void exp_in_place(Array<T, 1> numbers) {
    for_each(numbers, [](auto x) INLINE_LAMBDA { return exponential(x); });
}
template <class T>
static void log_in_place(Array<T, 1> numbers) {
    for_each(numbers, [](auto x) INLINE_LAMBDA { return logarithm(x); });
}
template <class T>
static void tanh_in_place(Array<T, 1> numbers) {
    for_each(numbers, [](auto x) INLINE_LAMBDA { return hyperbolic_tangent(x); });
}

void bind_elementary(nb::module_& module) {
    module.def("exp_in_place", &exp_in_place<float>).def("exp_in_place", &exp_in_place<double>);
    module.def("log_in_place", &log_in_place<float>).def("log_in_place", &log_in_place<double>);
    module.def("tanh_in_place", &tanh_in_place<float>).def("tanh_in_place", &tanh_in_place<double>);
}

}  // namespace streammeta

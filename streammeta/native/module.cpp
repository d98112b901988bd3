// The module `_kernels`: what the files beside this one add to it.
#include "array.hpp"

#define STREAMMETA_KERNELS(each)                                                                                       \
    each(window) each(rebuild) each(moments) each(changepoint) each(elementary) each(event) each(score) each(segments) \
        each(experts) each(persistence) each(forest) each(looks) each(judge) each(interval) each(scale)                \
            each(admission) each(decisions) each(adwin) each(recent) each(outcome) each(nearest) each(linear)          \
                each(common) each(gaussian_process)

namespace streammeta {
#define DECLARE(name) void bind_##name(nb::module_&);
STREAMMETA_KERNELS(DECLARE)
}  // namespace streammeta

NB_MODULE(_kernels, module) {
#define BIND(name) streammeta::bind_##name(module);
    STREAMMETA_KERNELS(BIND)
    nanobind::set_leak_warnings(false);  // an engine that lives to the end of its process is none; see `make sanitize`
}

// Labels as a partition's ring of events has them: see streammeta/engine/experts/ring.py.
#pragma once

#include <algorithm>

namespace streammeta {

constexpr double MOST_TARGET = 1e17;  // of more, squares summed in single precision might be no numbers

inline float as_in_ring(double label) { return float(std::clamp(label, -MOST_TARGET, MOST_TARGET)); }

}  // namespace streammeta

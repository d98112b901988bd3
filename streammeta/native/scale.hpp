// What is kept of a task's scale, and where float32 is enough: what looks and normalizing have in common.
//
// See streammeta/engine/scale.py, which has the same rows.
#pragma once

#include <limits>

namespace streammeta {

enum ScaleRow { SHIFT, SPREAD, OLD_SHIFT, OLD_SPREAD, SINCE, BEFORE, EXACT, ROWS };  // of "scale.x" and "scale.y"

constexpr double PRECISE = 4096;  // spreads from zero beyond which a second float32 helps
constexpr double COARSE = 65536;  // and beyond which float32 alone says too little
constexpr double MISSING = std::numeric_limits<double>::quiet_NaN();

}  // namespace streammeta

// Which tasks' φ is to be derived again. See streammeta/engine/staleness.py.
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <utility>

#include "array.hpp"

namespace streammeta {

using Counts = Array<int64_t, 1>;  // [T]

// Count events of `rows` from `begin` on; fill `stale`. Returns where to stop, and how many are stale.
static std::pair<Index, Index> refresh(Array<const int64_t, 1> rows, Index begin, Counts rest, Counts version,
                                       Array<const int64_t, 1> pushed, int64_t size, int64_t share, int64_t now,
                                       Counts stale) {
    Index found = 0;
    for (Index i = begin; i < rows.size(); i++) {
        const int64_t row = rows[i];
        require(row >= 0 && row < rest.size(), "refresh: a row that is not there");
        rest[row]--;
        if (version[row] < -1) {
            version[row] = -3 - version[row];  // it was left out, and stands where it stood
        } else if (rest[row] >= 0 || version[row] == now) {
            continue;
        }
        for (Index j = begin; j < i; j++) {
            if (rows[j] == row) {
                rest[row]++;  // it will be counted when the next stretch begins with it
                return {i, found};
            }
        }
        if (version[row] != now) {
            version[row] = now;
            rest[row] = std::min(pushed[row], size) / share;
        }
        stale[found++] = row;
    }
    return {rows.size(), found};
}

void bind_rebuild(nb::module_& module) { module.def("refresh", &refresh); }

}  // namespace streammeta

// Sixteen numbers at a time: rows of lanes, and the loops over them under the exact heads.
//
// Arrays are rows of sixteen, [·, 16]. A loop walks over rows by a start and a stride, so that one serves matrices,
// their transposes and their triangles. A row alone and four rows together are computed by the same instructions.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "number.hpp"

#define INLINE_LAMBDA __attribute__((always_inline))

namespace streammeta {

using Index = std::ptrdiff_t;
constexpr Index LANES = 16;
constexpr Index TOGETHER = 4;  // rows computed in one sweep: they share what they load

// N numbers, in as many registers as they fill.
template <class T, Index N = LANES>
struct Row {
    Row<T, N / 2> low, high;
    INLINE void store(T* to) const { low.store(to), high.store(to + N / 2); }
};
template <class T, Index N>
    requires(N * sizeof(T) == REGISTER)
struct Row<T, N> {
    std::conditional_t<std::is_same_v<T, float>, Floats, Doubles> numbers;
    INLINE void store(T* to) const { __builtin_memcpy(to, &numbers, REGISTER); }
};

template <class T, Index N = LANES>
INLINE Row<T, N> load(const T* from) {
    if constexpr (N * sizeof(T) == REGISTER) {
        Row<T, N> row;
        __builtin_memcpy(&row.numbers, from, REGISTER);
        return row;
    } else {
        return {load<T, N / 2>(from), load<T, N / 2>(from + N / 2)};
    }
}
template <class T, Index N = LANES>
INLINE Row<T, N> broadcast(T number) {
    if constexpr (N * sizeof(T) == REGISTER) {
        return {decltype(Row<T, N>::numbers){} + number};
    } else {
        return {broadcast<T, N / 2>(number), broadcast<T, N / 2>(number)};
    }
}
// f of rows, register by register.
template <class F, class T, Index N, class... More>
INLINE Row<T, N> each(F f, const Row<T, N>& row, const More&... more) {
    if constexpr (N * sizeof(T) == REGISTER) {
        return {f(row.numbers, more.numbers...)};
    } else {
        return {each(f, row.low, more.low...), each(f, row.high, more.high...)};
    }
}
#define OPERATOR(sign)                                                              \
    template <class T, Index N>                                                     \
    INLINE Row<T, N> operator sign(const Row<T, N>& a, const Row<T, N>& b) {        \
        return each([](auto x, auto y) INLINE_LAMBDA { return x sign y; }, a, b);   \
    }                                                                               \
    template <class T, Index N>                                                     \
    INLINE Row<T, N> operator sign(const Row<T, N>& a, std::type_identity_t<T> b) { \
        return a sign broadcast<T, N>(b);                                           \
    }
OPERATOR(+)
OPERATOR(-)
OPERATOR(*)
OPERATOR(/)
#undef OPERATOR
template <class T, Index N>
INLINE Row<T, N> fused(const Row<T, N>& a, const Row<T, N>& b, const Row<T, N>& c) {
    return each([](auto x, auto y, auto z) INLINE_LAMBDA { return fused(x, y, z); }, a, b, c);
}
template <class T, Index N>
INLINE Row<T, N> larger(const Row<T, N>& a, const Row<T, N>& b) {
    return each([](auto x, auto y) INLINE_LAMBDA { return larger(x, y); }, a, b);
}
template <class T, Index N>
INLINE Row<T, N> root(const Row<T, N>& a) {
    return each([](auto x) INLINE_LAMBDA { return root(x); }, a);
}
template <class T, Index N>
INLINE Row<T, N> exponential(const Row<T, N>& a) {
    return each([](auto x) INLINE_LAMBDA { return exponential(x); }, a);
}
template <class T, Index N>
INLINE Row<T, N> logarithm(const Row<T, N>& a) {
    return each([](auto x) INLINE_LAMBDA { return logarithm(x); }, a);
}

// Memory for kernels: rows that begin with a cache line, since a row that straddles two costs twice.
template <class T>
class Rows {
  public:
    explicit Rows(Index rows) : numbers_(static_cast<T*>(::operator new(size(rows), ALIGNED))) {}
    T* data() const { return numbers_.get(); }

  private:
    static constexpr std::align_val_t ALIGNED{64};
    struct Free {
        void operator()(T* numbers) const { ::operator delete(numbers, ALIGNED); }
    };
    static std::size_t size(Index rows) { return std::size_t(rows > 0 ? rows : 1) * LANES * sizeof(T); }
    std::unique_ptr<T, Free> numbers_;
};

// The number of a row, or the same number in every lane.
enum class Right { row, number };

template <Index COUNT, Right RIGHT, class T>
INLINE void add_sums(T* out, Index d_out, T sign, const T* a, Index da, const T* b, Index dr, Index db, Index count) {
    constexpr Index WIDTH = RIGHT == Right::row ? LANES : 1;
    Row<T> sums[COUNT];
#pragma GCC unroll 4
    for (Index r = 0; r < COUNT; r++) sums[r] = broadcast<T>(T(0));
    for (Index q = 0; q < count; q++) {
        const Row<T> left = load(a + q * da * LANES);
#pragma GCC unroll 4
        for (Index r = 0; r < COUNT; r++) {
            const T* from = b + (r * dr + q * db) * WIDTH;
            if constexpr (RIGHT == Right::row) {
                sums[r] = fused(left, load(from), sums[r]);
            } else {
                sums[r] = fused(left, broadcast<T>(*from), sums[r]);
            }
        }
    }
#pragma GCC unroll 4
    for (Index r = 0; r < COUNT; r++) {
        T* to = out + r * d_out * LANES;
        fused(sums[r], broadcast<T>(sign), load(to)).store(to);
    }
}

// For r < rows: out[r·d_out] += sign · Σ over q < count of a[q·da] · b[r·dr + q·db], lane by lane.
template <Right RIGHT = Right::row, class T>
INLINE void add_products(T* out, Index d_out, Index rows, int sign, const T* a, Index da, const T* b, Index dr,
                         Index db, Index count) {
    constexpr Index WIDTH = RIGHT == Right::row ? LANES : 1;
    Index r = 0;
    for (; r + TOGETHER <= rows; r += TOGETHER) {
        add_sums<TOGETHER, RIGHT>(out + r * d_out * LANES, d_out, T(sign), a, da, b + r * dr * WIDTH, dr, db, count);
    }
    out += r * d_out * LANES, b += r * dr * WIDTH;
    switch (rows - r) {
        case 3:
            return add_sums<3, RIGHT>(out, d_out, T(sign), a, da, b, dr, db, count);
        case 2:
            return add_sums<2, RIGHT>(out, d_out, T(sign), a, da, b, dr, db, count);
        case 1:
            return add_sums<1, RIGHT>(out, d_out, T(sign), a, da, b, dr, db, count);
    }
}
// For r < rows: out[r·d_out] += Σ over q < count of a[q·da] times the number b[r·dr + q·db].
template <class T>
INLINE void add_scaled(T* out, Index d_out, Index rows, const T* a, Index da, const T* b, Index dr, Index db,
                       Index count) {
    add_products<Right::number>(out, d_out, rows, 1, a, da, b, dr, db, count);
}
// For r < rows: out[r·d_out] *= factor, lane by lane.
template <class T>
INLINE void scale(T* out, Index d_out, Index rows, const Row<T>& factor) {
    for (Index r = 0; r < rows; r++) {
        T* to = out + r * d_out * LANES;
        (load(to) * factor).store(to);
    }
}
template <class T>
INLINE void copy_rows(T* to, const T* from, Index rows) {
    __builtin_memcpy(to, from, std::size_t(rows * LANES) * sizeof(T));
}
template <class T>
INLINE void clear_rows(T* to, Index rows) {
    __builtin_memset(to, 0, std::size_t(rows * LANES) * sizeof(T));
}

}  // namespace streammeta

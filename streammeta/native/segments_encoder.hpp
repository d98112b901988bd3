// The encoder over segments and its adjoint. Equations: see streammeta/meta/exact/gradient.py.
//
// What reads the same thing is one product: [w1, v] for the features, [w2, u] for the hidden layer. Matrices have zero
// columns up to the next multiple of sixteen, so that every row is whole rows of lanes. N events at once.
#pragma once

#include <algorithm>

#include "array.hpp"
#include "lanes.hpp"

namespace streammeta {

// A matrix whose rows are whole rows of lanes, `stride` numbers each; zeros at first.
template <class T>
class Wide {
  public:
    Wide(Index rows, Index columns)
        : rows(rows), stride((columns + LANES - 1) / LANES * LANES), memory_(rows * stride / LANES) {
        clear_rows(memory_.data(), rows * stride / LANES);
    }
    T* operator[](Index row) const { return memory_.data() + row * stride; }
    const Index rows, stride;

  private:
    Rows<T> memory_;
};

// [left, right], both in C order with as many rows.
template <class T>
Wide<T> beside(Array<const T, 2> left, Array<const T, 2> right) {
    const Index a = left.shape[1], b = right.shape[1];
    Wide<T> both(left.shape[0], a + b);
    for (Index i = 0; i < both.rows; i++) {
        std::copy_n(left[i].data, a, both[i]);
        std::copy_n(right[i].data, b, both[i] + a);
    }
    return both;
}
// The first `rows` rows of a matrix, transposed; `columns` of them.
template <class T>
Wide<T> transposed(const T* matrix, Index stride, Index rows, Index columns) {
    Wide<T> out(columns, rows);
    for (Index i = 0; i < rows; i++) {
        for (Index j = 0; j < columns; j++) out[j][i] = matrix[i * stride + j];
    }
    return out;
}
// The first columns of `out` += a[:, :P] b, for b [P, ·].
template <class T>
void add_product(const T* a, Index a_stride, Index P, const Wide<T>& b, const Wide<T>& out) {
    const Index wide = out.stride / LANES, panels = std::min(b.stride, out.stride) / LANES;
    for (Index i = 0; i < panels; i++) {
        add_scaled(out[0] + i * LANES, wide, out.rows, b[0] + i * LANES, b.stride / LANES, a, a_stride, 1, P);
    }
}
// The first P rows of `out` += a[:, :P]ᵀ b for a, b of N rows; b and out as wide.
template <class T>
void add_transposed_product(const T* a, Index a_stride, Index P, const Wide<T>& b, const Wide<T>& out) {
    const Index panels = out.stride / LANES;
    for (Index i = 0; i < panels; i++) {
        add_scaled(out[0] + i * LANES, panels, P, b[0] + i * LANES, panels, a, 1, a_stride, b.rows);
    }
}

// One member's parameters.
template <class T>
struct Member {
    Array<const T, 2> w1, v, w2, u, w3, w0;  // [D, H], [D, C], [H, J], [H, C], [J, F], [F + 1, C]
    Array<const T, 1> b1, b2;                // [H], [J]
};
// What its encoder made of N events: [h, x v], [i, h u] of inner units i = tanh(w2ᵀh + b2), w3ᵀi.
template <class T>
struct Layers {
    Wide<T> first, second, third;
    Layers(const Member<T>& p, Index N)
        : first(N, p.w1.shape[1] + p.v.shape[1]), second(N, p.w2.shape[1] + p.u.shape[1]), third(N, p.w3.shape[1]) {}
};

template <class T>
void tanh_columns(const Wide<T>& matrix, Index count) {
    const auto tanh = [](auto x) INLINE_LAMBDA { return hyperbolic_tangent(x); };
    for (Index n = 0; n < matrix.rows; n++) {
        T* row = matrix[n];
        Index i = 0;
        for (; i + LANES <= count; i += LANES) each(tanh, load(row + i)).store(row + i);
        for (; i < count; i++) row[i] = tanh(row[i]);
    }
}

// Fill z [N, F + 1], shared = s_θ(x) + W0ᵀz and rest = y − shared [N, C] of x [N, D]; z and rest are 0 where no event
// is.
//
// y is one-hot of `label` where that is ≥ 0, else `target`.
template <class T>
void encode(const Member<T>& p, const T* x, Index N, const int64_t* label, const T* target, const T* valid,
            const Layers<T>& kept, T* z, T* shared, T* rest) {
    const Index D = p.w1.shape[0], H = p.w1.shape[1], J = p.w2.shape[1], F = p.w3.shape[1], C = p.u.shape[1];
    for (Index n = 0; n < N; n++) {
        std::copy_n(p.b1.data, H, kept.first[n]);
        std::copy_n(p.b2.data, J, kept.second[n]);
    }
    add_product(x, D, D, beside(p.w1, p.v), kept.first);
    tanh_columns(kept.first, H);
    add_product(kept.first[0], kept.first.stride, H, beside(p.w2, p.u), kept.second);
    tanh_columns(kept.second, J);
    const Array<const T, 2> nothing{nullptr, {J, 0}}, no_prior{nullptr, {F, 0}};
    add_product(kept.second[0], kept.second.stride, J, beside(p.w3, nothing), kept.third);
    Wide<T> prior(N, C);
    add_product(kept.third[0], kept.third.stride, F, beside(Array<const T, 2>{p.w0.data, {F, C}}, no_prior), prior);
    for (Index n = 0; n < N; n++, z += F + 1, shared += C, rest += C) {
        for (Index f = 0; f < F; f++) z[f] = kept.third[n][f] * valid[n];
        z[F] = valid[n];
        for (Index c = 0; c < C; c++) {
            shared[c] = kept.first[n][H + c] + kept.second[n][J + c] + prior[n][c] + p.w0[F][c];
            rest[c] = (target[n] - shared[c]) * valid[n];
        }
        if (label[n] >= 0) rest[label[n]] += valid[n];
    }
}

// One member's gradient, to be filled; as `Member`.
template <class T>
struct Slope {
    Array<T, 2> w1, v, w2, u, w3, w0;
    Array<T, 1> b1, b2;
};

// The columns of `found` from `begin` on, into `to`.
template <class T>
void copy_columns(const Wide<T>& found, Index begin, Array<T, 2> to) {
    for (Index i = 0; i < to.shape[0]; i++) std::copy_n(found[i] + begin, to.shape[1], to[i].data);
}

// The gradient from ∂z [N, F + 1], ∂shared and ∂rest [N, C].
template <class T>
void encode_adjoint(const Member<T>& p, const T* x, Index N, const T* valid, const Layers<T>& kept, const T* d_z,
                    const T* d_shared, const T* d_rest, const Slope<T>& slope) {
    const Index D = p.w1.shape[0], H = p.w1.shape[1], J = p.w2.shape[1], F = p.w3.shape[1], C = p.u.shape[1];
    Wide<T> total(N, C), d_third(N, F), d_inner(N, J), d_second(N, J + C), d_first(N, H + C), d_w0(F + 1, C);
    for (Index n = 0; n < N; n++) {
        for (Index c = 0; c < C; c++) {
            const T sum = d_shared[n * C + c] - d_rest[n * C + c] * valid[n];
            total[n][c] = d_second[n][J + c] = sum;
            d_w0[F][c] += sum;
        }
        for (Index f = 0; f < F; f++) d_third[n][f] = d_z[n * (F + 1) + f] * valid[n];
    }
    add_product(total[0], total.stride, C, transposed(p.w0.data, C, F, C), d_third);
    add_product(d_third[0], d_third.stride, F, transposed(p.w3.data, F, J, F), d_inner);
    std::fill_n(slope.b1.data, H, T(0)), std::fill_n(slope.b2.data, J, T(0));
    for (Index n = 0; n < N; n++) {
        for (Index j = 0; j < J; j++) {
            d_second[n][j] = d_inner[n][j] * (1 - kept.second[n][j] * kept.second[n][j]);
            slope.b2[j] += d_second[n][j];
        }
    }
    const Wide<T> both = beside(p.w2, p.u);
    add_product(d_second[0], d_second.stride, J + C, transposed(both[0], both.stride, H, J + C), d_first);
    for (Index n = 0; n < N; n++) {
        for (Index j = 0; j < H; j++) {
            d_first[n][j] *= 1 - kept.first[n][j] * kept.first[n][j];
            slope.b1[j] += d_first[n][j];
        }
        std::copy_n(total[n], C, d_first[n] + H);
    }
    Wide<T> of_first(D, H + C), of_second(H, J + C), of_third(J, F);
    add_transposed_product(x, D, D, d_first, of_first);
    add_transposed_product(kept.first[0], kept.first.stride, H, d_second, of_second);
    add_transposed_product(kept.second[0], kept.second.stride, J, d_third, of_third);
    add_transposed_product(kept.third[0], kept.third.stride, F, total, d_w0);
    copy_columns(of_first, 0, slope.w1), copy_columns(of_first, H, slope.v);
    copy_columns(of_second, 0, slope.w2), copy_columns(of_second, J, slope.u);
    copy_columns(of_third, 0, slope.w3), copy_columns(d_w0, 0, slope.w0);
}

}  // namespace streammeta

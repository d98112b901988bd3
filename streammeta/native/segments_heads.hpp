// The heads over segments and their adjoint. Equations: see streammeta/meta/exact/gradient.py.
//
// The K heads of S segments are S · K recursions that do the same at the same time. Each is a *lane*, sixteen lanes are
// a block, and every number of the mathematics is a row [16] of its block: a matrix [a, b] is a · b rows, and of a
// symmetric one only the lower triangle is kept. Lane l of block i belongs to segment (16 i + l) / K and is head
// `head[16 i + l]` of the E · K heads of all members; lanes that are left over have no events. T events in chunks of n.
#pragma once

#include <algorithm>

#include "array.hpp"
#include "lanes.hpp"

namespace streammeta {

struct Shapes {
    Index S, T, n, K, m, C;  // segments, events of each, events of a chunk, heads, encoded features and 1, outputs
    Index lanes() const { return S * K; }
    Index blocks() const { return (lanes() + LANES - 1) / LANES; }
};

// A block on its way forward, for the way back.
template <class T>
struct Past {
    Rows<T> decay;      // [n + 1, 16] γ^(n−1−τ), what is left of event τ at its chunk's end; last row γⁿ
    Rows<T> precision;  // [m, 16] diagonal of Λ
    Rows<T> z;          // [T·m, 16]
    Rows<T> rest;       // [T·C, 16] y − shared
    Rows<T> low;        // [T/n·m·m, 16] Cholesky factors of A + Λ before each chunk, their diagonals inverted
    Rows<T> B;          // [T/n·m·C, 16] before each chunk
    Rows<T> u;          // [T·m, 16] (A + Λ)⁻¹z
    explicit Past(const Shapes& s)
        : decay(s.n + 1),
          precision(s.m),
          z(s.T * s.m),
          rest(s.T * s.C),
          low(s.T / s.n * s.m * s.m),
          B(s.T / s.n * s.m * s.C),
          u(s.T * s.m) {}
};

// The lower triangle of the matrix [m, m] becomes its Cholesky factor, the diagonal inverted.
template <class T>
void factor(T* low, Index m) {
    for (Index j = 0; j < m; j++) {
        T *row = low + j * m * LANES, *here = row + j * LANES;
        add_products(here, m, m - j, -1, row, 1, row, m, 1, j);
        const Row<T> inverse = broadcast<T>(1) / root(load(here));
        inverse.store(here);
        scale(here + m * LANES, m, m - j - 1, inverse);
    }
}
// The n vectors [m] of x become (A + Λ)⁻¹ times what they were.
template <class T>
void solve(const T* low, Index m, T* x, Index n) {
    for (Index i = 0; i < m; i++) {
        const T* row = low + i * m * LANES;
        add_products(x + i * LANES, m, n, -1, row, 1, x, m, 1, i);
        scale(x + i * LANES, m, n, load(row + i * LANES));
    }
    for (Index i = m - 1; i >= 0; i--) {
        const T* here = low + (i * m + i) * LANES;
        add_products(x + i * LANES, m, n, -1, here + m * LANES, m, x + (i + 1) * LANES, m, 1, m - 1 - i);
        scale(x + i * LANES, m, n, load(here));
    }
}

// Every lane of `lanes` [T·Q, 16] gets the segment of its head, from `events` [S·T, Q].
template <class T>
void into_lanes(const Shapes& s, const T* events, Index first, Index Q, T* lanes) {
    const Index last = std::min(first + LANES, s.lanes());
    if (last - first < LANES) clear_rows(lanes, s.T * Q);
    for (Index i = first / s.K; i <= (last - 1) / s.K; i++) {
        const Index begin = std::max<Index>(i * s.K - first, 0), end = std::min((i + 1) * s.K - first, last - first);
        const T* from = events + i * s.T * Q;
        for (Index r = 0; r < s.T * Q; r++) {
            for (Index lane = begin; lane < end; lane++) lanes[r * LANES + lane] = from[r];
        }
    }
}
// `events` [S·T, Q] get what the heads of their segments have in `lanes` [T·Q, 16], added up.
template <class T>
void from_lanes(const Shapes& s, const T* lanes, Index first, Index Q, T* events) {
    const Index last = std::min(first + LANES, s.lanes());
    for (Index i = first / s.K; i <= (last - 1) / s.K; i++) {
        const Index begin = std::max<Index>(i * s.K - first, 0), end = std::min((i + 1) * s.K - first, last - first);
        T* to = events + i * s.T * Q;
        for (Index r = 0; r < s.T * Q; r++) {
            for (Index lane = begin; lane < end; lane++) to[r] += lanes[r * LANES + lane];
        }
    }
}

template <class T>
struct Limits {
    static constexpr T LEAST_MEMORY = T(0.405465108108164381978),
                       MOST_MEMORY = T(8.517193191416238);  // log 1.5, log 5000
    static constexpr T MOST_PRECISION = 6;                  // log, as in heads
};

// Λ and the powers of γ of every lane; log γ = −1/τ. Lanes K apart are mostly the same head of two segments.
template <class T>
void set_parameters(const Shapes& s, const Past<T>& past, Index first, const int64_t* head,
                    Array<const T, 2> log_precision, Array<const T, 1> log_memory) {
    using L = Limits<T>;
    for (Index lane = 0; lane < LANES; lane++) {
        const Index at = std::min(first + lane, s.lanes() - 1), k = head[at];
        if (lane >= s.K && at >= s.K && k == head[at - s.K]) {
            for (Index i = 0; i < s.m; i++) {
                T* to = past.precision.data() + i * LANES + lane;
                *to = to[-s.K];
            }
            for (Index i = 0; i <= s.n; i++) {
                T* to = past.decay.data() + i * LANES + lane;
                *to = to[-s.K];
            }
            continue;
        }
        for (Index i = 0; i < s.m; i++) {
            past.precision.data()[i * LANES + lane] =
                exponential(clamp(log_precision[k][i], -L::MOST_PRECISION, L::MOST_PRECISION));
        }
        const T log_gamma = -exponential(-clamp(log_memory[k], L::LEAST_MEMORY, L::MOST_MEMORY));
        for (Index i = 0; i <= s.n; i++) {
            const T age = i < s.n ? T(s.n - 1 - i) : T(s.n);
            past.decay.data()[i * LANES + lane] = exponential(age * log_gamma);
        }
    }
}

// Workspace for one block after the other.
template <class T>
struct Spare {
    Rows<T> F, G, v, diagonal, inside, product, d_z, d_rest, d_precision, d_log_gamma;
    explicit Spare(const Shapes& s)
        : F(s.m * s.m),
          G(s.m * s.C),
          v(s.n * s.m),
          diagonal(s.m),
          inside(s.n),
          product(1),
          d_z(s.T * s.m),
          d_rest(s.T * s.C),
          d_precision(s.m),
          d_log_gamma(1) {}
};

// Fill own [T·C, 16] = Bᵀ(A + Λ)⁻¹z and leverage [T, 16] = zᵀ(A + Λ)⁻¹z, and low, B, u of `past`.
template <class T>
void recursion(const Shapes& s, const Past<T>& past, const Spare<T>& spare, T* own, T* leverage) {
    const auto [S, events, n, K, m, C] = s;
    const T *z = past.z.data(), *rest = past.rest.data(), *decay = past.decay.data();
    T *A = spare.F.data(), *weighted = spare.v.data(), *u = past.u.data();
    clear_rows(A, m * m), clear_rows(own, events * C), clear_rows(leverage, events), clear_rows(past.B.data(), m * C);
    copy_rows(u, z, events * m);
    for (Index t = 0; t < events; t += n) {
        T *low = past.low.data() + t / n * m * m * LANES, *B = past.B.data() + t / n * m * C * LANES;
        for (Index i = 0; i < m; i++) {
            copy_rows(low + i * m * LANES, A + i * m * LANES, i + 1);
            T* here = low + (i * m + i) * LANES;
            (load(here) + load(past.precision.data() + i * LANES)).store(here);
        }
        factor(low, m);
        solve(low, m, u + t * m * LANES, n);
        for (Index i = t; i < t + n; i++) {
            const T* of = u + i * m * LANES;
            add_products(leverage + i * LANES, 1, 1, 1, of, 1, z + i * m * LANES, 0, 1, m);
            add_products(own + i * C * LANES, 1, C, 1, of, 1, B, 1, C, m);
        }
        if (t + n == events) break;
        copy_rows(weighted, z + t * m * LANES, n * m);
        for (Index tau = 0; tau < n; tau++) scale(weighted + tau * m * LANES, 1, m, load(decay + tau * LANES));
        T* next = B + m * C * LANES;
        copy_rows(next, B, m * C);
        const Row<T> kept = load(decay + n * LANES);
        scale(next, 1, m * C, kept);
        for (Index i = 0; i < m; i++) {
            T* row = A + i * m * LANES;
            scale(row, 1, i + 1, kept);
            add_products(row, 1, i + 1, 1, weighted + i * LANES, m, z + t * m * LANES, 1, m, n);
            add_products(next + i * C * LANES, 1, C, 1, weighted + i * LANES, m, rest + t * C * LANES, 1, C, n);
        }
    }
}

// Through A ← … + Σ γ^(n−1−τ) z zᵀ and B ← … + Σ γ^(n−1−τ) z restᵀ of the chunk at event t.
//
// `inside` [n, 16] becomes what each of its events gives to ⟨∂A, A⟩ + ⟨∂B, B⟩.
template <class T>
void sums_adjoint(const Shapes& s, const Past<T>& past, const Spare<T>& spare, Index t) {
    const auto [S, events, n, K, m, C] = s;
    const T *F = spare.F.data(), *G = spare.G.data(), *z = past.z.data() + t * m * LANES;
    const T* rest = past.rest.data() + t * C * LANES;
    T *d_z = spare.d_z.data() + t * m * LANES, *d_rest = spare.d_rest.data() + t * C * LANES;
    for (Index i = 0; i < m; i++) {
        T* to = d_z + i * LANES;
        add_products(to, m, n, 1, F + i * m * LANES, 1, z, m, 1, i + 1);
        add_products(to, m, n, 1, F + ((i + 1) * m + i) * LANES, m, z + (i + 1) * LANES, m, 1, m - 1 - i);
    }
    for (Index tau = 0; tau < n; tau++) {
        T *inside = spare.inside.data() + tau * LANES, *to_z = d_z + tau * m * LANES,
          *to_rest = d_rest + tau * C * LANES;
        const T *of_z = z + tau * m * LANES, *of_rest = rest + tau * C * LANES;
        clear_rows(inside, 1);
        add_products(inside, 1, 1, 1, of_z, 1, to_z, 0, 1, m);
        (load(inside) * T(-0.5)).store(inside);
        add_products(to_z, 1, m, 1, of_rest, 1, G, C, 1, C);
        add_products(to_rest, 1, C, 1, of_z, 1, G, 1, C, m);
        add_products(inside, 1, 1, 1, of_z, 1, to_z, 0, 1, m);
        const Row<T> left = load(past.decay.data() + tau * LANES);
        scale(inside, 1, 1, left), scale(to_z, 1, m, left), scale(to_rest, 1, C, left);
    }
}

// Through own = Bᵀu, leverage = zᵀu, u = (A + Λ)⁻¹z of the chunk at event t.
//
// v [n·m, 16] becomes (A + Λ)⁻¹∂u, and `diagonal` [m, 16] the diagonal of Σ v uᵀ; it is −∂Λ.
template <class T>
void solve_adjoint(const Shapes& s, const Past<T>& past, const Spare<T>& spare, const T* d_own, const T* d_leverage,
                   Index t) {
    const auto [S, events, n, K, m, C] = s;
    const T *low = past.low.data() + t / n * m * m * LANES, *B = past.B.data() + t / n * m * C * LANES;
    const T* u = past.u.data() + t * m * LANES;
    T *v = spare.v.data(), *diagonal = spare.diagonal.data(), *d_z = spare.d_z.data() + t * m * LANES;
    clear_rows(v, n * m), clear_rows(diagonal, m);
    for (Index tau = 0; tau < n; tau++) {
        add_products(v + tau * m * LANES, 1, m, 1, d_own + (t + tau) * C * LANES, 1, B, C, 1, C);
    }
    solve(low, m, v, n);
    for (Index tau = 0; tau < n; tau++) {
        const Row<T> slope = load(d_leverage + (t + tau) * LANES);
        for (Index i = tau * m * LANES; i < (tau + 1) * m * LANES; i += LANES) {
            const Row<T> of_u = load(u + i), sum = fused(slope, of_u, load(v + i));
            sum.store(v + i);
            (fused(slope, of_u, load(d_z + i)) + sum).store(d_z + i);
        }
    }
    for (Index i = 0; i < m; i++) {
        add_products(diagonal + i * LANES, 1, 1, 1, v + i * LANES, m, u + i * LANES, 0, m, n);
    }
}

// From ∂own [T·C, 16] and ∂leverage [T, 16] fill ∂z [T·m, 16], ∂rest [T·C, 16], ∂Λ [m, 16] and ∂log γ [1, 16] of
// `spare`.
//
// F = 2 ∂A and G = ∂B are those of the state after a chunk, then before it; `product` = ⟨∂A, A⟩ + ⟨∂B, B⟩.
template <class T>
void recursion_adjoint(const Shapes& s, const Past<T>& past, const Spare<T>& spare, const T* d_own, const T* leverage,
                       const T* d_leverage) {
    const auto [S, events, n, K, m, C] = s;
    T *F = spare.F.data(), *G = spare.G.data(), *product = spare.product.data(), *d_gamma = spare.d_log_gamma.data();
    const T *v = spare.v.data(), *diagonal = spare.diagonal.data();
    clear_rows(F, m * m), clear_rows(G, m * C), clear_rows(product, 1), clear_rows(d_gamma, 1);
    clear_rows(spare.d_z.data(), events * m), clear_rows(spare.d_rest.data(), events * C);
    clear_rows(spare.d_precision.data(), m);
    const Row<T> kept = load(past.decay.data() + n * LANES);
    for (Index t = events - n; t >= 0; t -= n) {
        const T* u = past.u.data() + t * m * LANES;
        if (t + n < events) {
            sums_adjoint(s, past, spare, t);
            for (Index tau = 0; tau < n; tau++) {
                const Row<T> inside = load(spare.inside.data() + tau * LANES);
                (load(product) - inside).store(product);
                (load(d_gamma) + inside * T(n - 1 - tau)).store(d_gamma);
            }
            (load(d_gamma) + load(product) * T(n)).store(d_gamma);
            scale(G, 1, m * C, kept);
        }
        solve_adjoint(s, past, spare, d_own, d_leverage, t);
        for (Index i = 0; i < m; i++) {
            T* to = spare.d_precision.data() + i * LANES;
            (load(to) - load(diagonal + i * LANES)).store(to);
        }
        add_products(product, 1, 1, 1, past.precision.data(), 1, diagonal, 0, 1, m);
        add_products(product, 1, 1, -1, d_leverage + t * LANES, 1, leverage + t * LANES, 0, 1, n);
        for (Index i = 0; t > 0 && i < m; i++) {
            T* row = F + i * m * LANES;
            scale(row, 1, i + 1, kept);
            add_products(row, 1, i + 1, -1, v + i * LANES, m, u, 1, m, n);
            add_products(row, 1, i + 1, -1, u + i * LANES, m, v, 1, m, n);
            add_products(G + i * C * LANES, 1, C, 1, u + i * LANES, m, d_own + t * C * LANES, 1, C, n);
        }
    }
}

}  // namespace streammeta

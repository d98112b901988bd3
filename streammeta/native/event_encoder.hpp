// The encoder of the exact heads, for some events at once. Equations: see streammeta/meta/exact/heads.py.
#pragma once

#include <algorithm>

#include "event_heads.hpp"

namespace streammeta::event {

constexpr float CLIP = 6;               // normalized features are cut here: one wild value must not own the encoder
constexpr Index ENCODED_TOGETHER = 64;  // events; the encoder is faster with several

// out [N, ·] += a [N, wide of a] b [P, ·], in panels of lanes.
inline void add_matrix_product(const float* a, Index a_width, const float* b, Index P, Index width, Index N,
                               float* out) {
    const Index panels = width / LANES;
    for (Index i = 0; i < panels; i++) {
        add_scaled(out + i * LANES, panels, N, b + i * LANES, panels, a, a_width, 1, P);
    }
}

// tanh of the first `count` columns of rows [N, width].
inline void tanh_columns(float* rows, Index N, Index width, Index count) {
    const auto tanh = [](auto x) INLINE_LAMBDA { return hyperbolic_tangent(x); };
    for (Index n = 0; n < N; n++, rows += width) {
        Index i = 0;
        for (; i + LANES <= count; i += LANES) each(tanh, load(rows + i)).store(rows + i);
        for (; i < count; i++) rows[i] = tanh(rows[i]);
    }
}

// Events of which most features are missing: what is there of event n is values[starts[n]:starts[n + 1]].
struct Few {
    Array<const int64_t, 1> starts, columns;  // [N + 1]; [M] ascending within an event
    Numbers values;                           // [M]

    // For weights of `inputs` columns, and at most so many numbers of all events that are encoded at once.
    bool fits(Index events, Index inputs) const {
        if (starts.size() != events + 1 || columns.size() != values.size()) return false;
        if (starts[0] != 0 || starts[events] != columns.size()) return false;
        for (Index n = 0; n < events; n++) {
            const Index count = Index(starts[n + 1] - starts[n]);
            if (count < 0 || count > inputs) return false;
            for (Index i = Index(starts[n]); i < starts[n + 1]; i++) {
                const int64_t before = i > starts[n] ? columns[i - 1] : -1;
                if (columns[i] <= before || columns[i] >= inputs) return false;
            }
        }
        return true;
    }
};

// The encoder, for some events at once: z [E, n, m] = [f_θ(x); 1] and s_θ(x) [E, n, C].
class Encoder {
  public:
    Encoder(const Weights& w, Index C, Index most)
        : w_(w),
          C_(C),
          D_(w.shift.size()),
          x_(rows(most * (D_ + 1))),
          h_(rows(most * (w.H + 1))),
          first_(rows(most * w.first.shape[2])),
          second_(rows(most * w.second.shape[2])),
          third_(rows(most * w.third.shape[2])),
          z_(rows(w.E * most * w.m)),
          s_(rows(w.E * most * C)) {}

    // Events xs [N, D]; NaN is missing.
    void encode(const float* xs, Index N) {
        const Index width = w_.first.shape[2];
        float* x = x_.data();
        for (Index n = 0; n < N; n++) {
            float* row = x + n * (D_ + 1);
            for (Index d = 0; d < D_; d++) row[d] = normalized(xs[n * D_ + d], d);
            row[D_] = 1;
        }
        for (Index e = 0; e < w_.E; e++) {
            std::fill_n(first_.data(), N * width, 0.f);
            add_matrix_product(x, D_ + 1, w_.first[e].data, D_ + 1, width, N, first_.data());
            encode_first(e, N);
        }
    }

    // The same of events that are missing but for few numbers: those of event n are values[starts[n]:starts[n + 1]], in
    // these columns, which go up. What is missing adds nothing, so the bits are those of all columns.
    void encode(const Few& xs, Index begin, Index N) {
        const Index panels = w_.first.shape[2] / LANES, from = Index(xs.starts[begin]);
        float* x = x_.data();
        for (Index i = from; i < xs.starts[begin + N]; i++) x[i - from] = normalized(xs.values[i], xs.columns[i]);
        for (Index e = 0; e < w_.E; e++) {
            for (Index n = 0; n < N; n++) {
                const Index first = Index(xs.starts[begin + n]), count = Index(xs.starts[begin + n + 1]) - first;
                add_few(first_.data() + n * panels * LANES, panels, w_.first[e].data, x + first - from,
                        xs.columns.data + first, count);
            }
            encode_first(e, N);
        }
    }

    // Event n: z into the lanes of `work.z`, and s_θ(x) + W0ᵀz into those of `work.s`.
    void into_lanes(Index n, Workspace& work) const {
        const Index m = w_.m, G = w_.G, known = w_.w0.shape[0] / (G * m);
        clear_rows(work.z.data(), G * m), clear_rows(work.s.data(), G * C_);
        for (Index g = 0; g < G; g++) {
            float *z = work.z.data() + g * m * LANES, *s = work.s.data() + g * C_ * LANES;
            const float *owner = w_.owner.data + g * LANES, *w0 = w_.w0.data + g * m * known * LANES;
            add_scaled(z, 1, m, owner, G, z_.data() + n * m, 1, N_ * m, w_.E);
            add_scaled(s, 1, C_, owner, G, s_.data() + n * C_, 1, N_ * C_, w_.E);
            add_products(s, 1, C_, 1, z, 1, w0, 1, known, m);
        }
    }

  private:
    float normalized(float value, Index d) const {
        const float found = (value - w_.shift[d]) * w_.gain[d];
        return found == found ? clamp(found, -CLIP, CLIP) : 0;  // missing adds nothing, as the mean does
    }

    // One event's first layer [panels of 16], of `count` numbers x in these columns, and the bias.
    void add_few(float* out, Index panels, const float* layer, const float* x, const int64_t* columns,
                 Index count) const {
        for (; panels >= TOGETHER; panels -= TOGETHER, out += TOGETHER * LANES, layer += TOGETHER * LANES) {
            add_panels<TOGETHER>(out, layer, x, columns, count);
        }
        switch (panels) {
            case 3:
                return add_panels<3>(out, layer, x, columns, count);
            case 2:
                return add_panels<2>(out, layer, x, columns, count);
            case 1:
                return add_panels<1>(out, layer, x, columns, count);
        }
    }
    template <Index COUNT>
    void add_panels(float* out, const float* layer, const float* x, const int64_t* columns, Index count) const {
        Row<float> sums[COUNT];
        for (Index r = 0; r < COUNT; r++) sums[r] = broadcast<float>(0);
        for (Index q = 0; q <= count; q++) {
            const float* row = layer + (q < count ? Index(columns[q]) : D_) * w_.first.shape[2];
            const Row<float> number = broadcast<float>(q < count ? x[q] : 1);
            for (Index r = 0; r < COUNT; r++) sums[r] = fused(load(row + r * LANES), number, sums[r]);
        }
        for (Index r = 0; r < COUNT; r++) sums[r].store(out + r * LANES);
    }

    // What comes after the first layer of member e.
    void encode_first(Index e, Index N) {
        const Index outer = w_.first.shape[2], inner = w_.second.shape[2], last = w_.third.shape[2], H = w_.H;
        const Index J = w_.J, m = w_.m;
        float *h = h_.data(), *first = first_.data(), *second = second_.data(), *third = third_.data();
        N_ = N;
        std::fill_n(second, N * inner, 0.f), std::fill_n(third, N * last, 0.f);
        tanh_columns(first, N, outer, H);
        for (Index n = 0; n < N; n++) {
            std::copy_n(first + n * outer, H, h + n * (H + 1));
            h[n * (H + 1) + H] = 1;
        }
        add_matrix_product(h, H + 1, w_.second[e].data, H + 1, inner, N, second);
        float* s = s_.data() + e * N * C_;
        for (Index n = 0; n < N; n++) {
            for (Index c = 0; c < C_; c++) s[n * C_ + c] = first[n * outer + H + c] + second[n * inner + J + c];
        }
        tanh_columns(second, N, inner, J);
        add_matrix_product(second, inner, w_.third[e].data, J, last, N, third);
        float* z = z_.data() + e * N * m;
        for (Index n = 0; n < N; n++) {
            std::copy_n(third + n * last, m - 1, z + n * m);
            z[n * m + m - 1] = 1;
        }
    }

    static Index rows(Index numbers) { return (numbers + LANES - 1) / LANES; }
    const Weights& w_;
    Index C_, D_, N_ = 0;
    Rows<float> x_, h_, first_, second_, third_, z_, s_;
};

}  // namespace streammeta::event

// exp, log and tanh with the same bits on every processor: of one number, or of all numbers of a register.
//
// A C library's differ between its versions and by what it finds in the processor. Here every product that is fused
// says so, and the build fuses and reorders nothing else. Source: S. L. Moshier, Cephes (the coefficients of exp and
// log).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "streammeta's kernels want AVX2 and FMA (x86-64-v3), or a 64-bit ARM"
#endif

#define INLINE inline __attribute__((always_inline))

namespace streammeta {

#if defined(__AVX2__) && defined(__FMA__)
constexpr int REGISTER = 32;  // bytes
#else
constexpr int REGISTER = 16;
#endif
typedef float Floats __attribute__((vector_size(REGISTER)));
typedef double Doubles __attribute__((vector_size(REGISTER)));
typedef int32_t Ints32 __attribute__((vector_size(REGISTER)));
typedef int64_t Ints64 __attribute__((vector_size(REGISTER)));

// fused(a, b, c) = a · b + c, rounded once. root: the square root.
INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
INLINE float root(float a) { return __builtin_sqrtf(a); }
INLINE double root(double a) { return __builtin_sqrt(a); }
#if defined(__AVX2__) && defined(__FMA__)
INLINE Floats fused(Floats a, Floats b, Floats c) { return (Floats)_mm256_fmadd_ps(a, b, c); }
INLINE Doubles fused(Doubles a, Doubles b, Doubles c) { return (Doubles)_mm256_fmadd_pd(a, b, c); }
INLINE Floats root(Floats a) { return (Floats)_mm256_sqrt_ps(a); }
INLINE Doubles root(Doubles a) { return (Doubles)_mm256_sqrt_pd(a); }
#else
INLINE Floats fused(Floats a, Floats b, Floats c) {
    return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
INLINE Doubles fused(Doubles a, Doubles b, Doubles c) {
    return (Doubles)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
INLINE Floats root(Floats a) { return (Floats)vsqrtq_f32((float32x4_t)a); }
INLINE Doubles root(Doubles a) { return (Doubles)vsqrtq_f64((float64x2_t)a); }
#endif

// V: float, double, or a register of them. Real<V>: one of its numbers. Bits<V>: as many integers of the same size.
template <class V>
using Real = std::conditional_t<std::is_same_v<V, float> || std::is_same_v<V, Floats>, float, double>;
template <class V>
using Bits = std::conditional_t<std::is_same_v<V, float>, int32_t,
                                std::conditional_t<std::is_same_v<V, double>, int64_t,
                                                   std::conditional_t<std::is_same_v<V, Floats>, Ints32, Ints64>>>;

template <class V>
INLINE V all(Real<V> number) {
    return V{} + number;
}
template <class V>
INLINE V real_of(Bits<V> whole) {
    if constexpr (std::is_arithmetic_v<V>) {
        return V(whole);
    } else {
        return __builtin_convertvector(whole, V);
    }
}
// A bad number stays one: NaN compares as false.
template <class V>
INLINE V clamp(V x, Real<V> least, Real<V> most) {
    x = x < all<V>(least) ? all<V>(least) : x;
    return x > all<V>(most) ? all<V>(most) : x;
}
template <class V>
INLINE V larger(V a, V b) {
    return a > b ? a : b;
}
// c0 xⁿ + … + cₙ
template <class V, class... More>
INLINE V polynomial(V x, Real<V> first, More... more) {
    V sum = all<V>(first);
    ((sum = fused(sum, x, all<V>(Real<V>(more)))), ...);
    return sum;
}

// eˣ within 2 units in the last place; 0 where it is no normal number, infinite beyond the largest.
template <class V>
INLINE V exponential(V x) {
    using R = Real<V>;
    constexpr bool is_float = std::is_same_v<R, float>;
    constexpr int mantissa = is_float ? 23 : 52, bias = is_float ? 127 : 1023;
    constexpr R least = is_float ? R(-87) : R(-708), most = is_float ? R(88.37) : R(709.43);
    constexpr R shifter = is_float ? R(12582912) : R(6755399441055744);  // 1.5 · 2^mantissa: its last bits are whole
    const V kept = clamp(x, least, most);
    const V shifted = fused(kept, all<V>(R(1.44269504088896340736)), all<V>(shifter));
    const V n = shifted - shifter;
    V value;
    if constexpr (is_float) {
        const V f = fused(n, all<V>(R(2.12194440e-4)), fused(n, all<V>(R(-0.693359375)), kept));
        const V p = polynomial(f, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                               5.0000001201e-1);
        value = fused(f * f, p, f) + R(1);
    } else {
        const V f = fused(n, all<V>(R(-1.42860682030941723212e-6)), fused(n, all<V>(R(-6.93145751953125e-1)), kept));
        const V z = f * f;
        const V p = f * polynomial(z, 1.26177193074810590878e-4, 3.02994407707441961300e-2, 1.0);
        const V q = polynomial(z, 3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0);
        value = fused(p / (q - p), all<V>(R(2)), all<V>(R(1)));
    }
    const Bits<V> power = (std::bit_cast<Bits<V>>(shifted) - std::bit_cast<Bits<V>>(all<V>(shifter)) + bias)
                          << mantissa;
    value = value * std::bit_cast<V>(power);
    value = x < all<V>(least) ? all<V>(R(0)) : value;
    return x > all<V>(most) ? all<V>(std::numeric_limits<R>::infinity()) : value;
}

// log x within 2 units in the last place; −∞ at 0, NaN below. Numbers below the least normal one count as 0.
template <class V>
INLINE V logarithm(V x) {
    using R = Real<V>;
    constexpr bool is_float = std::is_same_v<R, float>;
    constexpr int mantissa = is_float ? 23 : 52;
    constexpr R infinity = std::numeric_limits<R>::infinity();
    const V root_half = all<V>(R(0.70710678118654752440));
    const Bits<V> bits = std::bit_cast<Bits<V>>(x);
    const Bits<V> exponent =
        (bits - std::bit_cast<Bits<V>>(root_half)) >> mantissa;  // x = 2ᵉ(1 + f), 1 + f in [√½, √2)
    const V f = std::bit_cast<V>(bits - (exponent << mantissa)) - R(1), e = real_of<V>(exponent), z = f * f;
    V tail;
    if constexpr (is_float) {
        tail = f * z *
               polynomial(f, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
                          -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1);
    } else {
        const V p = polynomial(f, 1.01875663804580931796e-4, 4.97494994976747001425e-1, 4.70579119878881725854e0,
                               1.44989225341610930846e1, 1.79368678507819816313e1, 7.70838733755885391666e0);
        const V q = polynomial(f, 1.0, 1.12873587189167450590e1, 4.52279145837532221105e1, 8.29875266912776603211e1,
                               7.11544750618563894466e1, 2.31251620126765340583e1);
        tail = f * (z * p / q);
    }
    tail = fused(e, all<V>(R(-2.121944400546905827679e-4)), tail);
    tail = fused(z, all<V>(R(-0.5)), tail);
    V value = fused(e, all<V>(R(0.693359375)), f + tail);
    value = x < all<V>(std::numeric_limits<R>::min()) ? all<V>(-infinity) : value;
    value = x < all<V>(R(0)) ? all<V>(std::numeric_limits<R>::quiet_NaN()) : value;
    return x == x && x < all<V>(infinity) ? value : x;
}

// log(1 + x), exact near 0 as well.
INLINE double logarithm_of_one_plus(double x) {
    const double y = 1.0 + x;
    return logarithm(y) + (x - (y - 1.0)) / y;
}

// tanh x: in float by a rational function within 3e-7 of it, in double by e⁻²ˣ within 3e-16.
template <class V>
INLINE V hyperbolic_tangent(V x) {
    using R = Real<V>;
    if constexpr (std::is_same_v<R, float>) {
        x = clamp(x, R(-7.9), R(7.9));
        const V q = x * x;
        const V p = polynomial(q, -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11,
                               5.12229709037114e-08, 1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03);
        return x * p /
               polynomial(q, 1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03);
    } else {
        const V zero = all<V>(0), t = exponential((x < zero ? x : -x) * R(2));
        const V size = (R(1) - t) / (R(1) + t);
        return x < zero ? -size : size;
    }
}

}  // namespace streammeta

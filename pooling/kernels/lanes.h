// Arithmetic that reads the same for one number and for a vector of numbers ("lanes").
//
// A reducer is written once, over a type V: float or double in a CUDA thread, a GCC vector of them on the CPU, where
// `a > b ? a : b` selects lane by lane. The exponential and the logarithm are short series, because libm's do not
// vectorise; both keep NaN and infinity and are within 2 units in the last place.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

#include "window.h"

namespace poolzoo {

template <class V>
struct Lanes;

template <>
struct Lanes<float> {
    using Number = float;
    using Int = int32_t;
    static constexpr int count = 1;
};

template <>
struct Lanes<double> {
    using Number = double;
    using Int = int64_t;
    static constexpr int count = 1;
};

#ifndef __CUDACC__
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

typedef float FloatLanes __attribute__((vector_size(kVectorBytes)));
typedef double DoubleLanes __attribute__((vector_size(kVectorBytes)));
typedef int32_t Int32Lanes __attribute__((vector_size(kVectorBytes)));
typedef int64_t Int64Lanes __attribute__((vector_size(kVectorBytes)));

template <>
struct Lanes<Int32Lanes> {
    static constexpr int count = kVectorBytes / 4;
};

template <>
struct Lanes<Int64Lanes> {
    static constexpr int count = kVectorBytes / 8;
};

template <>
struct Lanes<FloatLanes> {
    using Number = float;
    using Int = Int32Lanes;
    static constexpr int count = kVectorBytes / 4;
};

template <>
struct Lanes<DoubleLanes> {
    using Number = double;
    using Int = Int64Lanes;
    static constexpr int count = kVectorBytes / 8;
};

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    using type = FloatLanes;
};
template <>
struct VectorOf<double> {
    using type = DoubleLanes;
};
#endif

template <class V>
using Number = typename Lanes<V>::Number;
template <class V>
using Int = typename Lanes<V>::Int;

// Not by memcpy, after which the compiler would have to read all else again: a vector's elements are known to be its own.
template <class V, class T>
HD V load(const T* from) {
    typedef V Anywhere __attribute__((aligned(sizeof(T))));
    return *reinterpret_cast<const Anywhere*>(from);
}
template <class V, class T>
HD void store(T* to, V v) {
    typedef V Anywhere __attribute__((aligned(sizeof(T))));
    *reinterpret_cast<Anywhere*>(to) = v;
}

template <class V>
HD V splat(double value) {
    return V{} + static_cast<Number<V>>(value);
}
template <class V>
HD Int<V> splat_int(int64_t value) {
    using Element = Int<Number<V>>;
    return Int<V>{} + static_cast<Element>(value);
}

template <class To, class From>
HD To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

// a > b ? a : b and a < b ? a : b, so b where either is NaN: what the processors' max and min do.
template <class V>
HD V greater(V a, V b) {
    return a > b ? a : b;
}
template <class V>
HD V lesser(V a, V b) {
    return a < b ? a : b;
}
HD float root(float x) { return std::sqrt(x); }
HD double root(double x) { return std::sqrt(x); }

#ifndef __CUDACC__
#if defined(__AVX512F__)
#define POOLZOO_SIMD(name) _mm512_##name
#elif defined(__AVX2__)
#define POOLZOO_SIMD(name) _mm256_##name
#elif defined(__SSE2__)
#define POOLZOO_SIMD(name) _mm_##name
#endif
#ifdef POOLZOO_SIMD  // GCC does not find these by itself
HD FloatLanes greater(FloatLanes a, FloatLanes b) { return POOLZOO_SIMD(max_ps)(a, b); }
HD FloatLanes lesser(FloatLanes a, FloatLanes b) { return POOLZOO_SIMD(min_ps)(a, b); }
HD FloatLanes root(FloatLanes x) { return POOLZOO_SIMD(sqrt_ps)(x); }
HD DoubleLanes greater(DoubleLanes a, DoubleLanes b) { return POOLZOO_SIMD(max_pd)(a, b); }
HD DoubleLanes lesser(DoubleLanes a, DoubleLanes b) { return POOLZOO_SIMD(min_pd)(a, b); }
HD DoubleLanes root(DoubleLanes x) { return POOLZOO_SIMD(sqrt_pd)(x); }
#else
template <class V>
HD V root(V x) {
    for (int k = 0; k < Lanes<V>::count; k++) x[k] = std::sqrt(x[k]);
    return x;
}
#endif
#endif

// Whether some lane's mask is set.
HD bool any(bool mask) { return mask; }

// Towards 0.
HD int32_t truncated(float x) { return static_cast<int32_t>(x); }
HD int64_t truncated(double x) { return static_cast<int64_t>(x); }
#ifndef __CUDACC__
template <class V>
HD Int<V> truncated(V x) {
    return __builtin_convertvector(x, Int<V>);
}
#endif

#ifndef __CUDACC__
HD bool any(Int32Lanes mask) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#else
    int32_t all = 0;
    for (int k = 0; k < Lanes<Int32Lanes>::count; k++) all |= mask[k];
    return all != 0;
#endif
}

HD bool any(Int64Lanes mask) {
    int64_t all = 0;
    for (int k = 0; k < Lanes<Int64Lanes>::count; k++) all |= mask[k];
    return all != 0;
}

// A run of numbers of another type, which GCC converts one by one.
template <class V, class T>
HD V widened(const T* from) {
    V v;
    for (int k = 0; k < Lanes<V>::count; k++) v[k] = from[k];
    return v;
}
#if defined(__AVX512F__)
template <>
HD Int32Lanes widened<Int32Lanes>(const uint8_t* from) {
    return reinterpret_cast<Int32Lanes>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
#elif defined(__AVX2__)
template <>
HD Int32Lanes widened<Int32Lanes>(const uint8_t* from) {
    return reinterpret_cast<Int32Lanes>(_mm256_cvtepu8_epi32(_mm_loadu_si64(from)));
}
#endif

// The other way: numbers that fit.
template <class T, class V>
HD void store_narrowed(T* to, V v) {
    for (int k = 0; k < Lanes<V>::count; k++) to[k] = static_cast<T>(v[k]);
}
#if defined(__AVX512F__)
template <>
HD void store_narrowed(uint8_t* to, Int32Lanes v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v)));
}
#endif

// a0 b0 a1 b1 ...
template <class V, class T>
HD void store_joined(V a, V b, T* to) {
    constexpr int L = Lanes<V>::count;
    Int<V> low, high;
    for (int k = 0; k < L; k++) low[k] = k / 2 + (k % 2) * L, high[k] = L / 2 + k / 2 + (k % 2) * L;
    store(to, __builtin_shuffle(a, b, low));
    store(to + L, __builtin_shuffle(a, b, high));
}

struct Any {
    template <class T>
    operator T() const;
};
template <class S, class... Fields>
constexpr int fields() {
    if constexpr (requires { S{Fields{}..., Any{}}; }) {
        return fields<S, Fields..., Any>();
    } else {
        return sizeof...(Fields);
    }
}

// `a` where the mask says so, otherwise `b`; a structure field by field, so that it stays in registers.
template <class M, class S>
HD S chosen(M mask, const S& a, const S& b) {
    if constexpr (!std::is_class_v<S>) {
        return mask ? a : b;
    } else if constexpr (fields<S>() == 1) {
        const auto& [a0] = a;
        const auto& [b0] = b;
        return {chosen(mask, a0, b0)};
    } else if constexpr (fields<S>() == 2) {
        const auto& [a0, a1] = a;
        const auto& [b0, b1] = b;
        return {chosen(mask, a0, b0), chosen(mask, a1, b1)};
    } else if constexpr (fields<S>() == 3) {
        const auto& [a0, a1, a2] = a;
        const auto& [b0, b1, b2] = b;
        return {chosen(mask, a0, b0), chosen(mask, a1, b1), chosen(mask, a2, b2)};
    } else if constexpr (fields<S>() == 4) {
        const auto& [a0, a1, a2, a3] = a;
        const auto& [b0, b1, b2, b3] = b;
        return {chosen(mask, a0, b0), chosen(mask, a1, b1), chosen(mask, a2, b2), chosen(mask, a3, b3)};
    } else {
        static_assert(fields<S>() == 5);
        const auto& [a0, a1, a2, a3, a4] = a;
        const auto& [b0, b1, b2, b3, b4] = b;
        return {chosen(mask, a0, b0), chosen(mask, a1, b1), chosen(mask, a2, b2), chosen(mask, a3, b3), chosen(mask, a4, b4)};
    }
}
#endif

template <class V>
HD V absolute(V x) {
    using Element = Int<Number<V>>;
    return same_bits<V>(same_bits<Int<V>>(x) & splat_int<V>(static_cast<Element>(~(Element{1} << (8 * sizeof(Element) - 1)))));
}

// The larger one; NaN if either is (x, then best).
template <class V>
HD V larger(V x, V best) {
    return (x > best) | (x != x) ? x : best;
}

template <class T>
struct Format;  // of the binary numbers
template <>
struct Format<float> {
    static constexpr int mantissa = 23, bias = 127, log_terms = 5;
    static constexpr double smallest = -104.0, largest = 89.0, normal = 1.17549435e-38, rounder = 12582912.0;
    static constexpr double ln2_high = 0.693359375, ln2_low = -2.12194440e-4;
    static constexpr double large = 1e34;  // of which some ten thousand may be added
    // e^r = 1 + r + r^2 (e_0 + e_1 r + ...) for |r| <= ln(2) / 2: least largest relative error, 3.1e-9.
    static constexpr double e[] = {0.49999994, 0.16666521, 0.041668389, 0.0083687454, 0.001381454};
};
constexpr double one_over_factorial(int k) { return k < 2 ? 1.0 : one_over_factorial(k - 1) / k; }
template <>
struct Format<double> {
    static constexpr int mantissa = 52, bias = 1023, log_terms = 11;
    static constexpr double smallest = -746.0, largest = 710.0, normal = 2.2250738585072014e-308;
    static constexpr double rounder = 6755399441055744.0;
    static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    static constexpr double large = 1e304;
    static constexpr double e[] = {  // Taylor's
        one_over_factorial(2), one_over_factorial(3),  one_over_factorial(4),  one_over_factorial(5),
        one_over_factorial(6), one_over_factorial(7),  one_over_factorial(8),  one_over_factorial(9),
        one_over_factorial(10), one_over_factorial(11), one_over_factorial(12), one_over_factorial(13),
    };
};

// 2^n for a normal exponent.
template <class V>
HD V power_of_two(Int<V> n) {
    using F = Format<Number<V>>;
    return same_bits<V>((n + splat_int<V>(F::bias)) << F::mantissa);
}

// y 2^n for any whole n; in two steps, so that neither factor leaves the range of exponents.
template <class V>
HD V scaled(V y, V shifted, V n) {
#if defined(__AVX512F__) && !defined(__CUDACC__)
    if constexpr (Lanes<V>::count == 16) return static_cast<V>(_mm512_scalef_ps(y, n));
    if constexpr (Lanes<V>::count == 8) return static_cast<V>(_mm512_scalef_pd(y, n));
#endif
    const Int<V> exponent = same_bits<Int<V>>(shifted) - same_bits<Int<V>>(splat<V>(Format<Number<V>>::rounder));
    const Int<V> half = exponent >> 1;
    return y * power_of_two<V>(half) * power_of_two<V>(exponent - half);
}

// x = n ln(2) + r with |r| <= ln(2) / 2, and p = e^r - 1.
template <class V>
struct Exponent {
    V shifted, n, p;
    HD explicit Exponent(V x) {
        using F = Format<Number<V>>;
        // In this order of the operands a NaN stays.
        const V bounded = lesser(splat<V>(F::largest), greater(splat<V>(F::smallest), x));
        shifted = bounded * splat<V>(1.4426950408889634) + splat<V>(F::rounder);
        n = shifted - splat<V>(F::rounder);
        const V r = (bounded - n * splat<V>(F::ln2_high)) - n * splat<V>(F::ln2_low);
        constexpr int terms = sizeof(F::e) / sizeof(double);
        V series = splat<V>(F::e[terms - 1]);
#pragma GCC unroll 16
        for (int k = terms - 2; k >= 0; k--) series = r * series + splat<V>(F::e[k]);
        p = r + r * r * series;
    }
    HD V times_power(V y) const { return scaled<V>(y, shifted, n); }
};

template <class V>
HD V exponential(V x) {
#ifdef __CUDA_ARCH__
    return exp(x);  // the device's own is as exact, and quicker
#else
    const Exponent<V> e(x);
    return e.times_power(splat<V>(1) + e.p);
#endif
}

// e^x - 1 for x <= 0, exact to the last places near 0.
template <class V>
HD V exponential_less_one(V x) {
#ifdef __CUDA_ARCH__
    return expm1(x);
#else
    const Exponent<V> e(x);
    const V power = e.times_power(splat<V>(1));
    return power * e.p + (power - splat<V>(1));
#endif
}

// atanh(s) / s by s^2.
template <class V>
HD V atanh_series(V square) {
    constexpr int terms = Format<Number<V>>::log_terms;
    V series = splat<V>(1.0 / (2 * terms + 1));
#pragma GCC unroll 16
    for (int k = terms - 1; k >= 0; k--) series = splat<V>(1.0 / (2 * k + 1)) + square * series;
    return series;
}

// log x = e log 2 + 2 atanh(s), s = (m - 1) / (m + 1), for x = m 2^e with m in [sqrt(1/2), sqrt(2)).
template <class V>
HD V logarithm(V x) {
#ifdef __CUDA_ARCH__
    return log(x);
#else
    using F = Format<Number<V>>;
    using I = Int<V>;
    const V tiny = splat<V>(F::normal);
    const double lift = static_cast<double>(int64_t{1} << (F::mantissa + 2));
    const V lifted = x < tiny ? x * splat<V>(lift) : x;
    const I bits = same_bits<I>(lifted);
    const I offset = same_bits<I>(splat<V>(0.70710678118654752));
    const I e = (bits - offset) >> F::mantissa;
    const V m = same_bits<V>(bits - (e << F::mantissa));
    // The exponent as a number, by the same shift as in the exponential.
    const V number = same_bits<V>(same_bits<I>(splat<V>(F::rounder)) + e) - splat<V>(F::rounder);
    const V exponent = x < tiny ? number - splat<V>(F::mantissa + 2) : number;
    const V s = (m - splat<V>(1)) / (m + splat<V>(1)), square = s * s;
    const V y = exponent * splat<V>(F::ln2_high) + (splat<V>(2) * s * atanh_series(square) + exponent * splat<V>(F::ln2_low));
    const V zero = splat<V>(0);
    const V special = x == zero ? splat<V>(-INFINITY) : x < zero ? splat<V>(NAN) : x;  // 0, negative, infinite or NaN
    return (x > zero) & (x < splat<V>(INFINITY)) ? y : special;
#endif
}

// t^p for t >= 0 and p > 0.
template <class V>
HD V power(V t, V p) {
    return t == splat<V>(0) ? splat<V>(0) : exponential<V>(p * logarithm<V>(t));
}

// log(1 + u) for -1 < u <= 0, of which 1 + u is a normal number, NaN below: as above, with m - 1 = (u + 1 - 2^e) / 2^e,
// which loses nothing where u is small and e is 0.
template <class V>
HD V logarithm_of_one_more(V u) {
#ifdef __CUDA_ARCH__
    return log1p(u);
#else
    using F = Format<Number<V>>;
    using I = Int<V>;
    const V one = splat<V>(1), sum = one + u, w = sum > splat<V>(0) ? sum : one;
    const I e = (same_bits<I>(w) - same_bits<I>(splat<V>(0.70710678118654752))) >> F::mantissa;
    const V up = power_of_two<V>(-e), m = w * up;
    const V s = (u + (one - power_of_two<V>(e))) * up / (m + one);
    const V exponent = same_bits<V>(same_bits<I>(splat<V>(F::rounder)) + e) - splat<V>(F::rounder);
    const V y = exponent * splat<V>(F::ln2_high) + (splat<V>(2) * s * atanh_series(s * s) + exponent * splat<V>(F::ln2_low));
    return sum > splat<V>(0) ? y : splat<V>(NAN);
#endif
}

}  // namespace poolzoo

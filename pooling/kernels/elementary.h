// Exponentials, logarithms and powers, for one number or a vector of them.
//
// They are short series, because libm's do not vectorise; all keep NaN and infinity, and exponential and logarithm are within
// 2 units in the last place.
#pragma once

#include "lanes.h"

namespace poolzoo {

template <class T>
struct Format;  // of the binary numbers
template <>
struct Format<float> {
    static constexpr int mantissa = 23, bias = 127, log_terms = 5;
    static constexpr double smallest = -104.0, largest = 89.0, normal = 1.17549435e-38, lowest = -3.4028234e38;
    static constexpr double rounder = 12582912.0;
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
    static constexpr double lowest = -1.7976931348623157e308;
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

// x = n ln(2) + r with |r| <= ln(2) / 2; e^r = 1 + r + r^2 series.
template <class V>
struct Exponent {
    V shifted, n, r, series;
    HD explicit Exponent(V x) {
        using F = Format<Number<V>>;
        const V bounded = greater(splat<V>(F::smallest), x);  // in this order of the operands a NaN stays
        shifted = bounded * splat<V>(1.4426950408889634) + splat<V>(F::rounder);
        n = shifted - splat<V>(F::rounder);
        r = (bounded - n * splat<V>(F::ln2_high)) - n * splat<V>(F::ln2_low);
        constexpr int terms = sizeof(F::e) / sizeof(double);
        series = splat<V>(F::e[terms - 1]);
#pragma GCC unroll 16
        for (int k = terms - 2; k >= 0; k--) series = r * series + splat<V>(F::e[k]);
    }
    HD V times_power(V y) const { return scaled<V>(y, shifted, n); }
};

// e^x for x up to about the logarithm of the largest number.
template <class V>
HD V exponential(V x) {
#ifdef __CUDA_ARCH__
    return exp(x);  // the device's own is as exact, and quicker
#else
    const Exponent<V> e(x);
    const V one = splat<V>(1);
    return e.times_power(one + e.r * (one + e.r * e.series));
#endif
}

// e^x - 1, exact to the last places near 0; for x up to about the logarithm of the largest number.
template <class V>
HD V exponential_less_one(V x) {
#ifdef __CUDA_ARCH__
    return expm1(x);
#else
    const Exponent<V> e(x);
    const V power = e.times_power(splat<V>(1));
    return power * (e.r + e.r * e.r * e.series) + (power - splat<V>(1));
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
    const V x = lesser(splat<V>(Format<Number<V>>::largest), p * logarithm<V>(t));
    return t == splat<V>(0) ? splat<V>(0) : exponential<V>(x);
}

// The cube root of 0, or of a normal t up to a quarter of the largest number. A third of t's bits, taken as a whole
// number, and two thirds of 1's are the bits of a first guess, within 6%; Halley's step cubes its error.
template <class V>
HD V cube_root(V t) {
#ifdef __CUDA_ARCH__
    return cbrt(t);
#else
    using I = Int<V>;
    const V third = splat<V>(1.0 / 3), one = converted<V>(same_bits<I>(splat<V>(1)));
    V y = same_bits<V>(truncated((converted<V>(same_bits<I>(t)) + one + one) * third));
    constexpr int steps = sizeof(Number<V>) == 4 ? 2 : 3;
    for (int k = 0; k < steps; k++) {
        const V cube = y * y * y;
        y = y * ((cube + t + t) / (cube + cube + t));
    }
    return (t > splat<V>(0)) & (t < splat<V>(INFINITY)) ? y : t;
#endif
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

// Arithmetic that reads the same for one number and for a vector of numbers ("lanes").
//
// A reducer is written once, over a type V: float or double in a CUDA thread, a GCC vector of them on the CPU, where
// `a > b ? a : b` selects lane by lane.
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

// Asks for the line of memory that holds `at`, to read or write it soon. Into the first cache or the second: a core waits for
// more lines on their way there. (Always inlined: a compiler leaves out calls of a function that only does this.)
template <int cache = 2>
__attribute__((always_inline)) inline void ask_for(const void* at) { __builtin_prefetch(at, 0, 4 - cache); }
template <class T>
__attribute__((always_inline)) inline void ask_for(const T* from, int64_t numbers) {
    for (int64_t k = 0; k < numbers; k += 64 / sizeof(T)) ask_for(from + k);
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

// Towards 0.
HD int32_t truncated(float x) { return static_cast<int32_t>(x); }
HD int64_t truncated(double x) { return static_cast<int64_t>(x); }
#ifndef __CUDACC__
template <class V>
HD Int<V> truncated(V x) {
    return __builtin_convertvector(x, Int<V>);
}
#endif

template <class V>
HD V converted(Int<V> n) {
#ifdef __CUDACC__
    return static_cast<V>(n);
#else
    if constexpr (Lanes<V>::count == 1) {
        return static_cast<V>(n);
    } else {
        return __builtin_convertvector(n, V);
    }
#endif
}

// Whether some lane's mask is set.
HD bool any(bool mask) { return mask; }
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
#endif

// Whether a lane of a is not what b's is; a NaN never is.
template <class V>
HD bool any_other(V a, V b) {
    return any(a != b);
}
#if defined(__AVX512F__) && !defined(__CUDACC__)  // where GCC would make vectors of masks
HD bool any_other(FloatLanes a, FloatLanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) != 0; }
HD bool any_other(DoubleLanes a, DoubleLanes b) { return _mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ) != 0; }
#endif

#ifndef __CUDACC__
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

// A number for each lane, `step` (1 or 2) apart.
template <class V, int step, class T>
HD V load_stepping(const T* from) {
    constexpr int L = Lanes<V>::count;
    if constexpr (step == 1) return load<V>(from);
    Int<V> even;
    for (int k = 0; k < L; k++) even[k] = 2 * k;
    return __builtin_shuffle(load<V>(from), load<V>(from + L), even);
}

// The lanes' sum, halves first.
template <class V, int step = Lanes<V>::count / 2>
HD Number<V> total(V v) {
    Int<V> other;
    for (int k = 0; k < Lanes<V>::count; k++) other[k] = k ^ step;
    v = v + __builtin_shuffle(v, other);
    if constexpr (step == 1) {
        return v[0];
    } else {
        return total<V, step / 2>(v);
    }
}

// a0 b0 a1 b1 ...
template <class V>
HD void join(V& a, V& b) {
    constexpr int L = Lanes<V>::count;
    Int<V> low, high;
    for (int k = 0; k < L; k++) low[k] = k / 2 + (k % 2) * L, high[k] = L / 2 + k / 2 + (k % 2) * L;
    const V joined = __builtin_shuffle(a, b, low);
    b = __builtin_shuffle(a, b, high), a = joined;
}
template <class V, class T>
HD void store_joined(V a, V b, T* to) {
    join(a, b);
    store(to, a), store(to + Lanes<V>::count, b);
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

// The bit that is a number's sign.
template <class V>
HD Int<V> sign_bit() {
    using Element = Int<Number<V>>;
    return splat_int<V>(static_cast<Element>(Element{1} << (8 * sizeof(Element) - 1)));
}

template <class V>
HD V absolute(V x) {
    return same_bits<V>(same_bits<Int<V>>(x) & ~sign_bit<V>());
}

// A number >= 0 with the sign of x.
template <class V>
HD V with_sign(V size, V x) {
    return same_bits<V>(same_bits<Int<V>>(size) | (same_bits<Int<V>>(x) & sign_bit<V>()));
}

// x, or -x where the sign of `by` is minus.
template <class V>
HD V turned_by(V x, V by) {
    return same_bits<V>(same_bits<Int<V>>(x) ^ (same_bits<Int<V>>(by) & sign_bit<V>()));
}

// of(x[0]), of(x[1]), ... by `with`: two chains of it, which do not wait for one another.
template <int N, class V, class With, class Of>
HD V folded(const V (&x)[N], With with, Of of) {
    V even = of(x[0]), odd = of(x[1]);
    for (int k = 2; k < N; k++) k % 2 == 0 ? even = with(even, of(x[k])) : odd = with(odd, of(x[k]));
    return with(even, odd);
}
template <int N, class V, class With>
HD V folded(const V (&x)[N], With with) {
    return folded(x, with, [](V v) { return v; });
}

// The larger one; NaN if either is (x, then best).
template <class V>
HD V larger(V x, V best) {
    return (x > best) | (x != x) ? x : best;
}

#ifndef __CUDACC__
// Where two vectors' blocks of `step` lanes go: the even blocks of both, and the odd ones.
template <class Element, int L, int step>
struct Blocks {
    alignas(64) Element even[L], odd[L];
    constexpr Blocks() : even(), odd() {
        for (int k = 0; k < L; k++) even[k] = k & step ? L + k - step : k, odd[k] = k & step ? L + k : k + step;
    }
};

// L vectors of L lanes: lane l of vector k becomes lane k of vector l. Blocks of lanes change places, the halves first.
template <class V, int step = Lanes<V>::count / 2>
HD void transpose(V (&v)[Lanes<V>::count]) {
    constexpr int L = Lanes<V>::count;
    static constexpr Blocks<Int<Number<V>>, L, step> blocks;
    const Int<V> even = load<Int<V>>(blocks.even), odd = load<Int<V>>(blocks.odd);
#pragma GCC unroll 16
    for (int k = 0; k < L; k++) {
        if (k & step) continue;
        const V a = v[k], b = v[k + step];
        v[k] = __builtin_shuffle(a, b, even), v[k + step] = __builtin_shuffle(a, b, odd);
    }
    if constexpr (step > 1) transpose<V, step / 2>(v);
}
#endif

}  // namespace poolzoo

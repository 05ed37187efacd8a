// Philox 4x32-10 (Salmon et al. 2011): uniform numbers as a pure function of a seed and an index.
//
// Element i is lane i % 4 of the block at counter i // 4, as in pooling/philox.py.
#pragma once

#include <algorithm>

#include "lanes.h"

namespace poolzoo {

struct Philox {
    uint32_t lane[4];
};

HD Philox philox(uint64_t seed, uint64_t block) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return {{c0, c1, c2, c3}};
}

// In [0, 1), a multiple of 2^-24.
HD float uniform_from_bits(uint32_t bits) { return static_cast<float>(bits >> 8) * 5.9604644775390625e-8f; }

HD float uniform(uint64_t seed, int64_t index) {
    const Philox p = philox(seed, static_cast<uint64_t>(index) / 4);
    // By choices, so that a GPU keeps the block in registers.
    const uint32_t low = index & 1 ? p.lane[1] : p.lane[0], high = index & 1 ? p.lane[3] : p.lane[2];
    return uniform_from_bits(index & 2 ? high : low);
}

#ifndef __CUDACC__
// Eight or more blocks at a time: one vector holds a 32-bit word of several blocks, each in 64 bits.
struct PhiloxLanes {
    typedef uint64_t Words __attribute__((vector_size(kVectorBytes)));
    typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
    static constexpr int count = kVectorBytes / 8, chains = 4;
    static constexpr int numbers = 4 * count * chains;

    HD static Words product(Words a, uint32_t b) {
        const Words factor = Words{} + b;
#if defined(__AVX512F__)
        return (Words)_mm512_mul_epu32((__m512i)a, (__m512i)factor);
#elif defined(__AVX2__)
        return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)factor);
#elif defined(__SSE2__)
        return (Words)_mm_mul_epu32((__m128i)a, (__m128i)factor);
#else
        return (a & 0xFFFFFFFF) * factor;
#endif
    }
    // The numbers of blocks `block` and on.
    static void fill(uint64_t seed, uint64_t block, float* out) {
        Words c0[chains], c1[chains], c2[chains], c3[chains];
        for (int m = 0; m < chains; m++) {
            Words at;
            for (int k = 0; k < count; k++) at[k] = block + m * count + k;
            c0[m] = at & 0xFFFFFFFF, c1[m] = at >> 32, c2[m] = Words{}, c3[m] = Words{};
        }
        uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
        for (int round = 0; round < 10; round++) {
            for (int m = 0; m < chains; m++) {
                // Only the low halves are multiplied, so what a high half holds is of no account there.
                const Words p0 = product(c0[m], 0xD2511F53), p1 = product(c2[m], 0xCD9E8D57);
                c0[m] = (p1 >> 32) ^ c1[m] ^ k0;
                c2[m] = (p0 >> 32) ^ c3[m] ^ k1;
                c1[m] = p1, c3[m] = p0;
            }
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        for (int m = 0; m < chains; m++) {
            // A block's four words one after the other: two and two of them, then these by turns.
            const Words low = (c0[m] & 0xFFFFFFFF) | c1[m] << 32, high = (c2[m] & 0xFFFFFFFF) | c3[m] << 32;
            Words first, second;
            for (int k = 0; k < count; k++) {
                first[k] = k / 2 + (k % 2) * count, second[k] = count / 2 + k / 2 + (k % 2) * count;
            }
            store_uniform(__builtin_shuffle(low, high, first), out + m * 4 * count);
            store_uniform(__builtin_shuffle(low, high, second), out + m * 4 * count + 2 * count);
        }
    }
    HD static void store_uniform(Words bits, float* to) {
        const Int32Lanes high = reinterpret_cast<Int32Lanes>(reinterpret_cast<Bits>(bits) >> 8);
        store(to, __builtin_convertvector(high, FloatLanes) * splat<FloatLanes>(5.9604644775390625e-8));
    }
};

// uniform(seed, first) and on, in rows of `columns`: `step` between neighbours, `row_step` between rows.
template <class T>
inline void uniform_rows(uint64_t seed, int64_t first, int64_t rows, int64_t columns, T* out, int64_t row_step, int64_t step) {
    constexpr int each = PhiloxLanes::numbers;
    float numbers[each];
    int64_t at = first, column = 0;
    const int64_t last = first + rows * columns;
    for (int64_t block = first / 4; at < last; block += each / 4) {
        PhiloxLanes::fill(seed, static_cast<uint64_t>(block), numbers);
        const float* from = numbers + (at - block * 4);
        const int64_t end = std::min(last, block * 4 + each);
        while (at < end) {
            const int64_t run = std::min(end - at, columns - column);
            T* to = out + column * step;
            if (step == 1) {
                for (int64_t k = 0; k < run; k++) to[k] = static_cast<T>(from[k]);
            } else {
                for (int64_t k = 0; k < run; k++) to[k * step] = static_cast<T>(from[k]);
            }
            at += run, from += run, column += run;
            if (column == columns) column = 0, out += row_step;
        }
    }
}
#endif

}  // namespace poolzoo

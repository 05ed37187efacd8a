// The 16-bit types as they lie in memory, and their conversions.
#pragma once

#include "lanes.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace poolzoo {

HD float from_bfloat16(uint16_t bits) { return same_bits<float>(static_cast<uint32_t>(bits) << 16); }

HD uint16_t to_bfloat16(float x) {
#ifdef __CUDA_ARCH__
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
    const uint32_t bits = same_bits<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return static_cast<uint16_t>(x != x ? (bits >> 16) | 0x40 : rounded);
#endif
}

// The exponent is moved by a product with a power of two, which also handles denormal numbers.
HD float from_half(uint16_t bits) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(bits));
#else
    const uint32_t body = static_cast<uint32_t>(bits & 0x7FFF) << 13;
    const float finite = same_bits<float>(body) * 5.192296858534828e33f;  // 2^112
    const uint32_t special = body | 0x7F800000;
    const uint32_t magnitude = (bits & 0x7C00) == 0x7C00 ? special : same_bits<uint32_t>(finite);
    return same_bits<float>(magnitude | static_cast<uint32_t>(bits & 0x8000) << 16);
#endif
}

HD uint16_t to_half(float x) {
#ifdef __CUDA_ARCH__
    return __half_as_ushort(__float2half_rn(x));
#else
    const uint32_t bits = same_bits<uint32_t>(x), sign = (bits >> 16) & 0x8000, body = bits & 0x7FFFFFFF;
    // Denormal result: let the addition of 0.5 round at the right place.
    const uint32_t tiny = same_bits<uint32_t>(same_bits<float>(body) + 0.5f) - 0x3F000000;
    const uint32_t normal = (body + 0xC8000FFF + ((body >> 13) & 1)) >> 13;
    const uint32_t finite = body < 0x38800000 ? tiny : normal;
    const uint32_t magnitude = body > 0x7F800000 ? 0x7E00 : body >= 0x47800000 ? 0x7C00 : finite;
    return static_cast<uint16_t>(sign | magnitude);
#endif
}

struct BFloat16 {
    uint16_t bits;
};
struct Half {
    uint16_t bits;
};

// S: as stored; wide: as computed with.
HD float widened(float x) { return x; }
HD double widened(double x) { return x; }
HD float widened(BFloat16 x) { return from_bfloat16(x.bits); }
HD float widened(Half x) { return from_half(x.bits); }

template <class S>
using Wide = decltype(widened(S{}));

HD void narrow(float x, float& to) { to = x; }
HD void narrow(double x, double& to) { to = x; }
HD void narrow(float x, BFloat16& to) { to.bits = to_bfloat16(x); }
HD void narrow(float x, Half& to) { to.bits = to_half(x); }

}  // namespace poolzoo

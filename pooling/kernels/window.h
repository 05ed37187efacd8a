// Which positions a window looks at, shared by the CPU and the CUDA drivers.
//
// Letters: N images, C channels, H and W rows and columns of the input, oh and ow of the output. A window has kh x kw
// taps, counted row by row; tap (r, t) of output (i, j) lies at row i * sh - ph + r * dh, column j * sw - pw + t * dw.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define HD __host__ __device__ __forceinline__
#else
#define HD inline __attribute__((always_inline))
#endif

namespace poolzoo {

// How a filter sees past the border; a pooling window never does (Skip).
enum class Border : int { Skip = 0, Reflect = 1, Circular = 2, Edge = 3 };

// The position inside [0, length) that a position outside stands for.
template <class Integer>
HD Integer continued(Integer at, Integer length, Border border) {
    if (border == Border::Edge) return at < 0 ? 0 : at >= length ? length - 1 : at;
    if (border == Border::Circular) return at % length + (at % length < 0 ? length : 0);
    if (length == 1) return 0;
    const Integer period = 2 * (length - 1), distance = at < 0 ? -at : at;
    const Integer phase = distance < period ? distance : distance % period;  // a division is seldom needed
    return phase < length ? phase : period - phase;
}

HD int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
HD int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

// The taps [begin, end) of one axis that lie inside [0, length) when the window starts at `start`.
struct Span {
    int begin, end;
};

HD Span members(int64_t start, int64_t dilation, int64_t taps, int64_t length) {
    int64_t begin = start >= 0 ? 0 : ceil_div(-start, dilation);
    int64_t end = start >= length ? 0 : ceil_div(length - start, dilation);
    if (end > taps) end = taps;
    if (begin > end) begin = end;
    return {static_cast<int>(begin), static_cast<int>(end)};
}

struct Window {
    int64_t N, C, H, W, oh, ow;
    int64_t kh, kw, sh, sw, ph, pw, dh, dw;
    bool channels_last;
    Border border;

    HD int64_t taps() const { return kh * kw; }
    HD int64_t row_start(int64_t i) const { return i * sh - ph; }
    HD int64_t column_start(int64_t j) const { return j * sw - pw; }
    HD int64_t row_reach() const { return (kh - 1) * dh + 1; }
    HD Span rows(int64_t i) const { return members(row_start(i), dh, kh, H); }
    HD Span columns(int64_t j) const { return members(column_start(j), dw, kw, W); }
    // Linear index into the input and into the output, in the memory format at hand.
    HD int64_t input_at(int64_t n, int64_t c, int64_t h, int64_t w) const {
        return channels_last ? ((n * H + h) * W + w) * C + c : ((n * C + c) * H + h) * W + w;
    }
    HD int64_t output_at(int64_t n, int64_t c, int64_t i, int64_t j) const {
        return channels_last ? ((n * oh + i) * ow + j) * C + c : ((n * C + c) * oh + i) * ow + j;
    }
    // Whether every window has all its members.
    HD bool whole() const {
        return ph == 0 && pw == 0 && (oh - 1) * sh + (kh - 1) * dh < H && (ow - 1) * sw + (kw - 1) * dw < W;
    }
    // What the average divides by along one axis: positions inside the padded input, or members only.
    HD int64_t counted_rows(int64_t i, bool with_padding) const {
        const Span s = with_padding ? members(row_start(i) + ph, dh, kh, H + 2 * ph) : rows(i);
        return s.end - s.begin;
    }
    HD int64_t counted_columns(int64_t j, bool with_padding) const {
        const Span s = with_padding ? members(column_start(j) + pw, dw, kw, W + 2 * pw) : columns(j);
        return s.end - s.begin;
    }
};

}  // namespace poolzoo

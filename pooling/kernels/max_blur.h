// A dense max and a low-pass filter over it at every stride-th position (Zhang 2019), in one pass, for every device: what
// a call is, and what it is made from.
//
// Letters: H x W input, H1 x W1 dense maxima, oh x ow output. The max at (d, e) looks at rows d - ph + r * dh, columns
// e - pw + t * dw; output (i, j) at maxima (i * sh - before + u, j * sw - before + v), continued past the border.
#pragma once

#include "binding.h"

// The filter is the outer product of `row`, of the type that is computed in. numbers: kh, kw, ph, pw, dh, dw, H1, W1, sh,
// sw, before, oh, ow, border. Backward finds the maxima again: nothing but the input is kept for it. max_blur_forward is
// the same for callers that need no gradient.
#define POOLZOO_MAX_BLUR "(Tensor x, Tensor row, int[] numbers) -> Tensor"
#define POOLZOO_MAX_BLUR_BACKWARD "(Tensor gradient, Tensor x, Tensor row, int[] numbers) -> Tensor"

namespace poolzoo {

struct MaxBlur {
    int N, C, H, W;
    int kh, kw, ph, pw, dh, dw, H1, W1, sh, sw, before, oh, ow;
    Border border;
    bool channels_last;
    int length;            // of the filter's row
    Dtype dtype;
    const void* row;       // wide
    const void* x;
    void* y;               // forward
    const void* gradient;  // backward
    void* dx;
};

using RunMaxBlur = void (*)(const MaxBlur&, const Tensor& like);

inline MaxBlur max_blur_of(const Tensor& x, bool channels_last, const Tensor& row, const std::vector<int64_t>& numbers) {
    STD_TORCH_CHECK(x.dim() == 4, "blur: the input must be (N, C, H, W)");
    STD_TORCH_CHECK(numbers.size() == 14, "blur: a max and a filter have 14 numbers");
    const auto small = [](int64_t value) {
        STD_TORCH_CHECK(value >= 0 && value < int64_t{1} << 28, "blur: a side, or a window's reach, is 2^28 or more");
        return static_cast<int>(value);
    };
    std::vector<int> n;
    for (int64_t value : numbers) n.push_back(small(value));
    for (int k : {0, 1, 4, 5, 8, 9}) STD_TORCH_CHECK(n[k] > 0, "blur: sizes, strides and dilations must be positive");
    const auto size = x.sizes();
    MaxBlur p{small(size[0]), small(size[1]), small(size[2]), small(size[3]),
              n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12],
              static_cast<Border>(n[13]), channels_last, small(row.numel()), dtype_of(x)};
    const int64_t windows[] = {int64_t{p.kh} * p.dh, int64_t{p.kw} * p.dw};
    const int64_t filters[] = {int64_t{p.oh} * p.sh + p.length, int64_t{p.ow} * p.sw + p.length};
    for (int axis : {0, 1}) small(windows[axis]), small(filters[axis]);
    const ScalarType wide = p.dtype == Dtype::Double ? ScalarType::Double : ScalarType::Float;
    STD_TORCH_CHECK(row.scalar_type() == wide && row.is_contiguous() && p.length > p.before,
                    "blur: the row must be contiguous, of the type that is computed in, and longer than `before`");
    p.row = row.const_data_ptr();
    p.x = x.const_data_ptr();
    return p;
}

template <RunMaxBlur run>
Tensor max_blur(const Tensor& input, const Tensor& row, const std::vector<int64_t>& numbers) {
    const bool channels_last = is_channels_last(input);
    const Tensor x = in_format(input, channels_last);
    MaxBlur p = max_blur_of(x, channels_last, row, numbers);
    const Tensor y = empty_as(x, p.N, p.C, p.oh, p.ow, channels_last, x.scalar_type());
    p.y = y.mutable_data_ptr();
    if (y.numel() > 0) run(p, x);
    return y;
}

template <RunMaxBlur run>
Tensor max_blur_backward(const Tensor& given_gradient, const Tensor& input, const Tensor& row,
                         const std::vector<int64_t>& numbers) {
    const bool channels_last = is_channels_last(input);
    const Tensor x = in_format(input, channels_last), gradient = in_format(given_gradient, channels_last);
    MaxBlur p = max_blur_of(x, channels_last, row, numbers);
    STD_TORCH_CHECK(gradient.size(0) == p.N && gradient.size(1) == p.C && gradient.size(2) == p.oh &&
                        gradient.size(3) == p.ow && gradient.scalar_type() == x.scalar_type(),
                    "blur: a gradient of the wrong size or type");
    p.gradient = gradient.const_data_ptr();
    const Tensor dx = empty_as(x, p.N, p.C, p.H, p.W, channels_last, x.scalar_type());
    p.dx = dx.mutable_data_ptr();
    if (dx.numel() > 0) run(p, x);
    return dx;
}

}  // namespace poolzoo

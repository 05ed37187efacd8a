// Adaptive polyphase sampling, for every device: what a call is, and what it is made from.
//
// Component (a, b) of the sh x sw ones holds rows a, a + sh, ... and columns b, b + sw, ... Sides that the stride does
// not divide are continued at the far end.
//
// A norm is a sum of powers in float64: first down each column, then along the columns, then over the channels, always
// in that order. So the choice between components hangs on neither memory format, nor device, nor number of threads.
#pragma once

#include "binding.h"

// The gather is differentiable by x, and the scatter, its adjoint, by the gradient: Python registers each as the other's
// backward. An order is 1 or 2, or 0 for the largest. `pool` is the norms, each image's component of the largest, and the
// gather of these, in one call; `pool_forward` is the same for callers that need no gradient.
#define POOLZOO_POLYPHASE_NORMS "(Tensor x, int[] stride, int border, int order) -> Tensor"
#define POOLZOO_POLYPHASE_POOL "(Tensor x, int[] stride, int border, int order) -> (Tensor, Tensor)"
#define POOLZOO_POLYPHASE_GATHER "(Tensor x, Tensor phase, int[] stride, int border) -> Tensor"
#define POOLZOO_POLYPHASE_SCATTER                                                                                     \
    "(Tensor gradient, Tensor phase, SymInt H, SymInt W, bool channels_last, int[] stride, int border) -> Tensor"

namespace poolzoo {

// The norms that are compared; those of finite order without their root.
enum class Order : int { Largest = 0, One = 1, Two = 2 };

HD double with_member(double total, double x, Order order) {
    if (order == Order::One) return total + absolute(x);
    if (order == Order::Two) return total + x * x;
    return larger(absolute(x), total);
}
HD double with_part(double total, double part, Order order) {
    return order == Order::Largest ? larger(part, total) : total + part;
}

// What one axis of a component sees: index k is position k * stride + phase.
struct Component {
    int length, out, stride, phase;
    Border border;  // Skip: zeros

    HD int position(int k) const { return k * stride + phase; }
    // Indices whose position lies inside: all but, perhaps, the last one.
    HD int inside() const { return position(out - 1) < length ? out : out - 1; }
    // The position that index k stands for; -1: none.
    HD int source(int k) const {
        const int at = position(k);
        return at < length ? at : border == Border::Skip ? -1 : continued(at, length, border);
    }
    // The indices that stand for a position: its own, and the one past the far end.
    struct Indices {
        int own, last;  // -1: none
    };
    HD Indices standing_for(int at) const {
        const int k = at / stride;
        const bool beyond = inside() < out && source(out - 1) == at;
        return {position(k) == at ? k : -1, beyond ? out - 1 : -1};
    }
};

struct Polyphase {
    int N, C, H, W, sh, sw, oh, ow;
    bool channels_last;
    Border border;
    Dtype dtype;
    Order order;
    const int64_t* phase;  // (N,) on the device
    int64_t* found;        // the same, where it is written
    const void* x;         // norms and gather
    double* norms;         // (N, sh * sw)
    void* y;               // gather
    const void* gradient;  // scatter
    void* dx;

    HD int components() const { return sh * sw; }
    HD bool has_outputs() const { return int64_t{N} * C * oh * ow > 0; }
    // The first component of the largest norm, of which a NaN is the largest.
    HD int64_t largest(int n) const {
        const double* norm = norms + int64_t{n} * components();
        int64_t best = 0;
        for (int k = 1; k < components() && norm[best] == norm[best]; k++) best = norm[k] <= norm[best] ? best : k;
        return best;
    }
    HD bool has_phase(int n) const { return phase[n] >= 0 && phase[n] < components(); }
    HD Component rows(int a) const { return {H, oh, sh, a, border}; }
    HD Component columns(int b) const { return {W, ow, sw, b, border}; }
    HD Component chosen_rows(int n) const { return rows(static_cast<int>(phase[n]) / sw); }
    HD Component chosen_columns(int n) const { return columns(static_cast<int>(phase[n]) % sw); }
};

using RunPolyphase = void (*)(const Polyphase&, const Tensor& like);

inline Polyphase polyphase_of(const Tensor& like, int64_t H, int64_t W, bool channels_last,
                              const std::vector<int64_t>& stride, int64_t border) {
    STD_TORCH_CHECK(like.dim() == 4, "aps: the input must be (N, C, H, W)");
    STD_TORCH_CHECK(stride.size() == 2 && stride[0] > 0 && stride[1] > 0, "aps: a stride is two positive numbers");
    for (int64_t n : {like.size(0), like.size(1), H, W, stride[0], stride[1], stride[0] * stride[1]}) {
        STD_TORCH_CHECK(n < int64_t{1} << 30, "aps: a side, or a stride, is 2^30 or more");
    }
    const auto n = [](int64_t value) { return static_cast<int>(value); };
    Polyphase p{};
    p.N = n(like.size(0)), p.C = n(like.size(1)), p.H = n(H), p.W = n(W), p.sh = n(stride[0]), p.sw = n(stride[1]);
    p.oh = (p.H + p.sh - 1) / p.sh, p.ow = (p.W + p.sw - 1) / p.sw;
    p.channels_last = channels_last;
    p.border = static_cast<Border>(border);
    p.dtype = dtype_of(like);
    return p;
}

inline Tensor checked_phase(const Tensor& phase, const Polyphase& p) {
    STD_TORCH_CHECK(phase.scalar_type() == ScalarType::Long && phase.dim() == 1 && phase.size(0) == p.N,
                    "aps: phase must be int64 of shape (N,)");
    return phase.is_contiguous() ? phase : torch::stable::contiguous(phase);
}

inline Tensor empty_norms(const Tensor& like, const Polyphase& p) {
    const int64_t sizes[] = {p.N, p.components()}, strides[] = {p.components(), 1};
    return empty_strided(like, 2, sizes, strides, ScalarType::Double);
}

template <RunPolyphase run>
Tensor polyphase_norms(const Tensor& input, const std::vector<int64_t>& stride, int64_t border, int64_t order) {
    const bool channels_last = is_channels_last(input);
    const Tensor x = in_format(input, channels_last);
    Polyphase p = polyphase_of(x, x.size(2), x.size(3), channels_last, stride, border);
    p.order = static_cast<Order>(order);
    p.x = x.const_data_ptr();
    const Tensor norms = empty_norms(x, p);
    p.norms = static_cast<double*>(norms.mutable_data_ptr());
    if (norms.numel() > 0) run(p, x);
    return norms;
}

template <RunPolyphase run>
std::tuple<Tensor, Tensor> polyphase_pool(const Tensor& input, const std::vector<int64_t>& stride, int64_t border,
                                          int64_t order) {
    const bool channels_last = is_channels_last(input);
    const Tensor x = in_format(input, channels_last);
    Polyphase p = polyphase_of(x, x.size(2), x.size(3), channels_last, stride, border);
    p.order = static_cast<Order>(order);
    p.x = x.const_data_ptr();
    const int64_t size = p.N, one = 1;
    const Tensor phase = empty_strided(x, 1, &size, &one, ScalarType::Long);
    const Tensor y = empty_as(x, p.N, p.C, p.oh, p.ow, channels_last, x.scalar_type());
    p.phase = p.found = static_cast<int64_t*>(phase.mutable_data_ptr());
    p.y = y.mutable_data_ptr();
    if (p.N > 0) run(p, x);
    return {y, phase};
}

template <RunPolyphase run>
Tensor polyphase_gather(const Tensor& input, const Tensor& given_phase, const std::vector<int64_t>& stride, int64_t border) {
    const bool channels_last = is_channels_last(input);
    const Tensor x = in_format(input, channels_last);
    Polyphase p = polyphase_of(x, x.size(2), x.size(3), channels_last, stride, border);
    const Tensor phase = checked_phase(given_phase, p);
    p.phase = static_cast<const int64_t*>(phase.const_data_ptr());
    p.x = x.const_data_ptr();
    const Tensor y = empty_as(x, p.N, p.C, p.oh, p.ow, channels_last, x.scalar_type());
    p.y = y.mutable_data_ptr();
    if (y.numel() > 0) run(p, x);
    return y;
}

template <RunPolyphase run>
Tensor polyphase_scatter(const Tensor& given_gradient, const Tensor& given_phase, int64_t H, int64_t W, bool channels_last,
                         const std::vector<int64_t>& stride, int64_t border) {
    const Tensor gradient = in_format(given_gradient, channels_last);
    Polyphase p = polyphase_of(gradient, H, W, channels_last, stride, border);
    STD_TORCH_CHECK(gradient.size(2) == p.oh && gradient.size(3) == p.ow, "aps: a gradient of the wrong size");
    const Tensor phase = checked_phase(given_phase, p);
    p.phase = static_cast<const int64_t*>(phase.const_data_ptr());
    p.gradient = gradient.const_data_ptr();
    const Tensor dx = empty_as(gradient, p.N, p.C, H, W, channels_last, gradient.scalar_type());
    p.dx = dx.mutable_data_ptr();
    if (dx.numel() > 0) run(p, gradient);
    return dx;
}

}  // namespace poolzoo

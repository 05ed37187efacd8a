// From tensors to a Call, for every device: schemas, checks, memory formats and allocation.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "call.h"
#include "dtypes.h"

// pool2d is what autograd knows (Python registers its backward): y and what is saved. pool2d_forward is y alone, for
// callers that need no gradient.
//
// save: 0, an empty tensor; 1 (kTaps), each output's tap number; 2 (kSlopes), the bytes of each output's slope by the
// parameter, then those: images more than N, so that it is one tensor, whose making is a good part of a small call.
#define POOLZOO_GIVEN                                                                                                 \
    "(Tensor x, Tensor? logits, Tensor? parameter, Tensor? table, Tensor? seed, int reducer, int[] window, "          \
    "float[] numbers"
#define POOLZOO_POOL2D POOLZOO_GIVEN ", int save) -> (Tensor, Tensor)"
#define POOLZOO_FORWARD POOLZOO_GIVEN ") -> Tensor"
#define POOLZOO_BACKWARD                                                                                              \
    "(Tensor gradient, Tensor? x, Tensor? logits, Tensor? parameter, Tensor? table, Tensor? saved, SymInt H, "        \
    "SymInt W, bool channels_last, int reducer, int[] window, float[] numbers, bool parameter_gradient) "             \
    "-> (Tensor, Tensor, Tensor, Tensor)"

// The namespace of the operators in torch.ops; a plugin's library has one of its own.
#ifndef POOLZOO_LIBRARY
#define POOLZOO_LIBRARY poolzoo
#endif
#define POOLZOO_DEFINE(library, m) STABLE_TORCH_LIBRARY(library, m)
#define POOLZOO_IMPLEMENT(library, device, m) STABLE_TORCH_LIBRARY_IMPL(library, device, m)

namespace poolzoo {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Run = void (*)(const Call&, const Tensor& like);

inline Dtype dtype_of(const Tensor& x) {
    switch (x.scalar_type()) {
        case ScalarType::Float: return Dtype::Float;
        case ScalarType::Double: return Dtype::Double;
        case ScalarType::BFloat16: return Dtype::BFloat16;
        case ScalarType::Half: return Dtype::Half;
        default: STD_TORCH_CHECK(false, "pooling: the input must be float16, bfloat16, float32 or float64");
    }
    return Dtype::Float;
}

// body(S{}) for the type S that a dtype is stored as.
template <class Body>
void with_storage(Dtype dtype, Body body) {
    switch (dtype) {
        case Dtype::Float: return body(float{});
        case Dtype::Double: return body(double{});
        case Dtype::BFloat16: return body(BFloat16{});
        case Dtype::Half: return body(Half{});
    }
}

// (N, C, H, W) laid out as (N, H, W, C), and not also as (N, C, H, W).
inline bool is_channels_last(const Tensor& x) {
    if (x.is_contiguous()) return false;
    int64_t expected = 1;
    for (int axis : {1, 3, 2, 0}) {
        if (x.size(axis) != 1 && x.stride(axis) != expected) return false;
        expected *= x.size(axis);
    }
    return true;
}

inline Tensor in_format(const Tensor& x, bool channels_last) {
    if (channels_last ? is_channels_last(x) : x.is_contiguous()) return x;
    const Tensor y = torch::stable::contiguous(x, channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
    return y;
}

inline Tensor empty_strided(const Tensor& like, int64_t dimensions, const int64_t* sizes, const int64_t* strides, ScalarType type) {
    AtenTensorHandle handle;
    int32_t device, index;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
    const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dimensions, sizes, strides, dtype, device, index, &handle));
    return Tensor(handle);
}

inline Tensor empty_as(const Tensor& like, int64_t N, int64_t C, int64_t H, int64_t W, bool channels_last, ScalarType type) {
    const int64_t sizes[] = {N, C, H, W};
    const int64_t one = 1, c = std::max(C, one), h = std::max(H, one), w = std::max(W, one);
    const int64_t rows[] = {c * h * w, h * w, w, 1}, pixels[] = {h * w * c, 1, w * c, c};
    return empty_strided(like, 4, sizes, channels_last ? pixels : rows, type);
}

inline const void* data(const MaybeTensor& x) { return x ? x->const_data_ptr() : nullptr; }

// n: kh, kw, sh, sw, ph, pw, dh, dw, oh, ow, border, divisor; numbers: the fixed divisor, eps, the fixed parameter.
inline Call call_of(const Tensor& like, int64_t N, int64_t C, int64_t H, int64_t W, bool channels_last, int64_t reducer,
                    const std::vector<int64_t>& n, const std::vector<double>& numbers) {
    STD_TORCH_CHECK(n.size() == 12 && numbers.size() == 3, "pooling: a window has 12 numbers, a reducer 3");
    STD_TORCH_CHECK(reducer >= 0 && reducer < static_cast<int64_t>(Reducer::Count), "pooling: unknown reducer ", reducer);
    for (int k : {0, 1, 2, 3, 6, 7}) STD_TORCH_CHECK(n[k] > 0, "pooling: sizes, strides and dilations must be positive");
    Call call{};
    call.window = {N, C, H, W, n[8], n[9], n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], channels_last,
                   static_cast<Border>(n[10])};
    call.divisor = static_cast<Divisor>(n[11]);
    call.reducer = static_cast<Reducer>(reducer);
    call.dtype = dtype_of(like);
    call.fixed_divisor = numbers[0];
    call.option = numbers[1];
    call.fixed_parameter = numbers[2];
    call.wide_taps = call.window.taps() > 255;
    return call;
}

inline void give(Call& call, const MaybeTensor& parameter, const MaybeTensor& table) {
    const ScalarType wide = call.dtype == Dtype::Double ? ScalarType::Double : ScalarType::Float;
    const int64_t C = call.window.C;
    for (const MaybeTensor& t : {parameter, table}) {
        STD_TORCH_CHECK(!t || (t->scalar_type() == wide && t->is_contiguous()), "pooling: parameters must be contiguous ",
                        "and of the type that is computed in");
    }
    if (parameter) {
        const int64_t numbers = parameter->numel();
        STD_TORCH_CHECK(numbers == 1 || numbers == C, "pooling: a parameter has 1 or C numbers, got ", numbers);
        call.parameter = parameter->const_data_ptr();
        call.parameter_per_channel = numbers != 1;
    }
    if (table) {
        const int64_t least = table_length(call.reducer, call.window.taps());
        STD_TORCH_CHECK(table->numel() == least || table->numel() == least * C, "pooling: a table of the wrong size");
        call.table = table->const_data_ptr();
        call.table_step = table->numel() == least ? 0 : least;
    }
}

constexpr int64_t kTaps = 1, kSlopes = 2;

// Where call.taps and, if there are, call.slopes lie in what pool2d saves; slopes: how many images more it has for them.
inline int64_t images_of_slopes(const Call& call) {
    return (call.dtype == Dtype::Double ? 8 : 4) / (call.wide_taps ? 4 : 1);
}
inline void find_saved(Call& call, const Tensor& saved, void* data) {
    const int64_t outputs = call.window.N * call.window.C * call.window.oh * call.window.ow, each = call.wide_taps ? 4 : 1;
    const int64_t images = saved.size(0) - call.window.N;
    STD_TORCH_CHECK(images == 0 || images == images_of_slopes(call) * call.window.N, "pooling: saved for another input");
    call.slopes = images == 0 ? nullptr : data;
    call.taps = static_cast<char*>(data) + (images == 0 ? 0 : images_of_slopes(call) * each * outputs);
}

// y and what is saved.
inline std::pair<Tensor, MaybeTensor> reduced(Run run, const Tensor& input, const MaybeTensor& given_logits,
                                              const MaybeTensor& parameter, const MaybeTensor& table,
                                              const MaybeTensor& seed, int64_t reducer, const std::vector<int64_t>& window,
                                              const std::vector<double>& numbers, int64_t save) {
    STD_TORCH_CHECK(input.dim() == 4, "pooling: the input must be (N, C, H, W)");
    const bool channels_last = is_channels_last(input);
    const Tensor x = in_format(input, channels_last);
    const auto size = x.sizes();
    Call call = call_of(x, size[0], size[1], size[2], size[3], channels_last, reducer, window, numbers);
    const Window& w = call.window;
    give(call, parameter, table);
    MaybeTensor logits, saved;
    if (given_logits) {
        STD_TORCH_CHECK(given_logits->scalar_type() == x.scalar_type() && given_logits->numel() == x.numel(),
                        "pooling: logits must have the input's shape and type");
        logits = in_format(*given_logits, channels_last);
    }
    call.x = x.const_data_ptr();
    call.logits = data(logits);
    if (seed) {
        STD_TORCH_CHECK(seed->scalar_type() == ScalarType::Long && seed->numel() == 1, "pooling: the seed is one int64");
        call.seeded = true;
        call.seed_at = seed->const_data_ptr();
    }
    const Tensor y = empty_as(x, w.N, w.C, w.oh, w.ow, channels_last, x.scalar_type());
    call.y = y.mutable_data_ptr();
    if (save == kTaps || save == kSlopes) {
        const ScalarType type = call.wide_taps ? ScalarType::Int : ScalarType::Byte;
        const int64_t images = save == kTaps ? 1 : 1 + images_of_slopes(call);
        saved = empty_as(x, images * w.N, w.C, w.oh, w.ow, channels_last, type);
        find_saved(call, *saved, saved->mutable_data_ptr());
    }
    if (y.numel() > 0) run(call, x);
    return {y, saved};
}

template <Run run>
std::tuple<Tensor, Tensor> forward(const Tensor& x, const MaybeTensor& logits, const MaybeTensor& parameter,
                                   const MaybeTensor& table, const MaybeTensor& seed, int64_t reducer,
                                   const std::vector<int64_t>& window, const std::vector<double>& numbers, int64_t save) {
    const auto [y, saved] = reduced(run, x, logits, parameter, table, seed, reducer, window, numbers, save);
    return {y, saved ? *saved : empty_as(y, 0, y.size(1), y.size(2), y.size(3), false, ScalarType::Byte)};
}

template <Run run>
Tensor forward_alone(const Tensor& x, const MaybeTensor& logits, const MaybeTensor& parameter, const MaybeTensor& table,
                     const MaybeTensor& seed, int64_t reducer, const std::vector<int64_t>& window,
                     const std::vector<double>& numbers) {
    return reduced(run, x, logits, parameter, table, seed, reducer, window, numbers, 0).first;
}

// Whether a driver's kernel can go back with what it is given.
template <class Kernel>
void check_backward(const Call& call, const Kernel& kernel) {
    STD_TORCH_CHECK(kernel.learned || call.slope_sums == nullptr, "pooling: this reducer has no parameter_slope: give its ",
                    "parameter and table as constants, without requires_grad");
    STD_TORCH_CHECK(kernel.indexed == (call.taps != nullptr), "pooling: tap numbers are saved for reducers of one member ",
                    "alone, and for all of these");
    STD_TORCH_CHECK(!kernel.indexed || call.slope_sums == nullptr || call.slopes != nullptr,
                    "pooling: a gradient by the parameter needs its slopes saved");
}

// A tensor for the gradient by one of the parameters; without numbers where none is asked for.
inline Tensor gradient_by(const MaybeTensor& parameter, bool wanted, const Tensor& like) {
    const int64_t none = 0, one = 1;
    if (!parameter || !wanted) return empty_strided(like, 1, &none, &one, like.scalar_type());
    const Tensor& p = *parameter;
    return empty_strided(p, p.dim(), p.sizes().data(), p.strides().data(), p.scalar_type());
}

// dx, dlogits and the gradients by parameter and table or, where add_up is nullptr, what they are the sums of.
template <Run run, auto add_up>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& given_gradient, const MaybeTensor& input, const MaybeTensor& given_logits, const MaybeTensor& parameter,
    const MaybeTensor& table, const MaybeTensor& given_saved, int64_t H, int64_t W, bool channels_last, int64_t reducer,
    const std::vector<int64_t>& window, const std::vector<double>& numbers, bool parameter_gradient) {
    constexpr bool adds_up = !std::is_null_pointer_v<decltype(add_up)>;
    const Tensor gradient = in_format(given_gradient, channels_last);
    const int64_t N = gradient.size(0), C = gradient.size(1);
    Call call = call_of(gradient, N, C, H, W, channels_last, reducer, window, numbers);
    const Window& w = call.window;
    give(call, parameter, table);
    MaybeTensor x, logits, saved;
    if (input) x = in_format(*input, channels_last);
    if (given_logits) logits = in_format(*given_logits, channels_last);
    if (given_saved) saved = in_format(*given_saved, channels_last);
    STD_TORCH_CHECK(gradient.size(2) == w.oh && gradient.size(3) == w.ow, "pooling: a gradient of the wrong size");
    call.gradient = gradient.const_data_ptr();
    call.x = data(x);
    call.logits = data(logits);
    if (saved) find_saved(call, *saved, const_cast<void*>(data(saved)));
    const Tensor dx = empty_as(gradient, N, C, H, W, channels_last, gradient.scalar_type());
    const Tensor dlogits = empty_as(gradient, logits ? N : 0, C, H, W, channels_last, gradient.scalar_type());
    call.dx = dx.mutable_data_ptr();
    call.dlogits = logits ? dlogits.mutable_data_ptr() : nullptr;
    MaybeTensor sums;
    if (parameter_gradient) {
        const ScalarType wide = call.dtype == Dtype::Double ? ScalarType::Double : ScalarType::Float;
        const int64_t columns = adds_up ? columns_of_slopes(call) : w.ow;
        sums = empty_as(gradient, slopes_by_parameter(call) * N, C, w.oh, columns, channels_last, wide);
        call.slope_sums = sums->mutable_data_ptr();
        call.rows_of_sums = rows_of_sums(w);
    }
    Tensor dparameter = gradient_by(parameter, parameter_gradient && adds_up, gradient);
    Tensor dtable = gradient_by(table, parameter_gradient && adds_up && has_slopes_by_table(call), gradient);
    if (dparameter.numel() > 0) call.dparameter = dparameter.mutable_data_ptr();
    if (dtable.numel() > 0) call.dtable = dtable.mutable_data_ptr();
    if (dx.numel() > 0) {
        run(call, gradient);
        if constexpr (adds_up) {
            if (sums) add_up(call);
        }
    } else {
        for (Tensor* sum : {&dparameter, &dtable}) torch::stable::zero_(*sum);
    }
    if (!adds_up && sums) return {dx, dlogits, *sums, dtable};
    return {dx, dlogits, dparameter, dtable};
}

}  // namespace poolzoo

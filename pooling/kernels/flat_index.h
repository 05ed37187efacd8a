// The flat index into H * W of each output's saved tap, as torch's max pooling returns it, for every device.
#pragma once

#include "binding.h"

// window: as for pool2d. -1 where an output has no tap.
#define POOLZOO_FLAT_INDEX "(Tensor taps, int[] window, SymInt H, SymInt W) -> Tensor"
// Both in one call, where no gradient is asked for.
#define POOLZOO_MAX_WITH_INDICES "(Tensor x, int[] window) -> (Tensor, Tensor)"

namespace poolzoo {

struct FlatIndex {
    Window window;
    bool wide_taps;
    const void* taps;
    int64_t* index;

    HD int64_t row(int64_t i) const { return window.row_start(i) * window.W; }
    HD int64_t of_tap(int64_t tap) const {
        const int64_t r = tap / window.kw;
        return r * window.dh * window.W + (tap - r * window.kw) * window.dw;
    }
    HD static bool is_none(uint8_t tap) { return tap == 255; }
    HD static bool is_none(int32_t tap) { return tap < 0; }
};

using RunFlatIndex = void (*)(const FlatIndex&, const Tensor& like);

template <RunFlatIndex run>
Tensor flat_index(const Tensor& given, const std::vector<int64_t>& n, int64_t H, int64_t W) {
    const ScalarType type = given.scalar_type();
    STD_TORCH_CHECK(given.dim() == 4 && (type == ScalarType::Byte || type == ScalarType::Int),
                    "pooling: taps must be (N, C, H', W') of uint8 or int32");
    STD_TORCH_CHECK(n.size() == 12 && n[8] == given.size(2) && n[9] == given.size(3), "pooling: taps of another window");
    const bool channels_last = is_channels_last(given);
    const Tensor taps = in_format(given, channels_last);
    const int64_t N = given.size(0), C = given.size(1);
    const Tensor index = empty_as(taps, N, C, n[8], n[9], channels_last, ScalarType::Long);
    FlatIndex f{{N, C, H, W, n[8], n[9], n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], channels_last, Border::Skip},
                type == ScalarType::Int, taps.const_data_ptr(), static_cast<int64_t*>(index.mutable_data_ptr())};
    if (index.numel() > 0) run(f, taps);
    return index;
}

void run_forward(const Call& call, const Tensor& like);

template <Run forward, RunFlatIndex run>
std::tuple<Tensor, Tensor> max_with_indices(const Tensor& x, const std::vector<int64_t>& window) {
    const int64_t max = static_cast<int64_t>(Reducer::Max);
    const auto [y, taps] = reduced(forward, x, {}, {}, {}, {}, max, window, {1, 0, 0}, true);
    return {y, flat_index<run>(*taps, window, x.size(2), x.size(3))};
}

}  // namespace poolzoo

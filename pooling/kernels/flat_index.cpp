// Flat indices: declaration and CPU driver, which looks taps up in a table.
#include "flat_index.h"

namespace poolzoo {
namespace {

// The indices of `count` taps, of windows that start at number `at` and `step` further on each.
template <class Tap>
void look_up(const Tap* taps, int64_t count, const int64_t* of_tap, int64_t at, int64_t step, int64_t* index) {
    for (int64_t k = 0; k < count; k++) {
        const bool none = FlatIndex::is_none(taps[k]);
        const int64_t found = at + k * step + of_tap[none ? 0 : taps[k]];
        index[k] = none ? -1 : found;
    }
}

template <class Tap>
void rows(const FlatIndex& f, const std::vector<int64_t>& of_tap, int64_t begin, int64_t end) {
    const Window& w = f.window;
    const int64_t run = w.channels_last ? w.C : w.ow, runs = w.channels_last ? w.ow : 1;
    for (int64_t row = begin; row < end; row++) {
        for (int64_t k = 0; k < runs; k++) {
            const int64_t first = (row * runs + k) * run, at = f.row(row % w.oh) + w.column_start(k);
            look_up(static_cast<const Tap*>(f.taps) + first, run, of_tap.data(), at, w.channels_last ? 0 : w.sw, f.index + first);
        }
    }
}

void run(const FlatIndex& f, const Tensor&) {
    const Window& w = f.window;
    std::vector<int64_t> of_tap;
    for (int64_t tap = 0; tap < w.taps(); tap++) of_tap.push_back(f.of_tap(tap));
    const int64_t planes = w.channels_last ? w.N : w.N * w.C, length = w.ow * (w.channels_last ? w.C : 1);
    torch::stable::parallel_for(0, planes * w.oh, 16384 / length + 1, [&](int64_t begin, int64_t end) {
        f.wide_taps ? rows<int32_t>(f, of_tap, begin, end) : rows<uint8_t>(f, of_tap, begin, end);
    });
}

}  // namespace
}  // namespace poolzoo

STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo, m) { m.def("flat_index" POOLZOO_FLAT_INDEX); }

STABLE_TORCH_LIBRARY_IMPL(poolzoo, CPU, m) { m.impl("flat_index", TORCH_BOX(&poolzoo::flat_index<poolzoo::run>)); }

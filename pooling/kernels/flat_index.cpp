// Flat indices: declaration and CPU driver.
#include "flat_index.h"

#include <algorithm>

#include "lanes.h"

namespace poolzoo {
namespace {

using I = Int32Lanes;
constexpr int L = Lanes<I>::count;
typedef int64_t Wide __attribute__((vector_size(8 * L)));

// The indices of `count` taps, of windows that start at number `at` and `step` further on each.
template <class Tap>
void find(const FlatIndex& f, const Tap* taps, int64_t count, int64_t at, int64_t step, int64_t* index) {
    const Window& w = f.window;
    const bool vectors = sizeof(Tap) == 1 && count >= L && (w.kh * w.dh + w.sw + 1) * w.W < int64_t{1} << 31;
    for (int64_t k = 0; !vectors && k < count; k++) {
        index[k] = FlatIndex::is_none(taps[k]) ? -1 : at + k * step + f.of_tap(taps[k]);
    }
    if (!vectors) return;
    const int inverse = (65536 + w.kw - 1) / w.kw;  // 255 kw < 65536: tap * inverse / 65536 is tap / kw
    const int column = w.dw, row = w.dh * w.W - w.kw * w.dw;
    I further;
    for (int l = 0; l < L; l++) further[l] = l * static_cast<int>(step);
    for (int64_t k = 0; k < count; k += L) {
        const int64_t from = std::min(k, count - L);  // the last ones end with the run
        const I tap = widened<I>(taps + from), none = tap == 255;
        const I found = tap * column + (tap * inverse >> 16) * row + further;
        store(index + from, (__builtin_convertvector(found, Wide) + (at + from * step)) | __builtin_convertvector(none, Wide));
    }
}

template <class Tap>
void rows(const FlatIndex& f, int64_t begin, int64_t end) {
    const Window& w = f.window;
    const int64_t run = w.channels_last ? w.C : w.ow, runs = w.channels_last ? w.ow : 1;
    for (int64_t row = begin; row < end; row++) {
        for (int64_t k = 0; k < runs; k++) {
            const int64_t first = (row * runs + k) * run, at = f.row(row % w.oh) + w.column_start(k);
            find(f, static_cast<const Tap*>(f.taps) + first, run, at, w.channels_last ? 0 : w.sw, f.index + first);
        }
    }
}

void run(const FlatIndex& f, const Tensor&) {
    const Window& w = f.window;
    const int64_t planes = w.channels_last ? w.N : w.N * w.C, length = w.ow * (w.channels_last ? w.C : 1);
    torch::stable::parallel_for(0, planes * w.oh, 16384 / length + 1, [&](int64_t begin, int64_t end) {
        f.wide_taps ? rows<int32_t>(f, begin, end) : rows<uint8_t>(f, begin, end);
    });
}

}  // namespace
}  // namespace poolzoo

STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo, m) { m.def("flat_index" POOLZOO_FLAT_INDEX); }

STABLE_TORCH_LIBRARY_IMPL(poolzoo, CPU, m) { m.impl("flat_index", TORCH_BOX(&poolzoo::flat_index<poolzoo::run>)); }

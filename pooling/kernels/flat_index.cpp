// Flat indices: declaration and CPU driver, which looks taps up in a table.
#include "flat_index.h"

namespace poolzoo {
namespace {

template <class Tap>
void rows(const FlatIndex& f, const std::vector<int64_t>& of_tap, int64_t begin, int64_t end) {
    const Window& w = f.window;
    const int64_t length = w.ow * (w.channels_last ? w.C : 1), run = w.channels_last ? w.C : 1;
    for (int64_t row = begin; row < end; row++) {
        const Tap* taps = static_cast<const Tap*>(f.taps) + row * length;
        int64_t *index = f.index + row * length, at = f.row(row % w.oh) - w.pw;
        for (int64_t j = 0; j < w.ow; j++, at += w.sw) {
            for (int64_t k = j * run; k < (j + 1) * run; k++) {
                index[k] = FlatIndex::is_none(taps[k]) ? -1 : at + of_tap[taps[k]];
            }
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

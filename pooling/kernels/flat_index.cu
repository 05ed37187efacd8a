// Flat indices: CUDA driver; compiled as C++, part of the library for tests (see cuda.cu).
#include "device.h"
#include "flat_index.h"
#include "launch.h"
#include "threads.h"

namespace poolzoo {
namespace {

struct FlatIndexFrame {
    FlatIndex f;
    Layout outputs;
};

template <class Tap>
struct OneIndex {
    HD static void run(const FlatIndexFrame& frame, int64_t index) {
        const FlatIndex& f = frame.f;
        const Layout::Place at = frame.outputs.place(index);
        const Tap tap = static_cast<const Tap*>(f.taps)[index];
        f.index[index] = FlatIndex::is_none(tap) ? -1 : f.row(at.h) + f.window.column_start(at.w) + f.of_tap(tap);
    }
};

}  // namespace

void run_flat_index(const FlatIndex& f, const Tensor& like) {
    const Device device(like);
    const Window& w = f.window;
    const FlatIndexFrame frame{f, Layout(w.N, w.C, w.oh, w.ow, w.channels_last)};
    if (f.wide_taps) {
        launch<OneIndex<int32_t>>(frame, frame.outputs.count, device.stream);
    } else {
        launch<OneIndex<uint8_t>>(frame, frame.outputs.count, device.stream);
    }
    device.check();
}

}  // namespace poolzoo

#ifdef __CUDACC__
STABLE_TORCH_LIBRARY_IMPL(poolzoo, CUDA, m) {
#else
STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo_threads, m) {
    m.def("flat_index" POOLZOO_FLAT_INDEX);
    m.def("max_with_indices" POOLZOO_MAX_WITH_INDICES);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo_threads, CPU, m) {
#endif
    m.impl("flat_index", TORCH_BOX(&poolzoo::flat_index<poolzoo::run_flat_index>));
    m.impl("max_with_indices", TORCH_BOX((&poolzoo::max_with_indices<poolzoo::run_forward, poolzoo::run_flat_index>)));
}

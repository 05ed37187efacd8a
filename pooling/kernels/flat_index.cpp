// Flat indices: declaration and CPU driver.
#include "flat_index.h"

#include <algorithm>

#include "lanes.h"
#include "scratch.h"

namespace poolzoo {
namespace {

using I = Int32Lanes;
constexpr int L = Lanes<I>::count;
typedef int64_t Wide __attribute__((vector_size(8 * L)));

// The indices of `count` taps of windows that start at number `at` and at `starts` from there.
template <class Tap>
void find(const FlatIndex& f, const Tap* taps, int64_t count, int64_t at, const int32_t* starts, int64_t* index) {
    const Window& w = f.window;
    const bool vectors = sizeof(Tap) == 1 && count >= L && w.H * w.W < int64_t{1} << 30;
    for (int64_t k = 0; !vectors && k < count; k++) {
        index[k] = FlatIndex::is_none(taps[k]) ? -1 : at + starts[k] + f.of_tap(taps[k]);
    }
    if (!vectors) return;
    const int inverse = (65536 + w.kw - 1) / w.kw;  // 255 kw < 65536: tap * inverse / 65536 is tap / kw
    const int column = w.dw, row = w.dh * w.W - w.kw * w.dw;
    for (int64_t k = 0; k < count; k += L) {
        const int64_t from = std::min(k, count - L);  // the last ones end with the run
        const I tap = widened<I>(taps + from), none = tap == 255;
        const I found = tap * column + (tap * inverse >> 16) * row + load<I>(starts + from);
        store(index + from, (__builtin_convertvector(found, Wide) + at) | __builtin_convertvector(none, Wide));
    }
}

// Rows of outputs, or where they are short whole planes.
struct Runs {
    bool planes;
    int64_t count, length;  // runs of so many outputs
    Buffer<int32_t> starts;

    explicit Runs(const Window& w) : planes(!w.channels_last && w.ow < L && w.H * w.W < int64_t{1} << 30) {
        const int64_t rows = w.oh * (w.channels_last ? w.N : w.N * w.C);
        count = planes ? w.N * w.C : w.channels_last ? rows * w.ow : rows;
        length = planes ? w.oh * w.ow : w.channels_last ? w.C : w.ow;
        starts.resize(length);
        for (int64_t k = 0; k < length && !w.channels_last; k++) {
            const int64_t i = k / w.ow, j = k - i * w.ow;
            starts[k] = static_cast<int32_t>((planes ? w.row_start(i) * w.W : 0) + w.column_start(j));
        }
    }
    // Where a run's windows start, beside `starts`.
    int64_t at(const Window& w, int64_t run) const {
        if (planes) return 0;
        if (!w.channels_last) return w.row_start(run % w.oh) * w.W;
        return w.row_start(run / w.ow % w.oh) * w.W + w.column_start(run % w.ow);
    }
};

template <class Tap>
void find_runs(const FlatIndex& f, const Runs& runs, int64_t begin, int64_t end) {
    for (int64_t run = begin; run < end; run++) {
        const int64_t first = run * runs.length;
        const Tap* taps = static_cast<const Tap*>(f.taps) + first;
        find(f, taps, runs.length, runs.at(f.window, run), runs.starts.data(), f.index + first);
    }
}

}  // namespace

void run_flat_index(const FlatIndex& f, const Tensor&) {
    const Runs runs(f.window);
    const auto body = [&](int64_t begin, int64_t end) {
        f.wide_taps ? find_runs<int32_t>(f, runs, begin, end) : find_runs<uint8_t>(f, runs, begin, end);
    };
    const int64_t grain = 16384 / runs.length + 1;
    runs.count <= grain ? body(0, runs.count) : torch::stable::parallel_for(0, runs.count, grain, body);
}

}  // namespace poolzoo

STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo, m) {
    m.def("flat_index" POOLZOO_FLAT_INDEX);
    m.def("max_with_indices" POOLZOO_MAX_WITH_INDICES);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo, CPU, m) {
    m.impl("flat_index", TORCH_BOX(&poolzoo::flat_index<poolzoo::run_flat_index>));
    m.impl("max_with_indices", TORCH_BOX((&poolzoo::max_with_indices<poolzoo::run_forward, poolzoo::run_flat_index>)));
}

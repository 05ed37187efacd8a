// The polyphase operators' CUDA driver; compiled as C++, part of the library for tests (see cuda.cu).
//
// Norms are summed in three steps, one thread to a sum; gather and scatter have one thread to each number they write. The
// host does not wait to see a phase: an image whose phase is none becomes NaN.
#include "device.h"
#include "launch.h"
#include "polyphase.h"
#include "threads.h"

namespace poolzoo {
namespace {

// A call as its threads see it. By-column sums are a tensor (N, C, sh, ow * sw) in x's memory format, those by channel
// are (N, sh * sw, C).
struct PolyphaseFrame {
    Polyphase p;
    Layout x, y, by_column, by_channel;
    double *column_sums = nullptr, *channel_sums = nullptr;

    explicit PolyphaseFrame(const Polyphase& call)
        : p(call), x(p.N, p.C, p.H, p.W, p.channels_last), y(p.N, p.C, p.oh, p.ow, p.channels_last),
          by_column(p.N, p.C, p.sh, int64_t{p.ow} * p.sw, p.channels_last), by_channel(p.N, 1, p.components(), p.C, false) {}
};

template <class S>
struct ColumnNorm {
    HD static void run(const PolyphaseFrame& f, int64_t index) {
        const Polyphase& p = f.p;
        const Layout::Place at = f.by_column.place(index);
        const Component rows = p.rows(at.h);
        const int w = p.columns(at.w % p.sw).source(at.w / p.sw);
        const int64_t plane = f.x.plane(at.n, at.c);
        double norm = 0;
        for (int i = 0; i < p.oh && w >= 0; i++) {
            const int h = rows.source(i);
            if (h >= 0) norm = with_member(norm, widened(static_cast<const S*>(p.x)[f.x.at(plane, h, w)]), p.order);
        }
        f.column_sums[index] = norm;
    }
};

struct ChannelNorm {
    HD static void run(const PolyphaseFrame& f, int64_t index) {
        const Polyphase& p = f.p;
        const Layout::Place at = f.by_channel.place(index);
        const int64_t plane = f.by_column.plane(at.n, at.w);
        double norm = 0;
        for (int j = 0; j < p.ow; j++) {
            norm = with_part(norm, f.column_sums[f.by_column.at(plane, at.h / p.sw, at.h % p.sw + j * p.sw)], p.order);
        }
        f.channel_sums[index] = norm;
    }
};

struct ImageNorm {
    HD static void run(const PolyphaseFrame& f, int64_t index) {
        double norm = 0;
        for (int c = 0; c < f.p.C; c++) norm = with_part(norm, f.channel_sums[index * f.p.C + c], f.p.order);
        f.p.norms[index] = norm;
    }
};

template <class S>
struct Gather {
    HD static void run(const PolyphaseFrame& f, int64_t index) {
        const Polyphase& p = f.p;
        const Layout::Place at = f.y.place(index);
        Wide<S> value = NAN;
        if (p.has_phase(at.n)) {
            const int h = p.chosen_rows(at.n).source(at.h), w = p.chosen_columns(at.n).source(at.w);
            value = h < 0 || w < 0 ? Wide<S>(0) : widened(static_cast<const S*>(p.x)[f.x.at(f.x.plane(at.n, at.c), h, w)]);
        }
        narrow(value, static_cast<S*>(p.y)[index]);
    }
};

template <class S>
struct Scatter {
    HD static void run(const PolyphaseFrame& f, int64_t index) {
        const Polyphase& p = f.p;
        const Layout::Place at = f.x.place(index);
        Wide<S> sum = NAN;
        if (p.has_phase(at.n)) {
            const Component::Indices rows = p.chosen_rows(at.n).standing_for(at.h);
            const Component::Indices columns = p.chosen_columns(at.n).standing_for(at.w);
            const int64_t plane = f.y.plane(at.n, at.c);
            sum = 0;
            for (const int i : {rows.own, rows.last}) {
                for (const int j : {columns.own, columns.last}) {
                    if (i >= 0 && j >= 0) sum = sum + widened(static_cast<const S*>(p.gradient)[f.y.at(plane, i, j)]);
                }
            }
        }
        narrow(sum, static_cast<S*>(p.dx)[index]);
    }
};

struct FindPhase {
    HD static void run(const PolyphaseFrame& f, int64_t n) { f.p.found[n] = f.p.largest(static_cast<int>(n)); }
};

Tensor doubles(const Tensor& like, int64_t count) { return empty_as(like, 1, 1, 1, count, false, ScalarType::Double); }

void run_norms(const Polyphase& p, const Tensor& like) {
    const Device device(like);
    PolyphaseFrame frame(p);
    const Tensor columns = doubles(like, frame.by_column.count), channels = doubles(like, frame.by_channel.count);
    frame.column_sums = static_cast<double*>(columns.mutable_data_ptr());
    frame.channel_sums = static_cast<double*>(channels.mutable_data_ptr());
    with_storage(p.dtype, [&](auto type) {
        launch<ColumnNorm<decltype(type)>>(frame, frame.by_column.count, device.stream);
    });
    launch<ChannelNorm>(frame, frame.by_channel.count, device.stream);
    launch<ImageNorm>(frame, int64_t{p.N} * p.components(), device.stream);
    device.check();
}

void run_choose(const Polyphase& given, const Tensor& like) {
    const Device device(like);
    const Tensor norms = empty_norms(like, given);
    Polyphase p = given;
    p.norms = static_cast<double*>(norms.mutable_data_ptr());
    run_norms(p, like);
    launch<FindPhase>(PolyphaseFrame(p), p.N, device.stream);
    device.check();
}

void run_gather(const Polyphase& p, const Tensor& like) {
    const Device device(like);
    const PolyphaseFrame frame(p);
    with_storage(p.dtype, [&](auto type) { launch<Gather<decltype(type)>>(frame, frame.y.count, device.stream); });
    device.check();
}

void run_pool(const Polyphase& p, const Tensor& like) {
    run_choose(p, like);
    if (p.has_outputs()) run_gather(p, like);
}

void run_scatter(const Polyphase& p, const Tensor& like) {
    const Device device(like);
    const PolyphaseFrame frame(p);
    with_storage(p.dtype, [&](auto type) { launch<Scatter<decltype(type)>>(frame, frame.x.count, device.stream); });
    device.check();
}

}  // namespace
}  // namespace poolzoo

#ifdef __CUDACC__
STABLE_TORCH_LIBRARY_IMPL(poolzoo, CUDA, m) {
#else
STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo_threads, m) {
    m.def("polyphase_norms" POOLZOO_POLYPHASE_NORMS);
    m.def("polyphase_pool" POOLZOO_POLYPHASE_POOL);
    m.def("polyphase_pool_forward" POOLZOO_POLYPHASE_POOL);
    m.def("polyphase_gather" POOLZOO_POLYPHASE_GATHER);
    m.def("polyphase_scatter" POOLZOO_POLYPHASE_SCATTER);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo_threads, CPU, m) {
#endif
    m.impl("polyphase_norms", TORCH_BOX(&poolzoo::polyphase_norms<poolzoo::run_norms>));
    m.impl("polyphase_pool", TORCH_BOX(&poolzoo::polyphase_pool<poolzoo::run_pool>));
    m.impl("polyphase_pool_forward", TORCH_BOX(&poolzoo::polyphase_pool<poolzoo::run_pool>));
    m.impl("polyphase_gather", TORCH_BOX(&poolzoo::polyphase_gather<poolzoo::run_gather>));
    m.impl("polyphase_scatter", TORCH_BOX(&poolzoo::polyphase_scatter<poolzoo::run_scatter>));
}

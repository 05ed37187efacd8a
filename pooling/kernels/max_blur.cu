// The fused max and blur's CUDA driver: one thread, one output forward; one thread, one input backward. Each finds the
// maxima that it needs again: neighbouring threads look at the same values, which are then near. Compiled as C++, part of
// the library for tests (see cuda.cu).
#include "max_blur.h"

#include "device.h"
#include "launch.h"
#include "threads.h"

namespace poolzoo {
namespace {

// A call as its threads see it: an axis of the max and one of the filter each way.
struct MaxBlurFrame {
    MaxBlur p;
    Layout x, y;
    Axis rows, columns, row_filter, column_filter;

    explicit MaxBlurFrame(const MaxBlur& c)
        : p(c), x(p.N, p.C, p.H, p.W, p.channels_last), y(p.N, p.C, p.oh, p.ow, p.channels_last),
          rows{p.H, p.H1, p.kh, 1, p.ph, p.dh, Border::Skip, Divider(1), Divider(p.dh)},
          columns{p.W, p.W1, p.kw, 1, p.pw, p.dw, Border::Skip, Divider(1), Divider(p.dw)},
          row_filter{p.H1, p.oh, p.length, p.sh, p.before, 1, p.border, Divider(p.sh), Divider(1)},
          column_filter{p.W1, p.ow, p.length, p.sw, p.before, 1, p.border, Divider(p.sw), Divider(1)} {}
};

// The max at (d, e) of a plane of x, and the tap that has it: the first, of NaNs the last.
template <class T>
struct Found {
    T value;
    int tap;
};
template <class S>
HD Found<Wide<S>> found(const MaxBlurFrame& f, int64_t plane, int d, int e) {
    const Span rows = f.rows.seen(d), columns = f.columns.seen(e);
    Found<Wide<S>> best{-INFINITY, rows.begin * f.p.kw + columns.begin};
    for (int r = rows.begin; r < rows.end; r++) {
        for (int t = columns.begin; t < columns.end; t++) {
            const int64_t at = f.x.at(plane, f.rows.position(d, r), f.columns.position(e, t));
            const Wide<S> value = widened(static_cast<const S*>(f.p.x)[at]);
            if (value > best.value || value != value) best = {value, r * f.p.kw + t};
        }
    }
    return best;
}

template <class S>
struct MaxBlurForward {
    using T = Wide<S>;
    HD static void run(const MaxBlurFrame& f, int64_t index) {
        const MaxBlur& p = f.p;
        const Layout::Place at = f.y.place(index);
        const int64_t plane = f.x.plane(at.n, at.c);
        const T* weights = static_cast<const T*>(p.row);
        T sum = 0;
        for (int u = 0; u < p.length; u++) {
            const int d = f.row_filter.position(at.h, u);
            for (int v = 0; v < p.length && d >= 0 && d < p.H1; v++) {
                const int e = f.column_filter.position(at.w, v);
                if (e >= 0 && e < p.W1) sum = sum + weights[u] * weights[v] * found<S>(f, plane, d, e).value;
            }
        }
        narrow(sum, static_cast<S*>(p.y)[index]);
    }
};

template <class S>
struct MaxBlurBackward {
    using T = Wide<S>;
    // The gradient by the max at (d, e).
    HD static T by_maximum(const MaxBlurFrame& f, int64_t plane, int d, int e) {
        const T* weights = static_cast<const T*>(f.p.row);
        T sum = 0;
        f.row_filter.windows_that_see(d, [&](int i, int u) {
            f.column_filter.windows_that_see(e, [&](int j, int v) {
                const T gradient = widened(static_cast<const S*>(f.p.gradient)[f.y.at(plane, i, j)]);
                sum = sum + weights[u] * weights[v] * gradient;
            });
        });
        return sum;
    }
    HD static void run(const MaxBlurFrame& f, int64_t index) {
        const Layout::Place at = f.x.place(index);
        const int64_t plane = f.x.plane(at.n, at.c), gradients = f.y.plane(at.n, at.c);
        T sum = 0;
        f.rows.windows_with(at.h, [&](int d, int r) {
            f.columns.windows_with(at.w, [&](int e, int t) {
                if (found<S>(f, plane, d, e).tap == r * f.p.kw + t) sum = sum + by_maximum(f, gradients, d, e);
            });
        });
        narrow(sum, static_cast<S*>(f.p.dx)[index]);
    }
};

template <template <class> class Thread>
void run(const MaxBlur& p, const Layout& over, const MaxBlurFrame& frame, const Tensor& like) {
    const Device device(like);
    with_storage(p.dtype, [&](auto type) { launch<Thread<decltype(type)>>(frame, over.count, device.stream); });
    device.check();
}

void run_forward(const MaxBlur& p, const Tensor& like) {
    const MaxBlurFrame frame(p);
    run<MaxBlurForward>(p, frame.y, frame, like);
}
void run_backward(const MaxBlur& p, const Tensor& like) {
    const MaxBlurFrame frame(p);
    run<MaxBlurBackward>(p, frame.x, frame, like);
}

}  // namespace
}  // namespace poolzoo

#ifdef __CUDACC__
STABLE_TORCH_LIBRARY_IMPL(poolzoo, CUDA, m) {
#else
STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo_threads, m) {
    m.def("max_blur" POOLZOO_MAX_BLUR);
    m.def("max_blur_forward" POOLZOO_MAX_BLUR);
    m.def("max_blur_backward" POOLZOO_MAX_BLUR_BACKWARD);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo_threads, CPU, m) {
#endif
    m.impl("max_blur", TORCH_BOX(&poolzoo::max_blur<poolzoo::run_forward>));
    m.impl("max_blur_forward", TORCH_BOX(&poolzoo::max_blur<poolzoo::run_forward>));
    m.impl("max_blur_backward", TORCH_BOX(&poolzoo::max_blur_backward<poolzoo::run_backward>));
}

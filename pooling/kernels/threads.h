// The CUDA driver's threads as functions of their linear index: one thread, one output forward; one thread, one input
// backward, gathering from the windows that cover it, in a fixed order and without atomics.
//
// Adjacent threads take adjacent columns (NCHW) or channels (NHWC). Nothing here is CUDA's own: compiled as C++ the same
// threads run one after another, which is how machines without a GPU test them.
#pragma once

#include <initializer_list>

#include "call.h"
#include "dtypes.h"
#include "means.h"
#include "norms.h"
#include "philox.h"
#include "random_reducers.h"
#include "rank.h"

namespace poolzoo {

// Division by a number that is known at the launch: a product and a shift (Granlund & Montgomery 1994) up to 2^31.
struct Divider {
    uint32_t divisor, magic;
    int shift;

    Divider() = default;
    explicit Divider(int64_t d) : divisor(static_cast<uint32_t>(d)), magic(0), shift(0) {
        if (d == 0) return;  // of an empty tensor, which has no threads
        while (int64_t{1} << shift < d) shift++;
        magic = static_cast<uint32_t>((((uint64_t{1} << shift) - divisor) << 32) / divisor + 1);
    }
    HD uint32_t quotient(uint32_t n) const {
        return static_cast<uint32_t>((((static_cast<uint64_t>(n) * magic) >> 32) + n) >> shift);
    }
    HD int64_t quotient(int64_t n) const {
        return n >> 31 == 0 ? quotient(static_cast<uint32_t>(n)) : n / static_cast<int64_t>(divisor);
    }
    HD int quotient(int n) const { return static_cast<int>(quotient(static_cast<uint32_t>(n))); }
};

// Where a tensor's elements are.
struct Layout {
    int64_t count, image_step, channel_step, row_step;
    int column_step;
    Divider fast, middle, slow;  // the three inner lengths, innermost first
    bool channels_last;

    struct Place {
        int n, c, h, w;
    };

    Layout() = default;
    Layout(int64_t N, int64_t C, int64_t H, int64_t W, bool last)
        : count(N * C * H * W), image_step(C * H * W), channel_step(last ? 1 : H * W), row_step(last ? W * C : W),
          column_step(static_cast<int>(last ? C : 1)), fast(last ? C : W), middle(last ? W : H), slow(last ? H : C),
          channels_last(last) {}
    HD Place place(int64_t index) const {
        const int64_t b = fast.quotient(index), c = middle.quotient(b), n = slow.quotient(c);
        const int first = static_cast<int>(index - b * fast.divisor), second = static_cast<int>(b - c * middle.divisor);
        const int third = static_cast<int>(c - n * slow.divisor), image = static_cast<int>(n);
        return channels_last ? Place{image, first, third, second} : Place{image, third, second, first};
    }
    HD int64_t plane(int n, int c) const { return n * image_step + c * channel_step; }
    HD int64_t at(int64_t plane, int h, int w) const {
        return plane + h * row_step + static_cast<int64_t>(w) * column_step;
    }
};

// One axis of the windows.
struct Axis {
    int length, out, taps, stride, padding, dilation;
    Border border;
    Divider by_stride, by_dilation;

    HD int start(int i) const { return i * stride - padding; }
    HD int reach() const { return (taps - 1) * dilation + 1; }
    // The taps inside [0, length) of a window that starts at `start`.
    HD Span inside(int start, int length) const {
        const int begin = start >= 0 ? 0 : by_dilation.quotient(-start + dilation - 1);
        const int end = start >= length ? 0 : by_dilation.quotient(length - start + dilation - 1);
        const int last = end < taps ? end : taps;
        return {begin < last ? begin : last, last};
    }
    // The taps that window i sees: a filter sees past the border.
    HD Span seen(int i) const { return border == Border::Skip ? inside(start(i), length) : Span{0, taps}; }
    HD int counted(int i, bool with_padding) const {
        const Span s = with_padding ? inside(i * stride, length + 2 * padding) : inside(start(i), length);
        return s.end - s.begin;
    }
    HD int position(int i, int tap) const {
        const int at = start(i) + tap * dilation;
        return border == Border::Skip || (at >= 0 && at < length) ? at : continued(at, length, border);
    }
    // body(i, tap) for each window i whose tap lies at `at`, which may be past the border.
    template <class Body>
    HD void windows_with(int at, Body body) const {
        const int near = at + padding;
        const int last = by_stride.quotient(near);
        for (int i = near < reach() ? 0 : by_stride.quotient(near - reach()) + 1; i <= last && i < out; i++) {
            const int offset = near - i * stride, tap = by_dilation.quotient(offset);
            if (tap * dilation == offset) body(i, tap);
        }
    }
    // body(i, tap) for each window i whose tap sees input `at`: from there, and for a filter from the places in the
    // margins that stand for it. One call of `windows_with`, since each is compiled in place.
    template <class Body>
    HD void windows_that_see(int at, Body body) const {
        const bool folds = border != Border::Skip;
        const int far = folds ? start(out - 1) + reach() : 0, end = far > at ? far : at + 1;
        for (int p = folds && padding > 0 ? -padding : at; p < end; p = p == -1 ? at : p == at ? length : p + 1) {
            if (p == at || continued(p, length, border) == at) windows_with(p, body);
        }
    }
};

// A call as its threads see it.
struct Frame {
    Call call;
    Layout input, output;
    Axis rows, columns;
    void* states = nullptr;  // backward, where the reducer keeps them: one per output

    explicit Frame(const Call& c)
        : call(c), input(c.window.N, c.window.C, c.window.H, c.window.W, c.window.channels_last),
          output(c.window.N, c.window.C, c.window.oh, c.window.ow, c.window.channels_last) {
        const Window& w = c.window;
        const auto axis = [&](int64_t length, int64_t out, int64_t taps, int64_t stride, int64_t padding, int64_t dilation) {
            const auto n = [](int64_t value) { return static_cast<int>(value); };
            return Axis{n(length), n(out), n(taps), n(stride), n(padding), n(dilation), w.border, Divider(stride),
                        Divider(dilation)};
        };
        rows = axis(w.H, w.oh, w.kh, w.sh, w.ph, w.dh);
        columns = axis(w.W, w.ow, w.kw, w.sw, w.pw, w.dw);
    }
    // Whether each size and position is an int; the number of elements may be larger.
    static bool fits(const Window& w) {
        const int64_t most = int64_t{1} << 30;
        const int64_t far_h = w.oh * w.sh + w.kh * w.dh + w.ph, far_w = w.ow * w.sw + w.kw * w.dw + w.pw;
        for (int64_t n : {w.N, w.C, w.H, w.W, w.oh, w.ow, w.taps(), w.sh, w.sw, w.dh, w.dw, far_h, far_w}) {
            if (n < 0 || n >= most) return false;
        }
        return true;
    }
};

// One output's window.
template <template <class> class R, class S>
struct View {
    using T = Wide<S>;
    using Reduce = R<T>;
    using State = typename Reduce::State;
    static constexpr Traits traits = Reduce::traits;
    // Backward: a window's state is found once and kept for the inputs that gather from it, unless it is large.
    static constexpr bool by_value = !traits.linear && !traits.indexed;
    static constexpr bool keeps_states = by_value && sizeof(State) <= 64;

    const Frame& f;
    Layout::Place p;  // of the output
    Given<T> given;

    HD View(const Frame& frame, Layout::Place place) : f(frame), p(place) {
        const Call& call = f.call;
        const T* parameter = static_cast<const T*>(call.parameter);
        given.parameter = parameter == nullptr ? static_cast<T>(call.fixed_parameter)
                                               : parameter[call.parameter_per_channel ? p.c : 0];
        given.uniform = 0;
        given.count = static_cast<T>(call.fixed_divisor);
        if (call.divisor != Divisor::Fixed) {
            const bool padded = call.divisor == Divisor::Padded;
            given.count = static_cast<T>(f.rows.counted(p.h, padded)) * static_cast<T>(f.columns.counted(p.w, padded));
        }
        given.table = static_cast<const T*>(call.table) + p.c * call.table_step;
        given.taps = call.window.taps();
        given.table_step = 0;
        given.tables = 1;
        given.common_count = static_cast<int>(given.count);
        given.option = static_cast<T>(call.option);
    }
    // The draw has the output's place in (N, C, H', W'), whatever the memory format.
    HD void draw() {
        if (!f.call.seeded) return;
        const Window& w = f.call.window;
        const int64_t index = ((p.n * w.C + p.c) * w.oh + p.h) * w.ow + p.w;
        given.uniform = uniform(*static_cast<const uint64_t*>(f.call.seed_at), index);
    }

    template <int pass>
    HD void one_pass(const Reduce& reducer, State& s) const {
        const int64_t plane = f.input.plane(p.n, p.c);
        const Span rows = f.rows.seen(p.h), columns = f.columns.seen(p.w);
        for (int r = rows.begin; r < rows.end; r++) {
            const int64_t row = f.input.at(plane, f.rows.position(p.h, r), 0);
            for (int t = columns.begin; t < columns.end; t++) {
                const int64_t at = f.input.at(row, 0, f.columns.position(p.w, t));
                const T value = widened(static_cast<const S*>(f.call.x)[at]);
                T logit = value;
                if constexpr (traits.inputs == 2) logit = widened(static_cast<const S*>(f.call.logits)[at]);
                reducer.template add<pass>(s, value, logit, r * f.columns.taps + t);
            }
        }
    }
    template <int passes, int pass = 0>
    HD void all_passes(const Reduce& reducer, State& s) const {
        if constexpr (pass < passes) {
            one_pass<pass>(reducer, s);
            all_passes<passes, pass + 1>(reducer, s);
        }
    }
    template <int passes>
    HD State reduce(const Reduce& reducer) const {
        State s = reducer.init();
        all_passes<passes>(reducer, s);
        return s;
    }
};

template <template <class> class R, class S>
struct Forward {
    HD static void run(const Frame& f, int64_t index) {
        View<R, S> view(f, f.output.place(index));
        view.draw();
        const R<Wide<S>> reducer(view.given);
        const auto s = view.template reduce<View<R, S>::traits.passes>(reducer);
        narrow(reducer.result(s), static_cast<S*>(f.call.y)[index]);
        if constexpr (View<R, S>::traits.indexed) {
            if (f.call.taps == nullptr) return;
            if constexpr (View<R, S>::traits.learned) {
                Wide<S>* slopes = static_cast<Wide<S>*>(f.call.slopes);
                if (slopes != nullptr) slopes[index] = parameter_slope(reducer, s, 0);
            }
            if (f.call.wide_taps) {
                static_cast<int32_t*>(f.call.taps)[index] = static_cast<int32_t>(reducer.tap(s));
            } else {
                static_cast<uint8_t*>(f.call.taps)[index] = static_cast<uint8_t>(reducer.tap(s));  // -1: 255
            }
        }
    }
};

// What backward finds once for each window, before the inputs gather: its state, and its slopes.
template <template <class> class R, class S>
struct Windows {
    HD static void run(const Frame& f, int64_t index) {
        using View = View<R, S>;
        using T = Wide<S>;
        const T gradient = widened(static_cast<const S*>(f.call.gradient)[index]);
        T* slopes = static_cast<T*>(f.call.slope_sums);
        if constexpr (View::traits.indexed) {
            slopes[index] = gradient * static_cast<const T*>(f.call.slopes)[index];
        } else {
            const View view(f, f.output.place(index));
            const R<T> reducer(view.given);
            constexpr int passes = View::traits.backward_passes, learned = View::traits.learned_passes;
            auto s = view.template reduce<passes>(reducer);
            if constexpr (learned > passes) {
                if (slopes != nullptr) s = view.template reduce<learned>(reducer);
            }
            if constexpr (View::keeps_states) static_cast<typename View::State*>(f.states)[index] = s;
            if constexpr (View::traits.learned) {
                for (int k = 0; slopes != nullptr && k < slopes_by_parameter(f.call); k++) {
                    slopes[index + k * f.output.count] = gradient * parameter_slope(reducer, s, k);
                }
            }
        }
    }
};

template <template <class> class R, class S>
struct Backward {
    HD static void run(const Frame& f, int64_t index) {
        using View = View<R, S>;
        using T = Wide<S>;
        const Call& call = f.call;
        const Layout::Place p = f.input.place(index);
        const int64_t plane = f.output.plane(p.n, p.c);
        T value = 0, logit = 0, by_value = 0, by_logit = 0;
        if constexpr (View::by_value) value = widened(static_cast<const S*>(call.x)[index]);
        if constexpr (View::traits.inputs == 2) logit = widened(static_cast<const S*>(call.logits)[index]);
        f.rows.windows_that_see(p.h, [&](int i, int r) {
            f.columns.windows_that_see(p.w, [&](int j, int t) {
                const int64_t at = f.output.at(plane, i, j);
                const T gradient = widened(static_cast<const S*>(call.gradient)[at]);
                const int tap = r * f.columns.taps + t;
                if constexpr (View::traits.indexed) {
                    const int taken = call.wide_taps ? static_cast<const int32_t*>(call.taps)[at]
                                                     : static_cast<const uint8_t*>(call.taps)[at];
                    if constexpr (View::traits.learned) {
                        const View view(f, {p.n, p.c, i, j});
                        const R<T> reducer(view.given);
                        by_value = by_value + reducer.to_all(gradient) + (taken == tap ? reducer.to_taken(gradient) : T(0));
                    } else {
                        by_value = by_value + (taken == tap ? gradient : T(0));
                    }
                } else {
                    const View view(f, {p.n, p.c, i, j});
                    const R<T> reducer(view.given);
                    if constexpr (View::traits.linear) {
                        by_value = by_value + reducer.share(reducer.prepared(gradient), tap);
                    } else {
                        typename View::State s;
                        if constexpr (View::keeps_states) {
                            s = static_cast<const typename View::State*>(f.states)[at];
                        } else {
                            s = view.template reduce<View::traits.backward_passes>(reducer);
                        }
                        by_value = by_value + gradient * reducer.slope(value, logit, s, tap);
                        if constexpr (View::traits.inputs == 2) {
                            by_logit = by_logit + gradient * reducer.logit_slope(value, logit, s);
                        }
                    }
                }
            });
        });
        narrow(by_value, static_cast<S*>(call.dx)[index]);
        if constexpr (View::traits.inputs == 2) narrow(by_logit, static_cast<S*>(call.dlogits)[index]);
    }
};

// What one reducer and type are on the device: launches on a stream.
using Launch = void (*)(const Frame&, void* stream);
struct Kernel {
    Launch forward, windows, backward;
    int64_t state_size;  // 0: keeps none
    bool learned;        // has a gradient by its parameter or table
    bool indexed;        // goes back by what forward saved, without x
};

// Where the parts of cuda.cu put what they hold when the library is loaded.
Kernel& kernel_of(Reducer reducer, Dtype dtype);

}  // namespace poolzoo

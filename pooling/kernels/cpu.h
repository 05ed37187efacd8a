// The CPU driver: blocks of lanes, tap by tap. Forward gathers; backward scatters, which needs no atomics because for one
// tap no two lanes touch one address, and threads own disjoint rows of dx.
#pragma once

#include <algorithm>

#include "rows.h"
#include "scatter.h"

namespace poolzoo {

// Output rows [begin, end) of all, counted unit by unit.
template <template <class> class R, class T, int K>
void forward_rows(const Plan<T>& plan, int64_t begin, int64_t end) {
    using Row = RowOf<R, T>;
    RowRing<T> x(plan, plan.call.x), logits(plan, plan.call.logits);
    Row row(plan, x, logits);
    Buffer<T> buffer(plan.out_row);
    const bool save = Row::traits.indexed && plan.call.taps != nullptr;
    Buffer<Int<T>> taps(save ? plan.out_row : 0);
    Unit unit = plan.unit(begin / plan.w.oh);
    int64_t i = begin % plan.w.oh;
    row.enter_unit(unit);
    for (int64_t at = begin; at < end; at++, i++) {
        if (i == plan.w.oh) {
            unit = plan.unit(unit.index + 1), i = 0;
            row.enter_unit(unit);
        }
        row.enter_row(unit, i);
        row.draw(unit, i);
        T* out = plan.out_in_place ? static_cast<T*>(plan.call.y) + plan.out_at(unit, i) : buffer.data();
        for (size_t k = 0; k < plan.blocks.size(); k++) {
            const Block& b = plan.blocks[k];
            const auto given = row.given(b, k);
            const typename Row::Red reducer(given);
            if constexpr (Row::traits.indexed) {
                if (save) {
                    const auto s = row.template reduce<K, Row::traits.passes>(reducer, b);
                    store(taps.data() + b.out, reducer.tap(s));
                    store(out + b.out, reducer.result(s));
                    continue;
                }
            }
            const auto s = row.template reduce<K, Row::traits.passes>(reducer, b);
            store(out + b.out, reducer.result(s));
        }
        if (!plan.out_in_place) write_output_row(plan, out, plan.call.y, unit, i, plan.call.dtype);
        if (save) write_taps<T>(plan, taps.data(), unit, i);
    }
}

// dy/d(parameter), or by the weight of rank `k` where the table is learned.
template <class Red, class State>
HD auto parameter_slope(const Red& reducer, const State& s, int k) {
    if constexpr (Red::traits.ranked) {
        return reducer.parameter_slope(s, k);
    } else {
        return reducer.parameter_slope(s);
    }
}

// The gradient by one block of outputs, part by part: put(r, t, part, logit_part) for each member.
template <template <class> class R, class T, int K>
struct BlockGradient {
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    using I = typename Row::I;
    using Red = typename Row::Red;
    static constexpr Traits traits = Row::traits;

    const Row& row;
    const Block& b;
    const Red& reducer;
    V g;

    // By the saved tap, or by nothing where the operator is linear.
    template <class Put>
    HD void from_saved(I taken, Put put) const {
        V all = splat<V>(0), more = g;
        if constexpr (traits.linear) all = reducer.prepared(g);
        if constexpr (traits.indexed && traits.learned) all = reducer.to_all(g), more = all + reducer.to_taken(g);
        row.template each_tap<K>(b, [&](int r, int t, int tap) __attribute__((always_inline)) {
            if constexpr (traits.linear) {
                put(r, t, reducer.share(all, tap), all);
            } else {
                put(r, t, taken == splat_int<V>(tap) ? more : all, all);
            }
        });
    }

    // By the members' values. Writes the slopes by the parameter where `slopes` is not null.
    template <class Put>
    HD void from_values(T* slopes, int learned, Put put) const {
        constexpr int passes = traits.backward_passes, most = std::max(passes, traits.learned_passes);
        typename Row::State s = reducer.init();
        if (learned > 0 && most > passes) {
            row.template all_passes<K, most, true>(reducer, s, b);
        } else {
            row.template all_passes<K, passes, true>(reducer, s, b);
        }
        if constexpr (traits.learned) {
            for (int k = 0; k < learned; k++) {
                store(slopes + k * row.plan.out_row + b.out, g * parameter_slope(reducer, s, k));
            }
        }
        row.template each_tap<K>(b, [&](int r, int t, int tap) __attribute__((always_inline)) {
            const V value = load<V>(row.x.rows[r] + b.x + b.x_tap[t]);
            if constexpr (traits.inputs == 2) {
                const V w = load<V>(row.weights.data() + tap * Row::L);
                put(r, t, g * reducer.slope_by(value, s, w), g * reducer.logit_slope_by(value, s, w));
            } else if constexpr (traits.weighted) {
                put(r, t, g * reducer.slope_by(value, s, load<V>(row.weights.data() + tap * Row::L)), g);
            } else {
                put(r, t, g * reducer.slope(value, value, s, tap), g);
            }
        });
    }
};

// The buffers of one thread's backward pass.
template <template <class> class R, class T, int K>
struct Backward {
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    using I = typename Row::I;
    static constexpr Traits traits = Row::traits;
    static constexpr bool two = traits.inputs == 2;

    const Plan<T>& plan;
    const Call& call;
    const bool by_value;
    RowRing<T> x, logits;
    Row row;
    OpenRows<T> dx, dlogits;
    Parts<T> parts, logit_parts;
    const int learned;  // slopes by parameters for each output
    Buffer<T> gradients, slopes;
    Buffer<Int<T>> taps;
    std::vector<typename OpenRows<T>::Row> to, to_logits;

    explicit Backward(const Plan<T>& p)
        : plan(p), call(p.call), by_value(!traits.linear && call.taps == nullptr), x(p, by_value ? call.x : nullptr),
          logits(p, by_value ? call.logits : nullptr), row(p, x, logits), dx(p, call.dx), dlogits(p, call.dlogits),
          parts(p, !p.w.channels_last), logit_parts(p, !p.w.channels_last && two),
          learned(call.dparameter == nullptr ? 0 : traits.ranked ? static_cast<int>(p.w.taps()) : 1),
          gradients(p.out_row), slopes(learned * p.out_row), taps(by_value || !traits.indexed ? 0 : p.out_row),
          to(p.w.kh), to_logits(p.w.kh) {}

    template <class Put>
    HD void block_gradient(const Block& b, size_t k, const T* gradient, Put put) {
        const auto given = row.given(b, k);
        const typename Row::Red reducer(given);
        const BlockGradient<R, T, K> block{row, b, reducer, load<V>(gradient + b.out)};
        if constexpr (traits.indexed) {
            if (!by_value) return block.from_saved(load<I>(taps.data() + b.out), put);
        }
        if constexpr (traits.linear) {
            block.from_saved(I{}, put);
        } else if constexpr (!traits.indexed || traits.learned) {
            block.from_values(slopes.data(), learned, put);
        }
    }

    // NHWC: the taps of one output column are other pixels, so each part is added to dx at once.
    HD void add_channels(const T* gradient) {
        for (int r = row.span.begin; r < row.span.end; r++) {
            if (to[r].empty) std::fill_n(to[r].at, plan.row, T(0));
            if (two && to_logits[r].empty) std::fill_n(to_logits[r].at, plan.row, T(0));
        }
        for (size_t k = 0; k < plan.blocks.size(); k++) {
            const Block& b = plan.blocks[k];
            block_gradient(b, k, gradient, [&](int r, int t, V part, V logit_part) __attribute__((always_inline)) {
                if (to[r].at == nullptr) return;
                T* at = to[r].at + b.d + b.d_tap[t];
                store(at, load<V>(at) + part);
                if constexpr (two) {
                    T* at_logit = to_logits[r].at + b.d + b.d_tap[t];
                    store(at_logit, load<V>(at_logit) + logit_part);
                }
            });
        }
    }

    // NCHW: see Parts.
    HD void add_columns(const T* gradient) {
        const int64_t kw = plan.w.kw, step = parts.step;
        for (size_t k = 0; k < plan.blocks.size(); k++) {
            const Block& b = plan.blocks[k];
            const I lanes = plan.columns_of(b);
            T *first = parts.first + b.out, *first_logit = logit_parts.first + b.out;
            block_gradient(b, k, gradient, [=](int r, int t, V part, V logit_part) __attribute__((always_inline)) {
                store(first + (r * kw + t) * step, lanes ? part : splat<V>(0));
                if constexpr (two) store(first_logit + (r * kw + t) * step, lanes ? logit_part : splat<V>(0));
            });
        }
        for (int r = row.span.begin; r < row.span.end; r++) {
            if (to[r].at == nullptr) continue;
            parts.add_to(to[r], r);
            if constexpr (two) logit_parts.add_to(to_logits[r], r);
        }
    }

    // The gradient by rows [begin, end) of one unit's input.
    void rows(const Unit& unit, int64_t begin, int64_t end) {
        const Window& w = plan.w;
        int64_t first = 0, last = w.oh;
        if (w.border == Border::Skip) {
            first = std::max<int64_t>(0, ceil_div(begin + w.ph - (w.row_reach() - 1), w.sh));
            last = std::min(w.oh, floor_div(end - 1 + w.ph, w.sh) + 1);
        }
        row.enter_unit(unit);
        dx.start(unit, begin, end);
        dlogits.start(unit, begin, end);
        for (int64_t i = first; i < last; i++) {
            dx.finish_before(plan.lowest[i]);
            dlogits.finish_before(plan.lowest[i]);
            row.enter_row(unit, i);
            const T* gradient = output_row(plan, call.gradient, unit, i, gradients.data());
            if (!taps.empty()) read_taps<T>(plan, taps.data(), unit, i);
            for (int r = row.span.begin; r < row.span.end; r++) {
                to[r] = dx.row(w.row_start(i) + r * w.dh);
                if constexpr (two) to_logits[r] = dlogits.row(w.row_start(i) + r * w.dh);
            }
            w.channels_last ? add_channels(gradient) : add_columns(gradient);
            // Of the threads that visit an output row, the owner of its first input row writes dparameter.
            const int64_t owner = std::clamp<int64_t>(w.row_start(i), 0, w.H - 1);
            if (owner >= begin && owner < end) write_slopes(unit, i);
        }
        dx.finish_before(end);
        dlogits.finish_before(end);
    }

    void write_slopes(const Unit& unit, int64_t i) const {
        const Dtype wide = sizeof(T) == 8 ? Dtype::Double : Dtype::Float;
        const int64_t outputs = plan.w.N * plan.w.C * plan.w.oh * plan.w.ow;
        for (int k = 0; k < learned; k++) {
            T* target = static_cast<T*>(call.dparameter) + k * outputs;
            write_output_row(plan, slopes.data() + k * plan.out_row, target, unit, i, wide);
        }
    }
};

// Rows [begin, end) of the inputs of all units.
template <template <class> class R, class T, int K>
void backward_range(const Plan<T>& plan, int64_t begin, int64_t end) {
    Backward<R, T, K> backward(plan);
    while (begin < end) {
        const Unit unit = plan.unit(begin / plan.w.H);
        const int64_t start = unit.index * plan.w.H;
        const int64_t stop = std::min(end, start + plan.w.H);
        backward.rows(unit, begin - start, stop - start);
        begin = stop;
    }
}

// What a source file of instances offers, by reducer; null where another file has it.
using Parallel = void (*)(int64_t count, int64_t grain, const void* context, void (*body)(const void*, int64_t, int64_t));

struct Kernel {
    void (*forward)(const Call&, Parallel);
    void (*backward)(const Call&, Parallel);
};

}  // namespace poolzoo

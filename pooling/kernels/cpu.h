// The CPU driver's forward pass: blocks of lanes, tap by tap. gather.h, squares.h and factored.h are the backward pass.
#pragma once

#include <optional>

#include "cpu_kernel.h"
#include "window_sums.h"

namespace poolzoo {

// Output rows [begin, end) of all, counted unit by unit.
template <template <class> class R, class T>
void forward_rows(const Plan<T>& plan, int64_t begin, int64_t end) {
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    RowRing<T> x(plan, plan.call.x), logits(plan, plan.call.logits);
    Row row(plan, x, logits);
    Buffer<T> buffer(plan.out_row);
    void* const saved = plan.call.taps;
    const bool save = Row::traits.indexed && saved != nullptr, whole_rows = plan.whole_rows, wide_taps = plan.call.wide_taps;
    Buffer<Int<T>> taps(save && !plan.whole_rows ? plan.out_row : 0);
    T* const all_slopes = static_cast<T*>(save ? plan.call.slopes : nullptr);
    Buffer<T> slopes(all_slopes != nullptr && !plan.whole_rows ? plan.out_row : 0);
    constexpr bool by_excess = requires(const typename Row::Red& red, V v) { red.mean_of_excess(v); };
    constexpr bool by_sums = Plan<T>::kUnrolls && (by_excess || requires(const typename Row::Red& red, V v) { red.mean(v, v); });
    using Sums = WindowSums<R, T, by_excess>;
    std::conditional_t<by_sums, std::optional<Sums>, int> sums{};
    if constexpr (by_sums) {
        if (Sums::takes(plan)) sums.emplace(plan, row);
    }
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
        const int64_t first = plan.out_at(unit, i);
        bool done = false;
        if constexpr (by_sums) {
            done = sums && sums->each(unit, i, [&](const Block& b, const auto& found) __attribute__((always_inline)) {
                const typename Row::Red reducer(row.given(b));
                if constexpr (by_excess) {
                    store(out + b.out, reducer.mean_of_excess(found.total));
                } else {
                    store(out + b.out, reducer.mean(found.total, found.sum));
                }
            });
        }
        if (!done && !save) {  // the compiler leaves out what finds taps
            row.template each_block<2, 3>([&](auto& windows) __attribute__((always_inline)) {
                const auto given = row.given(windows.b);
                const typename Row::Red reducer(given);
                store(out + windows.b.out, reducer.result(row.template reduce<Row::traits.passes, false>(reducer, windows)));
            });
        } else if constexpr (Row::traits.indexed) {
            row.template each_block<2, 3>([&](auto& windows) __attribute__((always_inline)) {
                const Block& b = windows.b;
                const auto given = row.given(b);
                const typename Row::Red reducer(given);
                const auto state = row.template reduce<Row::traits.passes, false>(reducer, windows);
                store(out + b.out, reducer.result(state));
                if constexpr (Row::traits.learned) {
                    if (all_slopes != nullptr) {
                        T* row_slopes = whole_rows ? all_slopes + first : slopes.data();
                        store(row_slopes + b.out, parameter_slope(reducer, state, 0));
                    }
                }
                const Int<V> tap = reducer.tap(state);
                if (!whole_rows) {
                    store(taps.data() + b.out, tap);
                } else if (wide_taps) {
                    store_narrowed(static_cast<int32_t*>(saved) + first + b.out, tap);
                } else {
                    store_narrowed(static_cast<uint8_t*>(saved) + first + b.out, tap);
                }
            });
        }
        if (!plan.out_in_place) write_output_row(plan, out, plan.call.y, unit, i, plan.call.dtype);
        if (save && !plan.whole_rows) write_taps<T>(plan, taps.data(), unit, i);
        if (!slopes.empty()) write_output_row(plan, slopes.data(), all_slopes, unit, i, Plan<T>::kWide);
    }
}

}  // namespace poolzoo

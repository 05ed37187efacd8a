// Instances of the CPU driver: compiled once per part of the reducers and type (POOLZOO_PART, POOLZOO_WIDE) and per
// instruction set.
#include "cpu.h"
#include "factored.h"
#include "planes.h"

#ifdef POOLZOO_PLUGIN
#include POOLZOO_PLUGIN
#endif

namespace poolzoo {
namespace {

// Work for about 20 microseconds, in outputs or inputs.
constexpr int64_t kGrain = 16384;

int64_t grain_rows(int64_t row) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, row)); }

// body(plan, begin, end) for all of the units' rows, `rows` to a unit, each of `row` numbers.
template <class T, auto body>
void by_rows(const Plan<T>& plan, Parallel parallel, int64_t rows, int64_t row) {
    struct Context {
        const Plan<T>& plan;
        int64_t rows, together, each;  // rows that one thread has, and how often a unit has so many
        int64_t first(int64_t k) const { return k / each * rows + k % each * together; }
    };
    const int64_t together = std::max<int64_t>(1, plan.call.rows_of_sums * rows / std::max<int64_t>(1, plan.w.H));
    const Context context{plan, rows, together, ceil_div(rows, together)};
    const int64_t grain = std::max<int64_t>(1, grain_rows(row * plan.w.taps()) / together);
    parallel(plan.units * context.each, grain, &context, [](const void* given, int64_t begin, int64_t end) {
        const Context& context = *static_cast<const Context*>(given);
        body(context.plan, context.first(begin), context.first(end));
    });
}

// The same pass over some planes at a time, where it pays.
template <class T>
bool by_planes(const Call& call, Parallel parallel, Pass pass) {
    if (!PlaneGroup<T>::pays(call)) return false;
    struct Context {
        const Call& call;
        Pass pass;
    } context{call, pass};
    const Window& w = call.window;
    const int64_t groups = PlaneGroup<T>::groups(w), each = w.C * w.oh * w.ow * w.taps() / groups;
    parallel(w.N * groups, grain_rows(each), &context, [](const void* given, int64_t begin, int64_t end) {
        const Context& context = *static_cast<const Context*>(given);
        PlaneGroup<T> group(context.call);
        for (int64_t k = begin; k < end; k++) group.run(k, context.pass);
    });
    return true;
}

template <template <class> class R, class T>
void forward(const Call& call, Parallel parallel) {
    if (by_planes<T>(call, parallel, forward<R, T>)) return;
    const Plan<T> plan(call);
    by_rows<T, forward_rows<R, T>>(plan, parallel, plan.w.oh, plan.out_row);
}

// dx from what a sender sends, in the ways that it can.
template <class T, class Sends>
void send(const Plan<T>& plan, Parallel parallel) {
    if constexpr (Sends::tiles) {
        // What is sent in place is gathered as quickly, and one row of dx is written after the other.
        const bool in_place = plan.in_place && !Sends::made;
        if (are_tiles(plan) && !in_place) return by_rows<T, tile_range<T, Sends>>(plan, parallel, plan.w.oh, plan.row);
    }
    if constexpr (Sends::overlaps) {
        const bool columns = !plan.w.channels_last;
        if (columns && overlap_by_one(plan)) return by_rows<T, overlap_range<T, Sends>>(plan, parallel, plan.w.oh, plan.row);
    }
    by_rows<T, gather_range<T, Sends>>(plan, parallel, plan.w.H, plan.row);
}

template <template <class> class R, class T>
void backward(const Call& call, Parallel parallel) {
    using V = typename VectorOf<T>::type;
    constexpr Traits traits = R<V>::traits;
    if constexpr (traits.indexed && !traits.learned && !std::is_same_v<R<V>, Max<V>>) {  // alike for all
        return kernel_of(Reducer::Max, sizeof(T) == 8).backward(call, parallel);
    }
    if (by_planes<T>(call, parallel, backward<R, T>)) return;
    const Plan<T> plan(call);
    if constexpr (traits.linear) {
        if (!traits.learned || call.slope_sums == nullptr) return send<T, Shares<R, T>>(plan, parallel);
    }
    if constexpr (traits.indexed) {
        call.wide_taps ? send<T, Taken<R, T, int32_t>>(plan, parallel) : send<T, Taken<R, T, uint8_t>>(plan, parallel);
    } else if constexpr (!traits.linear || traits.learned) {
        if constexpr (traits.sums > 0 && Plan<T>::kUnrolls) {
            if (call.slope_sums == nullptr && WindowSums<R, T>::takes(plan)) {
                return by_rows<T, factored_range<R, T>>(plan, parallel, plan.w.oh, plan.row);
            }
        }
        send<T, Slopes<R, T>>(plan, parallel);
    }
}

template <template <class> class R>
Kernel kernel() {
    constexpr Traits traits = R<VectorOf<POOLZOO_WIDE>::type>::traits;
    return {forward<R, POOLZOO_WIDE>, backward<R, POOLZOO_WIDE>, traits.learned, traits.indexed};
}

[[maybe_unused]] const bool added = [] {
#define X(name) kernel_of(Reducer::name, sizeof(POOLZOO_WIDE) == 8) = kernel<name>();
    POOLZOO_PART(X)
#undef X
    return true;
}();

}  // namespace
}  // namespace poolzoo

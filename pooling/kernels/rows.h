// What an output row's blocks are given: the staged rows that windows look at, parameters, random numbers.
#pragma once

#include <limits>

#include "means.h"
#include "norms.h"
#include "philox.h"
#include "random_reducers.h"
#include "rank.h"
#include "staging.h"

namespace poolzoo {

// The rows of one unit that windows look at, staged as they are needed and kept while they may be needed again.
template <class T>
class RowRing {
    const Plan<T>& plan_;
    const void* source_;
    int64_t slots_ = 1;  // a power of two
    Buffer<T> buffer_, spare_;
    std::vector<int64_t> held_;

  public:
    std::vector<const T*> rows;

    RowRing(const Plan<T>& plan, const void* source)
        : plan_(plan), source_(source), rows(plan.w.kh) {
        if (source == nullptr) return;
        while (slots_ < plan.w.row_reach()) slots_ *= 2;
        if (!plan.in_place) buffer_.resize(slots_ * plan.row), held_.resize(slots_);
        if (!plan.wide()) spare_.resize(plan.w.W);
        forget();
    }
    void forget() { std::fill(held_.begin(), held_.end(), std::numeric_limits<int64_t>::min()); }
    // rows[r] for r in span: row r of the windows of output row i.
    void fill(const Unit& unit, int64_t i, Span span) {
        if (source_ == nullptr) return;
        for (int r = span.begin; r < span.end; r++) {
            const int64_t h = plan_.w.row_start(i) + r * plan_.w.dh;
            if (plan_.in_place) {
                rows[r] = staged_row<T>(plan_, source_, unit, h, nullptr, nullptr);
                continue;
            }
            const int64_t slot = h & (slots_ - 1);
            T* buffer = buffer_.data() + slot * plan_.row;
            if (held_[slot] != h) staged_row<T>(plan_, source_, unit, h, buffer, spare_.data());
            held_[slot] = h;
            rows[r] = buffer;
        }
    }
};

// The random numbers of one unit's outputs, made for a few rows at a time.
template <class T>
class UniformRows {
    const Plan<T>& plan_;
    int64_t rows_, first_ = 0, end_ = 0;  // rows [first, end) are held
    Buffer<T> buffer_;

  public:
    explicit UniformRows(const Plan<T>& plan) : plan_(plan), rows_(std::max<int64_t>(1, 256 / std::max<int64_t>(1, plan.w.ow))) {
        if (plan.call.seeded) buffer_.resize(rows_ * plan.out_row);
    }
    void forget() { first_ = end_ = 0; }
    const T* row(const Unit& unit, int64_t i) {
        if (!plan_.call.seeded) return nullptr;
        const Window& w = plan_.w;
        if (i < first_ || i >= end_) {
            first_ = i, end_ = std::min(w.oh, i + rows_);
            const uint64_t seed = *static_cast<const uint64_t*>(plan_.call.seed_at);
            for (int64_t k = 0; k < unit.channels; k++) {
                const int64_t plane = unit.image * w.C + unit.channel + k;
                uniform_rows(seed, (plane * w.oh + i) * w.ow, end_ - i, w.ow, buffer_.data() + k, plan_.out_row, plan_.pixel);
            }
        }
        return buffer_.data() + (i - first_) * plan_.out_row;
    }
};

// One output row of one unit.
template <template <class> class R, class T>
struct RowOf {
    using V = typename Plan<T>::V;
    using I = Int<V>;
    using Red = R<V>;
    using State = typename Red::State;
    static constexpr Traits traits = Red::traits;
    static constexpr int L = Plan<T>::L;

    const Plan<T>& plan;
    RowRing<T>&x, &logits;
    UniformRows<T> random;
    Span span{0, 0};
    T row_count = 1;
    int row_members = 0;
    const T *table = nullptr, *uniforms = nullptr;
    int64_t channels = 0;
    Buffer<T> parameter, tables;  // the unit's, with room for a vector behind them
    mutable Buffer<T> weights;  // of a block's taps, kept for their slopes

    RowOf(const Plan<T>& p, RowRing<T>& x_rows, RowRing<T>& logit_rows)
        : plan(p), x(x_rows), logits(logit_rows), random(p), parameter(std::max<int64_t>(p.pixel, L)),
          weights(traits.weighted ? p.w.taps() * L : 0) {}

    void enter_unit(const Unit& unit) {
        x.forget();
        logits.forget();
        random.forget();
        channels = unit.channels;
        const Call& call = plan.call;
        const int64_t c = unit.channel, step = call.parameter_per_channel ? 1 : 0;
        const T* given = static_cast<const T*>(call.parameter);
        for (size_t k = 0; k < parameter.size(); k++) {
            const int64_t lane = plan.w.channels_last ? std::min<int64_t>(k, unit.channels - 1) : 0;
            parameter[k] = given ? given[(c + lane) * step] : static_cast<T>(call.fixed_parameter);
        }
        if (call.table == nullptr) return;
        const int64_t each = call.reducer == Reducer::Filter ? plan.w.taps() : (plan.w.taps() + 1) * plan.w.taps();
        const int64_t length = call.table_step == 0 ? each : unit.channels * call.table_step;
        if (!tables.empty() && call.table_step == 0) return;
        tables.resize(length + L);
        std::copy_n(static_cast<const T*>(call.table) + c * call.table_step, length, tables.begin());
        table = tables.data();
    }

    void enter_row(const Unit& unit, int64_t i) {
        span = plan.spans[i];
        row_count = plan.row_counts[i];
        row_members = span.end - span.begin;
        x.fill(unit, i, span);
        if constexpr (traits.inputs == 2) logits.fill(unit, i, span);
    }
    void draw(const Unit& unit, int64_t i) { uniforms = random.row(unit, i); }

    HD Given<V> given(const Block& b, size_t index) const {
        Given<V> g;
        g.parameter = load<V>(parameter.data() + b.channel);
        g.uniform = uniforms != nullptr ? load<V>(uniforms + b.out) : V{};
        g.count = load<V>(plan.counts.data() + index * L) * (V{} + row_count);
        g.table_step = plan.w.channels_last ? plan.call.table_step : 0;
        const int64_t channel = std::min(b.channel, channels - 1);  // lanes past the last channel use its table
        g.table = table + channel * g.table_step;
        g.tables = static_cast<int>(channels - channel);
        g.taps = plan.w.taps();
        g.common_count = b.columns < 0 ? -1 : b.columns * row_members;
        g.option = static_cast<T>(plan.call.option);
        return g;
    }

    template <int pass, bool keep>
    HD void take(const Red& reducer, State& s, V value, V logit, int tap) const {
        if constexpr (traits.weighted && keep && pass == 1) {
            const V w = reducer.weight(value, logit, s);
            store(weights.data() + tap * L, w);
            reducer.gather(s, value, w);
        } else {
            reducer.template add<pass>(s, value, logit, tap);
        }
    }

    // body(r, t, tap) for each tap that some lane has. K: the side of a small square window, whose loops are unrolled
    // where all taps are there, so that the members stay in registers from pass to pass; otherwise 0.
    template <int K, class Body>
    HD void each_tap(const Block& b, Body body) const {
        if constexpr (K > 0) {
            if (row_members == K && b.end - b.begin == K) [[likely]] {
#pragma GCC unroll 4
                for (int r = 0; r < K; r++) {
#pragma GCC unroll 4
                    for (int t = 0; t < K; t++) body(r, t, r * K + t);
                }
                return;
            }
        }
        for (int r = span.begin; r < span.end; r++) {
            const int first = r * static_cast<int>(plan.w.kw);
            for (int t = b.begin; t < b.end; t++) body(r, t, first + t);
        }
    }

    // One look at the members of a block's windows. `keep`: the weights are kept.
    template <int K, bool keep, int pass>
    HD void one_pass(const Red& reducer, State& s, const Block& b) const {
        each_tap<K>(b, [&](int r, int t, int tap) __attribute__((always_inline)) {
            V value = load<V>(x.rows[r] + b.x + b.x_tap[t]), logit = value;
            if constexpr (traits.inputs == 2) logit = load<V>(logits.rows[r] + b.x + b.x_tap[t]);
            if (!b.is_ragged(t)) [[likely]] {
                take<pass, keep>(reducer, s, value, logit, tap);
            } else if constexpr (traits.absent) {
                value = plan.lanes_with(b, t) ? value : splat<V>(-INFINITY);
                take<pass, keep>(reducer, s, value, logit, tap);
            } else {
                State added = s;
                take<pass, keep>(reducer, added, value, logit, tap);
                s = chosen(plan.lanes_with(b, t), added, s);
            }
        });
    }

    template <int K, int passes, bool keep = false, int pass = 0>
    HD void all_passes(const Red& reducer, State& s, const Block& b) const {
        if constexpr (pass < passes) {
            one_pass<K, keep, pass>(reducer, s, b);
            all_passes<K, passes, keep, pass + 1>(reducer, s, b);
        }
    }

    // Loads all members of a window of side K and reduces them at once, if the block's windows are whole and the reducer
    // can.
    template <int K>
    HD bool at_once(const Red& reducer, State& s, const Block& b) const {
        const auto only = [&](int tap, V v) __attribute__((always_inline)) {
            return b.is_ragged(tap % K) ? plan.lanes_with(b, tap % K) ? v : splat<V>(0) : v;
        };
        if constexpr (requires(const V(&members)[K * K]) { reducer.at_once(s, members, only); }) {
            if (row_members != K || b.end - b.begin != K) return false;
            V members[K * K];
            each_tap<K>(b, [&](int r, int t, int tap) __attribute__((always_inline)) {
                members[tap] = load<V>(x.rows[r] + b.x + b.x_tap[t]);
                if (b.is_ragged(t)) members[tap] = plan.lanes_with(b, t) ? members[tap] : reducer.filler();
            });
            return reducer.at_once(s, members, only);
        }
        return false;
    }

    template <int K, int passes, bool keep = false>
    HD State reduce(const Red& reducer, const Block& b) const {
        State s = reducer.init();
        if constexpr (K > 0 && passes == traits.passes) {
            if (at_once<K>(reducer, s, b)) [[likely]] return s;
        }
        all_passes<K, passes, keep>(reducer, s, b);
        return s;
    }
};

}  // namespace poolzoo

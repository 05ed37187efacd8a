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
    Buffer<int64_t> held_;

  public:
    Buffer<const T*> rows;

    RowRing(const Plan<T>& plan, const void* source)
        : plan_(plan), source_(source), rows(plan.w.kh) {
        if (source == nullptr) return;
        while (slots_ < plan.w.row_reach()) slots_ *= 2;
        if (plan.in_place) return;
        buffer_.resize(slots_ * (plan.before + plan.behind)), spare_.resize(plan.w.W), held_.resize(slots_);
        forget();
    }
    void forget() { std::fill(held_.begin(), held_.end(), std::numeric_limits<int64_t>::min()); }
    // rows[r] for r in span: row r of the windows of output row i.
    void fill(const Unit& unit, int64_t i, Span span) {
        if (source_ == nullptr) return;
        const Window& w = plan_.w;
        const int64_t start = w.row_start(i), row = plan_.row_at(unit, 1) - unit.x;
        if (w.border == Border::Skip) {  // all of them are rows of x
            const int64_t first = unit.x + (start + span.begin * w.dh) * row, step = w.dh * row;
            if (plan_.readable(first) && plan_.readable(first + (span.end - 1 - span.begin) * step)) {
                const T* at = static_cast<const T*>(source_) + first;
                for (int r = span.begin; r < span.end; r++, at += step) rows[r] = at;
                return;
            }
        }
        for (int r = span.begin; r < span.end; r++) {
            const int64_t wanted = start + r * w.dh;
            const int64_t h = wanted < 0 || wanted >= w.H ? continued(wanted, w.H, w.border) : wanted;
            const int64_t at = unit.x + h * row;
            rows[r] = plan_.readable(at) ? static_cast<const T*>(source_) + at : staged(unit, wanted, h);
        }
    }

  private:
    const T* staged(const Unit& unit, int64_t wanted, int64_t h) {
        const int64_t slot = wanted & (slots_ - 1);
        T* row = buffer_.data() + slot * (plan_.before + plan_.behind) + plan_.before;
        if (held_[slot] != wanted) stage_row(plan_, source_, unit, h, row, spare_.data());
        held_[slot] = wanted;
        return row;
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
                const int64_t plane = plan_.call.first_plane + unit.image * w.C + unit.channel + k;
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
    const int64_t ahead;        // in place, at stride 2: by how much to look ahead; otherwise 0
    mutable Buffer<T> weights;  // of a block's taps, kept for their slopes

    RowOf(const Plan<T>& p, RowRing<T>& x_rows, RowRing<T>& logit_rows)
        : plan(p), x(x_rows), logits(logit_rows), random(p), parameter(std::max<int64_t>(p.pixel, L)),
          ahead((p.in_place || p.plain) && p.w.sh == 2 && p.w.sw == 2 ? p.ahead : 0),
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
        const int64_t each = table_length(call.reducer, plan.w.taps());
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

    HD Given<V> given(const Block& b) const {
        Given<V> g;
        g.parameter = load<V>(parameter.data() + b.channel);
        g.uniform = uniforms != nullptr ? load<V>(uniforms + b.out) : V{};
        g.count = load<V>(plan.counts.data() + b.number * L) * (V{} + row_count);
        g.table_step = plan.w.channels_last ? plan.call.table_step : 0;
        const int64_t channel = std::min(b.channel, channels - 1);  // lanes past the last channel use its table
        g.table = table + channel * g.table_step;
        g.tables = static_cast<int>(channels - channel);
        g.taps = plan.w.taps();
        g.common_count = b.columns < 0 ? -1 : b.columns * row_members;
        g.option = static_cast<T>(plan.call.option);
        return g;
    }

    // What a member is given before its windows are: the parameter alone.
    HD Given<V> given_to_member(int64_t channel) const {
        Given<V> g{};
        g.parameter = load<V>(parameter.data() + channel);
        return g;
    }

    // Where a block's members at row tap r and column tap t begin, and they.
    HD static const T* at(const RowRing<T>& values, const Block& b, int r, int t) { return values.rows[r] + b.x_tap[t]; }
    HD V members(const T* at, const Block& b) const {
        return plan.step == 2 ? load_stepping<V, 2>(at + b.x) : load_stepping<V, 1>(at + b.x);
    }

    // The members of windows of side K. At stride 2 the taps of a row share what is loaded: even numbers, odd ones and,
    // for a third tap, the even ones from the next on.
    template <int K>
    HD void members_of_square(const RowRing<T>& values, const T* const* at, const Block& b, V* to) const {
        static_assert(K == 2 || K == 3);
        if (plan.step == 2 && plan.w.dw == 1) {
            I even, odd, next;
            for (int k = 0; k < L; k++) even[k] = 2 * k, odd[k] = 2 * k + 1, next[k] = k + 1;
            const auto row = [&](int r) __attribute__((always_inline)) {
                const T* from = at[r * K] + b.x;
                const V first = load<V>(from), second = load<V>(from + L);
                to[r * K] = __builtin_shuffle(first, second, even);
                to[r * K + 1] = __builtin_shuffle(first, second, odd);
                if constexpr (K == 3) to[r * K + 2] = __builtin_shuffle(to[r * K], V{} + from[2 * L], next);
            };
            row(0), row(1);
            if constexpr (K == 3) row(2);
        } else {
            for_taps<K>([&](int, int, int tap) __attribute__((always_inline)) { to[tap] = members(at[tap], b); });
        }
        if constexpr (traits.linear) {  // what a filter sees past the border
            if (b.continued == 0) return;
            for_taps<K>([&](int r, int t, int tap) __attribute__((always_inline)) {
                if (b.continued >> t & 1) to[tap] = plan.lanes_with(b, t) ? to[tap] : V{} + values.rows[r][plan.continued_column(b, t)];
            });
        }
    }

    // A block's windows of any shape: members are loaded whenever they are looked at.
    struct Windows {
        const RowOf& row;
        const Block& b;
        // body(tap, column tap, value, logit) for each tap that some lane has.
        template <class Body>
        HD void each(Body body) const {
            for (int r = row.span.begin; r < row.span.end; r++) {
                const int first = r * static_cast<int>(row.plan.w.kw);
                for (int t = b.begin; t < b.end; t++) {
                    const V value = row.members(at(row.x, b, r, t), b);
                    body(first + t, t, value, traits.inputs == 2 ? row.members(at(row.logits, b, r, t), b) : value);
                }
            }
        }
        HD void keep(int tap, V weight) { store(row.weights.data() + tap * L, weight); }
        HD V weight(int tap) const { return load<V>(row.weights.data() + tap * L); }
    };
    // Whole square windows of side K, which is small: members and weights stay in registers.
    template <int K>
    struct Squares {
        const Block& b;
        V values[K * K], logits[traits.inputs == 2 ? K * K : 1], weights[traits.weighted ? K * K : 1];

        HD explicit Squares(const Block& block) : b(block) {}
        template <class Body>
        HD void each(Body body) const {
            for_taps<K>([&](int, int t, int tap) __attribute__((always_inline)) { body(tap, t, values[tap], logit(tap)); });
        }
        HD V logit(int tap) const {
            if constexpr (traits.inputs == 2) return logits[tap];
            return values[tap];
        }
        HD void keep(int tap, V weight) { weights[tap] = weight; }
        HD V weight(int tap) const { return weights[tap]; }
    };
    template <int K, class Body>
    HD static void for_taps(Body body) {
#pragma GCC unroll 4
        for (int r = 0; r < K; r++) {
#pragma GCC unroll 4
            for (int t = 0; t < K; t++) body(r, t, r * K + t);
        }
    }

    // body(windows) for each block of the row. `sides`: of square windows whose taps are unrolled.
    template <int... sides, class Body>
    HD void each_block(Body body) const {
        for (const Stretch& stretch : plan.stretches) {
            if constexpr (Plan<T>::kUnrolls) {
                const int columns = stretch.begin->end - stretch.begin->begin;
                const int side = plan.side() == columns && row_members == columns ? columns : 0;
                if (((side == sides && (each_square<sides>(stretch, body), true)) || ...)) continue;
            }
            for (const Block* b = stretch.begin; b < stretch.end; b++) {
                Windows windows{*this, *b};
                body(windows);
            }
        }
    }
    template <class Body>
    HD void each_tile(Body body) const {
        for (const Stretch& stretch : plan.stretches) each_square<2>(stretch, body);
    }
    template <int K, class Body>
    HD void each_square(const Stretch& stretch, Body body) const {
        const T *values[K * K], *exponents[K * K];
        for_taps<K>([&](int r, int t, int tap) __attribute__((always_inline)) {
            values[tap] = at(x, *stretch.begin, r, t);
            if constexpr (traits.inputs == 2) exponents[tap] = at(logits, *stretch.begin, r, t);
        });
        if (plan.w.channels_last) {  // nothing more is read of the blocks: more loads are under way at a time
            Block b = *stretch.begin;
            b.ragged = b.continued = 0, b.partial = false;
            for (int64_t n = stretch.end - stretch.begin; n > 0; n--) {
                Squares<K> squares(b);
                for_taps<K>([&](int, int, int tap) __attribute__((always_inline)) {
                    squares.values[tap] = load<V>(values[tap] + b.x);
                    if constexpr (traits.inputs == 2) squares.logits[tap] = load<V>(exponents[tap] + b.x);
                });
                look_ahead<K, true>(values, b);
                if constexpr (traits.inputs == 2) look_ahead<K, true>(exponents, b);
                body(squares);
                b.x += L, b.out += L, b.channel += L, b.number++;
            }
            return;
        }
        for (const Block* b = stretch.begin; b < stretch.end; b++) {
            Squares<K> squares(*b);
            members_of_square<K>(x, values, *b, squares.values);
            if constexpr (traits.inputs == 2) members_of_square<K>(logits, exponents, *b, squares.logits);
            look_ahead<K, false>(values, *b);
            if constexpr (traits.inputs == 2) look_ahead<K, false>(exponents, *b);
            body(squares);
        }
    }
    // Asks for what windows of side K are soon the first to look at, at stride 2, a row of x further down and some pixels
    // further on: parts in turn of several rows are no stream to a processor, or only in some orders of the loads.
    template <int K, bool channels_last>
    HD void look_ahead(const T* const* at, const Block& b) const {
        if (ahead == 0) return;
        for (int r = K - 2; r < K; r++) {
            for (int n = 0; n < 2; n++) {
                const T* const next = channels_last ? at[r * K + K - 2 + n] : at[r * K + K - 2] + n * L;
                ask_for<1>(next + b.x + ahead);
            }
        }
    }

    // One look at the members of a block's windows. `keep`: the weights are kept.
    template <bool keep, int pass, class W>
    HD void one_pass(const Red& reducer, State& s, W& windows) const {
        const Block& b = windows.b;
        windows.each([&](int tap, int t, V value, V logit) __attribute__((always_inline)) {
            const bool ragged = b.is_ragged(t);
            if constexpr (traits.absent) {
                if (ragged) [[unlikely]] value = plan.lanes_with(b, t) ? value : splat<V>(-INFINITY);
                reducer.template add<pass>(s, value, logit, tap);
            } else {
                State added = s;
                if constexpr (traits.weighted && keep && pass == 1) {
                    const V w = reducer.weight(value, logit, s);
                    windows.keep(tap, w);
                    reducer.gather(added, value, w);
                } else {
                    reducer.template add<pass>(added, value, logit, tap);
                }
                if (ragged) [[unlikely]] added = chosen(plan.lanes_with(b, t), added, s);
                s = added;
            }
        });
    }

    template <int passes, bool keep, int pass = 0, class W>
    HD void all_passes(const Red& reducer, State& s, W& windows) const {
        if constexpr (pass < passes) {
            one_pass<keep, pass>(reducer, s, windows);
            all_passes<passes, keep, pass + 1>(reducer, s, windows);
        }
    }

    // Reduces all members of small windows at once, if the reducer can.
    template <int K>
    HD bool at_once(const Red& reducer, State& s, const Squares<K>& windows) const {
        const Block& b = windows.b;
        const auto only = [&](int tap, V v) __attribute__((always_inline)) {
            return b.is_ragged(tap % K) ? plan.lanes_with(b, tap % K) ? v : splat<V>(0) : v;
        };
        if constexpr (requires { reducer.at_once(s, windows.values, only); }) {
            V members[K * K];
            windows.each([&](int tap, int, V value, V) __attribute__((always_inline)) { members[tap] = value; });
            if (b.ragged != 0) {
                if constexpr (requires { reducer.filler(); }) {
                    windows.each([&](int tap, int t, V value, V) __attribute__((always_inline)) {
                        if (b.is_ragged(t)) members[tap] = plan.lanes_with(b, t) ? value : reducer.filler();
                    });
                } else {
                    return false;
                }
            }
            if (b.partial) {  // lanes that are no windows must not decide for those that are
                for (int tap = 0; tap < K * K; tap++) members[tap] = plan.columns_of(b) ? members[tap] : splat<V>(1);
            }
            return reducer.at_once(s, members, only);
        }
        return false;
    }
    HD bool at_once(const Red&, State&, const Windows&) const { return false; }

    template <int passes, bool keep, class W>
    HD State reduce(const Red& reducer, W& windows) const {
        State s = reducer.init();
        if constexpr (passes == traits.passes && !(keep && traits.forward_at_once)) {
            if (at_once(reducer, s, windows)) [[likely]] {
                if constexpr (traits.weighted && keep) {
                    windows.each([&](int tap, int, V value, V logit) __attribute__((always_inline)) {
                        windows.keep(tap, reducer.weight(value, logit, s));
                    });
                }
                return s;
            }
        }
        all_passes<passes, keep>(reducer, s, windows);
        return s;
    }
};

}  // namespace poolzoo

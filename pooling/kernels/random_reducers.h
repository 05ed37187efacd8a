// Stochastic pooling (Zeiler & Fergus 2013): a_i = max(x_i, 0), or x_i less the window's minimum ("shift").
//
// The draw is the first tap whose running sum of a exceeds uniform * total, the sums taken in row-major order, so that
// every backend rounds alike; where rounding leaves none, the last tap with a positive a.
#pragma once

#include <limits>

#include "reducers.h"

namespace poolzoo {

template <class V, bool shift>
struct Activations {
    using I = Int<V>;
    struct State {
        V floor, total;
        I lowest;
    };
    HD State init() const { return {shift ? splat<V>(INFINITY) : splat<V>(0), splat<V>(0), splat_int<V>(-1)}; }
    HD V activation(V x, const State& s) const {
        if constexpr (shift) return x - s.floor;
        return greater(splat<V>(0), x);  // a NaN stays
    }
    HD void find_floor(State& s, V x, int tap) const {
        const auto taken = (x < s.floor) | (x != x) | (s.lowest < 0);
        s.floor = taken ? x : s.floor;
        s.lowest = taken ? splat_int<V>(tap) : s.lowest;
    }
};

template <class V, bool shift>
struct StochasticDraw {
    using I = Int<V>;
    using Base = Activations<V, shift>;
    static constexpr Traits traits = {.passes = shift ? 3 : 2, .indexed = true};
    V uniform;
    struct State {
        typename Base::State base;
        V running, drawn;
        I tap;
    };
    HD explicit StochasticDraw(const Given<V>& given) : uniform(given.uniform) {}
    HD State init() const { return {Base().init(), splat<V>(0), splat<V>(0), splat_int<V>(-1)}; }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        if constexpr (shift && pass == 0) {
            Base().find_floor(s.base, x, tap);
        } else if constexpr (pass + 2 == traits.passes) {
            s.base.total = s.base.total + Base().activation(x, s.base);
        } else {
            const V a = Base().activation(x, s.base);
            // Open until the running sum has passed the threshold, or is infinite.
            const V most = splat<V>(std::numeric_limits<Number<V>>::max());
            const auto taken = (!(s.running > lesser(uniform * s.base.total, most))) & (a > splat<V>(0));
            s.drawn = taken ? a : s.drawn;
            s.tap = taken ? splat_int<V>(tap) : s.tap;
            s.running = s.running + a;
        }
    }
    HD V result(const State& s) const {
        const V total = s.base.total;
        return total != total ? total : shift ? s.base.floor + s.drawn : s.drawn;
    }
    HD I tap(const State& s) const {
        if constexpr (shift) return s.tap < 0 ? s.base.lowest : s.tap;
        return s.tap;
    }
    HD V slope(V, V, const State& s, int at) const { return tap(s) == splat_int<V>(at) ? splat<V>(1) : splat<V>(0); }
};

// What stands in for the draw in eval mode: sum p_i a_i = sum a^2 / sum a.
template <class V, bool shift>
struct StochasticMean {
    using I = Int<V>;
    using Base = Activations<V, shift>;
    static constexpr Traits traits = {.passes = shift ? 3 : 2, .backward_passes = shift ? 3 : 2};
    V count;
    struct State {
        typename Base::State base;
        V mean;
    };
    HD explicit StochasticMean(const Given<V>& given) : count(given.count) {}
    HD State init() const { return {Base().init(), splat<V>(0)}; }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        if constexpr (shift && pass == 0) {
            Base().find_floor(s.base, x, tap);
        } else if constexpr (pass + 2 == traits.passes) {
            s.base.total = s.base.total + Base().activation(x, s.base);
        } else {
            const V a = Base().activation(x, s.base), total = s.base.total;
            s.mean = s.mean + (total == splat<V>(0) ? splat<V>(0) : a * (a / total));
        }
    }
    HD V result(const State& s) const { return shift ? s.base.floor + s.mean : s.mean; }
    // d(sum a^2 / total)/da_i = (2 a_i - mean) / total; the minimum also moves every a.
    HD V slope(V x, V, const State& s, int tap) const {
        const V total = s.base.total;
        const auto empty = total == splat<V>(0);
        const V a = Base().activation(x, s.base);
        const V direct = empty ? splat<V>(0) : (splat<V>(2) * a - s.mean) / total;
        if constexpr (!shift) return x > splat<V>(0) ? direct : splat<V>(0);
        const V all = empty ? splat<V>(0) : splat<V>(2) - count * s.mean / total;
        return s.base.lowest == splat_int<V>(tap) ? direct + (splat<V>(1) - all) : direct;
    }
};

template <class V>
using Stochastic = StochasticDraw<V, false>;
template <class V>
using ShiftedStochastic = StochasticDraw<V, true>;
template <class V>
using StochasticExpectation = StochasticMean<V, false>;
template <class V>
using ShiftedExpectation = StochasticMean<V, true>;

}  // namespace poolzoo

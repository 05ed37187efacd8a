// The reducers: what happens to the members of one window. Each is the arithmetic of its definition and nothing else.
//
// A reducer sees the members in row-major order, as often as it asks for (`passes`, and `backward_passes` where its
// slopes need more), then gives `result`. The backward pass sums gradient * slope, `slope` being dy/dx of one member.
// V is a number or a vector of them, one lane per window; see lanes.h.
#pragma once

#include "elementary.h"

namespace poolzoo {

// What a window is given beside its members.
template <class V>
struct Given {
    V parameter;                  // of the layer or the channel: a, p, r, beta, ...
    V uniform;                    // one random number in [0, 1) for each window
    V count;                      // the number of members, or what the average divides by
    const Number<V>* table;       // weights by tap, by number of members and rank (see rank.h), or a bias
    int64_t taps;                 // kh * kw
    int64_t table_step;           // from one lane's table to the next one's
    int tables;                   // lanes that have one; the others use the last
    int common_count;             // the number of members where all lanes agree, otherwise -1
    Number<V> option;             // one more number: eps
};

struct Traits {
    int passes = 1;
    int backward_passes = 1;
    bool indexed = false;         // one member gets the gradient, or its share of it: one byte is saved for it
    bool linear = false;          // no slope by x depends on x: has `share`, slope * gradient, `prepared` once for all taps; x is not saved
    int learned_passes = 0;       // passes before parameter_slope, where it needs more than the slopes
    bool learned = false;         // has parameter_slope, dy/dparameter, or several by their numbers
    bool absent = false;          // takes -inf for a position that is not a member
    bool prepares = false;        // linear: `prepared` is not the gradient as it is
    bool ranked = false;          // sorts: see rank.h
    bool weighted = false;        // derives from Weighted
    bool forward_at_once = false; // has at_once, which leaves what `result` needs but not what slopes do
    int inputs = 1;               // 2: values and logits
    int sums = 0;                 // a window's, by which slopes factor, see factored.h: 1: of weights; 2: also of weights * x
};

// dy/dparameter, or the slope number k where there are several.
template <class Red, class State>
HD auto parameter_slope(const Red& reducer, const State& s, int k) {
    if constexpr (requires { reducer.parameter_slope(s, k); }) {
        return reducer.parameter_slope(s, k);
    } else {
        return reducer.parameter_slope(s);
    }
}
// All `count` of them.
template <class Red, class State, class V>
HD void parameter_slopes(const Red& reducer, const State& s, int count, V* to) {
    if constexpr (requires { reducer.parameter_slopes(s, count, to); }) {
        reducer.parameter_slopes(s, count, to);
    } else {
        for (int k = 0; k < count; k++) to[k] = parameter_slope(reducer, s, k);
    }
}

// Names a plugin's reducer, after its definition. Its backward pass is given the values, so neither a saved tap nor
// the formulas for doing without values are asked for.
#define POOLZOO_REDUCER(name) static_assert(!name<float>::traits.indexed && !name<float>::traits.ranked);

// For small windows a reducer may have `bool at_once(State&, const V (&members)[N], only)`: what `add` would do with each,
// or false. Positions that are no members then hold `filler`, without which it is only asked about whole windows;
// only(k, v) is v, or 0 in the lanes where k is no member. It may round otherwise than `add`.
//
// A reducer whose members have weights that are known after a first look at them: `look(s, x, logit)`, then
// `gather(s, x, w)` with w = weight(x, logit, s), and slope_by(x, s, w). The CPU driver keeps the weights for the slopes.
//
// One whose sums over a window tell all (`sums`): a member's weight is own_weight(x), or e^exponent(x, logit); the result is
// mean(total, sum), where it is as exact as that of `add`, or mean_of_excess, by the sum of the weights' excess over 1, where
// this is at least least_excess; the slopes are `to_member` and `to_logit`, by sums of `factor`: see factored.h.
template <class Self, class V>
struct Weighted {
    HD const Self& self() const { return static_cast<const Self&>(*this); }
    template <int pass, class State>
    HD void add(State& s, V x, V logit, int) const {
        if constexpr (pass == 0) self().look(s, x, logit);
        if constexpr (pass == 1) self().gather(s, x, self().weight(x, logit, s));
    }
    template <class State>
    HD V slope(V x, V logit, const State& s, int) const {
        return self().slope_by(x, s, self().weight(x, logit, s));
    }
    HD V factor(V g, V total) const { return g / total; }
};

// The largest or the smallest, the first of several; a NaN is either.
template <class V, bool largest>
struct Extreme {
    using I = Int<V>;
    static constexpr Traits traits = {.indexed = true};
    struct State {
        V best;
        I tap;
    };
    HD explicit Extreme(const Given<V>&) {}
    HD static V filler() { return splat<V>(largest ? -INFINITY : INFINITY); }
    HD State init() const { return {filler(), splat_int<V>(-1)}; }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        const auto taken = (largest ? x > s.best : x < s.best) | (x != x) | (s.tap < 0);
        s.best = taken ? x : s.best;
        s.tap = taken ? splat_int<V>(tap) : s.tap;
    }
    // Leaves NaN and infinity to `add`: then this sum is NaN.
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        const V best = folded(x, [](V a, V b) { return largest ? greater(b, a) : lesser(b, a); });
        const V sum = folded(x, [](V a, V b) { return a + b; });
        const V finite = sum + best * splat<V>(0);
        if (any_other(finite, finite)) return false;
        I tap = splat_int<V>(N - 1);
        for (int k = N - 2; k >= 0; k--) tap = x[k] == best ? splat_int<V>(k) : tap;
        s = {best, tap};
        return true;
    }
    HD V result(const State& s) const { return s.best; }
    HD I tap(const State& s) const { return s.tap; }
};
template <class V>
using Max = Extreme<V, true>;
template <class V>
using Min = Extreme<V, false>;

template <class V>
struct Avg {
    using I = Int<V>;
    static constexpr Traits traits = {.linear = true, .prepares = true};
    V count;
    struct State {
        V sum;
    };
    HD explicit Avg(const Given<V>& given) : count(given.count) {}
    HD State init() const { return {splat<V>(0)}; }
    template <int pass>
    HD void add(State& s, V x, V, int) const {
        s.sum = s.sum + x;
    }
    HD V result(const State& s) const { return s.sum / count; }
    HD V prepared(V gradient) const { return gradient / count; }
    HD V share(V prepared, int) const { return prepared; }
};

// y = c sum_k x_k + b, c and b of the channel (LeCun 1998, section II.B).
template <class V>
struct ScaledSum {
    using I = Int<V>;
    static constexpr Traits traits = {.linear = true, .learned = true, .prepares = true};
    V scale, bias;
    struct State {
        V sum;
    };
    HD explicit ScaledSum(const Given<V>& given) : scale(given.parameter), bias(splat<V>(0)) {
        if (given.table == nullptr) return;
        bias = given.table_step == 1 ? load<V>(given.table) : V{} + *given.table;
    }
    HD State init() const { return {splat<V>(0)}; }
    template <int pass>
    HD void add(State& s, V x, V, int) const {
        s.sum = s.sum + x;
    }
    HD V result(const State& s) const { return s.sum * scale + bias; }
    HD V slope(V, V, const State&, int) const { return scale; }
    HD V parameter_slope(const State& s, int k) const { return k == 0 ? s.sum : splat<V>(1); }
    HD V prepared(V gradient) const { return gradient * scale; }
    HD V share(V prepared, int) const { return prepared; }
};

// y = sum_k f_k x_k with a fixed filter f.
template <class V>
struct Filter {
    using I = Int<V>;
    static constexpr Traits traits = {.linear = true};
    const Number<V>* weights;
    struct State {
        V sum;
    };
    HD explicit Filter(const Given<V>& given) : weights(given.table) {}
    HD State init() const { return {splat<V>(0)}; }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        s.sum = s.sum + x * (V{} + weights[tap]);
    }
    HD V result(const State& s) const { return s.sum; }
    HD V prepared(V gradient) const { return gradient; }
    HD V share(V prepared, int tap) const { return prepared * (V{} + weights[tap]); }
};

// a A + (1 - a) B: `mixed` of Lee et al. 2016 is Blend<Max, Mean>, AdaPool (Stergiou 2022) Blend<Edscw, Soft>.
template <class V, template <class> class First, template <class> class Second>
struct Blend {
    using I = Int<V>;
    using A = First<V>;
    using B = Second<V>;
    static constexpr int most(int a, int b) { return a > b ? a : b; }
    static constexpr Traits traits = {
        .passes = most(A::traits.passes, B::traits.passes),
        .backward_passes = most(A::traits.backward_passes, B::traits.backward_passes),
        .learned = true,
    };
    A a;
    B b;
    V share;
    struct State {
        typename A::State a;
        typename B::State b;
    };
    HD explicit Blend(const Given<V>& given) : a(given), b(one_beta(given)), share(given.parameter) {}
    HD static Given<V> one_beta(Given<V> given) {
        given.parameter = splat<V>(1);
        return given;
    }
    HD State init() const { return {a.init(), b.init()}; }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        if constexpr (pass < A::traits.backward_passes) a.template add<pass>(s.a, x, x, tap);
        if constexpr (pass < B::traits.backward_passes) b.template add<pass>(s.b, x, x, tap);
    }
    HD V result(const State& s) const {
        return share * a.result(s.a) + (splat<V>(1) - share) * b.result(s.b);
    }
    HD V slope(V x, V, const State& s, int tap) const {
        return share * a.slope(x, x, s.a, tap) + (splat<V>(1) - share) * b.slope(x, x, s.b, tap);
    }
    HD V parameter_slope(const State& s) const { return a.result(s.a) - b.result(s.b); }
};
// With the tap of the maximum saved it needs no values, unless its parameter is learned.
template <class V>
struct Mixed : Blend<V, Max, Avg> {
    using I = Int<V>;
    using Base = Blend<V, Max, Avg>;
    using typename Base::State;
    static constexpr Traits traits = {.indexed = true, .learned = true};
    using Base::Base;
    HD static V filler() { return Max<V>::filler(); }
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only only) const {
        if (!this->a.at_once(s.a, x, only)) return false;
        for (int k = 0; k < N; k++) this->b.template add<0>(s.b, only(k, x[k]), x[k], k);
        return true;
    }
    HD I tap(const State& s) const { return s.a.tap; }
    HD V to_all(V gradient) const { return (splat<V>(1) - this->share) * gradient / this->b.count; }
    HD V to_taken(V gradient) const { return this->share * gradient; }
};

}  // namespace poolzoo

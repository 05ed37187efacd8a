// Reducers that are norms of the window: lp, gem.
#pragma once

#include "reducers.h"

namespace poolzoo {

// Whether powers of x that add up to `total` need no other unit than 1: none that counts is beyond the smallest or the
// largest number.
template <int N, class V>
HD bool need_no_unit(const V (&x)[N], V total) {
    const V least = splat<V>(Format<Number<V>>::normal * 1e10), most = splat<V>(1 / (Format<Number<V>>::normal * 1e10));
    if (!any_other(total, lesser(greater(total, least), most))) return true;
    V sizes = absolute<V>(x[0]);
    for (int k = 1; k < N; k++) sizes = sizes + absolute<V>(x[k]);
    return !any((!((total >= least) & (total <= most))) & (sizes != splat<V>(0)));
}

// (mean |x|^p)^(1/p), in units of the window's largest |x|, or of 1 where that will do, so that no power overflows or
// vanishes. At an all-zero window the slopes are 0. `normalize=False` sets the divisor to 1.
template <class V>
struct Lp : Weighted<Lp<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {
        .passes = 2, .backward_passes = 2, .learned_passes = 3, .learned = true, .weighted = true};
    V p, count;
    struct State {
        V unit, total, logs;
    };
    bool cubic;  // p is 3, which GeM and many others use
    HD explicit Lp(const Given<V>& given) : p(given.parameter), count(given.count), cubic(!any_other(p, splat<V>(3))) {}
    HD State init() const { return {splat<V>(0), splat<V>(0), splat<V>(0)}; }
    HD V unit(const State& s) const {
        return (s.unit > splat<V>(0)) & (s.unit < splat<V>(INFINITY)) ? s.unit : splat<V>(1);
    }
    // |x| / unit by the unit's inverse, which is one division for all taps; first away from where that is infinite.
    HD V relative(V x, const State& s) const {
        using F = Format<Number<V>>;
        const V u = unit(s);
        const V lift = u < splat<V>(F::normal) ? splat<V>(static_cast<double>(int64_t{1} << (F::mantissa + 2))) : splat<V>(1);
        return absolute<V>(x) * lift * (splat<V>(1) / (u * lift));
    }
    HD V powered(V t) const { return cubic ? t * t * t : power<V>(t, p); }
    template <int pass>
    HD void add(State& s, V x, V logit, int tap) const {
        Weighted<Lp<V>, V>::template add<pass>(s, x, logit, tap);
        if constexpr (pass == 2) {
            const V t = relative(x, s);
            s.logs = s.logs + (t == splat<V>(0) ? splat<V>(0) : powered(t) * logarithm<V>(t));
        }
    }
    HD static V filler() { return splat<V>(0); }
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        if (!cubic) return false;
        V total = splat<V>(0);
        for (int k = 0; k < N; k++) total = total + powered(absolute<V>(x[k]));
        if (!need_no_unit(x, total)) return false;
        s = {splat<V>(1), total, splat<V>(0)};
        return true;
    }
    HD void look(State& s, V x, V) const { s.unit = greater(absolute<V>(x), s.unit); }
    HD V weight(V x, V, const State& s) const { return powered(relative(x, s)); }
    HD void gather(State& s, V, V w) const { s.total = s.total + w; }
    HD V norm(const State& s) const {
        return cubic ? cube_root<V>(s.total / count) : power<V>(s.total / count, splat<V>(1) / p);
    }
    HD V result(const State& s) const { return norm(s) * unit(s); }
    // y^p = sum |x|^p / count, so dy/dx = sign(x) (|x| / y)^(p - 1) / count, of which w = (|x| / unit)^p is known.
    HD V slope_by(V x, const State& s, V w) const {
        const V y = s.total == splat<V>(0) ? splat<V>(1) : norm(s);
        const V t = relative(x, s), per = y / powered(y) / count;
        const V zero = splat<V>(0), less = cubic ? t * t : t == zero ? zero : w / t;
        const V size = p == splat<V>(1) ? splat<V>(1) / count : less * per;
        return x == zero ? zero : with_sign(size, x);
    }
    // log y = log(unit) + log(total / count) / p.
    HD V parameter_slope(const State& s) const {
        const V rate = (s.logs / s.total - logarithm<V>(s.total / count) / p) / p;
        return s.total == splat<V>(0) ? splat<V>(0) : result(s) * rate;
    }
};

// Lp with p = 2, in units of a power of two, by which scaling is exact.
template <class V>
struct Root2 {
    using I = Int<V>;
    static constexpr Traits traits = {.passes = 2, .backward_passes = 2, .sums = 1};
    V count;
    struct State {
        V largest, total;
    };
    HD explicit Root2(const Given<V>& given) : count(given.count) {}
    HD State init() const { return {splat<V>(0), splat<V>(0)}; }
    HD V unit(const State& s) const {
        const V whole = same_bits<V>(same_bits<I>(s.largest) & same_bits<I>(splat<V>(INFINITY)));
        const V normal = greater(whole, splat<V>(Format<Number<V>>::normal));
        return normal < splat<V>(INFINITY) ? normal : splat<V>(1);
    }
    template <int pass>
    HD void add(State& s, V x, V, int) const {
        if constexpr (pass == 0) s.largest = greater(absolute<V>(x), s.largest);
        if constexpr (pass == 1) {
            const V t = x * (splat<V>(1) / unit(s));
            s.total = s.total + t * t;
        }
    }
    HD static V filler() { return splat<V>(0); }
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        const V total = folded(x, [](V a, V b) { return a + b; }, [](V v) { return v * v; });
        if (!need_no_unit(x, total)) return false;
        s = {splat<V>(1), total};
        return true;
    }
    HD V norm(const State& s) const { return root(s.total / count); }
    HD V result(const State& s) const { return norm(s) * unit(s); }
    HD V slope(V x, V, const State& s, int) const {
        const V square = s.total * count, each = square == splat<V>(0) ? square : splat<V>(1) / root(square);
        return x * (splat<V>(1) / unit(s)) * each;
    }
    HD V own_weight(V x) const { return x * x; }
    HD V mean(V total, V) const { return root(total / count); }
    HD V factor(V g, V total) const { return total == splat<V>(0) ? total : g / root(total * count); }
    HD V to_member(V x, V, V a, V) const { return x * a; }
};

// Generalised mean (Radenovic 2018): Lp of max(x, eps).
template <class V>
struct Gem : Weighted<Gem<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {
        .passes = 2, .backward_passes = 2, .learned_passes = 3, .learned = true, .weighted = true};
    Lp<V> lp;
    V eps;
    using State = typename Lp<V>::State;
    HD explicit Gem(const Given<V>& given) : lp(given), eps(V{} + given.option) {}
    HD State init() const { return lp.init(); }
    HD V lifted(V x) const { return x < eps ? eps : x; }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        lp.template add<pass>(s, lifted(x), x, tap);
    }
    HD static V filler() { return splat<V>(0); }
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only only) const {
        V members[N];
        for (int k = 0; k < N; k++) members[k] = only(k, lifted(x[k]));
        return lp.at_once(s, members, only);
    }
    HD V weight(V x, V, const State& s) const { return lp.weight(lifted(x), x, s); }
    HD void gather(State& s, V x, V w) const { lp.gather(s, x, w); }
    HD V result(const State& s) const { return lp.result(s); }
    HD V slope_by(V x, const State& s, V w) const { return x < eps ? splat<V>(0) : lp.slope_by(x, s, w); }
    HD V parameter_slope(const State& s) const { return lp.parameter_slope(s); }
};

}  // namespace poolzoo

// The reducers: what happens to the members of one window. Each is the arithmetic of its definition and nothing else.
//
// A reducer sees the members in row-major order, as often as it asks for (`passes`, and `backward_passes` where its
// slopes need more), then gives `result`. The backward pass sums gradient * slope, `slope` being dy/dx of one member.
// V is a number or a vector of them, one lane per window; see lanes.h.
#pragma once

#include "lanes.h"

namespace poolzoo {

// What a window is given beside its members.
template <class V>
struct Given {
    V parameter;                  // of the layer or the channel: a, p, r, beta, ...
    V uniform;                    // one random number in [0, 1) for each window
    V count;                      // the number of members, or what the average divides by
    const Number<V>* table;       // weights by tap, or by number of members and rank (see rank.h)
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
    bool linear = false;          // no slope depends on x: has `share`, slope * gradient, `prepared` once for all taps; nothing is saved
    int learned_passes = 0;       // passes before parameter_slope, where it needs more than the slopes
    bool learned = false;         // has parameter_slope, dy/dparameter, or by the weight of one rank
    bool absent = false;          // takes -inf for a position that is not a member
    bool divides = false;         // `count` is the average's divisor
    bool ranked = false;          // sorts: see rank.h
    bool weighted = false;        // derives from Weighted
    int inputs = 1;               // 2: values and logits
};

// Names a plugin's reducer, after its definition. Its backward pass is given the values, so neither a saved tap nor
// the formulas for doing without values are asked for.
#define POOLZOO_REDUCER(name) static_assert(!name<float>::traits.indexed && !name<float>::traits.ranked);

// For small windows a reducer may have `bool at_once(State&, const V (&members)[N], only)`: what `add` would do with each,
// or false. Positions that are no members then hold `filler`; only(k, v) is v, or 0 in the lanes where k is none.
//
// A reducer whose members have weights that are known after a first look at them: `look(s, x, logit)`, then
// `gather(s, x, w)` with w = weight(x, logit, s), and slope_by(x, s, w). The CPU driver keeps the weights for the slopes.
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
    // No sum is a number where a member is a NaN; that is all that a comparison for each member would find.
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        V best = x[0], sum = x[0];
        for (int k = 1; k < N; k++) best = largest ? greater(x[k], best) : lesser(x[k], best), sum = sum + x[k];
        if (any((sum != sum) | (best == filler()))) return false;
        I tap = splat_int<V>(N - 1);
        for (int k = N - 2; k >= 0; k--) tap = x[k] == best ? splat_int<V>(k) : tap;
        s = {best, tap};
        return true;
    }
    HD V result(const State& s) const { return s.best; }
    HD I tap(const State& s) const { return s.tap; }
    HD V slope(V, V, const State& s, int tap) const { return s.tap == splat_int<V>(tap) ? splat<V>(1) : splat<V>(0); }
};
template <class V>
using Max = Extreme<V, true>;
template <class V>
using Min = Extreme<V, false>;

template <class V>
struct Avg {
    using I = Int<V>;
    static constexpr Traits traits = {.linear = true, .divides = true};
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
    HD V slope(V, V, const State&, int) const { return splat<V>(1) / count; }
    HD V prepared(V gradient) const { return gradient / count; }
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

// (mean |x|^p)^(1/p), in units of the window's largest |x| so that no power overflows or vanishes. At an all-zero
// window the slopes are 0. `normalize=False` sets the divisor to 1.
template <class V>
struct Lp : Weighted<Lp<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {
        .passes = 2, .backward_passes = 2, .learned_passes = 3, .learned = true, .divides = true, .weighted = true};
    V p, count;
    struct State {
        V unit, total, logs;
    };
    bool cubic;  // p is 3, which GeM and many others use
    HD explicit Lp(const Given<V>& given) : p(given.parameter), count(given.count), cubic(!any(p != splat<V>(3))) {}
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
    HD void look(State& s, V x, V) const { s.unit = greater(absolute<V>(x), s.unit); }
    HD V weight(V x, V, const State& s) const { return powered(relative(x, s)); }
    HD void gather(State& s, V, V w) const { s.total = s.total + w; }
    HD V norm(const State& s) const { return power<V>(s.total / count, splat<V>(1) / p); }
    HD V result(const State& s) const { return norm(s) * unit(s); }
    // y^p = sum |x|^p / count, so dy/dx = sign(x) (|x| / y)^(p - 1) / count, of which w = (|x| / unit)^p is known.
    HD V slope_by(V x, const State& s, V w) const {
        const V y = s.total == splat<V>(0) ? splat<V>(1) : norm(s);
        const V t = relative(x, s), per = y / powered(y) / count;
        const V less = cubic ? t * t : w / t;
        const V size = p == splat<V>(1) ? splat<V>(1) / count : t == splat<V>(0) ? splat<V>(0) : less * per;
        return x > splat<V>(0) ? size : x < splat<V>(0) ? -size : splat<V>(0) * size;
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
    static constexpr Traits traits = {.passes = 2, .backward_passes = 2, .divides = true};
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
    // In units of 1 where no square that counts is beyond the smallest or the largest number.
    HD static V filler() { return splat<V>(0); }
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        V total = x[0] * x[0], sizes = absolute<V>(x[0]);
        for (int k = 1; k < N; k++) total = total + x[k] * x[k], sizes = sizes + absolute<V>(x[k]);
        const V least = splat<V>(Format<Number<V>>::normal * 1e10), most = splat<V>(1 / (Format<Number<V>>::normal * 1e10));
        if (any(!((total >= least) & (total <= most)) & (sizes != splat<V>(0)))) return false;
        s = {splat<V>(1), total};
        return true;
    }
    HD V norm(const State& s) const { return root(s.total / count); }
    HD V result(const State& s) const { return norm(s) * unit(s); }
    HD V slope(V x, V, const State& s, int) const {
        const V each = splat<V>(1) / (norm(s) * count);
        const V t = x * (splat<V>(1) / unit(s));
        return t == splat<V>(0) ? splat<V>(0) : t * each;
    }
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
    HD V weight(V x, V, const State& s) const { return lp.weight(lifted(x), x, s); }
    HD void gather(State& s, V x, V w) const { lp.gather(s, x, w); }
    HD V result(const State& s) const { return lp.result(s); }
    HD V slope_by(V x, const State& s, V w) const { return x < eps ? splat<V>(0) : lp.slope_by(x, s, w); }
    HD V parameter_slope(const State& s) const { return lp.parameter_slope(s); }
};

// (1/r) log mean e^{r x} = (top + log(1 + mean(e^{r x - top} - 1))) / r, top = max r x; the mean of x at r = 0.
template <class V>
struct LogSumExp : Weighted<LogSumExp<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {
        .passes = 2, .backward_passes = 2, .learned_passes = 3, .learned = true, .weighted = true};
    V r, count;
    struct State {
        V top, excess, sum, first, second;
    };
    HD explicit LogSumExp(const Given<V>& given) : r(given.parameter), count(given.count) {}
    HD State init() const {
        const V zero = splat<V>(0);
        return {splat<V>(-INFINITY), zero, zero, zero, zero};
    }
    template <int pass>
    HD void add(State& s, V x, V logit, int tap) const {
        Weighted<LogSumExp<V>, V>::template add<pass>(s, x, logit, tap);
        if constexpr (pass == 2) {
            const V w = slope_by(x, s, weight(x, logit, s));
            s.first = s.first + w * x;
            s.second = s.second + w * x * x;
        }
    }
    HD void look(State& s, V x, V) const {
        s.top = larger<V>(r * x, s.top);
        s.sum = s.sum + x;
    }
    HD V weight(V x, V, const State& s) const { return exponential_less_one<V>(r * x - s.top); }
    HD void gather(State& s, V, V w) const { s.excess = s.excess + w; }
    HD V result(const State& s) const {
        const V finite = (s.top + logarithm_of_one_more<V>(s.excess / count)) / r;
        const V infinite = s.top * r;
        const V far = splat<V>(INFINITY);
        return r == splat<V>(0) ? s.sum / count : (s.top == far) | (s.top == -far) ? infinite : finite;
    }
    HD V slope_by(V, const State& s, V w) const { return (splat<V>(1) + w) * (splat<V>(1) / (count + s.excess)); }
    HD V parameter_slope(const State& s) const {
        const V spread = (s.second - s.first * s.first) * splat<V>(0.5);
        return r == splat<V>(0) ? spread : (s.first - result(s)) / r;
    }
};

// SoftPool (Stergiou 2021): y = sum_i w_i x_i, w = softmax(beta x). A factor common to all weights cancels: e^-10 keeps
// the sum of members near the largest number finite.
template <class V>
struct Soft : Weighted<Soft<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {.passes = 2, .backward_passes = 2, .weighted = true};
    V beta;
    struct State {
        V top, weight, sum;
    };
    HD explicit Soft(const Given<V>& given) : beta(given.parameter) {}
    HD State init() const { return {splat<V>(-INFINITY), splat<V>(0), splat<V>(0)}; }
    HD void look(State& s, V x, V) const { s.top = greater(beta * x, s.top); }
    HD V weight(V x, V, const State& s) const {
        const V large = splat<V>(Format<Number<V>>::large) * absolute<V>(beta);
        const V common = absolute<V>(s.top) > large ? splat<V>(10) : splat<V>(0);
        return exponential<V>(beta * x - s.top - common);
    }
    HD void gather(State& s, V x, V w) const {
        s.weight = s.weight + w;
        s.sum = s.sum + w * x;
    }
    HD V result(const State& s) const { return s.sum / s.weight; }
    HD V slope_by(V x, const State& s, V w) const {
        return w * (splat<V>(1) / s.weight) * (splat<V>(1) + beta * (x - result(s)));
    }
};

// sum_i w_i x_i, w = softmax(l) with logits l from outside (LIP, Gao 2019).
template <class V>
struct WeightedMean : Weighted<WeightedMean<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {.passes = 2, .backward_passes = 2, .weighted = true, .inputs = 2};
    struct State {
        V top, weight, sum;
    };
    HD explicit WeightedMean(const Given<V>&) {}
    HD State init() const { return {splat<V>(-INFINITY), splat<V>(0), splat<V>(0)}; }
    HD void look(State& s, V, V logit) const { s.top = greater(logit, s.top); }
    HD V weight(V, V logit, const State& s) const { return exponential<V>(logit - s.top); }
    HD void gather(State& s, V x, V w) const {
        s.weight = s.weight + w;
        s.sum = s.sum + w * x;
    }
    HD V result(const State& s) const { return s.sum / s.weight; }
    HD V slope_by(V, const State& s, V w) const { return w * (splat<V>(1) / s.weight); }
    HD V logit_slope(V x, V logit, const State& s) const { return logit_slope_by(x, s, weight(x, logit, s)); }
    HD V logit_slope_by(V x, const State& s, V w) const { return slope_by(x, s, w) * (x - result(s)); }
};

// A mean whose weights depend on the window's mean m: y = sum_i w_i x_i / sum_i w_i with w_i = weight(x_i, m).
// `rate` is (dw/dx) / w, `mean_rate` (dw/dm) / w.
template <class Self, class V>
struct AboutMean {
    using I = Int<V>;
    static constexpr Traits traits = {.passes = 2, .backward_passes = 3};
    V count, eps;
    struct State {
        V total, weight, sum, through_mean;
    };
    HD explicit AboutMean(const Given<V>& given) : count(given.count), eps(V{} + given.option) {}
    HD const Self& self() const { return static_cast<const Self&>(*this); }
    HD State init() const {
        const V zero = splat<V>(0);
        return {zero, zero, zero, zero};
    }
    template <int pass>
    HD void add(State& s, V x, V, int) const {
        if constexpr (pass == 0) {
            s.total = s.total + x;
        } else {
            const V m = s.total / count, w = self().weight(x, m);
            if constexpr (pass == 1) {
                s.weight = s.weight + w;
                s.sum = s.sum + w * x;
            } else {
                s.through_mean = s.through_mean + w / s.weight * (x - result(s)) * self().mean_rate(x, m);
            }
        }
    }
    HD V result(const State& s) const { return s.sum / s.weight; }
    HD V slope(V x, V, const State& s, int) const {
        const V m = s.total / count, w = self().weight(x, m) / s.weight;
        return w * (splat<V>(1) + (x - result(s)) * self().rate(x, m)) + s.through_mean / count;
    }
};

// Weights softmax(d), d_i = 2 |x_i m| / (x_i^2 + m^2 + eps), m = mean (Stergiou 2022).
template <class V>
struct Edscw : AboutMean<Edscw<V>, V> {
    using AboutMean<Edscw<V>, V>::AboutMean;
    HD V weight(V x, V m) const {
        return exponential<V>(splat<V>(2) * absolute<V>(x) * absolute<V>(m) / (x * x + m * m + this->eps));
    }
    HD V rate(V x, V m) const {
        const V d = x * x + m * m + this->eps;
        const V sign = x > splat<V>(0) ? splat<V>(1) : x < splat<V>(0) ? splat<V>(-1) : splat<V>(0);
        return splat<V>(2) * absolute<V>(m) * (sign / d - absolute<V>(x) / d * (splat<V>(2) * x / d));
    }
    HD V mean_rate(V x, V m) const { return rate(m, x); }  // d is symmetric
};
template <class V>
using Ada = Blend<V, Edscw, Soft>;

// Weights 1 / (|x_i - m| + eps), normalised, m = mean (Stergiou 2022).
template <class V>
struct Idw : AboutMean<Idw<V>, V> {
    using AboutMean<Idw<V>, V>::AboutMean;
    HD V weight(V x, V m) const { return splat<V>(1) / (absolute<V>(x - m) + this->eps); }
    HD V rate(V x, V m) const {
        const V w = weight(x, m);
        return x > m ? -w : x < m ? w : splat<V>(0);
    }
    HD V mean_rate(V x, V m) const { return -rate(x, m); }
};

}  // namespace poolzoo

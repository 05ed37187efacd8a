// Reducers whose members have weights that depend on the values: log-mean-exp, softmax-weighted and similarity-weighted means.
#pragma once

#include "reducers.h"

namespace poolzoo {

// The largest of N members and the others, in any order.
template <int N, class V>
struct LargestAndRest {
    V largest, rest[N - 1];
    HD explicit LargestAndRest(const V (&x)[N]) : largest(x[0]) {
        for (int k = 1; k < N; k++) rest[k - 1] = lesser(x[k], largest), largest = greater(x[k], largest);
    }
};

// What e^{steepness x} of a member is to be divided by e^{steepness top} for: of x upside down where the steepness is negative.
// As a product of a difference, which is 0 for the top itself: r x - r top, computed as one, need not be.
template <class V>
HD V exponent_below(V turned, V top, V steepness) {
    const V below = greater(splat<V>(Format<Number<V>>::lowest), turned - top);  // -infinity times 0 would be NaN
    return absolute<V>(steepness) * below;
}

// (1/r) log mean e^{r x} = top + log(1 + mean(e^{r (x - top)} - 1)) / r, top = max x, min x where r < 0; the mean of x at r = 0.
template <class V>
struct LogSumExp : Weighted<LogSumExp<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {
        .passes = 2, .backward_passes = 2, .learned_passes = 3, .learned = true, .weighted = true, .forward_at_once = true,
        .sums = 1};
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
    // Leaves NaN and infinity to `add`. The largest member's weight is known.
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        V turned[N], sum = splat<V>(0);
        for (int k = 0; k < N; k++) turned[k] = turned_by(x[k], r), sum = sum + x[k];
        const LargestAndRest<N, V> members(turned);
        const V finite = (sum + members.largest) * splat<V>(0);
        if (any_other(finite, finite)) return false;
        s.top = members.largest, s.sum = sum;
        const V steepness = absolute<V>(r);
        for (const V other : members.rest) s.excess = s.excess + exponential_less_one<V>(steepness * (other - s.top));
        return true;
    }
    HD void look(State& s, V x, V) const {
        s.top = larger<V>(turned_by(x, r), s.top);
        s.sum = s.sum + x;
    }
    HD V weight(V x, V, const State& s) const { return exponential_less_one<V>(exponent_below<V>(turned_by(x, r), s.top, r)); }
    HD void gather(State& s, V, V w) const { s.excess = s.excess + w; }
    HD V result(const State& s) const {
        const V each = splat<V>(1) / count;  // once: divisions take long
        const V top = turned_by(s.top, r), finite = top + logarithm_of_one_more<V>(s.excess * each) / r;
        return r == splat<V>(0) ? s.sum * each : absolute<V>(top) == splat<V>(INFINITY) ? top : finite;
    }
    HD V slope_by(V, const State& s, V w) const { return (splat<V>(1) + w) * (splat<V>(1) / (count + s.excess)); }
    HD V exponent(V x, V) const { return r * x; }
    HD V mean_of_excess(V excess) const { return logarithm_of_one_more<V>(excess / count) / r; }
    HD V least_excess() const {
        const V steepness = absolute<V>(r);
        return (steepness >= splat<V>(1e-6)) & (steepness <= splat<V>(1e6)) ? splat<V>(-0.9) * count : splat<V>(INFINITY);
    }
    HD V to_member(V, V w, V a, V) const { return w * a; }
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
    static constexpr Traits traits = {
        .passes = 2, .backward_passes = 2, .weighted = true, .forward_at_once = true, .sums = 2};
    V beta;
    struct State {
        V top, weight, sum;
    };
    HD explicit Soft(const Given<V>& given) : beta(given.parameter) {}
    HD State init() const { return {splat<V>(-INFINITY), splat<V>(0), splat<V>(0)}; }
    // Leaves NaN, infinity and numbers near it to `add`, and large windows. The largest member's weight is 1, which saves
    // one exponential.
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only) const {
        if constexpr (N > 4) return false;
        const V steepness = absolute<V>(beta);
        V turned[N], sum = splat<V>(0);  // upside down where beta is negative
        for (int k = 0; k < N; k++) turned[k] = turned_by(x[k], beta), sum = sum + x[k];
        const LargestAndRest<N, V> members(turned);
        const V finite = (sum + members.largest * splat<V>(1e4)) * splat<V>(0);
        if (any_other(finite, finite)) return false;
        s.weight = splat<V>(1), s.sum = members.largest;
        for (const V other : members.rest) gather(s, other, exponential<V>(steepness * (other - members.largest)));
        s.sum = turned_by(s.sum, beta);
        return true;
    }
    HD void look(State& s, V x, V) const { s.top = greater(turned_by(x, beta), s.top); }
    HD V weight(V x, V, const State& s) const {
        const V common = absolute<V>(s.top) > splat<V>(Format<Number<V>>::large) ? splat<V>(10) : splat<V>(0);
        return exponential<V>(exponent_below<V>(turned_by(x, beta), s.top, beta) - common);
    }
    HD void gather(State& s, V x, V w) const {
        s.weight = s.weight + w;
        s.sum = s.sum + w * x;
    }
    HD V result(const State& s) const { return s.sum / s.weight; }
    HD V slope_by(V x, const State& s, V w) const {
        return w * (splat<V>(1) / s.weight) * (splat<V>(1) + beta * (x - result(s)));
    }
    HD V exponent(V x, V) const { return beta * x; }
    HD V mean(V total, V sum) const { return sum / total; }
    HD V to_member(V x, V w, V a, V b) const { return w * (a + beta * (x * a - b)); }
};

// sum_i w_i x_i, w = softmax(l) with logits l from outside (LIP, Gao 2019).
template <class V>
struct WeightedMean : Weighted<WeightedMean<V>, V> {
    using I = Int<V>;
    static constexpr Traits traits = {.passes = 2, .backward_passes = 2, .weighted = true, .inputs = 2, .sums = 2};
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
    HD V exponent(V, V logit) const { return logit; }
    HD V mean(V total, V sum) const { return sum / total; }
    HD V to_member(V, V w, V a, V) const { return w * a; }
    HD V to_logit(V x, V w, V a, V b) const { return w * (x * a - b); }
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

// Sums over 3x3 windows at stride 2 whose members' weights depend on no other member: squares, and exponentials, from which
// nothing is taken off while no sum of them is too large or small. A weight is then found once for all of a member's windows.
// An output row of such sums is *tame*; the others are left to RowOf, which looks at each window by itself, and to Gather.
//
// Windows that overlap by one have the columns 2j - 1, 2j and 2j + 1 of x: an odd one, an even one and the next odd one. So
// a sum over windows is one of three rows, and then of three columns.
#pragma once

#include "rows.h"
#include "squares.h"

namespace poolzoo {

// The least size of numbers other than 0, and the largest.
template <class V>
class Sizes {
    V least_ = splat<V>(1), most_ = splat<V>(0), zero_ = splat<V>(0);

  public:
    HD void add(V x) {
        const V size = absolute<V>(x);
        most_ = greater(most_, size);
        least_ = lesser(least_, size == splat<V>(0) ? splat<V>(1) : size);
        zero_ = zero_ + x * splat<V>(0);  // NaN where x is NaN or infinite
    }
    HD bool within(double least, double most) const {
        return !any_other(zero_, zero_) && !any(least_ < splat<V>(least)) && !any(most_ > splat<V>(most));
    }
};

// The sums over an output row's windows. `excess`: of what weights, which are exponentials, are more than 1, as exact as
// the members where these are small.
template <template <class> class R, class T, bool excess = false>
class WindowSums {
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    using I = Int<V>;
    using Red = typename Row::Red;
    static constexpr int L = Plan<T>::L;
    static constexpr bool kWithMembers = Row::traits.sums == 2;  // also of weights times members
    static constexpr int kRows = 4;                              // whose weights are held
    // Of windows where no product here or in factored.h overflows, or vanishes and counts: sums of weights, sums of weights
    // times members, members other than 0.
    static constexpr double kLeast = 1e-9, kMost = 1e13, kLeastSum = 1e-24, kMostSum = 1e11, kLeastMember = 1e-15;

    const Plan<T>& plan_;
    const Row& row_;
    const int64_t length_;      // of a row of weights: NCHW: with a 0 before it
    Buffer<T> weights_;
    Buffer<T> odd_[2];          // NHWC: the sums down the last pixel's odd column
    int64_t unit_ = -1, held_[kRows];

    struct Place {
        int64_t x, weight;  // in a row of x, and of weights
    };

  public:
    // Reducers whose weights are exponentials hold them; squares are made again.
    static constexpr bool exponential_weights = requires(const Red& red, V v) { red.exponent(v, v); };
    struct Sums {
        V total, sum;
    };

    WindowSums(const Plan<T>& plan, const Row& row)
        : plan_(plan), row_(row), length_(plan.w.channels_last ? plan.row : L + Plan<T>::whole_lanes(plan.w.W)),
          weights_(exponential_weights ? kRows * length_ : 0) {
        for (auto& odd : odd_) odd.resize(plan.w.channels_last ? plan.pixel : 0);
    }
    static bool takes(const Plan<T>& plan) {
        return Plan<T>::kUnrolls && overlap_by_one(plan) && plan.w.border == Border::Skip;
    }

    const T* x_row(const Unit& unit, int64_t h) const { return static_cast<const T*>(plan_.call.x) + plan_.row_at(unit, h); }
    const T* weight_row(int64_t h) const { return weights_.data() + weights_at(h); }
    HD V weight(const Red& reducer, V x, const T* weight_row, int64_t at) const {
        if constexpr (exponential_weights) {
            return load<V>(weight_row + at);
        } else {
            return reducer.own_weight(x);
        }
    }
    // The places of a block's two columns, or of the halves of its run of columns.
    HD Place place(const Block& b, int half) const {
        const int64_t column = 2 * b.column;
        if (!plan_.w.channels_last) return {column + half * L, column + half * L};
        return {(column + half) * plan_.w.C + b.channel, (column + half) * plan_.pixel + b.channel};
    }

    // body(block, sums) for each block of output row i, which the row has entered. False as soon as one is not tame.
    template <class Body>
    HD bool each(const Unit& unit, int64_t i, Body body) {
        if (unit.index != unit_) unit_ = unit.index, std::fill_n(held_, kRows, -1);
        const T *x[3], *weights[3];
        const int64_t first = std::max<int64_t>(0, 2 * i - 1);
        for (int64_t h = first; h <= 2 * i + 1; h++) {
            x[h - first] = x_row(unit, h), weights[h - first] = weight_row(h);
            if constexpr (exponential_weights) weigh(unit, h);
        }
        if (plan_.w.channels_last) {
            for (auto& odd : odd_) std::fill(odd.begin(), odd.end(), T(0));
        }
        return i == 0 ? each_of<2>(x, weights, body) : each_of<3>(x, weights, body);
    }

  private:
    int64_t weights_at(int64_t h) const { return (h & (kRows - 1)) * length_ + (plan_.w.channels_last ? 0 : L); }
    void weigh(const Unit& unit, int64_t h) {
        if (held_[h & (kRows - 1)] == h) return;
        held_[h & (kRows - 1)] = h;
        const Window& w = plan_.w;
        const T *x = x_row(unit, h), *logits = x;
        if constexpr (Row::traits.inputs == 2) logits = static_cast<const T*>(plan_.call.logits) + plan_.row_at(unit, h);
        T* const to = weights_.data() + weights_at(h);
        const auto one = [&](int64_t x_at, int64_t at, int64_t channel) __attribute__((always_inline)) {
            const Red reducer(row_.given_to_member(channel));
            const V exponent = lesser(splat<V>(80), reducer.exponent(load<V>(x + x_at), load<V>(logits + x_at)));
            store(to + at, excess ? exponential_less_one<V>(exponent) : exponential<V>(exponent));
        };
        if (!w.channels_last) {
            for (int64_t k = 0; k < w.W; k += L) one(std::min(k, w.W - L), std::min(k, w.W - L), 0);
        } else {
            for (int64_t k = 0; k < w.W; k++) {
                for (int64_t c = 0; c < plan_.pixel; c += L) {
                    one(k * w.C + c, k * plan_.pixel + c, c);
                    ask_for(x + k * w.C + c + plan_.ahead);
                    if constexpr (Row::traits.inputs == 2) ask_for(logits + k * w.C + c + plan_.ahead);
                }
            }
        }
    }

    template <int rows, class Body>
    HD bool each_of(const T* const (&x)[3], const T* const (&weights)[3], Body body) {
        for (const Block& b : plan_.blocks) {
            const Red reducer(row_.given_to_member(b.channel));
            V totals[2], sums[2];
            for (int half = 0; half < 2; half++) {
                const Place at = place(b, half);
                totals[half] = sums[half] = splat<V>(0);
#pragma GCC unroll 3
                for (int r = 0; r < rows; r++) {
                    const V value = load<V>(x[r] + at.x), w = weight(reducer, value, weights[r], at.weight);
                    if (!exponential_weights && r >= rows - 2 && plan_.w.channels_last) ask_for(x[r] + at.x + plan_.ahead);
                    totals[half] = totals[half] + w;
                    if constexpr (kWithMembers) sums[half] = sums[half] + w * value;
                }
            }
            T total_before = 0, sum_before = 0;  // of the column before
            if (!plan_.w.channels_last && b.column > 0) {
                const int64_t at = 2 * b.column - 1;
                for (int r = 0; r < rows; r++) {
                    const T value = x[r][at], w = exponential_weights ? weights[r][at] : value * value;
                    total_before += w, sum_before += w * value;
                }
            }
            Sums found{over_columns<0>(b, totals, total_before), splat<V>(0)};
            if constexpr (kWithMembers) found.sum = over_columns<1>(b, sums, sum_before);
            if (!tame(b, found, x, rows)) return false;
            body(b, found);
        }
        return true;
    }
    template <int which>
    HD V over_columns(const Block& b, const V (&columns)[2], T before) {
        if (plan_.w.channels_last) {
            T* odd = odd_[which].data() + b.channel;
            const V sum = load<V>(odd) + columns[0] + columns[1];
            store(odd, columns[1]);
            return sum;
        }
        I even, odd, one_before;
        for (int k = 0; k < L; k++) even[k] = 2 * k, odd[k] = 2 * k + 1, one_before[k] = k == 0 ? L : k - 1;
        const V odds = __builtin_shuffle(columns[0], columns[1], odd);
        return __builtin_shuffle(odds, V{} + before, one_before) + __builtin_shuffle(columns[0], columns[1], even) + odds;
    }
    HD bool tame(const Block& b, const Sums& sums, const T* const (&x)[3], int rows) const {
        if constexpr (exponential_weights) {
            V least = splat<V>(kLeast);
            if constexpr (excess) least = Red(row_.given(b)).least_excess();
            if (any_other(sums.total, lesser(greater(sums.total, least), splat<V>(kMost)))) return false;
            if constexpr (!kWithMembers && !excess) return true;
        }
        const V size = excess ? absolute<V>(sums.total) : exponential_weights ? absolute<V>(sums.sum) : sums.total;
        if (!any_other(size, lesser(greater(size, splat<V>(kLeastSum)), splat<V>(kMostSum)))) return true;
        // Smaller sums are right unless members are small, but not 0.
        if (any_other(size, lesser(size, splat<V>(kMostSum)))) return false;
        Sizes<V> sizes;
        for (int r = 0; r < rows; r++) {
            for (int half = 0; half < 2; half++) sizes.add(load<V>(x[r] + place(b, half).x));
            if (b.column == 0) continue;
            sizes.add(plan_.w.channels_last ? load<V>(x[r] + place(b, 0).x - plan_.w.C) : V{} + x[r][2 * b.column - 1]);
        }
        return sizes.within(kLeastMember, INFINITY);
    }
};

}  // namespace poolzoo

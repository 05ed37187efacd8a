// Reducers of the members' ranks, x(1) >= x(2) >= ...: median, weighted ranks, drawn ranks.
//
// A member's rank is the number of those that are larger, or equal and before it in row-major order: every pair is
// compared once, as the members come, or few members are sorted at once. A NaN anywhere gives NaN.
#pragma once

#include "reducers.h"

namespace poolzoo {

constexpr int kMostRanked = 64;

// The table's row for each lane's number of members: a number for each rank.
template <class V>
struct RankTable {
    using I = Int<V>;
    using T = Number<V>;
    static constexpr int L = Lanes<V>::count;
    const T* row[L];  // the rows that the lanes use
    I lanes[L];       // and which do; not set for the first
    int rows = 1, taps;

    HD explicit RankTable(const Given<V>& given) : taps(static_cast<int>(given.taps)) {
        if constexpr (L == 1) {
            row[0] = given.table + static_cast<int64_t>(given.count) * taps;
        } else if (given.common_count >= 0 && given.table_step == 0) {
            row[0] = given.table + static_cast<int64_t>(given.common_count) * taps;
        } else if (given.table_step == 0) {
            rows = 0;
            for (int n = 0; n <= taps; n++) {
                const I here = given.count == splat<V>(n);
                if (any(here)) row[rows] = given.table + n * taps, lanes[rows++] = here;
            }
        } else {
            rows = 0;
            for (int k = 0; k < L; k++) {
                const int own = k < given.tables ? k : given.tables - 1;
                const T* wanted = given.table + own * given.table_step + static_cast<int64_t>(given.count[k]) * taps;
                int d = 0;
                while (d < rows && row[d] != wanted) d++;
                if (d == rows) row[rows] = wanted, lanes[rows++] = I{};
                lanes[d][k] = -1;
            }
        }
    }
    // of(row) for each lane's row.
    template <class Of>
    HD auto by_row(Of of) const {
        auto found = of(row[0]);
        for (int d = 1; d < rows; d++) found = lanes[d] ? of(row[d]) : found;
        return found;
    }
    HD V of_ranks(I rank) const {
        return by_row([&](const T* from) { return found(from, rank); });
    }
    // On the CPU a table has a vector's length of space behind it.
    HD V found(const T* from, I rank) const {
        if constexpr (L == 1) {
            return from[rank];
        } else {
            V e = __builtin_shuffle(load<V>(from), rank);
            for (int base = L; base < taps; base += L) {
                e = rank >= splat_int<V>(base) ? __builtin_shuffle(load<V>(from + base), rank) : e;
            }
            return e;
        }
    }
};

// Batcher's merge exchange (Knuth 5.2.2, algorithm M): the pairs that are compared to sort N numbers.
template <int N>
struct Exchanges {
    int count = 0, first[N * N], second[N * N];
    constexpr Exchanges() : first(), second() {
        int top = 1;
        while (2 * top < N) top *= 2;
        for (int p = top; p > 0; p /= 2) {
            for (int q = top, r = 0, d = p;; d = q - p, q /= 2, r = p) {
                for (int i = 0; i < N - d; i++) {
                    if ((i & p) == r) first[count] = i, second[count++] = i + d;
                }
                if (q == p) break;
            }
        }
    }
};

template <int N, class V>
HD void exchange_down(V (&x)[N]) {
    constexpr Exchanges<N> exchanges;
#pragma GCC unroll 64
    for (int k = 0; k < exchanges.count; k++) {
        V &a = x[exchanges.first[k]], &b = x[exchanges.second[k]];
        const V high = greater(a, b), low = lesser(b, a);
        a = high, b = low;
    }
}

// The members in descending order, of which absent ones may be infinite; false where another is, or is a NaN.
// Of 0 and -0 both stay.
template <int N, class V, class Only>
HD bool sort_down(const V (&x)[N], Only only, V (&sorted)[N]) {
    V finite = splat<V>(0);
#pragma GCC unroll 16
    for (int k = 0; k < N; k++) finite = finite + only(k, x[k]) * splat<V>(0), sorted[k] = x[k];
    if (any_other(finite, finite)) return false;
    exchange_down(sorted);
    return true;
}

template <class V>
struct Ranks {
    using I = Int<V>;
    struct State {
        int filled;                                // members; none where they were sorted at once
        int tap[kMostRanked], place[kMostRanked];  // the k-th member's tap; which member a tap is
        V nan;
        V value[kMostRanked];
        I rank[kMostRanked];
    };
    HD State init() const {
        State s;
        s.filled = 0;
        s.nan = splat<V>(0);
        return s;
    }
    template <int pass>
    HD void add(State& s, V x, V, int tap) const {
        I own = splat_int<V>(0);
        for (int k = 0; k < s.filled; k++) {
            const auto above = x > s.value[k];
            s.rank[k] = above ? s.rank[k] + 1 : s.rank[k];
            own = above ? own : own + 1;
        }
        s.nan = x != x ? x : s.nan;
        s.value[s.filled] = x;
        s.rank[s.filled] = own;
        s.tap[s.filled] = tap;
        s.place[tap] = s.filled++;
    }
    HD V or_nan(V y, const State& s) const { return s.nan != s.nan ? s.nan : y; }
};

// One member, by its rank: its value and tap, or 0 and -1 where there is none.
template <class V>
struct Picked : Ranks<V> {
    using I = Int<V>;
    struct State : Ranks<V>::State {
        V picked;  // where the members were sorted at once
        I tap_picked;
    };
    HD State init() const { return {Ranks<V>::init(), V{}, splat_int<V>(-1)}; }
    HD static V filler() { return splat<V>(-INFINITY); }
    // Leaves NaN and infinity to `add`.
    template <int N, class Only>
    HD bool pick(State& s, const V (&x)[N], I rank, Only only) const {
        V sorted[N], y = splat<V>(0);
        if (!sort_down(x, only, sorted)) return false;
#pragma GCC unroll 16
        for (int r = 0; r < N; r++) y = rank == splat_int<V>(r) ? sorted[r] : y;
        // Of those that are equal to it, the one with as many larger or equal ones before.
        I before = rank, tap = splat_int<V>(-1);
#pragma GCC unroll 16
        for (int k = 0; k < N; k++) before = x[k] > y ? before - 1 : before;
#pragma GCC unroll 16
        for (int k = 0; k < N; k++) {
            const auto equal = x[k] == y;
            tap = equal & (before == 0) ? splat_int<V>(k) : tap;
            before = equal ? before - 1 : before;
        }
        s.picked = y, s.tap_picked = tap;
        return true;
    }
    HD V value_at(const State& s, I rank) const {
        if (s.filled == 0) return s.picked;
        V y = splat<V>(0);
        for (int k = 0; k < s.filled; k++) y = s.rank[k] == rank ? s.value[k] : y;
        return this->or_nan(y, s);
    }
    HD I tap_at(const State& s, I rank) const {
        if (s.filled == 0) return s.tap_picked;
        I tap = splat_int<V>(-1);
        for (int k = 0; k < s.filled; k++) tap = s.rank[k] == rank ? splat_int<V>(s.tap[k]) : tap;
        return tap;
    }
};

// The lower median, torch.median's: rank n // 2 from the top, counted from 0.
template <class V>
struct Median : Picked<V> {
    using typename Picked<V>::I;
    using typename Picked<V>::State;
    static constexpr Traits traits = {.indexed = true, .absent = true, .ranked = true, .forward_at_once = true};
    I rank;
    HD explicit Median(const Given<V>& given) : rank(truncated(given.count * splat<V>(0.5))) {}
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only only) const {
        return this->pick(s, x, rank, only);
    }
    HD V result(const State& s) const { return this->value_at(s, rank); }
    HD I tap(const State& s) const { return this->tap_at(s, rank); }
};

// Rank r with probability p_r: the first rank whose cumulative probability (the table) exceeds the uniform number. Where
// none does, all were dropped (Wu & Gu 2015): 0, and no gradient.
template <class V>
struct RankDraw : Picked<V> {
    using typename Picked<V>::I;
    using typename Picked<V>::State;
    static constexpr Traits traits = {.indexed = true, .absent = true, .ranked = true, .forward_at_once = true};
    I rank;
    HD explicit RankDraw(const Given<V>& given) : rank(splat_int<V>(-1)) {
        if (given.table == nullptr) return;  // backward, which has the taps
        rank = RankTable<V>(given).by_row([&](const Number<V>* row) {
            I first = splat_int<V>(-1);
            for (int r = static_cast<int>(given.taps) - 1; r >= 0; r--) {
                const auto here = (V{} + row[r] > given.uniform) & (given.count > splat<V>(r));
                first = here ? splat_int<V>(r) : first;
            }
            return first;
        });
    }
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only only) const {
        return this->pick(s, x, rank, only);
    }
    HD V result(const State& s) const { return this->value_at(s, rank); }
    HD I tap(const State& s) const { return this->tap_at(s, rank); }
};

// sum_r w_r x(r), the weights from the table: rank-based average and weighting (Shi 2016), ordinal pooling.
template <class V>
struct RankMean : Ranks<V> {
    using I = Int<V>;
    struct State : Ranks<V>::State {
        V mean;  // where the members were sorted at once
    };
    static constexpr Traits traits = {.learned = true, .absent = true, .ranked = true, .forward_at_once = true};
    V count;
    RankTable<V> weights;
    HD explicit RankMean(const Given<V>& given) : count(given.count), weights(given) {}
    HD State init() const { return {Ranks<V>::init(), V{}}; }
    HD static V filler() { return splat<V>(Format<Number<V>>::lowest); }
    // Leaves NaN and infinity to `add`.
    template <int N, class Only>
    HD bool at_once(State& s, const V (&x)[N], Only only) const {
        V sorted[N];
        if (!sort_down(x, only, sorted)) return false;
        s.mean = weights.by_row([&](const Number<V>* row) {
            V sum = splat<V>(0);
#pragma GCC unroll 16
            for (int r = 0; r < N; r++) sum = sum + sorted[r] * (V{} + row[r]);
            return sum;
        });
        return true;
    }
    HD V result(const State& s) const {
        if (s.filled == 0) return s.mean;
        V y = splat<V>(0);
        for (int k = 0; k < s.filled; k++) {
            const V w = weights.of_ranks(s.rank[k]);
            y = y + (w == splat<V>(0) ? splat<V>(0) : w * s.value[k]);
        }
        return this->or_nan(y, s);
    }
    HD V slope(V, V, const State& s, int tap) const { return weights.of_ranks(s.rank[s.place[tap]]); }
    // By the weight of one rank; windows with fewer members have none of it.
    HD V parameter_slope(const State& s, int rank) const {
        V y = splat<V>(0);
        for (int k = 0; k < s.filled; k++) y = s.rank[k] == splat_int<V>(rank) ? s.value[k] : y;
        return count > splat<V>(rank) ? y : splat<V>(0);
    }
    // By those of all ranks; few members are sorted for it.
    HD void parameter_slopes(const State& s, int ranks, V* to) const {
        const bool ordered = !any_other(s.nan, s.nan);
        if (ordered && s.filled == ranks && ranks == 4) return sorted_slopes<4>(s, to);
        if (ordered && s.filled == ranks && ranks == 9) return sorted_slopes<9>(s, to);
        for (int r = 0; r < ranks; r++) to[r] = parameter_slope(s, r);
    }

  private:
    template <int N>
    HD void sorted_slopes(const State& s, V* to) const {
        V sorted[N];
#pragma GCC unroll 16
        for (int k = 0; k < N; k++) sorted[k] = s.value[k];
        exchange_down(sorted);  // absent ones, which are -infinity, last
#pragma GCC unroll 16
        for (int r = 0; r < N; r++) to[r] = count > splat<V>(r) ? sorted[r] : splat<V>(0);
    }
};

}  // namespace poolzoo

// Reducers of the members' ranks, x(1) >= x(2) >= ...: median, weighted ranks, drawn ranks.
//
// A member's rank is the number of those that are larger, or equal and before it in row-major order; every pair is
// compared once, as the members come. A NaN anywhere gives NaN.
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
    HD V of_rank(int rank) const {
        V e = V{} + row[0][rank];
        for (int d = 1; d < rows; d++) e = lanes[d] ? V{} + row[d][rank] : e;
        return e;
    }
    HD V of_ranks(I rank) const {
        V e = found(row[0], rank);
        for (int d = 1; d < rows; d++) e = lanes[d] ? found(row[d], rank) : e;
        return e;
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

template <class V>
struct Ranks {
    using I = Int<V>;
    struct State {
        int filled;
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
    using typename Ranks<V>::State;
    HD V value_at(const State& s, I rank) const {
        V y = splat<V>(0);
        for (int k = 0; k < s.filled; k++) y = s.rank[k] == rank ? s.value[k] : y;
        return this->or_nan(y, s);
    }
    HD I tap_at(const State& s, I rank) const {
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
    static constexpr Traits traits = {.indexed = true, .absent = true, .ranked = true};
    I rank;
    HD explicit Median(const Given<V>& given) : rank(truncated(given.count * splat<V>(0.5))) {}
    HD V result(const State& s) const { return this->value_at(s, rank); }
    HD I tap(const State& s) const { return this->tap_at(s, rank); }
};

// Rank r with probability p_r: the first rank whose cumulative probability (the table) exceeds the uniform number. Where
// none does, all were dropped (Wu & Gu 2015): 0, and no gradient.
template <class V>
struct RankDraw : Picked<V> {
    using typename Picked<V>::I;
    using typename Picked<V>::State;
    static constexpr Traits traits = {.indexed = true, .absent = true, .ranked = true};
    I rank;
    HD explicit RankDraw(const Given<V>& given) : rank(splat_int<V>(-1)) {
        if (given.table == nullptr) return;  // backward, which has the taps
        const RankTable<V> table(given);
        for (int r = table.taps - 1; r >= 0; r--) {
            const auto here = (table.of_rank(r) > given.uniform) & (given.count > splat<V>(r));
            rank = here ? splat_int<V>(r) : rank;
        }
    }
    HD V result(const State& s) const { return this->value_at(s, rank); }
    HD I tap(const State& s) const { return this->tap_at(s, rank); }
};

// sum_r w_r x(r), the weights from the table: rank-based average and weighting (Shi 2016), ordinal pooling.
template <class V>
struct RankMean : Ranks<V> {
    using I = Int<V>;
    using typename Ranks<V>::State;
    static constexpr Traits traits = {.learned = true, .absent = true, .ranked = true};
    V count;
    RankTable<V> weights;
    HD explicit RankMean(const Given<V>& given) : count(given.count), weights(given) {}
    HD V result(const State& s) const {
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
};

}  // namespace poolzoo

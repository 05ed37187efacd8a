// The backward pass of windows as in window_sums.h, whose slopes factor: with
//   y = (sum of w x) / (sum of w) over a window,   a = gradient / (sum of w),   b = a y,
// dx is w A + ..., where A and B add up a and b over the member's windows (`to_member` of each reducer): over one or two
// output rows, and then over the own output column and, for an odd column of x, the next one.
#pragma once

#include <optional>

#include "gather.h"
#include "window_sums.h"

namespace poolzoo {

// Rows of dx.
template <template <class> class R, class T>
class Factored {
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    using Red = typename Row::Red;
    static constexpr int L = Plan<T>::L;
    static constexpr int kTerms = Row::traits.sums, kTargets = Row::traits.inputs;
    static constexpr double kLeastGradient = 1e-20, kMostGradient = 1e8;
    const Plan<T>& plan_;
    const int64_t next_;     // from an output's terms to those of the next column
    const int64_t length_;   // of a row of terms: with one more column of zeros
    RowRing<T> no_values_;
    Row row_;
    WindowSums<R, T> windows_;
    OutputRow<T> gradient_;
    Buffer<T> terms_;        // of two output rows
    bool tame_[2];

  public:
    explicit Factored(const Plan<T>& plan)
        : plan_(plan), next_(plan.w.channels_last ? plan.pixel : 1), length_(plan.out_row + std::max<int64_t>(L, next_)),
          no_values_(plan, nullptr), row_(plan, no_values_, no_values_), windows_(plan, row_),
          gradient_(OutputRow<T>::of_gradient(plan)), terms_(2 * kTerms * length_) {}

    // Rows 2 first to 2 last - 1 of a unit's dx; others(h) those that cannot be made here.
    template <class OtherRow>
    void rows(const Unit& unit, int64_t first, int64_t last, OtherRow others) {
        row_.enter_unit(unit);
        for (int64_t i = first; i <= last && i < plan_.w.oh; i++) {
            enter(unit, i);
            if (i > first) tame(i - 1) && tame(i) ? write<2>(unit, 2 * i - 1, i - 1) : others(2 * i - 1);
            if (i < last) tame(i) ? write<1>(unit, 2 * i, i) : others(2 * i);
        }
        if (last == plan_.w.oh) tame(last - 1) ? write<1>(unit, 2 * last - 1, last - 1) : others(2 * last - 1);
    }

  private:
    bool tame(int64_t i) const { return tame_[i & 1]; }
    T* terms(int64_t i, int k) { return terms_.data() + ((i & 1) * kTerms + k) * length_; }

    // Makes output row i's terms.
    void enter(const Unit& unit, int64_t i) {
        gradient_.enter(unit, i);
        row_.enter_row(unit, i);
        Sizes<V> gradients;
        T *to_a = terms(i, 0), *to_b = terms(i, kTerms - 1);
        const bool all = windows_.each(unit, i, [&](const Block& b, const auto& sums) __attribute__((always_inline)) {
            const V g = gradient_.block(b), a = Red(row_.given(b)).factor(g, sums.total);
            gradients.add(g);
            store(to_a + b.out, a);
            if constexpr (kTerms == 2) store(to_b + b.out, a * (sums.sum / sums.total));
        });
        tame_[i & 1] = all && gradients.within(kLeastGradient, kMostGradient);
    }

    // Row h of dx, at which the windows of `outputs` rows look, from output row i on.
    template <int outputs>
    void write(const Unit& unit, int64_t h, int64_t i) {
        const T *a[2] = {terms(i, 0), terms(i + 1, 0)}, *b[2] = {terms(i, kTerms - 1), terms(i + 1, kTerms - 1)};
        const T *x = windows_.x_row(unit, h), *weights = windows_.weight_row(h);
        T* dx = static_cast<T*>(plan_.call.dx) + plan_.row_at(unit, h);
        T* dlogits = kTargets == 2 ? static_cast<T*>(plan_.call.dlogits) + plan_.row_at(unit, h) : nullptr;
        for (const Block& block : plan_.blocks) {
            V in_a[2], in_b[2] = {};
            over_windows<outputs>(a, block, in_a);
            if constexpr (kTerms == 2) over_windows<outputs>(b, block, in_b);
            const Red reducer(row_.given_to_member(block.channel));
            for (int half = 0; half < 2; half++) {
                const auto at = windows_.place(block, half);
                const V value = load<V>(x + at.x), w = windows_.weight(reducer, value, weights, at.weight);
                if (plan_.w.channels_last) ask_for(dx + at.x + plan_.ahead);
                store(dx + at.x, reducer.to_member(value, w, in_a[half], in_b[half]));
                if constexpr (kTargets == 2) store(dlogits + at.x, reducer.to_logit(value, w, in_a[half], in_b[half]));
            }
        }
    }
    // What a block's columns of x are in windows of, added up: as WindowSums::place has them.
    template <int outputs>
    HD void over_windows(const T* const (&terms)[2], const Block& b, V (&in)[2]) const {
        V own = load<V>(terms[0] + b.out), next = load<V>(terms[0] + b.out + next_);
        if constexpr (outputs == 2) own = own + load<V>(terms[1] + b.out), next = next + load<V>(terms[1] + b.out + next_);
        in[0] = own, in[1] = own + next;
        if (!plan_.w.channels_last) join(in[0], in[1]);
    }
};

// Rows 2 begin to 2 end - 1 of the inputs of all units.
template <template <class> class R, class T>
void factored_range(const Plan<T>& plan, int64_t begin, int64_t end) {
    using Sends = Slopes<R, T>;
    struct Others {
        const Covers covers;
        const int64_t slots;
        Sends sends;
        Gather<T, typename Sends::Sender> gather;
        explicit Others(const Plan<T>& plan)
            : covers(plan.w.H, plan.w.oh, plan.w.sh, plan.w.ph, plan.w.kh, plan.w.dh, plan.w.border), slots(covers.slots()),
              sends(plan, slots), gather(plan, covers, slots, sends) {}
    };
    Factored<R, T> factored(plan);
    std::optional<Others> others;
    plan.by_units(plan.w.oh, begin, end, [&](const Unit& unit, int64_t first, int64_t last) {
        bool entered = false;
        factored.rows(unit, first, last, [&](int64_t h) {
            if (!others) others.emplace(plan);
            if (!entered) others->gather.enter_unit(unit, 2 * first, 2 * last);
            entered = true;
            others->gather.row(unit, h);
        });
    });
}

}  // namespace poolzoo

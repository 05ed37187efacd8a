// The backward pass's rows of dx (or dlogits): where the windows' parts are added up.
#pragma once

#include "staging.h"

namespace poolzoo {

// The accumulated rows of dx (or dlogits) that one thread owns. A row is written when no later window reaches it.
template <class T>
class OpenRows {
    const Plan<T>& plan_;
    void* target_;
    int64_t slots_ = 1, next_ = 0, end_ = 0;  // slots: a power of two
    Unit unit_{};
    Buffer<T> buffer_, spare_;
    std::vector<char> reached_;  // whether anything was added to a slot's row

  public:
    OpenRows(const Plan<T>& plan, void* target) : plan_(plan), target_(target) {
        while (slots_ < plan.open_rows) slots_ *= 2;
        if (target != nullptr) buffer_.resize(slots_ * plan.row), reached_.resize(slots_);
        if (!plan.wide()) spare_.resize(plan.w.W);
    }
    void start(const Unit& unit, int64_t begin, int64_t end) { unit_ = unit, next_ = begin, end_ = end; }

    // Row h's buffer, null where this thread does not own it; `empty`: nothing was added to it yet, and it may hold
    // anything.
    struct Row {
        T* at;
        bool empty;
    };
    Row row(int64_t h) {
        if (h < 0 || h >= plan_.w.H) h = continued(h, plan_.w.H, plan_.w.border);
        if (h < next_ || h >= end_ || target_ == nullptr) return {nullptr, false};
        const int64_t slot = h & (slots_ - 1);
        const bool empty = !reached_[slot];
        reached_[slot] = true;
        return {buffer_.data() + slot * plan_.row, empty};
    }
    void finish_before(int64_t h) {
        for (; next_ < std::min(h, end_); next_++) {
            if (target_ == nullptr) continue;
            const int64_t slot = next_ & (slots_ - 1);
            T* buffer = buffer_.data() + slot * plan_.row;
            if (!reached_[slot]) std::fill_n(buffer, plan_.row, T(0));
            finish_row(plan_, target_, unit_, next_, buffer, spare_.data());
            reached_[slot] = false;
        }
    }
};

// NCHW: the parts of one output row's windows, one row for each tap. Two taps of one phase lie next to each other in
// dx, so parts are first stored side by side, then added up position by position: adding each to dx at once would have
// every load wait for the store before it.
template <class T>
class Parts {
    using V = typename Plan<T>::V;
    static constexpr int L = Plan<T>::L;
    const Plan<T>& plan_;
    int64_t row_;  // numbers of a tap's row, with the zeros before and after
    Buffer<T> buffer_;
    struct Tap {
        int64_t at;     // where its part for the phase's first place is, rounded down to whole vectors
        bool aligned;
        Int<V> lanes;   // of that vector and the next one, what is meant
    };
    std::vector<std::vector<Tap>> phase_taps_;

  public:
    T* first;       // of the first tap's row
    int64_t step;   // from one tap's row to the next one's

    Parts(const Plan<T>& plan, bool used) : plan_(plan) {
        int64_t furthest = 0;
        for (int64_t t = 0; t < plan.w.kw; t++) furthest = std::max(furthest, plan.column_shift(t));
        const int64_t lead = Plan<T>::whole_lanes(plan.first + furthest);
        row_ = step = lead + plan.phase + L;
        if (used) buffer_.resize(plan.w.taps() * row_);
        first = buffer_.data() + lead;
        for (const std::vector<int>& taps : plan.phase_taps) {
            phase_taps_.emplace_back();
            for (const int t : taps) {
                const int64_t at = t * row_ + lead - plan.first - plan.column_shift(t), past = at % L;
                Tap tap{at - past, past == 0, {}};
                for (int k = 0; k < L; k++) tap.lanes[k] = static_cast<Int<T>>(past + k);
                phase_taps_.back().push_back(tap);
            }
        }
    }
    // Adds the parts of row taps r to a row of dx.
    void add_to(typename OpenRows<T>::Row dx, int r) const {
        const Window& w = plan_.w;
        const T* parts = buffer_.data() + r * w.kw * row_;
        const bool folds = w.border != Border::Skip;  // the margins are filled too
        for (int64_t f = 0; f < w.sw; f++) {
            T* phase = dx.at + f * plan_.phase;
            const int64_t begin = folds ? 0 : plan_.first;
            const int64_t end = folds ? plan_.phase - L : plan_.first + (w.W - f + w.sw - 1) / w.sw;
            for (int64_t k = begin; k < end; k += L) {
                V sum = dx.empty ? splat<V>(0) : load<V>(phase + k);
                for (const Tap& tap : phase_taps_[f]) {
                    // A load across two stored vectors would wait until both are in the cache.
                    const V low = load<V>(parts + tap.at + k);
                    sum = sum + (tap.aligned ? low : __builtin_shuffle(low, load<V>(parts + tap.at + k + L), tap.lanes));
                }
                store(phase + k, sum);
            }
        }
    }
};

}  // namespace poolzoo

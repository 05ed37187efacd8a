// The backward pass's rows of dx (or dlogits): where the windows' parts are added up.
#pragma once

#include "staging.h"

namespace poolzoo {

// The accumulated rows of dx (or dlogits) that one thread owns. A window's rows are open together; a row is written
// when no later window reaches it.
template <class T>
class OpenRows {
    const Plan<T>& plan_;
    void* target_;
    int64_t slots_ = 1, next_ = 0, end_ = 0;  // slots: a power of two
    Unit unit_{};
    bool all_open_;  // a filter's border may send a late row's gradient to an early row
    Buffer<T> buffer_, spare_;

    T* slot(int64_t h) { return buffer_.data() + (h & (slots_ - 1)) * plan_.row; }

  public:
    OpenRows(const Plan<T>& plan, void* target)
        : plan_(plan), target_(target), all_open_(plan.w.border != Border::Skip) {
        const int64_t open = all_open_ ? plan.w.H : std::min(plan.w.H, plan.w.row_reach() + plan.w.sh);
        while (slots_ < open) slots_ *= 2;
        if (target != nullptr) buffer_.resize(slots_ * plan.row);
        if (!plan.wide()) spare_.resize(plan.w.W);
    }
    void start(const Unit& unit, int64_t begin, int64_t end) { unit_ = unit, next_ = begin, end_ = end; }
    // Row h's buffer, or null where this thread does not own it.
    T* row(int64_t h) {
        if (h < 0 || h >= plan_.w.H) h = continued(h, plan_.w.H, plan_.w.border);
        return h < next_ || h >= end_ ? nullptr : slot(h);
    }
    void finish_before(int64_t h) {
        if (all_open_ && h < end_) return;
        for (; next_ < std::min(h, end_); next_++) {
            if (target_ != nullptr) finish_row(plan_, target_, unit_, next_, slot(next_), spare_.data());
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
    std::vector<std::vector<int64_t>> found_at_;  // for each phase, where its taps' parts for its first place are

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
            found_at_.emplace_back();
            for (const int t : taps) found_at_.back().push_back(t * row_ + lead - plan.first - plan.column_shift(t));
        }
    }
    // Adds the parts of row taps r to a row of dx.
    void add_to(T* dx, int r) const {
        const Window& w = plan_.w;
        const T* parts = buffer_.data() + r * w.kw * row_;
        for (int64_t f = 0; f < w.sw; f++) {
            T* phase = dx + f * plan_.phase;
            const bool folds = w.border != Border::Skip;  // the margins are filled too
            const int64_t begin = folds ? 0 : plan_.first;
            const int64_t end = folds ? plan_.phase - L : plan_.first + (w.W - f + w.sw - 1) / w.sw;
            const int64_t *at = found_at_[f].data(), taps = static_cast<int64_t>(found_at_[f].size());
            for (int64_t k = begin; k < end; k += L) {
                V sum = load<V>(phase + k);
                for (int64_t t = 0; t < taps; t++) sum = sum + load<V>(parts + at[t] + k);
                store(phase + k, sum);
            }
        }
    }
};

}  // namespace poolzoo

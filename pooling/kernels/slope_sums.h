// What the CPU driver makes of output rows' slopes by parameters: rows of sums, see columns_of_slopes.
#pragma once

#include "staging.h"

namespace poolzoo {

// Output rows that share a row of sums, the last one's: neighbours with as many members, to whose first rows of dx one
// thread comes in turn, however many threads there are.
class SlopeRuns {
    Buffer<int64_t> first_;
    Buffer<uint8_t> ends_;

  public:
    explicit SlopeRuns(const Call& call) {
        if (call.slope_sums == nullptr) return;
        const Window& w = call.window;
        const auto size = [&](int64_t i) { return w.rows(i).end - w.rows(i).begin; };
        bool in_turn = true;  // not where a dilated window begins past the border
        int64_t latest = 0;
        for (int64_t i = 0; i < w.oh; i++) {
            first_.push_back(size(i) == 0 ? 0 : w.row_start(i) + w.rows(i).begin * w.dh);
            in_turn &= size(i) == 0 || first_[i] >= latest;
            latest = std::max(latest, first_[i]);
        }
        for (int64_t i = 0; i < w.oh; i++) {
            const bool further = i + 1 < w.oh && in_turn && size(i) == size(i + 1) &&
                                 first_[i] / call.rows_of_sums == first_[i + 1] / call.rows_of_sums;
            ends_.push_back(!further);
        }
    }
    int64_t first(int64_t i) const { return first_[i]; }  // row that it looks at; of those that look at none, 0
    bool begins(int64_t i) const { return i == 0 || ends_[i - 1]; }
    bool ends(int64_t i) const { return ends_[i]; }
};

// An output's slopes are added to one of the run's columns. In NHWC a sum is a pixel, in NCHW a vector's lanes until the
// run is done.
template <class T>
class SlopeSums {
    using V = typename Plan<T>::V;
    static constexpr int L = Plan<T>::L;
    const Plan<T>& plan_;
    const int64_t columns_;
    int64_t length_ = 0;             // of one slope's sums
    Buffer<int64_t> column_;         // each output's
    Buffer<int64_t> parts_;          // NCHW: for each block, where its parts begin
    Buffer<int64_t> part_columns_;   // each part's column, and the lanes that are outputs of it
    Buffer<Int<T>> part_lanes_;
    Buffer<T> sums_;
    SlopeRuns runs_;
    int64_t begin_ = 0, end_ = 0;

  public:
    const int count;  // slopes of each output

    explicit SlopeSums(const Plan<T>& plan)
        : plan_(plan), columns_(columns_of_slopes(plan.call)), runs_(plan.call),
          count(plan.call.slope_sums == nullptr ? 0 : static_cast<int>(slopes_by_parameter(plan.call))) {
        if (count == 0) return;
        const Window& w = plan.w;
        for (int64_t j = 0; j < w.ow; j++) {
            const Span members = w.columns(j);
            column_.push_back(columns_ == 1 ? 0 : columns_ == w.ow ? j : members.end - members.begin);
        }
        length_ = columns_ * (w.channels_last ? plan.pixel : L);
        sums_.resize(count * length_);
        if (!w.channels_last) plan_parts();
    }
    // A thread makes rows [begin, end) of a unit's dx. The maker of the first row that an output row looks at writes the
    // output row's slopes; send(i) for those that look at none, which it would otherwise not come to.
    template <class Send>
    void enter_unit(int64_t begin, int64_t end, Send send) {
        begin_ = begin, end_ = end;
        for (int64_t i = 0; count > 0 && begin == 0 && i < plan_.w.oh; i++) {
            if (plan_.spans[i].begin == plan_.spans[i].end) send(i);
        }
    }
    bool owns(int64_t i) const { return count > 0 && runs_.first(i) >= begin_ && runs_.first(i) < end_; }

    // Between these, output row i's slopes are added.
    void begin_row(int64_t i) {
        if (count > 0 && runs_.begins(i)) std::fill(sums_.begin(), sums_.end(), T(0));
    }
    void end_row(const Unit& unit, int64_t i) const {
        if (owns(i) && runs_.ends(i)) write(unit, i);
    }
    // slope_of(k): the block's slopes number k.
    template <class SlopeOf>
    HD void add(const Block& b, SlopeOf slope_of) {
        T* to = sums_.data();
        if (plan_.w.channels_last) {
            to += column_[b.column] * plan_.pixel + b.channel;
            for (int k = 0; k < count; k++, to += length_) store(to, load<V>(to) + slope_of(k));
        } else {
            for (int64_t p = parts_[b.number]; p < parts_[b.number + 1]; p++) {
                T* sum = to + part_columns_[p] * L;
                for (int k = 0; k < count; k++, sum += length_) store(sum, load<V>(sum) + lanes_of(p, slope_of(k)));
            }
        }
    }

  private:
    HD V lanes_of(int64_t part, V slope) const { return load<Int<V>>(part_lanes_.data() + part * L) ? slope : splat<V>(0); }
    void plan_parts() {
        for (const Block& b : plan_.blocks) {
            parts_.push_back(part_columns_.size());
            for (int64_t m = 0; m < columns_; m++) {
                Int<T> lanes[L];
                bool some = columns_ == 1;
                for (int k = 0; k < L; k++) {
                    const int64_t j = b.column + k;
                    const bool own = j >= b.number * L && j < plan_.w.ow;  // the last block begins among the one before
                    lanes[k] = own && column_[j] == m ? -1 : 0;
                    some |= lanes[k] != 0;
                }
                if (!some) continue;
                part_columns_.push_back(m);
                part_lanes_.insert(part_lanes_.end(), lanes, lanes + L);
            }
        }
        parts_.push_back(part_columns_.size());
    }
    // The sums of the run that ends with the unit's output row i.
    void write(const Unit& unit, int64_t i) const {
        const Window& w = plan_.w;
        for (int k = 0; k < count; k++) {
            const T* sums = sums_.data() + k * length_;
            T* target = static_cast<T*>(plan_.call.slope_sums) + k * w.N * w.C * w.oh * columns_;
            for (int64_t m = 0; m < columns_; m++) {
                if (w.channels_last) {
                    const int64_t at = ((unit.image * w.oh + i) * columns_ + m) * w.C + unit.channel;
                    poolzoo::write(sums + m * plan_.pixel, unit.channels, target, at, Plan<T>::kWide);
                } else {
                    target[(unit.index * w.oh + i) * columns_ + m] = total(load<V>(sums + m * L));
                }
            }
        }
    }
};

}  // namespace poolzoo

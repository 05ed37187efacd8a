// What the CPU driver makes of an output row's slopes by parameters: a row of sums, see columns_of_slopes.
#pragma once

#include "staging.h"

namespace poolzoo {

// An output's slopes are added to one of the row's columns. In NHWC a sum is a pixel. In NCHW nearly all outputs belong to
// the last column, whose sum is a vector's lanes until the row is done.
template <class T>
class SlopeSums {
    using V = typename Plan<T>::V;
    static constexpr int L = Plan<T>::L;
    const Plan<T>& plan_;
    const int64_t columns_;
    int64_t length_ = 0;       // of one slope's sums
    Buffer<int64_t> column_;   // each output's
    Buffer<int64_t> apart_;    // NCHW: outputs whose column is not the last one
    Buffer<Int<T>> together_;  // NCHW: for each block, the lanes of the others
    Buffer<T> sums_, slopes_;
    int64_t begin_ = 0, end_ = 0;

  public:
    const int count;  // slopes of each output

    explicit SlopeSums(const Plan<T>& plan)
        : plan_(plan), columns_(columns_of_slopes(plan.call)),
          count(plan.call.slope_sums == nullptr ? 0 : static_cast<int>(slopes_by_parameter(plan.call))) {
        if (count == 0) return;
        const Window& w = plan.w;
        for (int64_t j = 0; j < w.ow; j++) {
            const Span members = w.columns(j);
            column_.push_back(columns_ == 1 ? 0 : columns_ == w.ow ? j : members.end - members.begin);
            if (!w.channels_last && column_[j] < columns_ - 1) apart_.push_back(j);
        }
        length_ = w.channels_last ? columns_ * plan.pixel : L;
        sums_.resize(count * length_), slopes_.resize(apart_.empty() ? 0 : count * plan.out_row);
        for (const Block& b : plan.blocks) {
            for (int64_t j = b.column; !w.channels_last && j < b.column + L; j++) {
                const bool own = j >= b.number * L && j < w.ow;  // the last block begins among the one before
                together_.push_back(own && column_[j] == columns_ - 1 ? -1 : 0);
            }
        }
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
    bool owns(int64_t i) const {
        const Span span = plan_.spans[i];
        const int64_t first = span.begin == span.end ? 0 : plan_.w.row_start(i) + span.begin * plan_.w.dh;
        return count > 0 && first >= begin_ && first < end_;
    }
    void clear() { std::fill(sums_.begin(), sums_.end(), T(0)); }

    // slope_of(k): the block's slopes number k.
    template <class SlopeOf>
    HD void add(const Block& b, SlopeOf slope_of) {
        T* to = sums_.data();
        if (plan_.w.channels_last) {
            to += column_[b.column] * plan_.pixel + b.channel;
            for (int k = 0; k < count; k++, to += length_) store(to, load<V>(to) + slope_of(k));
        } else {
            const auto together = load<Int<V>>(together_.data() + b.number * L);
            for (int k = 0; k < count; k++, to += length_) {
                const V slope = slope_of(k);
                store(to, load<V>(to) + (together ? slope : splat<V>(0)));
                if (!apart_.empty()) store(slopes_.data() + k * plan_.out_row + b.out, slope);
            }
        }
    }

    // All of a row at once, where an output has one slope: slope_of(block).
    template <class SlopeOf>
    void write_row(const Unit& unit, int64_t i, SlopeOf slope_of) {
        if (plan_.w.channels_last || columns_ > 1) {
            clear();
            for (const Block& b : plan_.blocks) add(b, [&](int) __attribute__((always_inline)) { return slope_of(b); });
            return write(unit, i);
        }
        V sum = splat<V>(0);
        const Int<T>* together = together_.data();
        for (const Block& b : plan_.blocks) {
            sum = sum + (load<Int<V>>(together) ? slope_of(b) : splat<V>(0));
            together += L;
        }
        static_cast<T*>(plan_.call.slope_sums)[unit.index * plan_.w.oh + i] = total(sum);
    }

    // The sums of the unit's output row i.
    void write(const Unit& unit, int64_t i) const {
        const Window& w = plan_.w;
        for (int k = 0; k < count; k++) {
            const T* sums = sums_.data() + k * length_;
            T* target = static_cast<T*>(plan_.call.slope_sums) + k * w.N * w.C * w.oh * columns_;
            if (w.channels_last) {
                const int64_t at = (unit.image * w.oh + i) * columns_ * w.C + unit.channel;
                for (int64_t m = 0; m < columns_; m++) {
                    poolzoo::write(sums + m * plan_.pixel, unit.channels, target, at + m * w.C, Plan<T>::kWide);
                }
            } else {
                T* to = target + (unit.index * w.oh + i) * columns_;
                std::fill_n(to, columns_ - 1, T(0));
                to[columns_ - 1] = total(load<V>(sums));
                for (const int64_t j : apart_) to[column_[j]] += slopes_[k * plan_.out_row + j];
            }
        }
    }
};

}  // namespace poolzoo

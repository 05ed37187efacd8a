// The gradients by the parameter and the table on the CPU: the sums of rows that the driver makes, added up. Each of them is
// added up by one thread, in one order and in double.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "slope_sums.h"

namespace poolzoo {

template <class T>
class Sums {
    const Call& call_;
    const Window& w_;
    const bool ranked_;  // a rank has a slope by each row of the table, one for each number of members
    const int64_t columns_;
    Buffer<int64_t> row_members_, column_members_;
    Buffer<int64_t> rows_;  // that have sums

    // `step` from one channel's number to the next one's; 0: they share one.
    void put(const double* sums, void* to, int64_t at, int64_t step) const {
        T* numbers = static_cast<T*>(to) + at;
        double all = 0;
        for (int64_t c = 0; c < w_.C; c++) {
            if (step > 0) numbers[c * step] = static_cast<T>(sums[c]);
            all += sums[c];
        }
        if (step == 0) *numbers = static_cast<T>(all);
    }

  public:
    explicit Sums(const Call& call)
        : call_(call), w_(call.window), ranked_(call.reducer == Reducer::RankMean),
          columns_(columns_of_slopes(call)) {
        const SlopeRuns runs(call);
        const auto size = [](Span members) { return int64_t{members.end - members.begin}; };
        for (int64_t i = 0; i < w_.oh; i++) {
            row_members_.push_back(ranked_ ? size(w_.rows(i)) : 0);
            if (runs.ends(i)) rows_.push_back(i);
        }
        for (int64_t m = 0; m < columns_; m++) {
            column_members_.push_back(columns_ == w_.ow ? size(w_.columns(m)) : columns_ == 1 ? w_.kw : m);
        }
    }
    // Slope number k.
    void run(int64_t k) const {
        const int64_t rows = w_.oh * columns_, counts = ranked_ ? w_.taps() + 1 : 1;
        Buffer<double> sums(counts * w_.C, 0);
        const T* from = static_cast<const T*>(call_.slope_sums) + k * w_.N * w_.C * rows;
        // add(from, to) for each column of the rows that have sums, whose numbers are `each` apart
        const auto by_columns = [&](int64_t each, auto add) {
            for (const int64_t i : rows_) {
                for (int64_t m = 0; m < columns_; m++) {
                    add(from + (i * columns_ + m) * each, sums.data() + row_members_[i] * column_members_[m] * w_.C);
                }
            }
            from += rows * each;
        };
        for (int64_t n = 0; n < w_.N; n++) {
            if (w_.channels_last) {
                by_columns(w_.C, [&](const T* numbers, double* to) {
                    for (int64_t c = 0; c < w_.C; c++) to[c] += static_cast<double>(numbers[c]);
                });
            }
            for (int64_t c = 0; !w_.channels_last && c < w_.C; c++) {
                by_columns(1, [&](const T* number, double* to) { to[c] += static_cast<double>(*number); });
            }
        }
        for (int64_t n = 0; ranked_ && n < counts; n++) {
            put(sums.data() + n * w_.C, call_.dtable, n * w_.taps() + k, call_.table_step);
        }
        if (!ranked_ && k == 0 && call_.dparameter != nullptr) {
            put(sums.data(), call_.dparameter, 0, call_.parameter_per_channel);
        }
        if (!ranked_ && k == 1 && call_.dtable != nullptr) put(sums.data(), call_.dtable, 0, call_.table_step);
    }
};

inline void add_up(const Call& call) {
    const auto body = [&](int64_t begin, int64_t end) {
        const auto run = [&](const auto& sums) {
            for (int64_t k = begin; k < end; k++) sums.run(k);
        };
        call.dtype == Dtype::Double ? run(Sums<double>(call)) : run(Sums<float>(call));
    };
    const Window& w = call.window;
    const int64_t slopes = slopes_by_parameter(call), each = w.N * w.C * w.oh * columns_of_slopes(call);
    slopes * each < 16384 ? body(0, slopes) : torch::stable::parallel_for(0, slopes, 1, body);
}

}  // namespace poolzoo

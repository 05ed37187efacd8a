// One call of an operator as the binding hands it to a driver: raw pointers and the window.
#pragma once

#include <algorithm>

#include "window.h"

namespace poolzoo {

enum class Dtype : int { Float, Double, BFloat16, Half };
constexpr int kDtypes = 4;

// The reducers, by the numbers that Python passes, in parts that build in parallel: what a source file is to hold of them
// is said by POOLZOO_PART.
#define POOLZOO_REDUCERS_1(X) X(Max) X(Min) X(Avg) X(Filter) X(ScaledSum) X(Mixed) X(Root2) X(Soft) X(WeightedMean)
#define POOLZOO_REDUCERS_2(X) X(Lp) X(Gem) X(LogSumExp) X(Edscw) X(Idw) X(Ada)
#define POOLZOO_REDUCERS_3(X)                                                                                      \
    X(Stochastic) X(ShiftedStochastic) X(StochasticExpectation) X(ShiftedExpectation) X(Median) X(RankDraw) X(RankMean)
#define POOLZOO_REDUCERS(X) POOLZOO_REDUCERS_1(X) POOLZOO_REDUCERS_2(X) POOLZOO_REDUCERS_3(X)

// POOLZOO_ADDED lists those of a plugin (POOLZOO_PLUGIN, its header), whose library holds them and no other.
enum class Reducer : int {
#define X(name) name,
    POOLZOO_REDUCERS(X)
#ifdef POOLZOO_PLUGIN
    POOLZOO_ADDED(X)
#endif
#undef X
        Count
};

// How many numbers a table has, or each channel's where every channel has one.
inline int64_t table_length(Reducer reducer, int64_t taps) {
    switch (reducer) {
        case Reducer::Filter: return taps;
        case Reducer::ScaledSum: return 1;
        default: return (taps + 1) * taps;
    }
}

// What `count` is: the window's members, the positions inside the padded input, or a fixed number.
enum class Divisor : int { Members, Padded, Fixed };

// "Wide" is the type that is computed in: double for double, float for the others. Tensors have the memory format of
// the window: x, logits, dx and dlogits (N, C, H, W); y, gradient and taps (N, C, oh, ow); sums of slopes, which become
// dparameter and dtable, (slopes, N, C, oh, columns), see below.
struct Call {
    Window window;
    Reducer reducer;
    Dtype dtype;
    Divisor divisor;
    double fixed_divisor;
    double option;               // eps
    double fixed_parameter;      // where `parameter` is null
    bool wide_taps;              // int32 instead of uint8, where a window has more than 255 taps
    const void* seed_at;         // int64, on the device
    bool seeded;
    const void* x;
    const void* logits;
    const void* parameter;       // wide, one or C numbers
    bool parameter_per_channel;
    const void* table;           // wide
    int64_t table_step;          // numbers per channel; 0 where the channels share one
    void* y;                     // forward
    void* taps;                  // forward: written where not null; backward: read
    void* slopes;                // wide, by the parameter: the same, beside taps
    const void* gradient;        // backward
    void* dx;
    void* dlogits;
    void* slope_sums;            // wide
    int64_t rows_of_sums;        // rows of dx that one thread has, so that output rows may share a row of sums
    void* dparameter;            // wide: the CPU driver's, of the parameter's and the table's size
    void* dtable;
    int64_t first_plane;         // what random numbers count as the number of x's first plane
};

// The slopes that an output has: one, those by a scale and a bias, or one for each rank.
HD int64_t slopes_by_parameter(const Call& call) {
    return call.reducer == Reducer::RankMean ? call.window.taps() : call.reducer == Reducer::ScaledSum ? 2 : 1;
}
inline bool has_slopes_by_table(const Call& call) {
    return call.reducer == Reducer::RankMean || call.reducer == Reducer::ScaledSum;
}
// What the CPU driver makes of a row of slopes: their sum; where it matters how many members a window has, the sums over
// the columns with 0, 1, ... kw of them, unless there are hardly more columns.
inline int64_t columns_of_slopes(const Call& call) {
    const Window& w = call.window;
    return call.reducer != Reducer::RankMean || w.whole() ? 1 : std::min(w.kw + 1, w.ow);
}
// How many rows of dx: a power of two, so that it is whole output rows too. In NCHW a lane adds up only a few numbers of
// each, and may go on while its sum is as exact as its terms.
inline int64_t rows_of_sums(const Window& w) {
    int64_t rows = w.channels_last ? 1 : 32;
    while (rows > 1 && rows * w.ow > 1024) rows /= 2;
    return rows;
}

}  // namespace poolzoo

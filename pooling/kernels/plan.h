// How the CPU driver walks a tensor: units, staged rows and blocks of lanes.
//
// A *unit* is a stack of rows that is reduced by itself: one (n, c) plane in NCHW, one image's group of channels in NHWC.
// Each tap of a *block* of outputs is loaded at once:
//   NCHW: a block is a run of output columns. At stride 1 and 2 a tap is a run of columns or every other one of it; at
//   longer strides the row is de-interleaved into one buffer per column phase (w mod sw) first.
//   NHWC: a block is one output column's run of channels.
// A row is read in place where it can be, otherwise *staged* in a buffer: another type, a filter's continued border, a
// row at the tensor's end.
// Borders shorten a block's taps; only where they cut through a block of columns ("ragged") are lanes masked.
#pragma once

#include <algorithm>
#include <vector>

#include "call.h"
#include "lanes.h"
#include "scratch.h"

namespace poolzoo {

struct Block {
    int64_t x, out;             // offsets: into a row of x, into an output row
    int64_t channel;            // first channel, from the unit's first; 0 in NCHW
    const int64_t* x_tap;       // each column tap's offset from there
    int64_t column;             // of the first lane
    int64_t number;             // among the plan's blocks
    int begin, end;             // column taps
    int columns;                // members among them where all lanes agree, otherwise -1
    uint64_t ragged;            // bit t: some lane lacks tap t (bit 63 stands for all further ones too)
    uint64_t continued;         // bit t: in a row in place, one lane's tap t lies past the border that a filter continues
    bool partial;               // some lane lies past the last column

    bool is_ragged(int t) const { return ragged >> std::min(t, 63) & 1; }
};

// Blocks whose windows have the same column taps, at the same distances: NHWC, one pixel's; NCHW, nearly all of a row's.
struct Stretch {
    const Block *begin, *end;
};

// A position outside the row that a filter sees: its place in a row of x, and the column that it stands for.
struct Margin {
    int64_t at, column;
};

struct Unit {
    int64_t index, image, channel, channels;
    int64_t x, y;  // where it starts in x and in y
};

template <class T>
struct Plan {
    using V = typename VectorOf<T>::type;
    static constexpr int L = Lanes<V>::count;
    static constexpr Dtype kWide = sizeof(T) == 8 ? Dtype::Double : Dtype::Float;
    static constexpr bool kUnrolls = sizeof(T) == 4;  // float64 is not common, and would only take as long again to compile
    static constexpr int64_t kGroup = 64;  // channels of a unit
    static constexpr int64_t kFurther = 1024;  // numbers; timed on a 48 KB cache, for rows from 0.2 to 14 KB

    const Call& call;
    Window w;
    bool in_place;              // NHWC: rows are used as they lie in memory
    bool whole_rows;            // a row of outputs and of taps lies in memory as in a buffer
    bool out_in_place;          // and outputs are of type T: they need no buffer
    int64_t group, groups, units;
    int64_t pixel;              // numbers per pixel in a staged row (NHWC)
    int64_t phase, first;       // NCHW: numbers per phase; index of column 0 in its phase
    int64_t row, out_row;       // numbers in a row by phases (NCHW) or by pixels, in an output row
    int64_t step = 1;           // in a row of x, from one lane's member to the next one's: 1 or 2
    int64_t before = 0, behind; // what lies in a staged row of x before column 0 and from there on
    int64_t numbers;            // of x
    int64_t ahead;              // by how many numbers of x, in NHWC of dx too, what comes soon is asked for
    bool plain = false;         // NCHW: rows of x need nothing done to them
    Buffer<Block> blocks;
    Buffer<Stretch> stretches;
    Buffer<T> counts;      // for each block, the members of its lanes' columns
    Buffer<Margin> margins;
    Buffer<int64_t> offsets;
    Buffer<Span> spans;    // row taps of each output row
    Buffer<T> row_counts;  // and what they count
    // NCHW:
    Buffer<int64_t> tap_begin, tap_end;   // the columns that have tap t
    std::vector<std::vector<int>> phase_taps;  // the taps that look at each phase
    Buffer<Int<T>> masks;                      // for each block and tap, the lanes that have it within the row
    Buffer<int64_t> continued_columns;    // and the column that a lane past its end looks at instead

    explicit Plan(const Call& c) : call(c), w(c.window) {
        numbers = w.N * w.C * w.H * w.W;
        ahead = w.W * (w.channels_last ? w.C : w.sh) + kFurther;
        w.channels_last ? plan_channels() : plan_columns();
        out_in_place = wide() && whole_rows;
        plan_stretches();
        spans.reserve(w.oh), row_counts.reserve(w.oh);
        for (int64_t i = 0; i < w.oh; i++) {
            spans.push_back(w.border == Border::Skip ? w.rows(i) : Span{0, static_cast<int>(w.kh)});
            row_counts.push_back(counted_rows(i));
        }
    }
    Plan(const Plan&) = delete;

    // Of a small square window, whose taps are unrolled: its side; otherwise 0.
    int side() const { return kUnrolls && w.kh == w.kw && (w.kh == 2 || w.kh == 3) ? static_cast<int>(w.kh) : 0; }

    bool wide() const { return call.dtype == kWide; }
    T counted_columns(int64_t j) const {
        if (call.divisor == Divisor::Fixed) return static_cast<T>(call.fixed_divisor);
        return static_cast<T>(w.counted_columns(j, call.divisor == Divisor::Padded));
    }
    T counted_rows(int64_t i) const {
        if (call.divisor == Divisor::Fixed) return 1;
        return static_cast<T>(w.counted_rows(i, call.divisor == Divisor::Padded));
    }
    // Where a column lies in an NCHW row by phases, and in a row of x.
    int64_t place(int64_t column) const {
        const int64_t q = floor_div(column, w.sw);
        return (column - q * w.sw) * phase + q + first;
    }
    bool by_phases() const { return w.sw > 2; }
    int64_t x_place(int64_t column) const { return by_phases() ? place(column) : column; }
    // Whether a row of x that begins at this number can be read in place: loads that go beyond it stay within x.
    bool readable(int64_t at) const { return w.channels_last ? in_place : plain && at >= before && at + behind <= numbers; }

    static int64_t whole_lanes(int64_t numbers) { return ceil_div(numbers, L) * L; }
    // By how many places tap t looks past an output's own, within its phase.
    int64_t column_shift(int64_t t) const { return floor_div(t * w.dw - w.pw, w.sw); }
    static int64_t count_of(const Buffer<Block>& blocks) { return static_cast<int64_t>(blocks.size()); }
    // The lanes of a block at the border that have column tap t within the row.
    Int<V> lanes_with(const Block& b, int t) const { return load<Int<V>>(masks.data() + (b.number * w.kw + t) * L); }
    int64_t continued_column(const Block& b, int t) const { return continued_columns[b.number * w.kw + t]; }

    // Those that are outputs at all.
    Int<V> columns_of(const Block& b) const {
        Int<V> column;
        for (int k = 0; k < L; k++) column[k] = k;
        return column < splat_int<V>(std::min<int64_t>(L, w.ow - b.column));
    }

    void plan_columns() {
        group = groups = 1;
        pixel = 1;
        units = w.N * w.C;
        out_row = whole_lanes(w.ow);
        const int64_t far = (w.kw - 1) * w.dw - w.pw;
        first = whole_lanes(-floor_div(-w.pw, w.sw));
        phase = first + whole_lanes(std::max(out_row + floor_div(far, w.sw), floor_div(w.W - 1, w.sw) + 1)) + L;
        row = phase * w.sw;
        step = w.sw == 2 ? 2 : 1;
        behind = by_phases() ? row : w.W;
        in_place = false;
        whole_rows = w.ow >= L;
        phase_taps.resize(w.sw);
        offsets.reserve(w.kw), tap_begin.reserve(w.kw), tap_end.reserve(w.kw);
        const int64_t count = ceil_div(w.ow, L);
        blocks.reserve(count), counts.reserve(count * L), masks.reserve(count * w.kw * L);
        for (int64_t t = 0; t < w.kw; t++) {
            offsets.push_back(x_place(t * w.dw - w.pw));
            phase_taps[t * w.dw - w.pw - column_shift(t) * w.sw].push_back(static_cast<int>(t));
            tap_begin.push_back(std::max<int64_t>(0, ceil_div(w.pw - t * w.dw, w.sw)));
            tap_end.push_back(ceil_div(w.W + w.pw - t * w.dw, w.sw));
            if (w.border == Border::Skip) continue;
            tap_begin.back() = 0, tap_end.back() = w.ow;
            for (int64_t j = 0; j < w.ow; j++) {
                const int64_t column = w.column_start(j) + t * w.dw;
                if (column < 0 || column >= w.W) {
                    margins.push_back({x_place(column), continued(column, w.W, w.border)});
                }
            }
        }
        const auto by_place = [](const Margin& a, const Margin& b) { return a.at < b.at; };
        const auto same_place = [](const Margin& a, const Margin& b) { return a.at == b.at; };
        std::sort(margins.begin(), margins.end(), by_place);
        margins.erase(std::unique(margins.begin(), margins.end(), same_place), margins.end());
        bool one_each = true;  // at most one lane of each block and tap looks past the border
        for (int64_t at = 0; at < w.ow; at += L) {
            const int64_t j = std::max<int64_t>(0, std::min(at, w.ow - L)), last = std::min(j + L, w.ow);  // the last ends with the row
            Block b{by_phases() ? j : j * w.sw, j, 0, offsets.data(), j, count_of(blocks), 0, static_cast<int>(w.kw), 0, 0, 0, j + L > w.ow};
            while (b.begin < b.end && (tap_begin[b.begin] >= last || tap_end[b.begin] <= j)) b.begin++;
            while (b.end > b.begin && (tap_begin[b.end - 1] >= last || tap_end[b.end - 1] <= j)) b.end--;
            for (int t = b.begin; t < b.end; t++) {
                b.ragged |= uint64_t{tap_begin[t] > j || tap_end[t] < last} << std::min(t, 63);
                before = std::max(before, -b.x - offsets[t]), behind = std::max(behind, b.x + offsets[t] + step * L);
            }
            b.columns = b.ragged ? -1 : b.end - b.begin;
            for (int64_t t = 0; t < w.kw; t++) {
                continued_columns.push_back(0);
                int beyond = 0;
                for (int64_t k = j; k < j + L; k++) {
                    const int64_t column = w.column_start(k) + t * w.dw;
                    const bool within = column >= 0 && column < w.W;
                    masks.push_back(k < last && within ? -1 : 0);
                    if (w.border == Border::Skip || k >= last || within) continue;
                    beyond++;
                    b.continued |= uint64_t{1} << std::min<int64_t>(t, 63);
                    continued_columns.back() = continued(column, w.W, w.border);
                }
                one_each &= beyond <= 1;
            }
            blocks.push_back(b);
            for (int64_t k = j; k < j + L; k++) counts.push_back(k < w.ow ? counted_columns(k) : T(1));
        }
        plain = wide() && !by_phases() && (margins.empty() || (one_each && side() > 0));
        for (Block& b : blocks) b.continued = plain ? b.continued : 0;  // staged rows are continued already
    }

    void plan_channels() {
        in_place = wide() && w.C % L == 0;
        group = w.C <= 2 * kGroup ? w.C : kGroup;
        while (in_place && w.C % group != 0) group -= L;  // a smaller last group's blocks would reach into the next pixel
        groups = ceil_div(w.C, group);
        units = w.N * groups;
        pixel = ceil_div(group, L) * L;
        phase = first = 0;
        row = w.W * pixel;
        out_row = w.ow * pixel;
        behind = row;
        whole_rows = pixel == w.C;
        const int64_t x_pixel = in_place ? w.C : pixel;
        offsets.resize(w.kw * w.ow);
        blocks.reserve(out_row / L), counts.reserve(out_row);
        for (int64_t j = 0; j < w.ow; j++) {
            const Span s = w.border == Border::Skip ? w.columns(j) : Span{0, static_cast<int>(w.kw)};
            int64_t* x_tap = &offsets[w.kw * j];
            for (int t = s.begin; t < s.end; t++) {
                int64_t column = w.column_start(j) + t * w.dw;
                if (column < 0 || column >= w.W) column = continued(column, w.W, w.border);
                x_tap[t] = column * x_pixel;
            }
            const T count = counted_columns(j);
            for (int64_t c = 0; c < pixel; c += L) {
                blocks.push_back({c, j * pixel + c, c, x_tap, j, count_of(blocks), s.begin, s.end, s.end - s.begin, 0, 0, false});
                counts.insert(counts.end(), L, count);
            }
        }
    }

    void plan_stretches() {
        stretches.reserve(w.channels_last ? w.ow : 2);
        for (const Block& b : blocks) {
            const Block& first = stretches.empty() ? b : *stretches.back().begin;
            const bool further = !stretches.empty() && b.x_tap == first.x_tap && b.begin == first.begin && b.end == first.end;
            if (!further) stretches.push_back({&b, &b});
            stretches.back().end = &b + 1;
        }
    }

    Unit unit(int64_t index) const {
        const int64_t each = w.channels_last ? groups : w.C, image = index / each;
        const int64_t channel = (index - image * each) * (w.channels_last ? group : 1);
        const int64_t channels = w.channels_last ? std::min(group, w.C - channel) : 1;
        return {index, image, channel, channels, w.input_at(image, channel, 0, 0), w.output_at(image, channel, 0, 0)};
    }
    // body(unit, first, last) for each unit that has some of the rows [begin, end) of all units, where one has `rows`.
    template <class Body>
    void by_units(int64_t rows, int64_t begin, int64_t end, Body body) const {
        while (begin < end) {
            const Unit u = unit(begin / rows);
            const int64_t start = u.index * rows, stop = std::min(end, start + rows);
            body(u, begin - start, stop - start);
            begin = stop;
        }
    }
    // Linear index of a unit's row h of x, i of y.
    int64_t row_at(const Unit& u, int64_t h) const { return u.x + h * w.W * (w.channels_last ? w.C : 1); }
    int64_t out_at(const Unit& u, int64_t i) const { return u.y + i * w.ow * (w.channels_last ? w.C : 1); }
};

}  // namespace poolzoo

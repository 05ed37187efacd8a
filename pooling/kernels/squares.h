// The backward pass of square windows at stride 2 that cover all of x, for which nothing is gathered: 2x2 tiles, and in
// NCHW 3x3 windows with a border of one, which overlap by a row and a column. What a block's windows send to their
// members ("parts", by tap) is added up as it comes.
#pragma once

#include "plan.h"

namespace poolzoo {

// Whether x has twice the outputs' rows and columns, and a row of outputs whole vectors.
template <class T>
bool halves(const Plan<T>& plan) {
    const Window& w = plan.w;
    return plan.wide() && w.sh == 2 && w.sw == 2 && w.dh == 1 && w.dw == 1 && w.H == 2 * w.oh && w.W == 2 * w.ow &&
           (w.channels_last ? plan.in_place : w.ow >= Plan<T>::L);
}
template <class T>
bool are_tiles(const Plan<T>& plan) {
    const Window& w = plan.w;
    return halves(plan) && w.kh == 2 && w.kw == 2 && w.ph == 0 && w.pw == 0;
}
template <class T>
bool overlap_by_one(const Plan<T>& plan) {
    const Window& w = plan.w;
    return halves(plan) && w.kh == 3 && w.kw == 3 && w.ph == 1 && w.pw == 1 &&
           (w.border == Border::Skip || w.border == Border::Reflect);
}

// A block's parts to dx: each number of dx has one.
template <class T, class V>
HD void write_tile(const Plan<T>& plan, const Unit& unit, int64_t i, const Block& b, const V (&parts)[4], void* dx) {
    const int64_t C = plan.w.C;
    for (int r = 0; r < 2; r++) {
        T* to = static_cast<T*>(dx) + plan.row_at(unit, 2 * i + r);
        if (!plan.w.channels_last) {
            store_joined(parts[2 * r], parts[2 * r + 1], to + 2 * b.out);
        } else {
            for (int t = 0; t < 2; t++) {
                T* pixel = to + (2 * b.column + t) * C + b.channel;
                ask_for(pixel + plan.ahead);
                store(pixel, parts[2 * r + t]);
            }
        }
    }
}

// Rows [begin, end) of the tiles of all units.
template <class T, class Sends>
void tile_range(const Plan<T>& plan, int64_t begin, int64_t end) {
    Sends sends(plan, 0);
    plan.by_units(plan.w.oh, begin, end, [&](const Unit& unit, int64_t first, int64_t last) {
        if constexpr (requires { sends.write_tiles(unit, first, last); }) {
            sends.write_tiles(unit, first, last);
        } else {
            sends.enter_unit(unit, 2 * first, 2 * last);
            for (int64_t i = first; i < last; i++) {
                sends.send_square(unit, i);
                for (const Block& b : plan.blocks) {
                    typename Plan<T>::V parts[4];
                    sends.template square<0>(b, parts);
                    write_tile(plan, unit, i, b, parts, plan.call.dx);
                }
            }
        }
    });
}

// dx of windows that overlap by one. Even columns of x have the middle taps' parts, odd ones those of the last tap and of
// the next window's first; rows likewise.
template <class T>
class Overlap {
    using V = typename Plan<T>::V;
    using I = Int<V>;
    static constexpr int L = Plan<T>::L;
    static constexpr int K = 3;
    const Plan<T>& plan_;
    void* const dx_;
    Buffer<T> evens_, odds_;  // of the row below the last output row, as it has sent them
    Buffer<Int<T>> next_;     // for each block, where its lanes' next windows are: in itself or in the next block

    void write(const Unit& unit, int64_t h, const Block& b, V even, V odd) const {
        store_joined(even, odd, static_cast<T*>(dx_) + plan_.row_at(unit, h) + 2 * b.out);
    }
    T* even(const Block& b) { return evens_.data() + b.number * L; }
    T* odd(const Block& b) { return odds_.data() + b.number * L; }

  public:
    Overlap(const Plan<T>& plan, void* dx) : plan_(plan), dx_(dx), evens_(plan.blocks.size() * L), odds_(evens_.size()) {
        for (const Block& b : plan.blocks) {
            for (int k = 1; k < L; k++) next_.push_back(k);
            const bool last = b.number + 1 == static_cast<int64_t>(plan.blocks.size());
            next_.push_back(last ? L : L + b.column + L - (&b)[1].column);
        }
    }
    // Output row i, of [first, last] whose rows 2 first to 2 last - 1 of dx are asked for. parts_of(b, parts).
    template <class PartsOf>
    void add(const Unit& unit, int64_t i, int64_t first, int64_t last, PartsOf parts_of) {
        const bool reflects = plan_.w.border == Border::Reflect;
        V parts[K * K], next[K * K];
        parts_of(plan_.blocks[0], parts);
        for (const Block& b : plan_.blocks) {
            const I at_next = load<I>(next_.data() + b.number * L);
            if (&b < &plan_.blocks.back()) {
                parts_of((&b)[1], next);
            } else {
                for (V& part : next) part = splat<V>(0);
            }
            V evens[K], odds[K];
            for (int r = 0; r < K; r++) {
                evens[r] = parts[K * r + 1];
                odds[r] = parts[K * r + 2] + __builtin_shuffle(parts[K * r], next[K * r], at_next);
                if (reflects && b.column == 0) odds[r] = odds[r] + (plan_.lanes_with(b, 0) ? splat<V>(0) : parts[K * r]);
            }
            if (reflects && i == 0) evens[2] = evens[2] + evens[0], odds[2] = odds[2] + odds[0];
            if (i > first) write(unit, 2 * i - 1, b, load<V>(even(b)) + evens[0], load<V>(odd(b)) + odds[0]);
            if (i < last) {
                write(unit, 2 * i, b, evens[1], odds[1]);
                store(even(b), evens[2]), store(odd(b), odds[2]);
            }
            for (int k = 0; k < K * K; k++) parts[k] = next[k];
        }
    }
    // The last row, to which no further output row sends.
    void end(const Unit& unit) {
        for (const Block& b : plan_.blocks) write(unit, plan_.w.H - 1, b, load<V>(even(b)), load<V>(odd(b)));
    }
};

// Rows 2 begin to 2 end - 1 of the inputs of all units.
template <class T, class Sends>
void overlap_range(const Plan<T>& plan, int64_t begin, int64_t end) {
    using Sender = typename Sends::Sender;
    Sends sends(plan, 1);
    Sender& sender = sends;
    Overlap<T> dx(plan, plan.call.dx), dlogits(plan, plan.call.dlogits);
    plan.by_units(plan.w.oh, begin, end, [&](const Unit& unit, int64_t first, int64_t last) {
        sender.enter_unit(unit, 2 * first, 2 * last);
        for (int64_t i = first; i <= last && i < plan.w.oh; i++) {
            sender.send_square(unit, i);
            const auto add = [&]<int target>(Overlap<T>& to) {
                to.add(unit, i, first, last, [&](const Block& b, auto& parts) __attribute__((always_inline)) {
                    sender.template square<target>(b, parts);
                });
            };
            add.template operator()<0>(dx);
            if constexpr (Sender::targets == 2) add.template operator()<1>(dlogits);
        }
        if (last == plan.w.oh) {
            dx.end(unit);
            if constexpr (Sender::targets == 2) dlogits.end(unit);
        }
    });
}

}  // namespace poolzoo

// The backward pass: each number of dx is summed at once over the windows that cover it, from what their output rows send
// (senders.h). So dx is written once and never read, threads own disjoint rows of it, and nothing needs atomics.
#pragma once

#include "covers.h"
#include "senders.h"

namespace poolzoo {

template <class T, class Sender>
class Gather {
    using V = typename Plan<T>::V;
    static constexpr int L = Plan<T>::L;

    struct Shift {  // of one tap of a phase: from a place in the phase to the output there
        int64_t by;
        int tap;
    };
    struct Fold {  // a tap past the border, and the column that it stands for
        int64_t column, output;
        int tap;
    };

    const Plan<T>& plan_;
    const Covers& rows_;
    const Covers columns_;   // in NHWC
    const bool staged_;      // a row of dx
    const bool joined_;      // NCHW: the two phases' sums go to dx at once
    const int64_t slots_;
    Sender& sender_;
    Buffer<T> dx_, spare_;
    std::vector<int64_t> held_;
    std::vector<Sent> sent_;
    std::vector<std::vector<Shift>> phase_shifts_;
    std::vector<Fold> folds_;
    std::vector<Term> terms_;

  public:
    Gather(const Plan<T>& plan, const Covers& rows, int64_t slots, Sender& sender)
        : plan_(plan), rows_(rows),
          columns_(plan.w.channels_last ? plan.w.W : 0, plan.w.channels_last ? plan.w.ow : 0, plan.w.sw, plan.w.pw,
                   plan.w.kw, plan.w.dw, plan.w.border),
          staged_(!plan.in_place),
          joined_(!plan.w.channels_last && plan.wide() && plan.w.sw == 2 && plan.w.W % 2 == 0 && plan.w.W >= 2 * L),
          slots_(slots), sender_(sender), dx_(staged_ ? plan.row : 0), spare_(plan.wide() ? 0 : plan.w.W),
          held_(slots_), sent_(slots_),
          terms_(rows_.most() * (plan.w.channels_last ? columns_.most() : plan.w.kw)) {
        if (plan.w.channels_last) return;
        for (const std::vector<int>& taps : plan.phase_taps) {
            phase_shifts_.emplace_back();
            for (const int t : taps) phase_shifts_.back().push_back({-plan.column_shift(t), t});
        }
        for (int64_t j = 0; j < plan.w.ow && plan.w.border != Border::Skip; j++) {
            for (int t = 0; t < plan.w.kw; t++) {
                const int64_t column = plan.w.column_start(j) + t * plan.w.dw;
                if (column >= 0 && column < plan.w.W) continue;
                folds_.push_back({continued(column, plan.w.W, plan.w.border), j, t});
            }
        }
    }

    // Rows [begin, end) of one unit's dx.
    void rows(const Unit& unit, int64_t begin, int64_t end) {
        sender_.enter_unit(unit, begin, end);
        std::fill(held_.begin(), held_.end(), -1);
        for (int64_t h = begin; h < end; h++) {
            for (const Cover* c = rows_.begin(h); c < rows_.end(h); c++) {
                const int64_t slot = c->output & (slots_ - 1);
                if (held_[slot] != c->output) sent_[slot] = sender_.send(unit, c->output, slot);
                held_[slot] = c->output;
            }
            gather<0>(unit, h, plan_.call.dx);
            if constexpr (Sender::targets == 2) gather<1>(unit, h, plan_.call.dlogits);
        }
    }

  private:
    template <int target>
    void gather(const Unit& unit, int64_t h, void* to) {
        if (joined_) return gather_pairs<target>(h, static_cast<T*>(to) + plan_.row_at(unit, h));
        if (!plan_.w.channels_last) {
            gather_columns<target>(h);
        } else {
            gather_channels<target>(h, staged_ ? dx_.data() : static_cast<T*>(to) + plan_.row_at(unit, h),
                                    staged_ ? plan_.pixel : plan_.w.C, staged_ ? plan_.pixel : unit.channels);
        }
        if (staged_) finish_row(plan_, to, unit, h, dx_.data(), spare_.data());
    }

    const Sent& sent_by(const Cover& row) const { return sent_[row.output & (slots_ - 1)]; }
    static Term term(const Sent& sent, int64_t from, int64_t taps, int64_t tap) {
        return {sent.from + tap * sent.step + from, sent.taps + taps, static_cast<int>(tap)};
    }

    // The terms of one phase of dx row h; returns the end.
    Term* column_terms(int64_t h, int64_t phase, Term* to) {
        for (const Cover* row = rows_.begin(h); row < rows_.end(h); row++) {
            const Sent& sent = sent_by(*row);
            const int64_t first = row->tap * plan_.w.kw;
            for (const Shift& shift : phase_shifts_[phase]) *to++ = term(sent, shift.by, shift.by, first + shift.tap);
        }
        return to;
    }

    template <int target>
    void gather_columns(int64_t h) {
        const Window& w = plan_.w;
        for (int64_t f = 0; f < w.sw; f++) {
            const Term* end = column_terms(h, f, terms_.data());
            add_up<target>(end, dx_.data() + f * plan_.phase + plan_.first, (w.W - f + w.sw - 1) / w.sw);
        }
        add_folds<target>(h, [&](int64_t column) { return dx_.data() + plan_.place(column); });
    }

    // Even and odd columns, a vector of each at a time; the last ones end with the row.
    template <int target>
    void gather_pairs(int64_t h, T* dx) {
        Term *even = terms_.data(), *odd = column_terms(h, 0, even), *end = column_terms(h, 1, odd);
        const int64_t last = plan_.w.W / 2 - L;
        for (int64_t k = 0;; k = std::min(k + L, last)) {
            V pair[2] = {splat<V>(0), splat<V>(0)};
            add<target, 1>(even, odd, k, pair);
            add<target, 1>(odd, end, k, pair + 1);
            store_joined(pair[0], pair[1], dx + 2 * k);
            if (k == last) break;
        }
        add_folds<target>(h, [&](int64_t column) { return dx + column; });
    }

    template <int target, class At>
    void add_folds(int64_t h, At at) {
        for (const Fold& fold : folds_) {
            for (const Cover* row = rows_.begin(h); row < rows_.end(h); row++) {
                const Term t = term(sent_by(*row), 0, 0, row->tap * plan_.w.kw + fold.tap);
                *at(fold.column) += sender_.template part<target>(t, fold.output)[0];
            }
        }
    }

    template <int target>
    void gather_channels(int64_t h, T* to, int64_t pixel, int64_t length) {
        const Window& w = plan_.w;
        const int64_t from_pixel = sender_.pixel(), tap_pixel = sender_.tap_pixel();
        for (int64_t k = 0; k < w.W; k++, to += pixel) {
            Term* end = terms_.data();
            for (const Cover* row = rows_.begin(h); row < rows_.end(h); row++) {
                for (const Cover* column = columns_.begin(k); column < columns_.end(k); column++) {
                    const int64_t j = column->output;
                    *end++ = term(sent_by(*row), j * from_pixel, j * tap_pixel, row->tap * w.kw + column->tap);
                }
            }
            add_up<target>(end, to, length);
        }
    }

    // to[k] = sum over the terms, for each of `length` places; several vectors at a time, which do not wait for another.
    template <int target>
    void add_up(const Term* end, T* to, int64_t length) const {
        int64_t k = 0;
        for (; k + 4 * L <= length; k += 4 * L) store_sums<target, 4>(end, k, to);
        for (; k + L < length; k += 2 * L) store_sums<target, 2>(end, k, to);
        for (; k < length; k += L) store_sums<target, 1>(end, k, to);
    }
    template <int target, int vectors>
    HD void store_sums(const Term* end, int64_t k, T* to) const {
        V sums[vectors];
        for (int v = 0; v < vectors; v++) sums[v] = splat<V>(0);
        add<target, vectors>(terms_.data(), end, k, sums);
        for (int v = 0; v < vectors; v++) store(to + k + v * L, sums[v]);
    }
    template <int target, int vectors>
    HD void add(const Term* terms, const Term* end, int64_t k, V* sums) const {
        for (const Term* t = terms; t < end; t++) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[v] = sums[v] + sender_.template part<target>(*t, k + v * L);
        }
    }
};

// Rows [begin, end) of the inputs of all units.
template <class T, class Sends>
void gather_range(const Plan<T>& plan, int64_t begin, int64_t end) {
    const Window& w = plan.w;
    const Covers covers(w.H, w.oh, w.sh, w.ph, w.kh, w.dh, w.border);
    const int64_t slots = covers.slots();
    Sends sends(plan, slots);
    Gather<T, typename Sends::Sender> gather(plan, covers, slots, sends);
    plan.by_units(w.H, begin, end, [&](const Unit& unit, int64_t first, int64_t last) { gather.rows(unit, first, last); });
}

}  // namespace poolzoo

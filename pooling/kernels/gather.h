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
    static constexpr int64_t kAhead = 3072;      // numbers: what is written that much later is asked for
    static constexpr int64_t kMostTerms = 1 << 14;  // beyond, a row's are made when it comes: they outgrow the cache

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
    Buffer<int64_t> held_;
    Buffer<Fold> folds_;
    Buffer<Term> terms_;           // NCHW: of each phase of all rows of dx, or of one; NHWC: of a row and of a pixel
    Buffer<int64_t> first_terms_;  // NCHW: where a row's phases begin, and their end
    bool of_all_rows_ = false;

  public:
    Gather(const Plan<T>& plan, const Covers& rows, int64_t slots, Sender& sender)
        : plan_(plan), rows_(rows),
          columns_(plan.w.channels_last ? plan.w.W : 0, plan.w.channels_last ? plan.w.ow : 0, plan.w.sw, plan.w.pw,
                   plan.w.kw, plan.w.dw, plan.w.border),
          staged_(!plan.in_place),
          joined_(!plan.w.channels_last && plan.wide() && plan.w.sw == 2 && plan.w.W % 2 == 0 && plan.w.W >= 2 * L),
          slots_(slots), sender_(sender), dx_(staged_ ? plan.row : 0), spare_(plan.wide() ? 0 : plan.w.W),
          held_(slots_) {
        if (plan.w.channels_last) {
            terms_.resize(rows_.most() * (1 + columns_.most()));
            return;
        }
        of_all_rows_ = plan.w.H * rows_.most() * plan.w.kw <= kMostTerms;
        for (int64_t h = 0; of_all_rows_ && h < plan.w.H; h++) collect_terms(h);
        for (int64_t j = 0; j < plan.w.ow && plan.w.border != Border::Skip; j++) {
            for (int t = 0; t < plan.w.kw; t++) {
                const int64_t column = plan.w.column_start(j) + t * plan.w.dw;
                if (column >= 0 && column < plan.w.W) continue;
                folds_.push_back({continued(column, plan.w.W, plan.w.border), j, t});
            }
        }
    }

    // Some of the rows [begin, end) of one unit's dx are to come.
    void enter_unit(const Unit& unit, int64_t begin, int64_t end) {
        sender_.enter_unit(unit, begin, end);
        std::fill(held_.begin(), held_.end(), -1);
    }
    void row(const Unit& unit, int64_t h) {
        send_to(unit, h);
        if (!plan_.w.channels_last && !of_all_rows_) terms_.clear(), first_terms_.clear(), collect_terms(h);
        gather<0>(unit, h, plan_.call.dx);
        if constexpr (Sender::targets == 2) gather<1>(unit, h, plan_.call.dlogits);
    }
    void rows(const Unit& unit, int64_t begin, int64_t end) {
        enter_unit(unit, begin, end);
        send_to(unit, begin);
        for (int64_t h = begin; h < end; h++) {
            if (h + 1 < end) send_to(unit, h + 1);
            row(unit, h);
        }
    }

  private:
    // Done a row ahead: a load that spans two stores waits until both have reached the cache.
    void send_to(const Unit& unit, int64_t h) {
        for (const Cover* c = rows_.begin(h); c < rows_.end(h); c++) {
            const int64_t slot = c->output & (slots_ - 1);
            if (held_[slot] != c->output) sender_.send(unit, c->output, slot);
            held_[slot] = c->output;
        }
    }

    template <int target>
    void gather(const Unit& unit, int64_t h, void* to) {
        if (joined_) return gather_pairs<target>(unit, h, static_cast<T*>(to) + plan_.row_at(unit, h));
        if (!plan_.w.channels_last) {
            gather_columns<target>(unit, h);
        } else {
            gather_channels<target>(unit, h, staged_ ? dx_.data() : static_cast<T*>(to) + plan_.row_at(unit, h),
                                    staged_ ? plan_.pixel : plan_.w.C, staged_ ? plan_.pixel : unit.channels);
        }
        if (staged_) finish_row(plan_, to, unit, h, dx_.data(), spare_.data());
    }

    Sent sent_by(const Unit& unit, const Cover& row) const {
        return sender_.sent(unit, row.output, row.output & (slots_ - 1));
    }
    static Term term(const Sent& sent, int64_t from, int64_t taps, int64_t tap) {
        return {sent.from + tap * sent.step + from, sent.taps + taps, static_cast<int>(tap)};
    }
    // NCHW, where no term depends on the unit.
    void collect_terms(int64_t h) {
        for (const std::vector<int>& taps : plan_.phase_taps) {
            first_terms_.push_back(terms_.size());
            for (const Cover* row = rows_.begin(h); row < rows_.end(h); row++) {
                const Sent sent = sent_by(plan_.unit(0), *row);
                for (const int t : taps) {
                    const int64_t by = -plan_.column_shift(t);  // from a place in the phase to the output there
                    terms_.push_back(term(sent, by, by, row->tap * plan_.w.kw + t));
                }
            }
        }
        first_terms_.push_back(terms_.size());
    }
    const Term* terms_of(int64_t h, int64_t phase) const {
        return terms_.data() + first_terms_[(of_all_rows_ ? h : 0) * (plan_.w.sw + 1) + phase];
    }

    template <int target>
    void gather_columns(const Unit& unit, int64_t h) {
        const Window& w = plan_.w;
        for (int64_t f = 0; f < w.sw; f++) {
            T* phase = dx_.data() + f * plan_.phase + plan_.first;
            add_up<target>(terms_of(h, f), terms_of(h, f + 1), phase, (w.W - f + w.sw - 1) / w.sw);
        }
        add_folds<target>(unit, h, [&](int64_t column) { return dx_.data() + plan_.place(column); });
    }

    // Even and odd columns, two vectors of each at a time; the last ones end with the row.
    template <int target>
    void gather_pairs(const Unit& unit, int64_t h, T* dx) {
        const Term *even = terms_of(h, 0), *odd = terms_of(h, 1), *end = terms_of(h, 2);
        const int64_t last = plan_.w.W / 2 - L;
        for (int64_t k = 0; k < last + L; k += 2 * L) {
            const int64_t places[2] = {std::min(k, last), std::min(k + L, last)};
            V evens[2] = {splat<V>(0), splat<V>(0)}, odds[2] = {splat<V>(0), splat<V>(0)};
            add<target, 2>(even, odd, places, evens);
            add<target, 2>(odd, end, places, odds);
            for (int v = 0; v < 2; v++) store_joined(evens[v], odds[v], dx + 2 * places[v]);
        }
        add_folds<target>(unit, h, [&](int64_t column) { return dx + column; });
    }

    template <int target, class At>
    void add_folds(const Unit& unit, int64_t h, At at) {
        for (const Fold& fold : folds_) {
            for (const Cover* row = rows_.begin(h); row < rows_.end(h); row++) {
                const Term t = term(sent_by(unit, *row), 0, 0, row->tap * plan_.w.kw + fold.tap);
                *at(fold.column) += sender_.template part<target>(t, fold.output)[0];
            }
        }
    }

    template <int target>
    void gather_channels(const Unit& unit, int64_t h, T* to, int64_t pixel, int64_t length) {
        const int64_t from_pixel = sender_.pixel(), tap_pixel = sender_.tap_pixel(), step = sender_.step();
        Term *rows = terms_.data(), *begin = rows;
        for (const Cover* row = rows_.begin(h); row < rows_.end(h); row++) {
            *begin++ = term(sent_by(unit, *row), 0, 0, row->tap * plan_.w.kw);
        }
        for (int64_t k = 0; k < plan_.w.W; k++, to += pixel) {
            Term* end = begin;
            for (const Cover* column = columns_.begin(k); column < columns_.end(k); column++) {
                const int64_t from = column->output * from_pixel + column->tap * step, taps = column->output * tap_pixel;
                for (const Term* row = rows; row < begin; row++) {
                    *end++ = {row->from + from, row->taps + taps, row->tap + column->tap};
                    if (row->tap + column->tap == 0) sender_.look_ahead(end[-1], length);
                }
            }
            add_up<target>(begin, end, to, length);
        }
    }

    // to[k] = sum over the terms, for each of `length` places; several vectors at a time, which do not wait for another.
    template <int target>
    void add_up(const Term* begin, const Term* end, T* to, int64_t length) const {
        int64_t k = 0;
        for (; k + 4 * L <= length; k += 4 * L) store_sums<target, 4>(begin, end, k, to);
        for (; k + L < length; k += 2 * L) store_sums<target, 2>(begin, end, k, to);
        for (; k < length; k += L) store_sums<target, 1>(begin, end, k, to);
    }
    template <int target, int vectors>
    HD void store_sums(const Term* begin, const Term* end, int64_t k, T* to) const {
        V sums[vectors];
        int64_t places[vectors];
        for (int v = 0; v < vectors; v++) sums[v] = splat<V>(0), places[v] = k + v * L;
        add<target, vectors>(begin, end, places, sums);
        for (int v = 0; v < vectors; v++) {
            ask_for(to + places[v] + kAhead);
            store(to + places[v], sums[v]);
        }
    }
    template <int target, int vectors>
    HD void add(const Term* begin, const Term* end, const int64_t* places, V* sums) const {
        for (const Term* t = begin; t < end; t++) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[v] = sums[v] + sender_.template part<target>(*t, places[v]);
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

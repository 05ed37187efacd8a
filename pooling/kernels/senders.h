// What the windows of an output row send to their members in the backward pass. Three ways, by what the operator saved:
// nothing (linear operators), which tap gets the gradient, or the values of x, from which the slopes are found again.
#pragma once

#include "rows.h"
#include "slope_sums.h"
#include "squares.h"

namespace poolzoo {

// Where an output row's gradients are, and its saved taps; by how much the next window tap's are further on.
struct Sent {
    int64_t from, taps, step;
};
// One of the terms of dx: what an output row sends to its windows' tap `tap`.
struct Term {
    int64_t from, taps;
    int tap;
};

// Rows that are staged, some for each of `slots` output rows. In NCHW a row has zeros before and after.
template <class T>
struct Stage {
    static constexpr int L = Plan<T>::L;
    int64_t slots, lead = 0, length;

    Stage(const Plan<T>& plan, int64_t slots) : slots(slots), length(plan.out_row) {
        if (plan.w.channels_last) return;
        int64_t furthest = 0;
        for (int64_t t = 0; t < plan.w.kw; t++) furthest = std::max(furthest, plan.column_shift(t));
        lead = Plan<T>::whole_lanes(plan.first + furthest);
        length = lead + plan.phase + L;
    }
    int64_t place(int64_t slot, int64_t rows) const { return slot * rows * length + lead; }
};

// A row of gradients or of saved slopes, block by block: in place in NHWC, in NCHW 0 past the last output.
template <class T>
class OutputRow {
    using V = typename Plan<T>::V;
    const Plan<T>& plan_;
    const void* source_;
    const Dtype dtype_;
    Buffer<T> buffer_;
    const T* at_ = nullptr;

  public:
    OutputRow(const Plan<T>& plan, const void* source, Dtype dtype)
        : plan_(plan), source_(source), dtype_(dtype), buffer_(plan.in_place || source == nullptr ? 0 : plan.out_row) {}
    static OutputRow of_gradient(const Plan<T>& plan) { return {plan, plan.call.gradient, plan.call.dtype}; }
    void enter(const Unit& unit, int64_t i) {
        at_ = plan_.in_place ? static_cast<const T*>(source_) + plan_.out_at(unit, i)
                             : output_row(plan_, source_, unit, i, buffer_.data(), dtype_);
    }
    V block(const Block& b) const {
        const V g = load<V>(at_ + (plan_.in_place ? b.column * plan_.w.C + b.channel : b.out));
        return b.partial ? plan_.columns_of(b) ? g : splat<V>(0) : g;
    }
};

// What is sent from gradients alone: a row of them, in place where nothing has to be made of it (`made`).
template <template <class> class R, class T>
class FromGradients {
  protected:
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    using Red = typename Row::Red;
    const Plan<T>& plan_;
    const Stage<T> stage_;
    const bool staged_;

  private:
    RowRing<T> no_values_;
    OutputRow<T> gradient_;
    Buffer<T> buffer_;
    const T* base_;

  protected:
    Row row_;
    // Stages output row i at `at`, as it is.
    void stage(const Unit& unit, int64_t i, int64_t at) {
        const T* from = static_cast<const T*>(plan_.call.gradient) + plan_.out_at(unit, i);
        for (const Block& b : plan_.blocks) store(buffer_.data() + at + b.out, load<V>(from + b.out));
    }
    // A block's gradients as `make(b, g)` has them.
    template <class Make>
    void stage(const Unit& unit, int64_t i, int64_t at, Make make) {
        gradient_.enter(unit, i);
        row_.enter_row(unit, i);
        for (const Block& b : plan_.blocks) store(buffer_.data() + at + b.out, make(b, gradient_.block(b)));
    }
    V gradient(const Block& b) const { return gradient_.block(b); }
    HD V gradient(const Term& t, int64_t k) const { return load<V>(base_ + t.from + k); }
    int64_t from(const Unit& unit, int64_t i, int64_t slot) const {
        return staged_ ? stage_.place(slot, 1) : plan_.out_at(unit, i);
    }

  public:
    static constexpr int targets = 1;
    static constexpr bool tiles = true, overlaps = true;
    FromGradients(const Plan<T>& plan, int64_t slots, bool made)
        : plan_(plan), stage_(plan, slots), staged_(made || !plan.in_place), no_values_(plan, nullptr),
          gradient_(OutputRow<T>::of_gradient(plan)),
          buffer_(staged_ ? slots * stage_.length : 0),
          base_(staged_ ? buffer_.data() : static_cast<const T*>(plan.call.gradient)), row_(plan, no_values_, no_values_) {}
    int64_t step() const { return 0; }
    int64_t pixel() const { return staged_ ? plan_.pixel : plan_.w.C; }
    int64_t tap_pixel() const { return plan_.in_place ? plan_.w.C : plan_.pixel; }
    // Asks for what the next output row sends from here.
    HD void look_ahead(const Term& t, int64_t length) const {
        if (staged_) return;
        ask_for(base_ + t.from + plan_.w.ow * plan_.w.C, length);
    }
    void enter_unit(const Unit& unit, int64_t, int64_t) { row_.enter_unit(unit); }
    void send_square(const Unit& unit, int64_t i) {
        gradient_.enter(unit, i);
        row_.enter_row(unit, i);
    }
};

// Of linear operators: to each member the gradient, times its tap's weight.
template <template <class> class R, class T>
class Shares : public FromGradients<R, T> {
    using Base = FromGradients<R, T>;
    using Base::plan_, Base::stage_, Base::staged_, Base::row_;
    using typename Base::V;
    using typename Base::Red;
    Given<V> given_{};

  public:
    using Sender = Shares;
    static constexpr bool made = Base::Row::traits.prepares;
    Shares(const Plan<T>& plan, int64_t slots) : Base(plan, slots, made) {}
    void enter_unit(const Unit& unit, int64_t begin, int64_t end) {
        Base::enter_unit(unit, begin, end);
        given_.table = row_.table;
    }
    Sent sent(const Unit& unit, int64_t i, int64_t slot) const { return {this->from(unit, i, slot), 0, 0}; }
    void send(const Unit& unit, int64_t i, int64_t slot) {
        if (!staged_) return;
        const int64_t at = stage_.place(slot, 1);
        if (!made && plan_.out_in_place) return this->stage(unit, i, at);
        this->stage(unit, i, at, [&](const Block& b, V g) {
            if constexpr (made) g = Red(row_.given(b)).prepared(g);
            return g;
        });
    }
    template <int target, int taps>
    HD void square(const Block& b, V (&parts)[taps]) const {
        V g = Base::gradient(b);
        if constexpr (made) g = Red(row_.given(b)).prepared(g);
        for (int tap = 0; tap < taps; tap++) parts[tap] = Red(given_).share(g, tap);
    }
    template <int target>
    HD V part(const Term& t, int64_t k) const {
        return Red(given_).share(this->gradient(t, k), t.tap);
    }
};

// To the member at the saved tap, the gradient; where an operator also sends something to all (mixed), that and more.
// Tap: what taps are stored as.
template <template <class> class R, class T, class Tap>
class Taken : public FromGradients<R, T> {
    using Base = FromGradients<R, T>;
    using Base::plan_, Base::stage_, Base::staged_, Base::row_;
    using typename Base::V;
    using typename Base::Red;
    using I = Int<V>;
    static constexpr bool to_all = Base::Row::traits.learned;
    Buffer<T> all_;
    Buffer<Tap> taps_;
    const Tap *tap_base_, *row_taps_ = nullptr;
    OutputRow<T> slope_;  // by the parameter, as saved
    SlopeSums<T> slopes_;

    // The slopes of output row i, which the base has entered, where this thread is to write their sums.
    void add_slopes(const Unit& unit, int64_t i) {
        if (!slopes_.owns(i)) return;
        slope_.enter(unit, i);
        slopes_.begin_row(i);
        for (const Block& b : plan_.blocks) {
            const V slope = Base::gradient(b) * slope_.block(b);
            slopes_.add(b, [&](int) __attribute__((always_inline)) { return slope; });
        }
        slopes_.end_row(unit, i);
    }

  public:
    using Sender = Taken;
    static constexpr bool made = to_all, tiles = sizeof(Tap) == 1, overlaps = tiles;
    Taken(const Plan<T>& plan, int64_t slots)
        : Base(plan, slots, made), all_(to_all ? slots * stage_.length : 0),
          taps_(plan.in_place ? 0 : slots * stage_.length),
          tap_base_(plan.in_place ? static_cast<const Tap*>(plan.call.taps) : taps_.data()),
          slope_(plan, plan.call.slopes, Plan<T>::kWide), slopes_(plan) {}
    void enter_unit(const Unit& unit, int64_t begin, int64_t end) {
        Base::enter_unit(unit, begin, end);
        if constexpr (to_all) slopes_.enter_unit(begin, end, [&](int64_t i) { send_square(unit, i); });
    }
    Sent sent(const Unit& unit, int64_t i, int64_t slot) const {
        return {this->from(unit, i, slot), plan_.in_place ? plan_.out_at(unit, i) : stage_.place(slot, 1), 0};
    }
    void send(const Unit& unit, int64_t i, int64_t slot) {
        const Window& w = plan_.w;
        const int64_t start = plan_.out_at(unit, i), at = stage_.place(slot, 1);
        if (!plan_.in_place) {
            const Tap* taps = static_cast<const Tap*>(plan_.call.taps) + start;
            const int64_t runs = w.channels_last ? w.ow : 1, length = w.channels_last ? unit.channels : w.ow;
            for (int64_t k = 0; k < runs; k++) copy_run(taps + k * w.C, length, taps_.data() + at + k * plan_.pixel);
        }
        if (!staged_) return;
        if (!to_all && plan_.out_in_place) return this->stage(unit, i, at);
        this->stage(unit, i, at, [&](const Block& b, V g) {
            if constexpr (to_all) {
                const Red reducer(row_.given(b));
                const V all = reducer.to_all(g);
                store(all_.data() + at + b.out, all);
                g = all + reducer.to_taken(g);
            }
            return g;
        });
        if constexpr (to_all) add_slopes(unit, i);
    }
    void send_square(const Unit& unit, int64_t i) {
        Base::send_square(unit, i);
        row_taps_ = static_cast<const Tap*>(plan_.call.taps) + plan_.out_at(unit, i);
        if constexpr (to_all) add_slopes(unit, i);
    }
    template <int target, int taps>
    HD void square(const Block& b, V (&parts)[taps]) const {
        const I tap = widened<I>(row_taps_ + (plan_.in_place ? b.column * plan_.w.C + b.channel : b.out));
        V g = Base::gradient(b), all = splat<V>(0);
        if constexpr (to_all) {
            const Red reducer(row_.given(b));
            all = reducer.to_all(g);
            g = all + reducer.to_taken(g);
        }
        for (int k = 0; k < taps; k++) parts[k] = tap == splat_int<V>(k) ? g : all;
    }
    HD void look_ahead(const Term& t, int64_t length) const {
        Base::look_ahead(t, length);
        if (!plan_.in_place) return;
        ask_for(tap_base_ + t.taps + plan_.w.ow * plan_.w.C, length);
    }
    template <int target>
    HD V part(const Term& t, int64_t k) const {
        const V otherwise = to_all ? load<V>(all_.data() + t.from + k) : splat<V>(0), taken = this->gradient(t, k);
        return widened<I>(tap_base_ + t.taps + k) == splat_int<V>(t.tap) ? taken : otherwise;
    }
};

// Rows of parts, one for each tap of an output row's windows, and another for the logits where there are two targets:
// whatever the reducer is that makes them, so that gathering them is compiled once.
template <class T, int target_count>
class Parts {
    using V = typename Plan<T>::V;

  protected:
    const Plan<T>& plan_;
    const Stage<T> stage_;
    Buffer<T> parts_, logit_parts_;

  public:
    static constexpr int targets = target_count;
    using Sender = Parts;
    Parts(const Plan<T>& plan, int64_t slots)
        : plan_(plan), stage_(plan, slots), parts_(slots * plan.w.taps() * stage_.length),
          logit_parts_(targets == 2 ? parts_.size() : 0) {}
    virtual void enter_unit(const Unit& unit, int64_t begin, int64_t end) = 0;
    virtual void send(const Unit& unit, int64_t i, int64_t slot) = 0;
    Sent sent(const Unit&, int64_t, int64_t slot) const { return {stage_.place(slot, plan_.w.taps()), 0, stage_.length}; }
    int64_t step() const { return stage_.length; }
    int64_t pixel() const { return plan_.pixel; }
    int64_t tap_pixel() const { return 0; }
    HD void look_ahead(const Term&, int64_t) const {}
    template <int target>
    HD V part(const Term& t, int64_t k) const { return load<V>(rows<target>() + t.from + k); }
    void send_square(const Unit& unit, int64_t i) { send(unit, i, 0); }
    template <int target, int taps>
    HD void square(const Block& b, V (&parts)[taps]) const {
        const T* from = rows<target>() + stage_.place(0, taps) + b.out;
        for (int k = 0; k < taps; k++) parts[k] = load<V>(from + k * stage_.length);
    }
    template <int target>
    HD const T* rows() const {
        return (target == 0 ? parts_ : logit_parts_).data();
    }
};

// Gradient times slope, by the members' values: each output row goes through its windows again. Also dy/d(parameter).
template <template <class> class R, class T>
class Slopes final : public Parts<T, R<typename Plan<T>::V>::traits.inputs> {
    using Base = Parts<T, R<typename Plan<T>::V>::traits.inputs>;
    using Base::plan_, Base::stage_, Base::parts_, Base::logit_parts_, Base::targets;
    using Row = RowOf<R, T>;
    using V = typename Row::V;
    using Red = typename Row::Red;
    static constexpr Traits traits = Row::traits;
    const Call& call_;
    RowRing<T> x_, logits_;
    Row row_;
    OutputRow<T> gradient_;
    SlopeSums<T> slopes_;

  public:
    // Where factored.h has them all, overlapping windows need not be compiled here.
    static constexpr bool made = true, tiles = Plan<T>::kUnrolls;
    static constexpr bool overlaps = Plan<T>::kUnrolls && (traits.sums == 0 || traits.learned);
    Slopes(const Plan<T>& plan, int64_t slots)
        : Base(plan, slots), call_(plan.call), x_(plan, plan.call.x), logits_(plan, plan.call.logits),
          row_(plan, x_, logits_), gradient_(OutputRow<T>::of_gradient(plan)), slopes_(plan) {}
    void enter_unit(const Unit& unit, int64_t begin, int64_t end) override {
        row_.enter_unit(unit);
        slopes_.enter_unit(begin, end, [&](int64_t i) { send(unit, i, 0); });
    }
    void send(const Unit& unit, int64_t i, int64_t slot) override {
        const int64_t at = stage_.place(slot, plan_.w.taps()), step = stage_.length;
        gradient_.enter(unit, i);
        row_.enter_row(unit, i);
        slopes_.begin_row(i);
        // 2x2 windows that are no tiles are rare.
        row_.template each_block<3>([&](auto& windows) __attribute__((always_inline)) {
            const Block& b = windows.b;
            T *first = parts_.data() + at + b.out, *first_logit = logit_parts_.data() + (targets == 2 ? at + b.out : 0);
            send_block(windows, [=](int tap, V part, V logit_part) __attribute__((always_inline)) {
                store(first + tap * step, part);
                if constexpr (targets == 2) store(first_logit + tap * step, logit_part);
            });
        });
        slopes_.end_row(unit, i);
    }

    // dx by rows [begin, end) of a unit's tiles, whose parts need not leave the registers.
    void write_tiles(const Unit& unit, int64_t begin, int64_t end) {
        enter_unit(unit, 2 * begin, 2 * end);
        for (int64_t i = begin; i < end; i++) {
            gradient_.enter(unit, i);
            row_.enter_row(unit, i);
            slopes_.begin_row(i);
            row_.each_tile([&](auto& windows) __attribute__((always_inline)) {
                V parts[4], logit_parts[4];
                send_block(windows, [&](int tap, V part, V logit_part) __attribute__((always_inline)) {
                    parts[tap] = part, logit_parts[tap] = logit_part;
                });
                write_tile(plan_, unit, i, windows.b, parts, call_.dx);
                if constexpr (targets == 2) write_tile(plan_, unit, i, windows.b, logit_parts, call_.dlogits);
            });
            slopes_.end_row(unit, i);
        }
    }

  private:
    template <class W, class Put>
    HD void send_block(W& windows, Put put) {
        const Block& b = windows.b;
        const auto given = row_.given(b);
        const Red reducer(given);
        const V g = gradient_.block(b);
        const auto sent = [&](V part) { return b.partial ? plan_.columns_of(b) ? part : splat<V>(0) : part; };
        constexpr int passes = traits.backward_passes, most = std::max(passes, traits.learned_passes);
        auto s = row_.template reduce<passes, true>(reducer, windows);
        if constexpr (most > passes) {
            if (slopes_.count > 0) row_.template all_passes<most, true, passes>(reducer, s, windows);
        }
        if constexpr (traits.learned) {
            if (slopes_.count > 0) {
                V slopes[traits.ranked ? kMostRanked : 2];
                parameter_slopes(reducer, s, slopes_.count, slopes);
                slopes_.add(b, [&](int k) __attribute__((always_inline)) { return sent(g * slopes[k]); });
            }
        }
        windows.each([&](int tap, int, V value, V) __attribute__((always_inline)) {
            if constexpr (!traits.weighted) {
                put(tap, sent(g * reducer.slope(value, value, s, tap)), g);
            } else if constexpr (traits.inputs == 2) {
                const V w = windows.weight(tap);
                put(tap, sent(g * reducer.slope_by(value, s, w)), sent(g * reducer.logit_slope_by(value, s, w)));
            } else {
                put(tap, sent(g * reducer.slope_by(value, s, windows.weight(tap))), g);
            }
        });
    }
};

}  // namespace poolzoo

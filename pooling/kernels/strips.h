// Rows of a strip: pixels that are reduced together, of `run` numbers each, so that a window's tap is the same row some
// numbers on. In NHWC a strip is an image's group of channels, in NCHW as many planes as a vector has lanes, transposed as
// they are read and written.
#pragma once

#include <limits>

#include "staging.h"

namespace poolzoo {

// Rows by index, of which `together` neighbours are held.
template <class T>
class Rows {
    int64_t slots_ = 1, length_;  // slots: a power of two
    Buffer<T> buffer_;
    Buffer<int64_t> held_;

  public:
    Rows(int64_t together, int64_t length, T fill) : length_(length) {
        while (slots_ < together) slots_ *= 2;
        buffer_.assign(slots_ * length, fill);
        held_.resize(slots_);
        forget();
    }
    void forget() { std::fill(held_.begin(), held_.end(), std::numeric_limits<int64_t>::min()); }
    // Row `index`; make(buffer) where it is not held.
    template <class Make>
    T* row(int64_t index, Make make) {
        const int64_t slot = index & (slots_ - 1);
        T* at = buffer_.data() + slot * length_;
        if (held_[slot] != index) make(at);
        held_[slot] = index;
        return at;
    }
};

// One strip of tensors that have the same N and C, by its number, as it is read and written.
template <class T>
class Strip {
    using V = typename VectorOf<T>::type;
    static constexpr int L = Lanes<V>::count;
    static constexpr int kGroup = 32;  // channels

    const int64_t C_;
    const bool channels_last_;
    const Dtype dtype_;
    const int64_t all_;    // what is split into strips; in NCHW a plane is a channel of the one image
    const int64_t apart_;  // from one plane's row to the next one's in planes_
    int64_t image_ = 0, channel_ = 0, channels_ = 1;
    Buffer<T> planes_;

  public:
    static constexpr int kAhead = 3;  // rows that are asked for before they are read or written
    const int64_t run, units;

    // W: the longest row.
    Strip(int64_t N, int64_t C, int64_t W, bool channels_last, Dtype dtype)
        : C_(C), channels_last_(channels_last), dtype_(dtype), all_(channels_last ? C : N * C), apart_(whole(W)),
          planes_(channels_last ? 0 : L * apart_), run(!channels_last ? L : C <= 2 * kGroup ? C : kGroup),
          units((channels_last ? N : 1) * ceil_div(all_, run)) {}
    static int64_t whole(int64_t numbers) { return ceil_div(numbers, L) * L; }

    void enter(int64_t unit) {
        const int64_t each = ceil_div(all_, run);
        image_ = unit / each, channel_ = (unit - image_ * each) * run;
        channels_ = std::min(run, all_ - channel_);
    }
    // Row h of a tensor of H x W; its pixels lie `step` numbers apart in `to`.
    void read_row(const void* from, int64_t h, int64_t H, int64_t W, T* to, int64_t step) {
        const int64_t at = row_at(h, H, W);
        if (!channels_last_) return read_planes(from, at, H * W, W, to, step);
        if (run == C_ && step == run) return read(from, at, W * run, to, dtype_);
        for (int64_t k = 0; k < W; k++) read(from, at + k * C_, channels_, to + k * step, dtype_);
    }
    void write_row(const T* from, int64_t h, int64_t H, int64_t W, void* to) {
        const int64_t at = row_at(h, H, W);
        if (!channels_last_) return write_planes(from, at, H * W, W, to);
        if (run == C_) return write(from, W * run, to, at, dtype_);
        for (int64_t k = 0; k < W; k++) write(from + k * run, channels_, to, at + k * C_, dtype_);
    }
    // Row h in the tensor itself, where it can be used as it is; otherwise nullptr.
    template <class Void>
    auto in_place(Void* tensor, int64_t h, int64_t H, int64_t W) const {
        using To = std::conditional_t<std::is_const_v<Void>, const T, T>;
        const bool as_it_is = channels_last_ && run == C_ && dtype_ == Plan<T>::kWide && run % L == 0;
        return as_it_is ? static_cast<To*>(tensor) + row_at(h, H, W) : nullptr;
    }

  private:
    // Where row h of this unit starts in a tensor of H x W.
    int64_t row_at(int64_t h, int64_t H, int64_t W) const {
        return channels_last_ ? (image_ * H + h) * W * C_ + channel_ : (channel_ * H + h) * W;
    }
    // Whether whole vectors of the planes' rows can be had from a tensor itself.
    bool direct(int64_t W) const { return dtype_ == Plan<T>::kWide && W >= L && channels_ == L; }
    // body(k, numbers) for each L numbers of a row of W; the last ones end with it.
    template <class Body>
    static void by_vectors(int64_t W, Body body) {
        const int64_t last = std::max<int64_t>(0, W - L);
        for (int64_t k = 0; k < last; k += L) body(k, L);
        body(last, W - last);
    }
    void read_planes(const void* from, int64_t at, int64_t plane, int64_t W, T* to, int64_t step) {
        const T* rows = static_cast<const T*>(from) + at;
        if (!direct(W)) {
            for (int64_t c = 0; c < channels_; c++) read(from, at + c * plane, W, planes_.data() + c * apart_, dtype_);
            rows = planes_.data(), plane = apart_;
        }
        by_vectors(W, [&](int64_t k, int64_t pixels) {
            V v[L];
            for (int c = 0; c < L; c++) {
                v[c] = load<V>(rows + c * plane + k);
                ask_for(rows + c * plane + k + kAhead * W);  // more streams than the processor follows itself
            }
            transpose(v);
            for (int i = 0; i < pixels; i++) store(to + (k + i) * step, v[i]);
        });
    }
    void write_planes(const T* from, int64_t at, int64_t plane, int64_t W, void* to) {
        T* rows = direct(W) ? static_cast<T*>(to) + at : planes_.data();
        const int64_t between = direct(W) ? plane : apart_;
        by_vectors(W, [&](int64_t k, int64_t) {
            V v[L];
            for (int i = 0; i < L; i++) v[i] = load<V>(from + (k + i) * L);
            transpose(v);
            for (int c = 0; c < L; c++) {
                store(rows + c * between + k, v[c]);
                ask_for(rows + c * between + k + kAhead * W);
            }
        });
        for (int64_t c = 0; !direct(W) && c < channels_; c++) write(rows + c * between, W, to, at + c * plane, dtype_);
    }
};

}  // namespace poolzoo

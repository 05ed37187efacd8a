// Moving rows between tensors of any dtype and the CPU driver's buffers.
#pragma once

#include "dtypes.h"
#include "plan.h"

namespace poolzoo {

// For short runs, by steps of a vector or of 16 bytes: a call of memcpy takes as long as some of them.
template <int bytes, class T>
HD void copy_steps(const T* from, int64_t count, T* to) {
    constexpr int64_t some = bytes / sizeof(T);
    for (int64_t k = 0; k < count - some; k += some) memcpy(to + k, from + k, bytes);
    memcpy(to + count - some, from + count - some, bytes);
}
template <class T>
HD void copy_run(const T* from, int64_t count, T* to) {
    const int64_t bytes = count * sizeof(T);
    if (bytes < 16) {
        for (int64_t k = 0; k < count; k++) to[k] = from[k];
    } else if (bytes < kVectorBytes) {
        copy_steps<16>(from, count, to);
    } else if (bytes <= 16 * kVectorBytes) {
        copy_steps<kVectorBytes>(from, count, to);
    } else {
        memcpy(to, from, bytes);
    }
}

template <class T>
inline void read(const void* from, int64_t at, int64_t count, T* to, Dtype dtype) {
    if (dtype == Dtype::BFloat16) {
        const uint16_t* source = static_cast<const uint16_t*>(from) + at;
        for (int64_t k = 0; k < count; k++) to[k] = from_bfloat16(source[k]);
    } else if (dtype == Dtype::Half) {
        const uint16_t* source = static_cast<const uint16_t*>(from) + at;
        for (int64_t k = 0; k < count; k++) to[k] = from_half(source[k]);
    } else {
        copy_run(static_cast<const T*>(from) + at, count, to);
    }
}

template <class T>
inline void write(const T* from, int64_t count, void* to, int64_t at, Dtype dtype) {
    if (dtype == Dtype::BFloat16) {
        uint16_t* target = static_cast<uint16_t*>(to) + at;
        for (int64_t k = 0; k < count; k++) target[k] = to_bfloat16(static_cast<float>(from[k]));
    } else if (dtype == Dtype::Half) {
        uint16_t* target = static_cast<uint16_t*>(to) + at;
        for (int64_t k = 0; k < count; k++) target[k] = to_half(static_cast<float>(from[k]));
    } else {
        copy_run(from, count, static_cast<T*>(to) + at);
    }
}

// One row of x into one buffer per phase, or back.
template <class T>
void split_phases(const Plan<T>& plan, const T* from, T* to) {
    const int64_t W = plan.w.W, s = plan.w.sw;
    for (int64_t f = 0; f < s; f++) {
        T* phase = to + f * plan.phase + plan.first;
        for (int64_t k = 0; k * s + f < W; k++) phase[k] = from[k * s + f];
    }
}

template <class T>
void join_phases(const Plan<T>& plan, const T* from, T* to) {
    using V = typename Plan<T>::V;
    const int64_t W = plan.w.W, s = plan.w.sw, first = plan.first;
    int64_t m = 0;
    if (s == 1) {
        memcpy(to, from + first, W * sizeof(T));
        return;
    }
    if (s == 2) {
        constexpr int L = Plan<T>::L;
        const T *a = from + first, *b = from + plan.phase + first;
        const auto join = [&](int64_t at, T* pairs) { store_joined(load<V>(a + at), load<V>(b + at), pairs); };
        for (; 2 * (m + L) <= W; m += L) join(m, to + 2 * m);
        if (2 * m == W) return;
        if (W % 2 == 0 && m > 0) return join(W / 2 - L, to + W - 2 * L);
        T rest[2 * L];
        join(m, rest);
        copy_run(static_cast<const T*>(rest), W - 2 * m, to + 2 * m);
        return;
    }
    for (int64_t f = 0; f < s; f++) {
        const T* phase = from + f * plan.phase + first;
        for (int64_t k = m; k * s + f < W; k++) to[k * s + f] = phase[k];
    }
}

// Row h of a unit of x (or of the logits) into `row`, which is where its column 0 goes; `spare` is a row.
template <class T>
void stage_row(const Plan<T>& plan, const void* x, const Unit& unit, int64_t h, T* row, T* spare) {
    const Window& w = plan.w;
    const int64_t at = plan.row_at(unit, h);
    if (w.channels_last) {
        for (int64_t k = 0; k < w.W; k++) {
            T* pixel = row + k * plan.pixel;
            read(x, at + k * w.C, unit.channels, pixel, plan.call.dtype);
            std::fill(pixel + unit.channels, pixel + plan.pixel, T(0));  // not what another unit left there
        }
        return;
    }
    T* whole = plan.by_phases() ? spare : row;
    read(x, at, w.W, whole, plan.call.dtype);
    if (plan.by_phases()) split_phases(plan, whole, row);
    for (const Margin& m : plan.margins) row[m.at] = whole[m.column];
}

// Writes a finished row of dx.
template <class T>
void finish_row(const Plan<T>& plan, void* dx, const Unit& unit, int64_t h, const T* buffer, T* spare) {
    const Window& w = plan.w;
    const int64_t at = plan.row_at(unit, h);
    if (w.channels_last) {
        if (plan.wide() && plan.pixel == w.C) {
            memcpy(static_cast<T*>(dx) + at, buffer, plan.row * sizeof(T));
        } else {
            for (int64_t k = 0; k < w.W; k++) {
                write(buffer + k * plan.pixel, unit.channels, dx, at + k * w.C, plan.call.dtype);
            }
        }
    } else {
        T* joined = plan.wide() ? static_cast<T*>(dx) + at : spare;
        join_phases(plan, buffer, joined);
        if (!plan.wide()) write(joined, w.W, dx, at, plan.call.dtype);
    }
}

// Row i of an output-sized tensor into a buffer, or a pointer to it.
template <class T>
const T* output_row(const Plan<T>& plan, const void* y, const Unit& unit, int64_t i, T* buffer, Dtype dtype) {
    const Window& w = plan.w;
    const int64_t at = plan.out_at(unit, i);
    if (plan.whole_rows && dtype == Plan<T>::kWide) return static_cast<const T*>(y) + at;
    if (w.channels_last) {
        for (int64_t j = 0; j < w.ow; j++) {
            read(y, at + j * w.C, unit.channels, buffer + j * plan.pixel, dtype);
        }
    } else {
        read(y, at, w.ow, buffer, dtype);
    }
    return buffer;
}

template <class T>
void write_output_row(const Plan<T>& plan, const T* buffer, void* y, const Unit& unit, int64_t i, Dtype dtype) {
    const Window& w = plan.w;
    const int64_t at = plan.out_at(unit, i);
    if (w.channels_last) {
        for (int64_t j = 0; j < w.ow; j++) {
            write(buffer + j * plan.pixel, unit.channels, y, at + j * w.C, dtype);
        }
    } else {
        write(buffer, w.ow, y, at, dtype);
    }
}

// Tap numbers: one byte each, -1 being 255, or four bytes.
template <class T>
void write_taps(const Plan<T>& plan, const Int<T>* buffer, const Unit& unit, int64_t i) {
    const Window& w = plan.w;
    const int64_t at = plan.out_at(unit, i), runs = w.channels_last ? w.ow : 1;
    const int64_t length = w.channels_last ? unit.channels : w.ow;
    for (int64_t run = 0; run < runs; run++) {
        const Int<T>* from = buffer + run * plan.pixel;
        if (plan.call.wide_taps) {
            int32_t* to = static_cast<int32_t*>(plan.call.taps) + at + run * w.C;
            for (int64_t k = 0; k < length; k++) to[k] = static_cast<int32_t>(from[k]);
        } else {
            uint8_t* to = static_cast<uint8_t*>(plan.call.taps) + at + run * w.C;
            for (int64_t k = 0; k < length; k++) to[k] = static_cast<uint8_t>(from[k]);
        }
    }
}

}  // namespace poolzoo

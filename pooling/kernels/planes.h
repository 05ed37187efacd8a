// Narrow maps in NCHW, whose rows would fill few lanes: some planes at a time are transposed, so that lanes are channels,
// and reduced as one image in NHWC that stays in a near cache.
#pragma once

#include "cpu_kernel.h"
#include "staging.h"

namespace poolzoo {

// to[c * to_pitch + r] = from[r * pitch + c]. S: T, or saved taps of one byte. `next`: what as many numbers are asked for
// from, in the meantime; read a plane's part at a time, memory is no stream to a processor.
template <class T, class S>
void transpose(const S* from, int64_t pitch, int64_t rows, int64_t columns, S* to, int64_t to_pitch, const S* next) {
    using V = typename Plan<T>::V;
    constexpr int L = Plan<T>::L;
    if (rows < L || columns < L) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < columns; c++) to[c * to_pitch + r] = from[r * pitch + c];
        }
        return;
    }
    for (int64_t i = 0; i < rows; i += L) {
        const int64_t r = std::min(i, rows - L);  // the last vectors end with the row
        for (int64_t j = 0; j < columns; j += L, next += L * L) {
            const int64_t c = std::min(j, columns - L);
            ask_for(next, L * L);
            V v[L];
            for (int k = 0; k < L; k++) {
                const S* at = from + (r + k) * pitch + c;
                if constexpr (std::is_same_v<S, T>) {
                    v[k] = load<V>(at);
                } else {
                    v[k] = same_bits<V>(widened<Int<V>>(at));
                }
            }
            transpose(v);
            for (int k = 0; k < L; k++) {
                S* at = to + (c + k) * to_pitch + r;
                if constexpr (std::is_same_v<S, T>) {
                    store(at, v[k]);
                } else {
                    store_narrowed(at, same_bits<Int<V>>(v[k]));
                }
            }
        }
    }
}
template <class T, class S>
void from_planes(const S* from, int64_t planes, int64_t plane, S* to) {
    transpose<T>(from, plane, planes, plane, to, planes, from + planes * plane);
}
// From the plane `own` on.
template <class T, class S>
void to_planes(const S* from, int64_t planes, int64_t plane, int64_t own, S* to) {
    transpose<T>(from + own, planes, plane, planes - own, to, plane, to + (planes - own) * plane);
}

// Neighbouring planes of an image. The last group ends with the image's last plane and leaves alone what others have.
template <class T>
class PlaneGroup {
    static constexpr int L = Plan<T>::L;
    static constexpr int64_t kNumbers = 8192;           // of x in a group
    static constexpr int64_t kMostInPlanes = 1 << 16;   // of x in the smallest group

    const Call& whole_;
    const int64_t planes_, groups_;              // planes of a group
    const int64_t inputs_, outputs_, slopes_;  // numbers of a plane, of its outputs and of one slope of them
    Call part_;
    UnsetBuffer<T> x_, logits_, y_, saved_, gradient_, dx_, dlogits_, slope_sums_, converted_;
    UnsetBuffer<uint8_t> taps_;

    static int64_t planes(const Window& w) {
        const int64_t vectors = std::max<int64_t>(1, kNumbers / (w.H * w.W * L));
        return std::min(vectors, w.C / L) * L;
    }

    // A group's part of a tensor, transposed: `at` is where its first plane begins.
    const T* taken(const void* from, int64_t at, int64_t plane, UnsetBuffer<T>& buffer, Dtype dtype) {
        if (from == nullptr) return nullptr;
        buffer.resize(planes_ * plane);
        const T* first = nullptr;
        if (dtype == part_.dtype) {
            first = static_cast<const T*>(from) + at;
        } else {
            read(from, at, planes_ * plane, converted(), dtype);
            first = converted();
        }
        from_planes<T>(first, planes_, plane, buffer.data());
        return buffer.data();
    }
    // And back, from the group's plane `own` on.
    void put(const T* from, int64_t plane, int64_t own, void* to, int64_t at, Dtype dtype) {
        if (to == nullptr) return;
        at += own * plane;
        if (dtype == part_.dtype) return to_planes<T>(from, planes_, plane, own, static_cast<T*>(to) + at);
        to_planes<T>(from, planes_, plane, own, converted());
        write<T>(converted(), (planes_ - own) * plane, to, at, dtype);
    }
    T* converted() {
        converted_.resize(planes_ * std::max(inputs_, outputs_));
        return converted_.data();
    }
    static void* room(const void* wanted, int64_t numbers, UnsetBuffer<T>& buffer) {
        if (wanted == nullptr) return nullptr;
        buffer.resize(numbers);
        return buffer.data();
    }

  public:
    static bool pays(const Call& call) {
        const Window& w = call.window;
        return !w.channels_last && w.ow < L && w.C >= L && w.H * w.W * L <= kMostInPlanes && !call.wide_taps;
    }
    static int64_t groups(const Window& w) { return ceil_div(w.C, planes(w)); }

    explicit PlaneGroup(const Call& call)
        : whole_(call), planes_(planes(call.window)), groups_(groups(call.window)),
          inputs_(call.window.H * call.window.W), outputs_(call.window.oh * call.window.ow),
          slopes_(call.window.oh * columns_of_slopes(call)), part_(call) {
        part_.window.N = 1, part_.window.C = planes_, part_.window.channels_last = true;
        part_.dtype = Plan<T>::kWide;
        part_.y = room(call.y, planes_ * outputs_, y_);
        part_.slopes = room(call.slopes, planes_ * outputs_, saved_);
        part_.dx = room(call.dx, planes_ * inputs_, dx_);
        part_.dlogits = room(call.dlogits, planes_ * inputs_, dlogits_);
        part_.slope_sums = room(call.slope_sums, slopes_by_parameter(call) * planes_ * slopes_, slope_sums_);
        if (call.taps != nullptr) taps_.resize(planes_ * outputs_), part_.taps = taps_.data();
    }

    void run(int64_t group, Pass pass) {
        const Window& w = whole_.window;
        const int64_t image = group / groups_, first = (group - image * groups_) * planes_;
        const int64_t channel = std::min(first, w.C - planes_), own = first - channel;
        const int64_t plane = image * w.C + channel, at = plane * inputs_, out_at = plane * outputs_;
        part_.first_plane = plane;
        if (whole_.parameter_per_channel) part_.parameter = static_cast<const T*>(whole_.parameter) + channel;
        if (whole_.table != nullptr) part_.table = static_cast<const T*>(whole_.table) + channel * whole_.table_step;
        part_.x = taken(whole_.x, at, inputs_, x_, whole_.dtype);
        part_.logits = taken(whole_.logits, at, inputs_, logits_, whole_.dtype);
        part_.gradient = taken(whole_.gradient, out_at, outputs_, gradient_, whole_.dtype);
        uint8_t* taps = static_cast<uint8_t*>(whole_.taps);
        const bool backward = whole_.gradient != nullptr;
        if (taps != nullptr && backward) from_planes<T>(taps + out_at, planes_, outputs_, taps_.data());
        if (backward) taken(whole_.slopes, out_at, outputs_, saved_, part_.dtype);
        pass(part_, [](int64_t count, int64_t, const void* context, void (*body)(const void*, int64_t, int64_t)) {
            body(context, 0, count);
        });
        put(y_.data(), outputs_, own, whole_.y, out_at, whole_.dtype);
        if (!backward) put(saved_.data(), outputs_, own, whole_.slopes, out_at, part_.dtype);
        put(dx_.data(), inputs_, own, whole_.dx, at, whole_.dtype);
        put(dlogits_.data(), inputs_, own, whole_.dlogits, at, whole_.dtype);
        for (int64_t k = 0; whole_.slope_sums != nullptr && k < slopes_by_parameter(whole_); k++) {
            const T* from = slope_sums_.data() + k * planes_ * slopes_;
            put(from, slopes_, own, whole_.slope_sums, (k * w.N * w.C + plane) * slopes_, part_.dtype);
        }
        if (taps == nullptr || backward) return;
        to_planes<T>(taps_.data(), planes_, outputs_, own, taps + out_at + own * outputs_);
    }
};

}  // namespace poolzoo

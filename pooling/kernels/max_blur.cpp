// The fused max and blur: declaration and CPU driver.
//
// Rows of strips (strips.h) are made when they are asked for and kept while they may be asked for again: of the input, of
// maxima, of taps. They have room on both sides for what lies past the border, and are computed in whole vectors.
#include "max_blur.h"

#include "strips.h"

namespace poolzoo {
namespace {

// A position past the border of the maxima that the filter sees, and the one that it stands for; -1: none.
struct Beyond {
    int at, stands_for;
};
// How much of an output row's spread-out gradient a row of maxima gets.
struct Share {
    int output;
    double weight;
};

// One thread's rows of one unit: some planes in NCHW, an image's group of channels in NHWC. K: the max is K x K and the
// filter has 3 numbers, as the compiler should know for the usual ones; 0: any.
template <class T, int K>
class Walk {
  public:
    using Wide = T;

  private:
    using V = typename VectorOf<T>::type;
    using I = Int<V>;
    static constexpr int L = Lanes<V>::count;

    const MaxBlur& p_;
    const T* weights_;
    Strip<T> strip_;
    const int64_t run_;
    // Where position 0 is in rows that the filter slides over, and in rows of taps and of what they take.
    const int64_t blur_zero_, tap_zero_;
    const Span inner_;  // the maxima of a row whose windows lie inside x
    const int64_t maxima_, blurred_, blur_length_, tap_length_;  // maxima_: of a row, in whole vectors
    Buffer<Beyond> beyond_;
    Buffer<Buffer<Share>> shares_;
    Rows<T> x_, along_, dense_, column_blur_, stuffed_, spread_, gradient_;
    Rows<Int<T>> along_taps_, choices_;
    bool finite_ = true;  // what was read of the unit so far
    Buffer<T> zeros_, out_, taken_;
    Buffer<const T*> rows_, seen_, gradients_;
    Buffer<const Int<T>*> chosen_;

    int kh() const { return K > 0 ? K : p_.kh; }
    int kw() const { return K > 0 ? K : p_.kw; }
    int length() const { return K > 0 ? 3 : p_.length; }
    static int64_t whole(int64_t numbers) { return Strip<T>::whole(numbers); }

    const T* x_row(int64_t h) {
        const T* const in_place = strip_.in_place(p_.x, h, p_.H, p_.W);
        const int64_t numbers = p_.W * run_, ahead = in_place == nullptr ? 0 : Strip<T>::kAhead * numbers;
        const T* const copied = x_.row(h, [&](T* to) {
            if (in_place == nullptr) strip_.read_row(p_.x, h, p_.H, p_.W, to, run_);
            finite_ = finite_ && are_finite(in_place == nullptr ? to : in_place, numbers, ahead);
        });
        return in_place == nullptr ? copied : in_place;
    }
    // ahead: how far from each number one is that will be wanted soon; 0: nothing is asked for.
    static bool are_finite(const T* from, int64_t count, int64_t ahead) {
        V sums[2] = {splat<V>(0), splat<V>(0)};  // NaN after infinity or NaN
        int64_t k = 0;
        for (; k + 2 * L <= count; k += 2 * L) {
            for (int n = 0; n < 2; n++) {
                sums[n] = sums[n] + load<V>(from + k + n * L) * splat<V>(0);
                if (ahead != 0) ask_for(from + k + n * L + ahead);
            }
        }
        T rest = 0;
        for (; k < count; k++) rest = rest + from[k] * 0;
        const V sum = sums[0] + sums[1] + rest;
        return !any_other(sum, sum);
    }
    // Of some values the largest, and which has it where that is asked for: the first, of NaNs the last, as torch.
    template <bool which, bool finite>
    struct Best {
        V value;
        I at;
        HD void add(V x, int number) {
            if constexpr (which) {
                I taken = x > value;
                if constexpr (!finite) taken = taken | (x != x);
                at = taken ? splat_int<V>(number) : at;
            }
            value = finite ? greater(x, value) : larger(x, value);
        }
    };
    // The maxima along row h of x and, in along_taps(h), their column taps.
    template <bool which>
    const T* along(int64_t h) {
        return along_.row(h, [&](T* to) {
            const T* x = x_row(h);
            if (h + 1 < p_.H) x_row(h + 1);
            Int<T>* taps = which ? along_taps(h) : nullptr;
            finite_ ? find_along<which, true>(x, to, taps) : find_along<which, false>(x, to, taps);
        });
    }
    template <bool which, bool finite>
    void find_along(const T* x, T* to, Int<T>* taps) const {
        const auto find = [&](int64_t begin, int64_t end, Span span) __attribute__((always_inline)) {
            const T* first = x + (span.begin * p_.dw - p_.pw) * run_;
            for (int64_t k = begin * run_; k < end * run_; k += L) {
                Best<which, finite> best{splat<V>(-INFINITY), splat_int<V>(span.begin)};
                if (span.begin < span.end) best.value = load<V>(first + k);
                for (int t = 1; t < span.end - span.begin; t++) best.add(load<V>(first + t * p_.dw * run_ + k), span.begin + t);
                store(to + k, best.value);
                if constexpr (which) store(taps + k, best.at);
            }
        };
        // In this order: what a vector has beyond its pixels is written over by the next.
        for (int64_t e = 0; e < inner_.begin; e++) find(e, e + 1, members(e - p_.pw, p_.dw, kw(), p_.W));
        find(inner_.begin, inner_.end, {0, kw()});
        for (int64_t e = inner_.end; e < p_.W1; e++) find(e, e + 1, members(e - p_.pw, p_.dw, kw(), p_.W));
    }
    // Written by `along`.
    Int<T>* along_taps(int64_t h) {
        return tap_zero_ + along_taps_.row(h, [](Int<T>*) {});
    }
    // Row d of the maxima, or of the row taps that have them.
    template <bool which, class To>
    void find(int64_t d, To* to) {
        const Span span = members(d - p_.ph, p_.dh, kh(), p_.H);
        const int64_t first = d - p_.ph, next = first + 1 + int64_t{kh() - 1} * p_.dh;
        for (int r = span.begin; r < span.end; r++) rows_[r] = along<which>(first + int64_t{r} * p_.dh);
        if (next >= 0 && next < p_.H) along<which>(next);
        if (span.begin == span.end) return void(std::fill_n(to, maxima_, To(which ? 0 : -INFINITY)));
        finite_ ? find_down<which, true>(span, to) : find_down<which, false>(span, to);
    }
    template <bool which, bool finite, class To>
    void find_down(Span span, To* to) const {
        if (K > 0 && span.end - span.begin == K) span = {0, K};  // known to the compiler
        for (int64_t k = 0; k < maxima_; k += L) {
            Best<which, finite> best{load<V>(rows_[span.begin] + k), splat_int<V>(span.begin)};
            for (int r = span.begin + 1; r < span.end; r++) best.add(load<V>(rows_[r] + k), r);
            if constexpr (which) {
                store(to + k, best.at);
            } else {
                store(to + k, best.value);
            }
        }
    }
    const Int<T>* choices(int64_t d) {
        return choices_.row(d, [&](Int<T>* to) { find<true>(d, to); });
    }

    // The maxima of output row i's filters, filtered down the columns, with what lies past the border.
    const T* column_blur(int64_t i) {
        return column_blur_.row(i, [&](T* to) {
            for (int u = 0; u < length(); u++) {
                const int64_t at = i * p_.sh - p_.before + u;
                const int d = stands_for(static_cast<int>(at), p_.H1);
                seen_[u] = d < 0 ? zeros_.data() : dense_.row(at, [&](T* to) { find<false>(d, to); });
            }
            T* zero = to + blur_zero_;
            for (int64_t k = 0; k < maxima_; k += L) {
                V sum = splat<V>(0);
                for (int u = 0; u < length(); u++) sum = sum + splat<V>(weights_[u]) * load<V>(seen_[u] + k);
                store(zero + k, sum);
            }
            for (const Beyond& b : beyond_) {
                const int64_t to_pixel = b.at * run_, from = b.stands_for * run_;
                for (int64_t c = 0; c < run_; c++) zero[to_pixel + c] = from < 0 ? 0 : zero[from + c];
            }
        });
    }
    void blur_along(const T* columns, T* out) {
        const T* first = columns + blur_zero_ - p_.before * run_;
        for (int64_t j = 0; j < p_.ow; j++) {
            for (int64_t c = 0; c < run_; c += L) {
                V sum = splat<V>(0);
                for (int v = 0; v < length(); v++) {
                    sum = sum + splat<V>(weights_[v]) * load<V>(first + (j * p_.sw + v) * run_ + c);
                }
                store(out + j * run_ + c, sum);
            }
        }
    }

    // The gradient of output row i, with the zeros between that a stride leaves out.
    const T* stuffed(int64_t i) {
        const int64_t zero = blur_zero_ + (length() - 1) * run_;
        return zero + stuffed_.row(i, [&](T* to) {
            strip_.read_row(p_.gradient, i, p_.oh, p_.ow, to + zero, p_.sw * run_);
        });
    }
    // The same, spread along the row of maxima by the filter.
    const T* spread(int64_t i) {
        return blur_zero_ + spread_.row(i, [&](T* to) {
            T* zero = to + blur_zero_;
            const T* given = stuffed(i) + p_.before * run_;
            if (i + 1 < p_.oh) stuffed(i + 1);
            for (int64_t k = -blur_zero_; k < blurred_; k += L) {
                V sum = splat<V>(0);
                for (int v = 0; v < length(); v++) sum = sum + splat<V>(weights_[v]) * load<V>(given + k - v * run_);
                store(zero + k, sum);
            }
            std::fill(zero + blurred_, std::max(zero + blurred_, zero + maxima_), T(0));
            for (const Beyond& b : beyond_) {
                const int64_t to_pixel = b.stands_for * run_, from = b.at * run_;
                for (int64_t c = 0; to_pixel >= 0 && c < run_; c++) zero[to_pixel + c] += zero[from + c];
            }
        });
    }
    // By row d of the maxima.
    const T* gradient_row(int64_t d) {
        return gradient_.row(d, [&](T* to) {
            const Buffer<Share>& shares = shares_[d];
            if (shares.empty()) std::fill_n(to, maxima_, T(0));
            for (size_t n = 0; n < shares.size();) {  // neighbours, both of which are held, together
                const bool two = n + 1 < shares.size() && shares[n + 1].output <= shares[n].output + 1;
                two ? add_shares<2>(&shares[n], n > 0, to) : add_shares<1>(&shares[n], n > 0, to);
                n += two ? 2 : 1;
            }
        });
    }
    template <int count>
    void add_shares(const Share* shares, bool beside, T* to) {
        const T* from[count];
        for (int n = 0; n < count; n++) from[n] = spread(shares[n].output);
        for (int64_t k = 0; k < maxima_; k += L) {
            V sum = beside ? load<V>(to + k) : splat<V>(0);
            for (int n = 0; n < count; n++) sum = sum + splat<V>(shares[n].weight) * load<V>(from[n] + k);
            store(to + k, sum);
        }
    }
    // By the maxima along row h of x: what the rows of maxima that chose it send.
    void take(int64_t h) {
        bool all = true;
        for (int r = 0; r < kh(); r++) {
            const int64_t d = h + p_.ph - int64_t{r} * p_.dh;
            const bool sends = d >= 0 && d < p_.H1;
            chosen_[r] = sends ? choices(d) : nullptr, gradients_[r] = sends ? gradient_row(d) : nullptr;
            all = all && sends;
        }
        T* to = taken_.data() + tap_zero_;
        all ? take<true>(to) : take<false>(to);
        std::fill(to + p_.W1 * run_, to + maxima_, T(0));
    }
    template <bool all>
    void take(T* to) const {
        for (int64_t k = 0; k < maxima_; k += L) {
            V sum = splat<V>(0);
            for (int r = 0; r < kh(); r++) {
                if (!all && chosen_[r] == nullptr) continue;
                sum = sum + (load<I>(chosen_[r] + k) == splat_int<V>(r) ? load<V>(gradients_[r] + k) : splat<V>(0));
            }
            store(to + k, sum);
        }
    }

  public:
    explicit Walk(const MaxBlur& p)
        : p_(p), weights_(static_cast<const T*>(p.row)),
          strip_(p.N, p.C, std::max(p.W, p.ow), p.channels_last, p.dtype), run_(strip_.run),
          blur_zero_(whole(p.before * run_)), tap_zero_(whole(std::max(0, (p.kw - 1) * p.dw - p.pw) * run_)),
          inner_(inside(p)), maxima_(whole(p.W1 * run_)), blurred_(whole((int64_t{p.ow - 1} * p.sw + p.length) * run_)),
          blur_length_(blur_zero_ + std::max(maxima_, blurred_) + 2 * L * p.sw),
          tap_length_(tap_zero_ + std::max(maxima_, whole(p.W * run_) + p.pw * run_) + L),
          x_(2, whole(p.W * run_) + L, 0), along_(reach(p) + 1, maxima_ + L, 0), dense_(p.length, forth(p) * maxima_, 0),
          column_blur_(2, forth(p) * blur_length_, 0),
          stuffed_(2, back(p) * (2 * blur_zero_ + blurred_ + p.length * run_ + L), 0),
          spread_(std::max(2, p.length / p.sh + 1), back(p) * blur_length_, 0), gradient_(reach(p) + 1, back(p) * maxima_, 0),
          along_taps_(2 * reach(p) + 2, back(p) * tap_length_, 0), choices_(reach(p) + 1, back(p) * maxima_, 0),
          zeros_(forth(p) * maxima_), out_(whole(std::max({p.W, p.ow, L}) * run_) + L), taken_(back(p) * tap_length_),
          rows_(p.kh), seen_(p.length), gradients_(p.kh), chosen_(p.kh) {
        const int reach = (p.ow - 1) * p.sw - p.before + p.length;
        for (int at = -p.before; at < reach; at++) {
            if (at < 0 || at >= p.W1) beyond_.push_back({at, stands_for(at, p.W1)});
        }
        if (!back(p)) return;
        shares_.resize(p.H1);
        for (int i = 0; i < p.oh; i++) {
            for (int u = 0; u < p.length; u++) {
                const int d = stands_for(i * p.sh - p.before + u, p.H1);
                if (d >= 0) shares_[d].push_back({i, static_cast<double>(weights_[u])});
            }
        }
    }
    static Span inside(const MaxBlur& p) {
        const int begin = std::min(p.pw, p.W1), end = p.W - (p.kw - 1) * p.dw + p.pw;
        return {begin, std::clamp(end, begin, p.W1)};
    }
    int stands_for(int at, int length) const {
        return at >= 0 && at < length ? at : p_.border == Border::Skip ? -1 : continued(at, length, p_.border);
    }
    // Whether a pass needs what one of them does.
    static bool back(const MaxBlur& p) { return p.gradient != nullptr; }
    static bool forth(const MaxBlur& p) { return !back(p); }
    static int64_t reach(const MaxBlur& p) { return int64_t{p.kh - 1} * p.dh + 1; }

    void enter(int64_t unit) {
        strip_.enter(unit);
        for (Rows<T>* rows : {&x_, &along_, &dense_, &column_blur_, &stuffed_, &spread_, &gradient_}) rows->forget();
        along_taps_.forget(), choices_.forget();
        finite_ = true;
    }
    void forward(int64_t i) {
        const T* columns = column_blur(i);
        if (i + 1 < p_.oh) column_blur(i + 1);
        T* const in_place = strip_.in_place(p_.y, i, p_.oh, p_.ow);
        blur_along(columns, in_place != nullptr ? in_place : out_.data());
        if (in_place == nullptr) strip_.write_row(out_.data(), i, p_.oh, p_.ow, p_.y);
    }
    // Row h of dx: from the maxima along it.
    void backward(int64_t h) {
        const int64_t next = h + 1 + p_.ph, shift = p_.pw * run_, step = p_.dw * run_;
        along<true>(h);
        if (next < p_.H1) choices(next), gradient_row(next);
        take(h);
        const T* taken = taken_.data() + tap_zero_ + shift;
        const Int<T>* taps = along_taps(h) + shift;
        T* const in_place = strip_.in_place(p_.dx, h, p_.H, p_.W);
        T* const out = in_place != nullptr ? in_place : out_.data();
        for (int64_t k = 0; k < p_.W * run_; k += L) {
            V sum = splat<V>(0);
            for (int t = 0; t < kw(); t++) {
                const I tap = load<I>(taps + k - t * step);
                sum = sum + (tap == splat_int<V>(t) ? load<V>(taken + k - t * step) : splat<V>(0));
            }
            store(out + k, sum);
            if (in_place != nullptr) ask_for(out + k + Strip<T>::kAhead * p_.W * run_);
        }
        if (in_place == nullptr) strip_.write_row(out, h, p_.H, p_.W, p_.dx);
    }
};

// Work for about 20 microseconds, in maxima.
constexpr int64_t kGrain = 16384;

// row(walk, k) for each of the `rows` rows of every unit.
template <class Walk, class Row>
void over_rows(const MaxBlur& p, int64_t rows, Row row) {
    const auto body = [&](int64_t begin, int64_t end) {
        Walk walk(p);
        for (int64_t at = begin; at < end; at++) {
            if (at == begin || at % rows == 0) walk.enter(at / rows);
            row(walk, at % rows);
        }
    };
    const Strip<typename Walk::Wide> strip(p.N, p.C, 0, p.channels_last, p.dtype);
    const int64_t count = strip.units * rows, each = p.W1 * strip.run;
    const int64_t grain = std::max<int64_t>(rows, kGrain / std::max<int64_t>(1, each));
    count <= grain ? body(0, count) : torch::stable::parallel_for(0, count, grain, body);
}

template <class T, int K>
void forward(const MaxBlur& p) {
    over_rows<Walk<T, K>>(p, p.oh, [](auto& walk, int64_t i) { walk.forward(i); });
}
template <class T, int K>
void backward(const MaxBlur& p) {
    over_rows<Walk<T, K>>(p, p.H, [](auto& walk, int64_t h) { walk.backward(h); });
}

template <class T>
void run(const MaxBlur& p) {
    const int known = p.kh == p.kw && p.length == 3 ? p.kh : 0;
    const bool back = p.gradient != nullptr;
    if (known == 2) return back ? backward<T, 2>(p) : forward<T, 2>(p);
    if (known == 3) return back ? backward<T, 3>(p) : forward<T, 3>(p);
    back ? backward<T, 0>(p) : forward<T, 0>(p);
}

void run(const MaxBlur& p, const Tensor&) { p.dtype == Dtype::Double ? run<double>(p) : run<float>(p); }

}  // namespace
}  // namespace poolzoo

STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo, m) {
    m.def("max_blur" POOLZOO_MAX_BLUR);
    m.def("max_blur_forward" POOLZOO_MAX_BLUR);
    m.def("max_blur_backward" POOLZOO_MAX_BLUR_BACKWARD);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo, CPU, m) {
    m.impl("max_blur", TORCH_BOX(&poolzoo::max_blur<poolzoo::run>));
    m.impl("max_blur_forward", TORCH_BOX(&poolzoo::max_blur<poolzoo::run>));
    m.impl("max_blur_backward", TORCH_BOX(&poolzoo::max_blur_backward<poolzoo::run>));
}

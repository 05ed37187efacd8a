// The polyphase operators' declaration and their CPU driver.
//
// An image is stacks of rows of pixels: C stacks and one number to a pixel in NCHW, one stack and C numbers in NHWC.
#include <algorithm>

#include "polyphase.h"
#include "scratch.h"

namespace poolzoo {
namespace {

// Work for about 20 microseconds, in numbers.
constexpr int64_t kGrain = 32768;

template <class Body>
void parallel(int64_t count, int64_t each, Body body) {
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, each));
    count <= grain ? body(0, count) : torch::stable::parallel_for(0, count, grain, body);
}

int64_t stacks(const Polyphase& p) { return p.channels_last ? 1 : p.C; }  // of an image
int64_t pixel(const Polyphase& p) { return p.channels_last ? p.C : 1; }   // numbers in one

// The norms of one unit: of a plane in NCHW, of an image's group of channels in NHWC.
template <class S, Order order>
class UnitNorms {
    // Neighbouring columns of all components, few enough for their sums to stay in a near cache, and their runs of numbers.
    struct Run {
        int64_t from, to, count;  // in a row of x, in a row of sums
    };
    struct Strip {
        int first, columns;
        Buffer<Run> runs;
    };
    static constexpr int kWidth = 4096, kTogether = 4, kSteps = 16;  // rows of a phase and numbers taken at once

    const Polyphase& p_;
    int channels_ = 0;
    Buffer<Strip> strips_;
    Buffer<double> sums_;  // a row for each row phase

    void plan(int channels) {
        channels_ = channels;
        strips_.clear();
        const int all = p_.ow * p_.sw, width = p_.channels_last ? std::max(1, kWidth / channels) : all;
        for (int first = 0; first < all; first += width) {
            Strip strip{first, std::min(width, all - first), {}};
            for (int k = 0; k < strip.columns; k++) {
                const int w = p_.columns((first + k) % p_.sw).source((first + k) / p_.sw);
                if (w < 0) continue;
                const Run run{w * pixel(p_), int64_t{k} * channels, channels};
                Run* last = strip.runs.empty() ? nullptr : &strip.runs.back();
                const bool joins = last != nullptr && last->from + last->count == run.from &&
                                   last->to + last->count == run.to;
                joins ? void(last->count += channels) : strip.runs.push_back(run);
            }
            strips_.push_back(strip);
        }
        sums_.resize(p_.sh * pitch(width));
    }
    // From one row of sums to the next: a row that is one run is added up in whole steps, beyond its end.
    int64_t pitch(int columns) const { return (int64_t{columns} * channels_ + kSteps - 1) / kSteps * kSteps; }

    void add_rows(const S* x, const Strip& strip) {
        const int64_t width = pitch(strip.columns);
        const S* const end = static_cast<const S*>(p_.x) + int64_t{p_.N} * p_.C * p_.H * p_.W;
        const bool whole = strip.runs.size() == 1 && strip.runs[0].count == int64_t{strip.columns} * channels_;
        std::fill_n(sums_.begin(), p_.sh * width, 0.0);
        for (int first = 0; first < p_.oh; first += kTogether) {
            const int last = std::min(first + kTogether, p_.oh);
            for (int a = 0; a < p_.sh; a++) {
                const S* rows[kTogether];
                int count = 0;
                for (int i = first; i < last; i++) {
                    const int h = p_.rows(a).source(i);
                    if (h >= 0) rows[count++] = x + int64_t{h} * p_.W * pixel(p_);
                }
                for (const Run& run : strip.runs) {
                    double* to = sums_.data() + a * width + run.to;
                    int64_t done = 0;
                    if (count == kTogether) {
                        const S* const furthest = *std::max_element(rows, rows + count) + run.from;
                        done = whole && end - furthest >= width ? width : run.count / kSteps * kSteps;
                        add_steps(rows, run.from, done, to);
                    }
                    for (int r = 0; r < count; r++) add_run(rows[r] + run.from + done, run.count - done, to + done);
                }
            }
        }
    }
    static void add_run(const S* from, int64_t count, double* to) {
        for (int64_t k = 0; k < count; k++) to[k] = with_member(to[k], widened(from[k]), order);
    }
    // Whole steps of some rows, whose sums are loaded and stored once. They follow each other too soon for the processor to
    // see more than short streams, so the next rows are asked for here.
    void add_steps(const S* const (&rows)[kTogether], int64_t from, int64_t count, double* to) const {
        const int64_t next = int64_t{kTogether} * p_.sh * p_.W * pixel(p_);
        for (int64_t k = 0; k < count; k += kSteps) {
            double sums[kSteps];
            for (int l = 0; l < kSteps; l++) sums[l] = to[k + l];
#pragma GCC unroll 4
            for (const S* row : rows) {
                const S* const x = row + from + k;
                ask_for(x + next);
                for (int l = 0; l < kSteps; l++) sums[l] = with_member(sums[l], widened(x[l]), order);
            }
            for (int l = 0; l < kSteps; l++) to[k + l] = sums[l];
        }
    }
    // A strip's sums for a component, along its columns.
    void add_along(const Strip& strip, int a, int b, double* norm) const {
        const double* sums = sums_.data() + a * pitch(strip.columns);
        const int first = (b - strip.first % p_.sw + p_.sw) % p_.sw;
        if (channels_ == 1) {
            double total = *norm;  // in a register: otherwise each sum waits for the one before to be stored
            for (int k = first; k < strip.columns; k += p_.sw) total = with_part(total, sums[k], order);
            *norm = total;
            return;
        }
        for (int k = first; k < strip.columns; k += p_.sw) {
            const double* part = sums + int64_t{k} * channels_;
            for (int c = 0; c < channels_; c++) norm[c] = with_part(norm[c], part[c], order);
        }
    }

  public:
    explicit UnitNorms(const Polyphase& p) : p_(p) {}

    // norms: (sh * sw, C), from the unit's first channel.
    void find(int64_t image, int64_t channel, int channels, double* norms) {
        if (channels != channels_) plan(channels);
        const int64_t plane = int64_t{p_.H} * p_.W;
        const S* x = static_cast<const S*>(p_.x) + image * p_.C * plane + channel * (p_.channels_last ? 1 : plane);
        for (int s = 0; s < p_.components(); s++) std::fill_n(norms + s * p_.C, channels, 0.0);
        for (const Strip& strip : strips_) {
            add_rows(x, strip);
            for (int s = 0; s < p_.components(); s++) add_along(strip, s / p_.sw, s % p_.sw, norms + s * p_.C);
        }
    }
};

template <class S, Order order>
void find_norms(const Polyphase& p) {
    const int group = p.channels_last ? 64 : 1;
    const int64_t units = (p.C + group - 1) / group, components = p.components();
    UnsetBuffer<double> parts(p.N * components * p.C);
    parallel(p.N * units, int64_t{p.H} * p.W * group, [&](int64_t begin, int64_t end) {
        UnitNorms<S, order> unit(p);
        for (int64_t u = begin; u < end; u++) {
            const int64_t image = u / units, channel = (u - image * units) * group;
            const int channels = static_cast<int>(std::min<int64_t>(group, p.C - channel));
            unit.find(image, channel, channels, parts.data() + image * components * p.C + channel);
        }
    });
    for (int64_t at = 0; at < p.N * components; at++) {
        double norm = 0;
        for (int64_t c = 0; c < p.C; c++) norm = with_part(norm, parts[at * p.C + c], order);
        p.norms[at] = norm;
    }
}

void check_phase(const Polyphase& p) {
    for (int n = 0; n < p.N; n++) {
        STD_TORCH_CHECK(p.has_phase(n), "aps: a phase must be in [0, ", p.components(), "), got ", p.phase[n]);
    }
}

// body(stack, begin, end) for the rows [begin, end) of each stack of `rows`.
template <class Body>
void over_rows(const Polyphase& p, int rows, Body body) {
    parallel(p.N * stacks(p) * rows, p.W * pixel(p), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin, stack = begin / rows; at < end; stack++) {
            const int first = static_cast<int>(at - stack * rows);
            const int last = static_cast<int>(std::min<int64_t>(rows, first + end - at));
            body(stack, first, last);
            at += last - first;
        }
    });
}

// to[k] = from[2 k + odd] for k < count. Where there is room, for two vectors to be read and one to be written, a short run
// is a whole vector, whose rest is no matter.
template <class S>
void pick_of_pairs(const S* from, int64_t count, bool odd, bool room, S* to) {
    using Element = std::conditional_t<std::is_class_v<S>, uint16_t, S>;
    using Index = std::conditional_t<sizeof(S) == 2, int16_t, Int<Wide<S>>>;
    typedef Element Vector __attribute__((vector_size(kVectorBytes)));
    typedef Index Indices __attribute__((vector_size(kVectorBytes)));
    constexpr int L = kVectorBytes / sizeof(S);
    Indices which;
    for (int k = 0; k < L; k++) which[k] = static_cast<Index>(2 * k);
    which = which + static_cast<Index>(odd);
    int64_t k = 0;
    const auto pick = [&](int64_t at) {
        const S* pairs = from + 2 * at;
        store(to + at, __builtin_shuffle(load<Vector>(pairs), load<Vector>(pairs + L), which));
    };
    for (; k + L <= count; k += L) pick(k);
    if (count < L && room) return pick(0);
    if (k < count && count > L) return pick(count - L);
    for (; k < count; k++) to[k] = from[2 * k + odd];
}

// room: see pick_of_pairs.
template <class S>
void gather_row(const S* from, const Component& columns, int64_t run, bool room, S* to) {
    const int inside = columns.inside();
    if (run == 1 && columns.stride == 2) {
        const int pairs = columns.length / 2;
        pick_of_pairs(from, pairs, columns.phase == 1, room, to);
        if (inside > pairs) to[pairs] = from[2 * pairs];
    } else if (run == 1) {
        for (int j = 0; j < inside; j++) to[j] = from[columns.position(j)];
    } else {
        for (int j = 0; j < inside; j++) std::copy_n(from + columns.position(j) * run, run, to + j * run);
    }
    if (inside == columns.out) return;
    const int w = columns.source(inside);
    w < 0 ? std::fill_n(to + inside * run, run, S{}) : std::copy_n(from + w * run, run, to + inside * run);
}

template <class S>
void gather(const Polyphase& p) {
    const int64_t run = pixel(p), length = p.ow * run;
    over_rows(p, p.oh, [&](int64_t stack, int begin, int end) {
        const int n = static_cast<int>(stack / stacks(p));
        const Component rows = p.chosen_rows(n), columns = p.chosen_columns(n);
        const S* x = static_cast<const S*>(p.x) + stack * p.H * p.W * run;
        S* y = static_cast<S*>(p.y) + stack * p.oh * length;
        const int64_t rest = (p.N * stacks(p) - stack) * p.H * p.W * run, vector = kVectorBytes / sizeof(S);
        for (int i = begin; i < end; i++) {
            const int h = rows.source(i);
            const int64_t at = int64_t{h} * p.W * run;
            const bool room = (end - i) * length >= vector && rest - at >= 2 * vector;
            h < 0 ? void(std::fill_n(y + i * length, length, S{})) : gather_row(x + at, columns, run, room, y + i * length);
        }
    });
}

// A row of dx that is one row of the gradient, spread out.
template <class S>
void spread_row(const S* gradient, const Component& columns, int64_t run, S* to) {
    const int inside = columns.inside(), W = columns.length;
    if (run == 1 && columns.stride == 2) {
        const bool odd = columns.phase == 1;
        for (int j = 0; j < W / 2; j++) {
            to[2 * j] = odd ? S{} : gradient[j];
            to[2 * j + 1] = odd ? gradient[j] : S{};
        }
        if (W % 2 == 1) to[W - 1] = odd ? S{} : gradient[inside - 1];
        return;
    }
    std::fill_n(to, W * run, S{});
    for (int j = 0; j < inside; j++) std::copy_n(gradient + j * run, run, to + columns.position(j) * run);
}

template <class S>
void scatter(const Polyphase& p) {
    const int64_t run = pixel(p), width = p.W * run, length = p.ow * run;
    over_rows(p, p.H, [&](int64_t stack, int begin, int end) {
        const int n = static_cast<int>(stack / stacks(p));
        const Component rows = p.chosen_rows(n), columns = p.chosen_columns(n);
        const bool column_beyond = columns.inside() < p.ow && p.border != Border::Skip;
        Buffer<Wide<S>> sums;
        for (int h = begin; h < end; h++) {
            const Component::Indices from = rows.standing_for(h);
            const S* gradient = static_cast<const S*>(p.gradient) + stack * p.oh * length;
            S* to = static_cast<S*>(p.dx) + (stack * p.H + h) * width;
            if (from.own < 0 && from.last < 0) {
                std::fill_n(to, width, S{});
            } else if (from.last < 0 && !column_beyond) {
                spread_row(gradient + from.own * length, columns, run, to);
            } else {
                sums.assign(width, 0);
                for (const int i : {from.own, from.last}) {
                    for (int j = 0; i >= 0 && j < p.ow; j++) {
                        const int64_t w = columns.source(j);
                        const S* at = gradient + i * length + j * run;
                        for (int64_t c = 0; w >= 0 && c < run; c++) sums[w * run + c] += widened(at[c]);
                    }
                }
                for (int64_t k = 0; k < width; k++) narrow(sums[k], to[k]);
            }
        }
    });
}

void run_norms(const Polyphase& p, const Tensor&) {
    with_storage(p.dtype, [&](auto type) {
        using S = decltype(type);
        switch (p.order) {
            case Order::Largest: return find_norms<S, Order::Largest>(p);
            case Order::One: return find_norms<S, Order::One>(p);
            case Order::Two: return find_norms<S, Order::Two>(p);
        }
    });
}

void run_choose(const Polyphase& given, const Tensor& like) {
    UnsetBuffer<double> norms(int64_t{given.N} * given.components());
    Polyphase p = given;
    p.norms = norms.data();
    run_norms(p, like);
    for (int n = 0; n < p.N; n++) p.found[n] = p.largest(n);
}

void run_gather(const Polyphase& p, const Tensor&) {
    check_phase(p);
    with_storage(p.dtype, [&](auto type) { gather<decltype(type)>(p); });
}

template <class S>
Polyphase image_of(const Polyphase& p, int64_t n) {
    Polyphase image = p;
    image.N = 1;
    image.found = p.found + n, image.phase = image.found;
    image.x = static_cast<const S*>(p.x) + n * p.C * p.H * p.W;
    image.y = static_cast<S*>(p.y) + n * p.C * p.oh * p.ow;
    return image;
}

// Many images are pooled one by one, each by one thread: what its norms have read, its gather then finds in the cache.
void run_pool(const Polyphase& p, const Tensor& like) {
    const auto pool = [&](const Polyphase& part) {
        run_choose(part, like);
        if (part.has_outputs()) run_gather(part, like);
    };
    if (p.N < 4 * static_cast<int64_t>(torch::stable::get_num_threads())) return pool(p);
    with_storage(p.dtype, [&](auto type) {
        parallel(p.N, int64_t{p.C} * p.H * p.W, [&](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; n++) pool(image_of<decltype(type)>(p, n));
        });
    });
}

void run_scatter(const Polyphase& p, const Tensor&) {
    check_phase(p);
    with_storage(p.dtype, [&](auto type) { scatter<decltype(type)>(p); });
}

}  // namespace
}  // namespace poolzoo

STABLE_TORCH_LIBRARY_FRAGMENT(poolzoo, m) {
    m.def("polyphase_norms" POOLZOO_POLYPHASE_NORMS);
    m.def("polyphase_pool" POOLZOO_POLYPHASE_POOL);
    m.def("polyphase_pool_forward" POOLZOO_POLYPHASE_POOL);
    m.def("polyphase_gather" POOLZOO_POLYPHASE_GATHER);
    m.def("polyphase_scatter" POOLZOO_POLYPHASE_SCATTER);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo, CPU, m) {
    m.impl("polyphase_norms", TORCH_BOX(&poolzoo::polyphase_norms<poolzoo::run_norms>));
    m.impl("polyphase_pool", TORCH_BOX(&poolzoo::polyphase_pool<poolzoo::run_pool>));
    m.impl("polyphase_pool_forward", TORCH_BOX(&poolzoo::polyphase_pool<poolzoo::run_pool>));
    m.impl("polyphase_gather", TORCH_BOX(&poolzoo::polyphase_gather<poolzoo::run_gather>));
    m.impl("polyphase_scatter", TORCH_BOX(&poolzoo::polyphase_scatter<poolzoo::run_scatter>));
}

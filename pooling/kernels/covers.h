// Which windows cover a position of the input: what the backward pass goes by.
#pragma once

#include <algorithm>

#include "scratch.h"
#include "window.h"

namespace poolzoo {

struct Cover {
    int64_t output;
    int tap;
};

// For each position of one axis of x, the outputs whose windows cover it, and by which tap.
class Covers {
    Buffer<int64_t> begin_;
    Buffer<Cover> covers_;

  public:
    Covers(int64_t length, int64_t outputs, int64_t stride, int64_t padding, int64_t taps, int64_t dilation, Border border)
        : begin_(length + 1) {
        const auto each = [&](auto body) {
            for (int64_t i = 0; i < outputs; i++) {
                for (int t = 0; t < taps; t++) {
                    int64_t at = i * stride - padding + t * dilation;
                    if ((at < 0 || at >= length) && border != Border::Skip) at = continued(at, length, border);
                    if (at >= 0 && at < length) body(at, Cover{i, t});
                }
            }
        };
        each([&](int64_t at, Cover) { begin_[at + 1]++; });
        for (int64_t k = 0; k < length; k++) begin_[k + 1] += begin_[k];
        covers_.resize(begin_[length]);
        Buffer<int64_t> next = begin_;
        each([&](int64_t at, Cover cover) { covers_[next[at]++] = cover; });
    }
    const Cover* begin(int64_t at) const { return covers_.data() + begin_[at]; }
    const Cover* end(int64_t at) const { return covers_.data() + begin_[at + 1]; }
    int64_t most() const {
        int64_t count = 0;
        for (size_t k = 1; k < begin_.size(); k++) count = std::max(count, begin_[k] - begin_[k - 1]);
        return count;
    }
    // The least power of two by which, modulo it, all outputs that cover a position or the next one differ.
    int64_t slots() const {
        for (int64_t slots = 1;; slots *= 2) {
            bool differ = true;
            for (size_t k = 0; k + 1 < begin_.size() && differ; k++) {
                const Cover* last = covers_.data() + begin_[std::min(k + 2, begin_.size() - 1)];
                for (const Cover* a = begin(k); a < last; a++) {
                    for (const Cover* b = begin(k); b < a; b++) {
                        differ &= a->output == b->output || (a->output - b->output) % slots != 0;
                    }
                }
            }
            if (differ) return slots;
        }
    }
};

}  // namespace poolzoo

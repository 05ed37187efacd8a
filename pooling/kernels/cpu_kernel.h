// What the CPU driver is to the binding: the instances of one reducer and type. Apart from cpu.h, which only they need.
#pragma once

#include "call.h"

namespace poolzoo {

// body(context, begin, end) for ranges of `grain` or more of `count`, among threads.
using Parallel = void (*)(int64_t count, int64_t grain, const void* context, void (*body)(const void*, int64_t, int64_t));

using Pass = void (*)(const Call&, Parallel);

struct Kernel {
    Pass forward, backward;
    bool learned;  // has a gradient by its parameter or table
    bool indexed;  // goes back by what forward saved, without x
};

// Where the parts of cpu.cpp put what they hold when the library is loaded.
Kernel& kernel_of(Reducer reducer, bool float64);

}  // namespace poolzoo

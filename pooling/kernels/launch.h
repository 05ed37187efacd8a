// Running a thread's body, Thread::run(frame, index), for every index: on a stream of the GPU, or one after another where
// this is compiled as C++.
#pragma once

#include <cstdint>

namespace poolzoo {

#ifdef __CUDACC__
constexpr int kBlock = 256;

template <class Thread, class Frame>
__global__ void __launch_bounds__(kBlock) kernel(const __grid_constant__ Frame frame, int64_t threads) {
    const int64_t index = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
    if (index < threads) Thread::run(frame, index);
}

template <class Thread, class Frame>
void launch(const Frame& frame, int64_t threads, void* stream) {
    const unsigned blocks = static_cast<unsigned>((threads + kBlock - 1) / kBlock);
    if (blocks > 0) kernel<Thread><<<blocks, kBlock, 0, static_cast<cudaStream_t>(stream)>>>(frame, threads);
}
#else
template <class Thread, class Frame>
void launch(const Frame& frame, int64_t threads, void*) {
    for (int64_t index = 0; index < threads; index++) Thread::run(frame, index);
}
#endif

}  // namespace poolzoo

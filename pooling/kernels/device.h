// The tensors' device and the stream that is current on it; nothing where the threads run on the CPU.
#pragma once

#include "binding.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#endif

namespace poolzoo {

#ifdef __CUDACC__
struct Device {
    torch::stable::accelerator::DeviceGuard guard;
    void* stream = nullptr;

    explicit Device(const Tensor& like) : guard(like.get_device_index()) {
        STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
    }
    void check() const { STD_CUDA_KERNEL_LAUNCH_CHECK(); }
};
#else
struct Device {
    void* stream = nullptr;

    explicit Device(const Tensor&) {}
    void check() const {}
};
#endif

}  // namespace poolzoo

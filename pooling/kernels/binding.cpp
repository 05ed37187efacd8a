// The operators' declaration and their CPU side.
#include "add_up.h"
#include "binding.h"
#include "cpu_kernel.h"

namespace poolzoo {

Kernel& kernel_of(Reducer reducer, bool float64) {
    static Kernel kernels[static_cast<int>(Reducer::Count)][2];
    return kernels[static_cast<int>(reducer)][float64];
}

namespace {

Kernel kernel_of(const Call& call) {
    const Kernel kernel = kernel_of(call.reducer, call.dtype == Dtype::Double);
    STD_TORCH_CHECK(kernel.forward != nullptr, "pooling: another library has the reducer");
    return kernel;
}

void parallel(int64_t count, int64_t grain, const void* context, void (*body)(const void*, int64_t, int64_t)) {
    if (count <= grain) {
        body(context, 0, count);
    } else {
        torch::stable::parallel_for(0, count, grain, [=](int64_t begin, int64_t end) { body(context, begin, end); });
    }
}

}  // namespace

void run_forward(const Call& call, const Tensor&) { kernel_of(call).forward(call, parallel); }

namespace {

void run_backward(const Call& call, const Tensor&) {
    const Kernel kernel = kernel_of(call);
    check_backward(call, kernel);
    kernel.backward(call, parallel);
}

}  // namespace
}  // namespace poolzoo

POOLZOO_DEFINE(POOLZOO_LIBRARY, m) {
    m.def("pool2d" POOLZOO_POOL2D);
    m.def("pool2d_forward" POOLZOO_FORWARD);
    m.def("pool2d_backward" POOLZOO_BACKWARD);
}

POOLZOO_IMPLEMENT(POOLZOO_LIBRARY, CPU, m) {
    m.impl("pool2d", TORCH_BOX(&poolzoo::forward<poolzoo::run_forward>));
    m.impl("pool2d_forward", TORCH_BOX(&poolzoo::forward_alone<poolzoo::run_forward>));
    m.impl("pool2d_backward", TORCH_BOX((&poolzoo::backward<poolzoo::run_backward, &poolzoo::add_up>)));
}

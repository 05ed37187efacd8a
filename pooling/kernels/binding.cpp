// The operators' declaration and their CPU side.
#include "add_up.h"
#include "binding.h"
#include "cpu_kernel.h"

namespace poolzoo {

#ifdef POOLZOO_PLUGIN
Kernel kernels_3_float(Reducer), kernels_3_double(Reducer);
constexpr Kernel (*kFind[2][1])(Reducer) = {{kernels_3_float}, {kernels_3_double}};
#else
Kernel kernels_0_float(Reducer), kernels_1_float(Reducer), kernels_2_float(Reducer);
Kernel kernels_0_double(Reducer), kernels_1_double(Reducer), kernels_2_double(Reducer);
constexpr Kernel (*kFind[2][3])(Reducer) = {{kernels_0_float, kernels_1_float, kernels_2_float},
                                            {kernels_0_double, kernels_1_double, kernels_2_double}};
#endif

namespace {

Kernel kernel_of(const Call& call) {
    for (auto find : kFind[call.dtype == Dtype::Double]) {
        const Kernel kernel = find(call.reducer);
        if (kernel.forward != nullptr) return kernel;
    }
    STD_TORCH_CHECK(false, "pooling: unknown reducer");
    return {};
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

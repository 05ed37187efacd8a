// The CUDA driver, compiled in parts so that they build in parallel: the instances of one group of reducers and one type
// (POOLZOO_GROUP, POOLZOO_STORAGE), or the operators' CUDA side (POOLZOO_BINDING).
//
// Compiled as C++ this is a library for tests, "threads": its operators run every thread on the CPU, in poolzoo_threads.
#include "threads.h"

#ifdef POOLZOO_PLUGIN
#include POOLZOO_PLUGIN
#endif

#ifdef POOLZOO_BINDING
#include "device.h"

namespace poolzoo {
namespace {

template <class S>
Kernel kernel_of(Reducer reducer) {
    if constexpr (kGroups == 1) {
        return kernels<0, S>(reducer);
    } else {
        const int group = static_cast<int>(reducer) % kGroups;
        return group == 0 ? kernels<0, S>(reducer) : group == 1 ? kernels<1, S>(reducer) : kernels<2, S>(reducer);
    }
}

Kernel kernel_of(const Call& call) {
    switch (call.dtype) {
        case Dtype::Float: return kernel_of<float>(call.reducer);
        case Dtype::Double: return kernel_of<double>(call.reducer);
        case Dtype::BFloat16: return kernel_of<BFloat16>(call.reducer);
        default: return kernel_of<Half>(call.reducer);
    }
}

Frame frame_of(const Call& call) {
    STD_TORCH_CHECK(Frame::fits(call.window), "pooling: a side, or a window's reach, is 2^30 or more");
    return Frame(call);
}

}  // namespace

void run_forward(const Call& call, const Tensor& like) {
    const Device device(like);
    kernel_of(call).forward(frame_of(call), device.stream);
    device.check();
}

namespace {

void run_backward(const Call& call, const Tensor& like) {
    const Device device(like);
    const Kernel kernel = kernel_of(call);
    check_backward(call, kernel);
    Frame frame = frame_of(call);
    MaybeTensor states;
    if (kernel.state_size > 0) {
        states = empty_as(like, 1, 1, frame.output.count, kernel.state_size, false, ScalarType::Byte);
        frame.states = states->mutable_data_ptr();
    }
    const bool slopes = call.slope_sums != nullptr && kernel.windows != nullptr;
    if (slopes || kernel.state_size > 0) kernel.windows(frame, device.stream);
    kernel.backward(frame, device.stream);
    device.check();
}

}  // namespace
}  // namespace poolzoo

#ifdef __CUDACC__
POOLZOO_IMPLEMENT(POOLZOO_LIBRARY, CUDA, m) {
#else
STABLE_TORCH_LIBRARY(poolzoo_threads, m) {
    m.def("pool2d" POOLZOO_POOL2D);
    m.def("pool2d_forward" POOLZOO_FORWARD);
    m.def("pool2d_backward" POOLZOO_BACKWARD);
}

STABLE_TORCH_LIBRARY_IMPL(poolzoo_threads, CPU, m) {
#endif
    m.impl("pool2d", TORCH_BOX(&poolzoo::forward<poolzoo::run_forward>));
    m.impl("pool2d_forward", TORCH_BOX(&poolzoo::forward_alone<poolzoo::run_forward>));
    m.impl("pool2d_backward", TORCH_BOX((&poolzoo::backward<poolzoo::run_backward, nullptr>)));
}

#else
#include "launch.h"

namespace poolzoo {
namespace {

template <class Thread>
void over_outputs(const Frame& frame, void* stream) {
    launch<Thread>(frame, frame.output.count, stream);
}
template <class Thread>
void over_inputs(const Frame& frame, void* stream) {
    launch<Thread>(frame, frame.input.count, stream);
}

template <Reducer reducer, template <class> class R, class S>
Kernel instances() {
    Kernel kernel{};
    if constexpr (static_cast<int>(reducer) % kGroups == POOLZOO_GROUP) {
        using View = View<R, S>;
        kernel.forward = over_outputs<Forward<R, S>>;
        kernel.backward = over_inputs<Backward<R, S>>;
        if constexpr (View::keeps_states || View::traits.learned) kernel.windows = over_outputs<Windows<R, S>>;
        kernel.learned = View::traits.learned, kernel.indexed = View::traits.indexed;
        kernel.state_size = View::keeps_states ? sizeof(typename View::State) : 0;
    }
    return kernel;
}

}  // namespace

template <int group, class S>
Kernel kernels(Reducer reducer) {
    switch (reducer) {
#define X(name) \
    case Reducer::name: return instances<Reducer::name, name, S>();
#ifdef POOLZOO_PLUGIN
        POOLZOO_ADDED(X)
#else
        POOLZOO_REDUCERS(X)
#endif
#undef X
        default: return {};
    }
}

template Kernel kernels<POOLZOO_GROUP, POOLZOO_STORAGE>(Reducer);

}  // namespace poolzoo
#endif

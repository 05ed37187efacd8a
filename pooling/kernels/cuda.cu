// The CUDA driver, compiled in parts so that they build in parallel: the instances of one part of the reducers and one type
// (POOLZOO_PART, POOLZOO_STORAGE), or the operators' CUDA side (POOLZOO_BINDING).
//
// Compiled as C++ this is a library for tests, "threads": its operators run every thread on the CPU, in poolzoo_threads.
#include "threads.h"

#ifdef POOLZOO_PLUGIN
#include POOLZOO_PLUGIN
#endif

#ifdef POOLZOO_BINDING
#include "device.h"

namespace poolzoo {

Kernel& kernel_of(Reducer reducer, Dtype dtype) {
    static Kernel kernels[static_cast<int>(Reducer::Count)][kDtypes];
    return kernels[static_cast<int>(reducer)][static_cast<int>(dtype)];
}

namespace {

Kernel kernel_of(const Call& call) {
    const Kernel kernel = kernel_of(call.reducer, call.dtype);
    STD_TORCH_CHECK(kernel.forward != nullptr, "pooling: another library has the reducer");
    return kernel;
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

template <template <class> class R, class S>
Kernel kernel() {
    using View = View<R, S>;
    Kernel kernel{};
    kernel.forward = over_outputs<Forward<R, S>>;
    kernel.backward = over_inputs<Backward<R, S>>;
    if constexpr (View::keeps_states || View::traits.learned) kernel.windows = over_outputs<Windows<R, S>>;
    kernel.learned = View::traits.learned, kernel.indexed = View::traits.indexed;
    kernel.state_size = View::keeps_states ? sizeof(typename View::State) : 0;
    return kernel;
}

template <class S>
constexpr Dtype kDtype = std::is_same_v<S, float>      ? Dtype::Float
                         : std::is_same_v<S, double>   ? Dtype::Double
                         : std::is_same_v<S, BFloat16> ? Dtype::BFloat16
                                                       : Dtype::Half;

[[maybe_unused]] const bool added = [] {
#define X(name) kernel_of(Reducer::name, kDtype<POOLZOO_STORAGE>) = kernel<name, POOLZOO_STORAGE>();
    POOLZOO_PART(X)
#undef X
    return true;
}();

}  // namespace
}  // namespace poolzoo
#endif

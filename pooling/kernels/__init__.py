"""The native backend: C++ and CUDA for the operators of `pooling.functional`.

    python -m pooling.kernels.build     # compile; cached, a step of `make train` and `make test`
    python -m pooling.kernels.info      # what is built, for which devices, and why something is not

`lanes.h`, `elementary.h` and `window.h` are the vocabulary; `reducers.h`, `norms.h`, `means.h`, `random_reducers.h`
and `rank.h` the operators; `cpu.h`, with `gather.h`, `squares.h` and `factored.h` for its backward pass, and
`cuda.cu` the two drivers. `native.py` is the Python side, `gradients.py` what torch is told of it; without a library
everything runs on `pooling.composite`.
"""

"""The specification: every definition in NumPy, as plain loops.

Slow on purpose. Each function is read beside its paper, and the fast implementations are tested against it. Inputs are
(N, C, H, W). They are float64; given float32, max, average, adaptive bins and unpooling are torch's byte for byte,
forward and backward. `R` stands for a window's members, in row-major order; padding is never a member.

Every docstring works an example on one map, `x = reference.EXAMPLE`:

    [[1, 3, 2, 4],
     [5, 6, 1, 2],
     [7, 2, 3, 1],
     [4, 8, 5, 6]]

2x2 windows at stride 2 give max [[6, 4], [8, 6]] and avg [[3.75, 2.25], [5.25, 3.75]].
"""

from pooling.reference.adaptive import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_bins,
    adaptive_max_pool2d_indices,
    adaptive_pool2d,
    spatial_pyramid,
)
from pooling.reference.antialias import binomial_row, blur_pool2d, wavelet_pool2d, wavelet_row
from pooling.reference.average import avg_pool2d, uniform_splitter
from pooling.reference.draws import philox, uniform
from pooling.reference.extremes import (
    argmax_router,
    max_pool2d,
    max_pool2d_indices,
    max_unpool2d,
    max_unpool2d_backward,
    min_pool2d,
)
from pooling.reference.means import (
    edscw_pool2d,
    gem_pool2d,
    idw_pool2d,
    lp_pool2d,
    lse_pool2d,
    mixed_pool2d,
    soft_pool2d,
    subsample_scaled2d,
    weighted_mean_pool2d,
)
from pooling.reference.polyphase import polyphase_pool2d, polyphase_unpool2d
from pooling.reference.rank import (
    first_kept_weights,
    geometric_weights,
    median_pool2d,
    rank_average_weights,
    rank_draw_pool2d,
    ranked_pool2d,
)
from pooling.reference.sampling import (
    fractional_pool2d,
    pseudo_random_bounds,
    random_bounds,
    s3_pool2d,
)
from pooling.reference.second_order import covariance_pool2d
from pooling.reference.spectral import asap_pool2d, flc_pool2d, ideal_pool2d, spectral_pool2d
from pooling.reference.stochastic import stochastic_pool2d
from pooling.reference.upsample import bilinear2d, nearest2d
from pooling.reference.windows import EXAMPLE, Array, continued, pool2d, windows

__all__ = [
    "EXAMPLE",
    "Array",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_bins",
    "adaptive_max_pool2d_indices",
    "adaptive_pool2d",
    "argmax_router",
    "asap_pool2d",
    "avg_pool2d",
    "bilinear2d",
    "binomial_row",
    "blur_pool2d",
    "continued",
    "covariance_pool2d",
    "edscw_pool2d",
    "first_kept_weights",
    "flc_pool2d",
    "fractional_pool2d",
    "gem_pool2d",
    "geometric_weights",
    "ideal_pool2d",
    "idw_pool2d",
    "lp_pool2d",
    "lse_pool2d",
    "max_pool2d",
    "max_pool2d_indices",
    "max_unpool2d",
    "max_unpool2d_backward",
    "median_pool2d",
    "min_pool2d",
    "mixed_pool2d",
    "nearest2d",
    "philox",
    "polyphase_pool2d",
    "polyphase_unpool2d",
    "pool2d",
    "pseudo_random_bounds",
    "random_bounds",
    "rank_average_weights",
    "rank_draw_pool2d",
    "ranked_pool2d",
    "s3_pool2d",
    "soft_pool2d",
    "spatial_pyramid",
    "spectral_pool2d",
    "stochastic_pool2d",
    "subsample_scaled2d",
    "uniform",
    "uniform_splitter",
    "wavelet_pool2d",
    "wavelet_row",
    "weighted_mean_pool2d",
    "windows",
]

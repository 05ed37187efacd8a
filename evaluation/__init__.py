"""What a network does, measured: shift invariance, class activation maps, cost, and the comparison of runs.

`evaluation.run`         everything that was asked for of one network: `evaluate`; `evaluation.report` writes it
`evaluation.shift`       a callable network under shifts: `evaluate_shift`; `evaluation.protocols`: how views are made
`evaluation.metrics`     each figure as a pure function and as a `torchmetrics.Metric`
`evaluation.layers`      distances around the sites, local equivariance error
`evaluation.cam`         class activation maps; `evaluation.cam_figures`: what they are worth
`evaluation.intervals`   95% confidence intervals
`evaluation.efficiency`  parameters, FLOPs, images per second
`evaluation.comparison`  a table over runs; `evaluation.paired`: differences from a baseline

Import the module that you need: those for runs work without torch, so that `compare.py` starts at once.
"""

"""What a network does, measured: shift invariance, cost, and the comparison of runs.

`evaluation.shift`       evaluate any callable network under shifts: `evaluate_shift` and the protocols
`evaluation.protocols`   how the views of an image are made
`evaluation.metrics`     each figure as a pure function and as a `torchmetrics.Metric`
`evaluation.intervals`   95% confidence intervals
`evaluation.efficiency`  parameters and FLOPs
`evaluation.comparison`  a table over runs; `evaluation.results` reads their folders, `evaluation.scatter` draws them

Import the module that you need: those for runs work without torch, so that `compare.py` starts at once.
"""

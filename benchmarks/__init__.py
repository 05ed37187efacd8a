"""What things cost, measured: each module prints its ratios and writes them to benchmarks/results/."""

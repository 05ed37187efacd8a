"""Benchmarks: each prints ratios of interleaved medians and writes a CSV file named by hardware and versions."""

"""Measured speed. `python -m tests.benchmarks` prints every figure as a ratio against a floor, in one run."""

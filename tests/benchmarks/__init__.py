"""Benchmarks: ours against baselines that run in the same process of measuring, interleaved. No test asserts a time."""

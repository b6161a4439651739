"""The closed loop on simulated truth: decide, observe, train, promote, round after round, with nobody looking at truth.

Run with ``uv run python -m tests.closed_loop``.
"""

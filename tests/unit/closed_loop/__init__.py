"""Unit tests of the closed loop's own arithmetic."""

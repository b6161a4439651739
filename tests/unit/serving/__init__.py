"""Unit tests of the serving package."""

"""Unit tests of the features package."""

"""Tests over real stores and frameworks."""

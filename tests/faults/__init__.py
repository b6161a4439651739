"""Faults on purpose: what tests put between the product and what it stands on."""

"""The whole service simulated from a seed: its clock, chance, faults, crashes and callers, against an obvious model."""

"""Properties: what must hold for every history, found by generated ones."""

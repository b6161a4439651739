"""What is frozen: formats and values that must not change."""

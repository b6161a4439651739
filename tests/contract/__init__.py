"""One suite of promises for each port, run over all its adapters."""

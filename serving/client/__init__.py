"""A small client of the HTTP API, for callers in Python; it loads nothing of the server."""

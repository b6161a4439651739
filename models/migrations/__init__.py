"""The migrations of a PostgreSQL database that keeps events and records."""

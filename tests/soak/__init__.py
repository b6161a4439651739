"""The service of several workers under traffic for minutes, and what must hold of it afterwards."""

"""How beliefs are fitted and watched: the pipeline stages and their reports."""

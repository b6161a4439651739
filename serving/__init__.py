"""How a question is answered: the use cases of the hot path and the HTTP doors."""

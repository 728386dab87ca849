"""Quality: a model on the protocols of the literature, end to end, beside what merely counts."""

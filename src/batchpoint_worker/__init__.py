"""The scoring worker: runs the model in the environment of its author, with the standard library alone."""

"""The scoring worker: runs user code in its own environment, on the standard library alone."""

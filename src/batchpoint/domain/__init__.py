"""Nouns: frozen models of everything batchpoint talks about, with limits and errors."""

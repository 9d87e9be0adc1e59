"""Secrets kept, and who may do what."""

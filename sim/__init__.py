"""Deterministic worlds, in which the decisions of a running job are put to the test."""

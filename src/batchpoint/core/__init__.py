"""Decisions: pure functions and one deterministic object; no clock, no I/O, no chance, no log."""

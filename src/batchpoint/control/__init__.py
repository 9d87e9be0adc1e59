"""Permit and record: what users may register, and jobs resolved from it."""

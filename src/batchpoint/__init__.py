"""Batchpoint: self-hosted batch endpoints for machine learning."""

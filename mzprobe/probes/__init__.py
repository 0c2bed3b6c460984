"""Probes: one file a question; each reads checkpoints and gives rows of a tidy table."""

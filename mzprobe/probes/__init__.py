"""Probes: one file per question; each reads checkpoints and gives rows of a tidy table."""

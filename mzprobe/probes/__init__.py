"""Probes: one module per question, each of which turns a checkpoint into rows of a tidy table."""

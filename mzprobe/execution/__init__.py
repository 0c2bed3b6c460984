"""Runs the tasks of a study by their dependencies and needs, on this machine or on a Ray cluster."""

"""Runs the tasks of a study, which have needs and an order, in processes of this machine or on a cluster."""

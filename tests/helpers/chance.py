"""Seeded chance, and what it may do to a rate."""

import math

import numpy as np


def rng(seed=0):
    return np.random.default_rng(seed)


def holds(interval, truth):
    return interval.low <= truth <= interval.high


def monte_carlo(probability, repetitions):
    """What a rate may be off by chance: 3.5 binomial standard deviations, passed by one seed in 2000."""
    return 3.5 * math.sqrt(probability * (1 - probability) / repetitions)

"""Errors of the model along the action sequences that the probe `inspect` keeps, over agents."""

import pandas as pd

from mzprobe.figures.style import of_steps
from mzprobe.stats import over_agents


@of_steps
def aggregate_inspect(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the absolute error of the value along a sequence.

    One row per training step, sequence (`part`) and number of steps along it (`depth`).
    """
    steps = frame[frame["visits"].isna()]  # sequences; rows of trees have visits
    apart = (steps["predicted_value"] - steps["value"]).abs()
    return over_agents(steps.assign(error=apart), by=["training_step", "part", "depth"], column="error")

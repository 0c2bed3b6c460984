"""Single states, many agents: how wrong the model is along the sequences that inspect keeps."""

import pandas as pd

from mzprobe.figures.style import of_steps
from mzprobe.stats import over_agents


@of_steps
def aggregate_inspect(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents of the absolute error of a sum of rewards, by sequence and steps along it."""
    steps = frame[frame["visits"].isna()]  # trees have visits
    apart = (steps["predicted_value"] - steps["value"]).abs()
    return over_agents(steps.assign(error=apart), by=["training_step", "part", "depth"], column="error")

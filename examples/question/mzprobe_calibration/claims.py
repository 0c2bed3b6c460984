"""What the table may show, as a test: effects of agents, one row a cell and agent."""

import numpy as np
import pandas as pd

from mzprobe.claims.core import Claim


def value_beats_a_constant(frame: pd.DataFrame) -> pd.DataFrame:
    """Error of the best constant minus that of the value head, at every trained checkpoint."""
    rows = []
    for (step, seed), own in frame[frame["training_step"] > 0].groupby(["training_step", "seed"]):
        constant = np.abs(own["value"] - own["value"].median()).mean()
        effect = constant - np.abs(own["value"] - own["predicted_value"]).mean()
        rows.append({"cell": f"step {step}", "seed": seed, "effect": effect})
    return pd.DataFrame(rows, columns=["cell", "seed", "effect"])


CLAIMS = (
    Claim(
        name="value-beats-a-constant",
        section="calibration",
        sentence="The value head says more of a state's return than the median of all returns does.",
        effect="mean error of the median minus that of the value head",
        probe="calibration",
        measure=value_beats_a_constant,
    ),
)

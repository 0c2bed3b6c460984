"""Statistics with the agent (seed) as the unit: states are nested in agents and never pooled as if independent."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def over_agents(frame: pd.DataFrame, *, by: Sequence[str], column: str, agent: str = "seed") -> pd.DataFrame:
    """Mean and standard error over agents, each agent first reduced to its own mean.

    Args:
        frame: long table, one row an observation.
        by: columns that make a cell.
        column: what is averaged.
        agent: column that tells agents apart.

    Returns:
        One row a cell: `by`, `mean`, `standard_error` (sd / sqrt(agents), NaN for a single agent), `agents`.
    """
    within = frame.groupby([*by, agent], sort=True)[column].mean()
    cells = within.groupby(level=list(by), sort=True)
    agents = cells.size()
    spread = cells.std(ddof=1)
    result = pd.DataFrame({"mean": cells.mean(), "standard_error": spread / np.sqrt(agents), "agents": agents})
    return result.reset_index()

"""Figure 3: value prediction error of the behaviour policy, by training step and horizon."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.figure import Figure

from mzprobe.figures.style import agents_in_words, draw_mean, figure_style, thousands
from mzprobe.stats import over_agents


def aggregate_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents of the error, one row a training step and horizon."""
    return over_agents(frame, by=["training_step", "h"], column="error")


def draw_horizon(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one line a horizon, mean over agents, band of one standard error.

    Where at every horizon the untrained model (step 0) is worse than any trained one, as on CartPole, its errors are
    said in words, so that the axis can show the others.

    Args:
        cells: what `aggregate_horizon` gives.
        title: of the environment.
    """
    untrained, trained = cells[cells["training_step"] == 0], cells[cells["training_step"] > 0]
    upper = trained["mean"] + trained["standard_error"].fillna(0)
    worst = upper.groupby(trained["h"]).max().reindex(untrained["h"]).to_numpy()
    if len(trained) and len(untrained) and (untrained["mean"].to_numpy() > worst).all():
        cells = trained
    else:
        untrained = untrained.iloc[:0]
    horizons = np.sort(cells["h"].unique())
    colours = sns.color_palette("viridis_r", len(horizons) + 1)[1:]
    with figure_style():
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        axes = figure.subplots()
        for h, colour in zip(horizons, colours, strict=True):
            draw_mean(axes, cells[cells["h"] == h], "training_step", colour=colour, label=str(h), marker="o")
        axes.set_title(f"{title}, {agents_in_words(cells)}")
        axes.set_xlabel("Training steps")
        axes.set_ylabel("Value prediction error\n(discounted reward)")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(thousands))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        if len(untrained):
            low, high = untrained["mean"].min(), untrained["mean"].max()
            said = f"untrained (step 0): {low:.2g} to {high:.2g}, not drawn"
            axes.text(0.98, 0.98, said, transform=axes.transAxes, ha="right", va="top", fontsize=7, color="0.4")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1],
            labels[::-1],
            title="Horizon h",
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
        )
    return figure

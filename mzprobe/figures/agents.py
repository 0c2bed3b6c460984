"""Returns of every single agent of a study's variants: which learn, which get stuck, which get worse again."""

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    PANEL_TITLE,
    StepFormatter,
    figure_style,
    label_rows,
    panel_rows,
    thousands,
    variant_looks,
)


def aggregate_agents(online: pd.DataFrame) -> pd.DataFrame:
    """Computes the behaviour policy's mean return over `episodes`, one row per variant, training step and agent.

    Args:
        online: tables of all variants, with a column `variant`.
    """
    acted = online[online["policy"] == "behaviour"]
    cells = acted.groupby(["variant", "training_step", "seed"])["return"].agg(["mean", "size"]).reset_index()
    return cells.rename(columns={"size": "episodes"})


def draw_agents(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one panel per variant, with a thin line per agent and a thick one for their median.

    Panels share the x axis unless some variants were trained further than others; their titles then say so.

    Args:
        cells: result of `aggregate_agents`, variants in order.
        title: start of the figure's title, usually the environment's name.
    """
    looks = variant_looks(cells["variant"].unique())
    ends = cells.groupby("variant")["training_step"].max()
    alike = ends.min() == ends.max()
    with figure_style():
        figure, panels = panel_rows(len(looks), xlabel="Training steps", columns=4, sharex=alike)
        for (variant, look), axes in zip(looks.items(), panels, strict=True):
            returns = cells[cells["variant"] == variant].pivot_table(
                index="training_step", columns="seed", values="mean"
            )
            axes.plot(returns.index, returns.to_numpy(), color=look["colour"], linewidth=0.6, alpha=0.6)
            axes.plot(returns.index, returns.median(axis=1), color=look["colour"], linewidth=1.8)
            agents = f"{returns.shape[1]} agent{'s' if returns.shape[1] > 1 else ''}"
            further = f", to {thousands(ends[variant])}" if ends[variant] > ends.min() else ""
            axes.set_title(f"{variant}\n{agents}{further}", fontsize=PANEL_TITLE)
            axes.grid(axis="y")
        for axes in panels if cells["training_step"].max() >= 5000 else []:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(StepFormatter())
        if cells["mean"].min() >= 0:
            panels[0].set_ylim(bottom=0)
        figure.suptitle(f"{title}, every agent and their median", fontsize=10)
        label_rows(figure, panels, "Return (undiscounted reward)")
    return figure

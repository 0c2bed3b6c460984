"""Draws an episode as frames: the state, the policy, and the model's predicted returns beside the real ones."""

import mzprobe._matplotlib  # noqa: F401  # isort: skip  # before any import of matplotlib

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mzprobe.envs.shapes import Picture, Pixels
from mzprobe.figures.style import BLUE, GREY, ORANGE, figure_style
from mzprobe.pictures import pixels_of
from mzprobe.watching.episode import Watched

_INCHES = (8.0, 3.6)
_PICTURE = 480  # width of a state's picture in pixels


def frames_of(watched: Watched, *, every: int = 1, title: str = "") -> Iterator[Pixels]:
    """Yields frames `[H, W, 3]`, one every `every` steps; the last frame shows the last state.

    Args:
        watched: episode to draw.
        every: number of steps between frames.
        title: start of each frame's title, such as the name of the agent.
    """
    T = len(watched.actions)
    limits = _limits(watched)
    with figure_style():
        figure = Figure(figsize=_INCHES, dpi=100)
        canvas = FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            2, 2, width_ratios=(1.25, 1), left=0.02, right=0.98, top=0.9, bottom=0.14, wspace=0.22, hspace=0.45
        )
        panels = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    for t in [*range(0, T, every), T]:
        with figure_style():
            for panel in panels:
                panel.clear()
            total = watched.rewards[:t].sum()
            figure.suptitle(f"{title + ': ' if title else ''}step {t}, return so far {total:.4g}", fontsize=9)
            _draw(panels, watched, t, limits)
            canvas.draw()  # type: ignore[no-untyped-call]
        yield np.array(canvas.buffer_rgba(), np.uint8)[:, :, :3]  # type: ignore[no-untyped-call]


def _draw(panels: tuple[Axes, Axes, Axes], watched: Watched, t: int, limits: tuple[float, float]) -> None:
    scene, choice, dream = panels
    _draw_picture(scene, None if watched.pictures is None else watched.pictures[t])
    if t == len(watched.actions):
        for panel in (choice, dream):
            panel.set_axis_off()
        scene.set_xlabel("the episode has ended" if watched.terminated else "cut here")
        return
    scene.set_xlabel(f"takes: {watched.spec.action_meanings[watched.actions[t]]}")
    _draw_choice(choice, watched, t)
    _draw_dream(dream, watched, t, limits)


def _draw_picture(axes: Axes, picture: Picture | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if picture is None:
        axes.text(0.5, 0.5, "this environment does not draw itself", ha="center", va="center", fontsize=8)
    else:
        axes.imshow(pixels_of(picture, width=_PICTURE))


def _draw_choice(axes: Axes, watched: Watched, t: int) -> None:
    """Draws the policy network's probabilities beside those that a search's action was drawn from."""
    at = np.arange(watched.spec.num_actions)
    axes.bar(at - 0.2, watched.prior[t], 0.4, color=GREY, label="policy network")
    if not np.isnan(watched.search_value[t]):
        axes.bar(at + 0.2, watched.acting[t], 0.4, color=BLUE, label="acts by (visits)")
    axes.set_ylim(0, 1)
    axes.set_xticks(at, [_short(name) for name in watched.spec.action_meanings])
    axes.set_ylabel("probability")
    _legend_above(axes)


def _draw_dream(axes: Axes, watched: Watched, t: int, limits: tuple[float, float]) -> None:
    """Draws the bootstrapped returns of the next steps, G_k = sum gamma^i r + gamma^k v, predicted and real."""
    dreamt, true = dreamt_returns(watched, t)
    axes.plot(np.arange(len(dreamt)), dreamt, "o-", color=ORANGE, markersize=3, label="the model's dream")
    axes.plot(np.arange(len(true)), true, "s--", color=GREY, markersize=3, label="as it comes")
    axes.set_xlim(-0.3, watched.dreamt_rewards.shape[1] + 0.3)
    axes.set_ylim(*limits)
    axes.set_xlabel("steps ahead, k")
    axes.set_ylabel("k rewards, then v")
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    """Adds a legend above the panel, where nothing is drawn."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2, frameon=False, fontsize=7)


def dreamt_returns(watched: Watched, t: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the bootstrapped returns of k = 0 .. h steps from step t, in the model and in the real environment.

    They stop at the end of the episode. The real ones bootstrap with the network's value at the real state, so that the
    two differ only by the effect of unrolling.
    """
    gamma, T = watched.spec.gamma, len(watched.actions)
    h = min(watched.dreamt_rewards.shape[1], T - t)
    discount = gamma ** np.arange(h + 1)
    rewards, values = watched.dreamt_rewards[t, :h], watched.dreamt_values[t, :h]
    start = watched.value[t]

    def returns(rewards: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        summed = np.concatenate([[0.0], np.cumsum(discount[:-1] * rewards)])
        return np.asarray(summed + discount * np.concatenate([[start], values]))

    return returns(rewards, values), returns(watched.rewards[t : t + h], watched.value[t + 1 : t + 1 + h])


def _limits(watched: Watched) -> tuple[float, float]:
    """Returns limits of the axis of returns that hold for the whole episode."""
    every = np.concatenate([np.concatenate(dreamt_returns(watched, t)) for t in range(len(watched.actions))])
    low, high = float(every.min()), float(every.max())
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _short(name: str) -> str:
    """Breaks an action's name into two lines at its first space."""
    return name.replace(" ", "\n", 1)

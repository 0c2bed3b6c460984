"""`mzprobe inspect`: what an agent sees, searches and predicts at single states, in the terminal."""

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mzprobe.cli.looking import Checkpoint, opened_agent, source_of
from mzprobe.cli.options import Acting, Allow, Device, Given, SourceName, Step

if TYPE_CHECKING:
    import pandas as pd
    from rich.tree import Tree

    from mzprobe.envs.core import EnvironmentSpec

State = Annotated[
    list[str] | None,
    typer.Option(help="worst, median, random, or an index in the table of eval-horizon; may be given again."),
]


def inspect(
    path: Checkpoint,
    state: State = None,
    step: Step = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the states, as in eval-horizon.")] = 0,
    states: Annotated[int, typer.Option(min=1, help="S, sampled states that the shown ones are chosen from.")] = 200,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes that the states are drawn from.")] = 20,
    horizon: Annotated[int | None, typer.Option(min=1, help="Largest h; by default the unroll length.")] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Length of the action sequences.")] = None,
    simulations: Annotated[int | None, typer.Option(min=1, help="N of the searches; by default the agent's.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes shown of each tree, the most visited ones.")] = 12,
    acting: Acting = None,
    source: SourceName = None,
    agent: Given = None,
    device: Device = "cpu",
    allow: Allow = None,
) -> None:
    """Show what an agent sees, searches and predicts at single states, and what is true there.

    For each state it shows what it looks like, the true return of every action, the search trees in the learned and in
    the true model, and the likeliest, the best and the worst action sequence, reward by reward. Without --state, it is
    the one with the largest error. The states are those of eval-horizon with the same settings; eval-inspect keeps them
    in a table.
    """
    from mzprobe.cli.sketches import in_terminal
    from mzprobe.config import validated, with_overrides
    from mzprobe.console import console, errors
    from mzprobe.pictures import pictures_of
    from mzprobe.probes.inspect import QUESTION
    from mzprobe.settings import ActingConfig, InspectConfig

    opened = opened_agent(path, step, source_of(path, source, agent, allow), device, allow)
    asked = state or ["worst"]
    given = {
        "seed": seed,
        "states": states,
        "episodes": episodes,
        "horizon": horizon,
        "length": length,
        "simulations": simulations,
        "nodes": nodes,
        "chosen": [name for name in asked if not name.isdecimal()],
        "at": [int(name) for name in asked if name.isdecimal()],
        "acting": with_overrides(ActingConfig(), acting or [], option="--acting"),
    }
    config = validated(InspectConfig, given, "inspect")
    errors.print(f"{states} states of {episodes} episodes, and their errors")
    kept: list[Any] = []
    frame = QUESTION.ask(opened, config, on_states=kept.append)
    pictures = pictures_of(opened.environment, kept[0])
    for i, (_, rows) in enumerate(frame.groupby("state", sort=False)):
        drawn = None if pictures is None else in_terminal(pictures[i], console)
        _show_state(rows, opened.environment.spec, console, drawn)


def _show_state(rows: "pd.DataFrame", spec: "EnvironmentSpec", console: Any, drawn: Any) -> None:
    """Prints one state: a heading, its picture and observation, its search trees and its action sequences."""
    from mzprobe.probes.inspect import SEQUENCE_PARTS

    first = rows.iloc[0]
    console.print(
        f"\nstate {first['state']} ({first['chosen']}), step {first['time']} of episode {first['episode']}: "
        f"error {first['error']:.4g}"
    )
    if drawn is not None:
        console.print(drawn, soft_wrap=True)
    if len(seen := json.dumps(_rounded(json.loads(first["observation"])))) < 1000:
        console.print(f"observation: {seen}")
    console.print(f"true return: {first['true_return']:.4g} ± {first['true_return_error']:.2g} by the agent's policy")
    for part, own in rows.groupby("part", sort=False):
        console.print()
        shown = _sequence(str(part), own, spec) if part in SEQUENCE_PARTS else _tree(str(part), own, spec)
        console.print(shown, soft_wrap=False)  # wraps long lines, which would lose numbers if cut off


def _tree(model: str, rows: "pd.DataFrame", spec: "EnvironmentSpec") -> "Tree":
    """Returns a search tree with N, Q, P and v of each node, and its true reward beside the predicted one."""
    from rich.tree import Tree

    shown: dict[int, Tree] = {}
    ends = set(rows.loc[rows["terminal"], "node"])
    for row in rows.to_dict("records"):
        if row["parent"] < 0:
            said = f"tree in the {model} model: N {row['visits']:.0f}, value {row['q']:.4g}, v {row['leaf_value']:.4g}"
            shown[row["node"]] = Tree(said)
            continue
        said = (
            f"{spec.action_meanings[row['action']]}: N {row['visits']:.0f}, Q {row['q']:.4g}, P {row['prior']:.3f}, "
            f"v {row['leaf_value']:.4g}, r {row['reward']:.4g} (predicted {row['predicted_reward']:.4g})"
        )
        if row["visits"] == 0:
            said = f"{spec.action_meanings[row['action']]}: not tried, P {row['prior']:.3f}"
        if not math.isnan(row["true_return"]):
            said += f", true return {row['true_return']:.4g} ± {row['true_return_error']:.2g}"
        if row["node"] in ends and row["parent"] not in ends:
            said += ", an end"
        shown[row["node"]] = shown[row["parent"]].add(said)
    return shown[0]


def _sequence(name: str, rows: "pd.DataFrame", spec: "EnvironmentSpec") -> Any:
    """Returns the table of an action sequence, with one row per step."""
    from rich.table import Table

    last = rows.iloc[-1]
    title = {"worst": "the worst predicted"}.get(name, f"the {name}")
    table = Table(
        title=f"{title} sequence: probability {last['probability']:.3g}, true {last['value']:.4g}, "
        f"predicted {last['predicted_value']:.4g}",
        title_justify="left",
        box=None,
    )
    for column in ("step", "action", "reward", "predicted", "true sum", "predicted sum", "latent distance"):
        table.add_column(column, justify="left" if column == "action" else "right")
    ended = False
    for row in rows.iloc[1:].to_dict("records"):
        numbers = [row[key] for key in ("reward", "predicted_reward", "value", "predicted_value", "latent_distance")]
        action = spec.action_meanings[row["action"]] + (", an end" if row["terminal"] and not ended else "")
        ended = bool(row["terminal"])
        table.add_row(str(row["depth"]), action, *(f"{number:.4g}" for number in numbers))
    return table


def _rounded(seen: Any) -> Any:
    """Returns the numbers of an observation, rounded to four digits."""
    return [_rounded(one) for one in seen] if isinstance(seen, list) else float(f"{float(seen):.4g}")

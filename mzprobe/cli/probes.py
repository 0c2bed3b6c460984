"""The commands that ask checkpoints a question, one a probe: their own options, as settings of the probe."""

from typing import Annotated, Any

import typer

from mzprobe.cli.asking import command_of

States = Annotated[int | None, typer.Option(help="S, states for each agent and checkpoint.")]
Episodes = Annotated[int | None, typer.Option(help="E, episodes of each policy, from the same starts.")]
Simulations = Annotated[list[int] | None, typer.Option(help="N, simulations; may be given again for several.")]
Horizon = Annotated[int | None, typer.Option(help="Planning horizon of rollouts, steps.")]

Steps = Annotated[int | None, typer.Option(help="T, steps of a return; the time limit by default.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the probes' commands."""
    here = "checkpoints/cartpole"
    for command, name, own, example in (
        ("eval-online", "online", eval_online, here),
        ("eval-horizon", "horizon", eval_horizon, f"{here}/seed-0 --out analyses"),
        ("eval-sequences", "sequences", eval_sequences, f"{here} --states 50"),
        ("cross-matrix", "cross", cross_matrix, f"{here} --step 1000 --step 10000"),
        ("eval-search", "search", eval_search, f"{here} --step 2000"),
        ("eval-planning", "planning", eval_planning, f"{here} --step 2000 --simulations 64"),
        ("eval-equivalence", "equivalence", eval_equivalence, f"{here} --step 10000"),
        ("eval-improvement", "improvement", eval_improvement, f"{here} --step 2000 --states 200"),
        ("eval-operators", "operators", eval_operators, f"{here} --step 20000 --simulations 8 --simulations 50"),
        ("eval-targets", "targets", eval_targets, f"{here} --step 2000 --rollouts 4"),
    ):
        app.command(command, epilog=f"Example: mzprobe {command} {example}")(command_of(name, own))


def eval_online(*, episodes: Episodes = None) -> dict[str, Any]:
    """Figure 2: what does acting by search bring, and what the policy network alone?

    One row an episode. An interrupted command goes on with the checkpoints that are missing.
    """
    return {"episodes": episodes}


def eval_horizon(
    *,
    states: States = None,
    horizon: Annotated[int | None, typer.Option(help="Largest h; the unroll length of training by default.")] = None,
) -> dict[str, Any]:
    """Figure 3: how wrong are values under the agent's own behaviour policy, by horizon?

    Truth and model are scored on the same action sequences. A table holds one row a state and horizon; an interrupted
    command goes on with the checkpoints that are missing.
    """
    return {"states": states, "horizon": horizon}


def eval_sequences(
    *,
    states: States = None,
    length: Annotated[int | None, typer.Option(help="h, length of the sequences; all A^h are scored.")] = None,
) -> dict[str, Any]:
    """Figure 4: is the model more wrong about action sequences that the behaviour policy would hardly take?

    One row a state and sequence, ranked by probability within the state.
    """
    return {"states": states, "length": length}


def cross_matrix(
    *,
    states: States = None,
    horizon: Annotated[int | None, typer.Option(help="h; the unroll length of training by default.")] = None,
) -> dict[str, Any]:
    """Figure 5: can the model of one training step evaluate the behaviour policy of another?

    Every checkpoint's model and states (rows) with every checkpoint's policy (columns). A step that is added later
    adds its row and its column.
    """
    return {"states": states, "horizon": horizon}


def eval_search(*, states: States = None, simulations: Simulations = None, horizon: Horizon = None) -> dict[str, Any]:
    """Figure 6: does the policy prior keep the search where the model is right?

    Errors of the trajectories that a search simulates, and how far the policy network is from where its visits go,
    with the policy prior and with a uniform one. Without --step it looks at step 2000, as the paper does.
    """
    return {"states": states, "simulations": simulations, "horizon": horizon}


def eval_planning(
    *,
    episodes: Episodes = None,
    simulations: Simulations = None,
    horizon: Horizon = None,
    leaf: Annotated[str | None, typer.Option(help="rollout, or value: the network's, in a table of its own.")] = None,
    counted_from: Annotated[str | None, typer.Option(help="root, or leaf: where their horizon begins.")] = None,
) -> dict[str, Any]:
    """Figure 7: does the learned model help planning, and how far from the true one?

    Returns of acting by search in the {learned, true} model with the {policy, uniform} prior, for every N, and of
    the policy prior alone. The policy's prior is taken from unrolled latents and from real states, encoded anew, in
    both models. All cells start from the same states.
    """
    given = {"episodes": episodes, "simulations": simulations, "horizon": horizon}
    return {**given, "leaf": leaf, "counted_from": counted_from}


def eval_equivalence(
    *,
    states: States = None,
    horizon: Annotated[int | None, typer.Option(help="Largest order k; twice the unroll length by default.")] = None,
) -> dict[str, Any]:
    """Beyond the paper: is the model's k-step Bellman update the true one (order-k value equivalence)?

    For k = 0, 1 .. the error on-policy, in its reward and its bootstrap part, with the agent's own value head and with
    those of its other checkpoints. In a tabular environment all states are asked, and errors are exact.
    """
    return {"states": states, "horizon": horizon}


def eval_improvement(
    *,
    states: States = None,
    simulations: Simulations = None,
    horizon: Horizon = None,
    steps: Steps = None,
) -> dict[str, Any]:
    """Beyond the paper: does the search choose better actions than its prior, state by state?

    The true value of what it plays minus that of the policy network's likeliest action, which is followed from then on,
    for the {learned, true} model, the {policy, uniform} prior, both kinds of leaves and every N.
    """
    return {"states": states, "simulations": simulations, "horizon": horizon, "steps": steps}


def eval_targets(
    *,
    rollouts: Annotated[int | None, typer.Option(help="R, episodes from each position.")] = None,
    steps: Steps = None,
) -> dict[str, Any]:
    """Beyond the paper: are the value targets that the agent learns from true by now?

    Positions of the replay buffer that each checkpoint has kept: the target stored there against the true value of the
    agent's own behaviour policy, by the age of the episode and its priority, and what the value head says.
    """
    return {"rollouts": rollouts, "steps": steps}


def eval_operators(
    *, episodes: Episodes = None, simulations: Simulations = None, steps: Steps = None
) -> dict[str, Any]:
    """Beyond the paper: which search rule acts and teaches best, and with how few simulations?

    PUCT, Gumbel's rule and the regularised policy in the agent's own search, for every N: the return, how sure the
    policy is that each would teach, and how often the action played is a best one in the truth.
    """
    return {"episodes": episodes, "simulations": simulations, "steps": steps}

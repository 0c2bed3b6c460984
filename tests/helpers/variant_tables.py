"""Tables of three variants of a study, small enough to be worked by hand."""

import pandas as pd

RUNS = {"b": "mine-b", "a": "mine-a", "a-few": "mine-a-few"}  # not in the order of the alphabet


def online_table(variant, *, steps=(0, 10)):
    """Two agents with two episodes of each policy a step."""
    level = {"b": 10.0, "a": 20.0, "a-few": 30.0}[variant]
    each = 8 if variant != "a-few" else 4
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "training_step": step,
                "environment_steps": each * step,
                "policy": policy,
                "episode": episode,
                "return": level + step + 4 * seed + 2 * episode + 100 * (policy == "prior"),
            }
            for seed in (0, 1)
            for step in steps
            for policy in ("behaviour", "prior")
            for episode in (0, 1)
        ]
    )


def timing_table(variant, *, steps=(0, 10)):
    """Two agents; the second needs twice the time."""
    seconds = {"play": 1.0, "reanalyse": 0.5, "learn": 2.0, "evaluate": 50.0}
    return pd.DataFrame(
        [
            {"seed": seed, "training_step": step, "part": part, "core_seconds": step * seconds[part] * (1 + seed)}
            for seed in (0, 1)
            for step in steps
            for part in seconds
        ]
    )


def acting_table(variant):
    """Two agents, two steps, the last of which counts; `b` has no model."""
    cells = [
        ("none", "policy", 0, 1.0, 10.0),
        ("none", "policy", 0, 0.0, 20.0),
        ("learned", "none", 0, 0.0, 30.0),
        ("true", "none", 0, 0.0, 40.0),
        ("learned", "policy", 2, 0.0, 1000.0),
        ("learned", "policy", 8, 0.0, 50.0),
        ("learned", "uniform", 8, 0.0, 1000.0),
        ("true", "policy", 8, 0.0, 60.0),
    ]
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "training_step": step,
                "model": model,
                "prior": prior,
                "prior_at": {"learned": "latent"}.get(model, "state") if prior == "policy" else "none",
                "simulations": N,
                "temperature": T,
                "episode": episode,
                "return": mean
                + 2 * seed
                + episode
                + (500 if step == 5 else 0)
                + {"b": 0, "a": 100, "a-few": 7}[variant],
            }
            for seed in (0, 1)
            for step in (5, 10)
            for model, prior, N, T, mean in cells
            if not (variant == "b" and model == "learned")
            for episode in (0, 1)
        ]
    )


def targets_table(variant):
    """Two agents with ten positions a step, the two oldest of which are too low by a number of the variant's own."""
    lag = {"b": 0.0, "a": 5.0, "a-few": 9.0}[variant]
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "training_step": step,
                "position": position,
                "age": 10 * position,
                "target": 50.0 - (lag + 2 * seed) * (position >= 8),
                "value": 50.0,
            }
            for seed in (0, 1)
            for step in (5, 10)
            for position in range(10)
        ]
    )


def joined(table, variants=RUNS):
    """The tables of variants as a comparison has them."""
    return pd.concat([table(variant).assign(variant=variant) for variant in variants], ignore_index=True)


def in_order(cells):
    return cells.sort_values("variant", key=lambda names: names.map(list(RUNS).index), kind="stable", ignore_index=True)

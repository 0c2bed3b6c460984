"""A study small enough to run on the tiny configuration."""

import json

from mzprobe.settings import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    InspectConfig,
    OnlineConfig,
    OperatorsConfig,
    PlanningConfig,
    SearchErrorConfig,
    SequencesConfig,
    StepsConfig,
    StudyConfig,
    TargetsConfig,
)

HORIZON = HorizonConfig(states=4, episodes=1, horizon=2)


def study_of_all_probes(*seeds):
    """The probes of the paper's figures, of these agents."""
    return StudyConfig(
        preset="cartpole",
        seeds=seeds,
        steps=StepsConfig(search_error=(20,), planning=(40, 0)),
        online=OnlineConfig(episodes=2),
        horizon=HORIZON,
        sequences=SequencesConfig(states=3, episodes=1, length=3),
        cross=CrossConfig(states=3, episodes=1, horizon=2),
        search_error=SearchErrorConfig(states=3, episodes=1, simulations=(2,), horizon=2),
        planning=PlanningConfig(episodes=2, simulations=(2,), horizon=2),
        equivalence=EquivalenceConfig(states=2, episodes=1, horizon=2),
        improvement=ImprovementConfig(states=2, episodes=1, simulations=(2,), horizon=2, steps=5),
        operators=OperatorsConfig(episodes=1, states=2, simulations=(2,), steps=5),
        targets=TargetsConfig(steps=5),
        inspect=InspectConfig(states=2, episodes=1, horizon=2, rollouts=2, steps=5),
    )


def variants_file(path, keys, text):
    """Writes a study of two seeds that asks the online probe alone.

    Args:
        path: of the file.
        keys: dotted keys of its configuration, and their values.
        text: further sections.
    """
    lines = ['preset = "cartpole"', "seeds = [0, 1]", "[overrides]"]
    lines += [f'"{key}" = {value}' for key, value in keys.items()]
    path.write_text("\n".join([*lines, "[online]", "episodes = 2", text]))
    return path


def write_times(path, *, steps, core_seconds=0.6):
    """A trainer's file of times: per training step 8 environment steps, 8 fresh and 2 reanalysed targets.

    Args:
        path: of the file.
        steps: training steps of its rows.
        core_seconds: of learning, per training step; all else in proportion to it.
    """
    shares = {"play": 2.0, "reanalyse": 0.5, "learn": 1.0, "evaluate": 0.25}
    rows = [
        {
            "training_step": step,
            "environment_steps": 8 * step,
            "fresh": 8 * step,
            "reanalysed": 2 * step,
            "seconds": {part: share * core_seconds / 2 * step for part, share in shares.items()},
            "core_seconds": {part: share * core_seconds * step for part, share in shares.items()},
        }
        for step in steps
    ]
    path.write_text(json.dumps({"rows": rows}))

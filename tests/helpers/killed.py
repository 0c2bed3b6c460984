"""The commands that write, each with the folder that it begins in, on an agent that is trained in half a second."""

import shutil
from dataclasses import dataclass

from stored_tables import without_seal

KEYS = {
    "environment.options.time_limit": 30,
    "network.hidden": 16,
    "network.latent": 8,
    "search.simulations": 4,
    "training.batch_size": 8,
    "training.unroll_steps": 2,
    "training.n_step": 5,
    "training.environments": 2,
    "training.warmup_environment_steps": 60,
    "training.replay_capacity": 600,
    "training.evaluation_episodes": 1,
    "training.evaluation_interval": 3,
    "training.checkpoint_interval": 3,
    "training.resume_interval": 2,
    "training.steps": 6,
}
TRAIN = ("train", "cartpole", *(part for key, value in KEYS.items() for part in ("--set", f"{key}={value}")))
SCREENS = {
    "environment.name": "atari:breakout",
    "environment.options": '{"size": 32, "colour": "grey", "time_limit": 20}',
    "training.replay_capacity": 100,
}
HORIZON = ("eval-horizon", "checkpoints/cartpole", "--states", "2", "--horizon", "1", "--set", "episodes=1")
CROSS = ("cross-matrix", "checkpoints/cartpole", "--states", "2", "--horizon", "1", "--set", "episodes=1")
BEFORE = ("--step", "0", "--step", "3")
COLLECT = ("collect", "checkpoints/cartpole/seed-0/step-0000006", "--episodes", "2", "--out", "a-v0")
RECORDED = """
[variants.offline]
"dataset.use" = "offline"
"reanalyse.fraction" = 0
[dataset]
step = 3
episodes = 2
"""


@dataclass(frozen=True)
class Case:
    """A command, and what is there before it."""

    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()  # folders and files of `begin`
    kills: int = 24  # operations before which it is killed in the slow test


CASES = {
    "train": Case(TRAIN),
    "screens": Case(
        (*TRAIN, *(part for key, value in SCREENS.items() for part in ("--set", f"{key}={value}"))), kills=8
    ),
    "horizon": Case(HORIZON, ("checkpoints",)),
    "cross": Case(CROSS, ("checkpoints", "analyses/cartpole/cross")),
    "figures": Case(("figures", "cartpole"), ("analyses/cartpole/cross",)),
    "claims": Case(("claims", "cartpole"), ("analyses/cartpole/cross",)),
    "collect": Case(COLLECT, ("checkpoints",)),
    "pack": Case(("pack", "cartpole", "--out", "packed"), ("analyses",)),
    "seal": Case(("seal", "unsealed"), ("unsealed",)),
    "study": Case(("study", "plain.toml", "--processes", "1"), ("plain.toml",)),
    "recorded": Case(("study", "recorded.toml", "--processes", "1"), ("recorded.toml",)),
}


def study_toml(*, seeds, probes, extra=""):
    """A study of agents as small as these.

    Args:
        seeds: of the agents.
        probes: names of those that are asked.
        extra: further sections.
    """
    lines = ['preset = "cartpole"', f"seeds = {list(seeds)}", "[overrides]"]
    lines += [f'"{key}" = {value}' for key, value in KEYS.items()]
    for probe in probes:
        lines += [f"[{probe}]", "episodes = 1", *([] if probe == "online" else ["states = 2", "horizon = 1"])]
    return "\n".join([*lines, extra])


def begin(folder, forks):
    """Makes all that the cases need: an agent, tables of it, the same without a seal, and a study."""
    folder.mkdir()
    for arguments in (TRAIN, HORIZON, (*CROSS, *BEFORE)):
        (ended,) = forks.run(folder, arguments)
        assert ended.code == 0, ended.said
    for path in sorted(folder.glob("analyses/cartpole/*/seed-0.parquet")):
        target = folder / "unsealed" / path.parent.name / path.name
        target.parent.mkdir(parents=True)
        without_seal(path, target)
    (folder / "plain.toml").write_text(study_toml(seeds=(0,), probes=("online", "horizon")))
    (folder / "recorded.toml").write_text(study_toml(seeds=(0,), probes=("online",), extra=RECORDED))
    return folder


def copied(case, start, folder):
    """A folder for a case to begin in."""
    folder.mkdir()
    for name in case.needs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (start / name).is_dir() else shutil.copy
        copy(start / name, folder / name)
    return folder

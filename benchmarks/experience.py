"""What do 500,000 positions of Breakout take in memory and on disk, and how fast are batches drawn from them?

    python benchmarks/experience.py [--positions 500000] [--out FOLDER]

Real play, 96 x 96 RGB, four frames an observation, lives as episodes: the paddle follows the ball, read from a twin
that shows the machine's memory, and one action in ten is random. Memory is what the process has grown by while the
buffer was filled and after its state was written. A batch is of 256 positions, K = 5, as the learner is given it.
"""

import _timing  # first: it holds libraries to one thread

# isort: split

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mzprobe.config import TrainingConfig
from mzprobe.envs.atari import AtariEnvironment, atari_environment
from mzprobe.envs.core import concatenate
from mzprobe.system.memory import spelled
from mzprobe.training.episodes import Episode
from mzprobe.training.replay import Replay
from mzprobe.training.resume import save_resume

TARGET = 4 << 30  # bytes, for 500,000
B, K, E = 256, 5, 16
BALL, PADDLE = 99, 72  # bytes of the memory
RIGHT, LEFT = 2, 3


def resident() -> int:
    """Bytes that this process has in memory; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def chosen(memory: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Actions `[E]` that follow the ball, with some at random; memories `[E, 128]`."""
    ball, paddle = memory[:, BALL].astype(int), memory[:, PADDLE].astype(int) + 4
    after = np.where(ball == 0, 1, np.where(ball > paddle, RIGHT, LEFT))
    return np.where(generator.random(len(after)) < 0.1, generator.integers(4, size=len(after)), after)


def played(env: AtariEnvironment, twin: AtariEnvironment, replay: Replay, positions: int) -> tuple[int, float]:
    """Fills a buffer; gives episodes, and their mean score."""
    generator, packing = np.random.default_rng(0), replay.observations.packing
    states, memories = env.reset(np.arange(E)), twin.reset(np.arange(E))
    seen, actions, rewards = ([[] for _ in range(E)] for _ in range(3))
    scores, seeds = [], E
    while replay.positions < positions:
        for e, frame in enumerate(packing.pack(env.observe(states))):
            seen[e].append(frame)
        taken = chosen(twin.observe(memories), generator)
        states, outcome = env.step(states, taken)
        memories, _ = twin.step(memories, taken)
        for e in range(E):
            actions[e].append(int(taken[e]))
            rewards[e].append(float(outcome.reward[e]))
        ended = np.flatnonzero(outcome.terminated)
        for e, last in zip(ended, packing.pack(env.observe(states.take(ended))), strict=True):
            T = len(actions[e])
            policies, values = generator.dirichlet(np.ones(4), size=T + 1), generator.random(T + 1)
            shown = [*seen[e], last]
            replay.add(
                Episode(
                    observations=shown,
                    actions=np.array(actions[e]),
                    rewards=np.array(rewards[e]),
                    policies=policies,
                    root_values=values,
                    terminated=True,
                )
            )
            scores.append(sum(rewards[e]))
            seen[e], actions[e], rewards[e] = [], [], []
        if len(ended):
            order = np.arange(E)
            order[ended] = E + np.arange(len(ended))
            starts = np.arange(seeds, seeds + len(ended))
            states = concatenate([states, env.reset(starts)]).take(order)
            memories = concatenate([memories, twin.reset(starts)]).take(order)
            seeds += len(ended)
    return len(scores), float(np.mean(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--positions", type=int, default=300 if _timing.SMALLEST else 500_000)
    parser.add_argument("--out", type=Path, help="where the state is written, for a while")
    options = parser.parse_args()
    _timing.pin_to_one_core()
    env, twin = (atari_environment("breakout", observation=seen, emulators=E) for seen in ("screen", "ram"))
    played(env, twin, buffer(env, 300), 200)  # what the emulators take, and compiling, is not the buffer's
    replay = buffer(env, options.positions)
    before, start = resident(), time.perf_counter()
    lives, score = played(env, twin, replay, options.positions)
    grown, seconds = resident() - before, time.perf_counter() - start
    packed, share = sum(map(len, replay.observations.frames)), 500_000 / replay.positions
    print(f"{replay.positions:,} positions of {lives:,} lives, {score:.1f} points a life, in {seconds:.0f} s")
    print(
        f"{packed / (replay.positions + lives):,.0f} bytes a frame; the process grew by {spelled(grown)}, for 500,000 "
        f"positions {spelled(int(grown * share))} (target < {spelled(TARGET)})"
    )
    written(replay, options.out)
    print(f"then the process had grown by {spelled(resident() - before)}")
    generator = np.random.default_rng(1)
    batch = {"batch": lambda: replay.batch(replay.draw(generator, B), generator)}
    seconds = _timing.interleaved(batch, repetitions=31)["batch"]
    print(f"a batch of {B}: {1e3 * seconds:.1f} ms, {1 / seconds:.0f} a second")


def buffer(env: AtariEnvironment, positions: int) -> Replay:
    """With room for so many positions and a long life."""
    config = TrainingConfig(replay_capacity=positions + 30_000, batch_size=B, unroll_steps=K, n_step=5)
    return Replay.of(env, config)


def written(replay: Replay, out: Path | None) -> None:
    """Writes the state twice, the second time with one more life."""
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for number in range(2):
            arrays, record = replay.state()
            files, there = replay.files(), sum(1 for _ in Path(folder).rglob("*.safetensors"))
            start = time.perf_counter()
            save_resume(
                Path(folder),
                step=number,
                environment_steps=number,
                arrays=arrays,
                record={"replay": record},
                files=files,
            )
            seconds = time.perf_counter() - start
            new = sum(1 for _ in Path(folder).rglob("*.safetensors")) - there + (number > 0)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            print(f"state {number + 1}: {new:,} files written in {seconds:.1f} s; {spelled(size)} on disk")
            last = replay.episodes[-1]
            replay.add(
                Episode(
                    observations=replay.observations.frames[last.place],
                    actions=np.zeros(last.slots - 1, np.int64),
                    rewards=np.zeros(last.slots - 1),
                    policies=np.full((last.slots, 4), 0.25),
                    root_values=np.zeros(last.slots),
                    terminated=True,
                )
            )


if __name__ == "__main__":
    main()

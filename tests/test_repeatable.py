"""The same seed gives the same table, byte for byte, in whatever portions its work is done."""

import dataclasses
import io

import pytest
import torch
from models import TorchNetwork

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.compute import MEMORY, Compute
from mzprobe.networks import MLPNetwork
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.search import search
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
)
from mzprobe.sources.own import load_agent
from mzprobe.system.threads import limited_threads

CONFIGS = {
    "online": OnlineConfig(episodes=9),
    "horizon": HorizonConfig(states=9, episodes=2),
    "horizon sampled": HorizonConfig(states=9, episodes=2, horizon=5, enumerate_up_to=0, sequences=8),
    "sequences": SequencesConfig(states=9, episodes=2, length=4),
    "cross": CrossConfig(states=9, episodes=2),
    "cross sampled": CrossConfig(states=9, episodes=2, horizon=5, enumerate_up_to=0, sequences=8),
    "equivalence": EquivalenceConfig(states=9, episodes=2, horizon=4),
    "equivalence sampled": EquivalenceConfig(states=9, episodes=2, horizon=5, enumerate_up_to=0, sequences=8),
    "search_error": SearchErrorConfig(states=9, episodes=2, simulations=(2, 5), horizon=4),
    "improvement": ImprovementConfig(states=9, episodes=2, simulations=(3,), horizon=3, steps=12),
    "inspect": InspectConfig(states=3, episodes=1, horizon=2, rollouts=2, steps=5),
    "operators": OperatorsConfig(episodes=9, states=2, simulations=(3,), steps=12),
    "planning": PlanningConfig(episodes=8, simulations=(3,), horizon=3),
    "planning value": PlanningConfig(episodes=8, simulations=(3,), leaf="value"),
}
QUESTIONS = pytest.mark.parametrize("question", CONFIGS)


def table_of(agent, out, question, **options):
    run = ProbeRun(
        probe=PROBES[question.split()[0]],
        agent=agent,
        config=CONFIGS[question],
        analyses=out,
        steps=(0, 40),
        **options,
    )
    return run_probe(run).read_bytes()


def by_torch(loaded, network=TorchNetwork):
    """The agent with its network in another class."""
    twin = network(
        observation_size=4,
        num_actions=2,
        latent=loaded.network.latent,
        hidden=16,
        support=loaded.network.support,
        generator=torch.Generator(),
    )
    twin.load_state_dict(loaded.network.state_dict())
    return dataclasses.replace(loaded, network=twin.eval())


def measured(path, question, memory, network):
    """The rows of a checkpoint by a network that torch runs."""
    agents = [by_torch(load_agent(read_checkpoint(p), compute=Compute(memory=memory)), network) for p in path]
    probe = PROBES[question.split()[0]]
    others = [agents] if probe.pair else []
    return probe.measure(agents[-1], CONFIGS[question], *others)


def parquet(frame):
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


@QUESTIONS
def test_the_memory_changes_no_byte_of_a_table(agent, tmp_path, question):
    whole = table_of(agent, tmp_path / "whole", question)
    for memory in (1, 15_000, 150_000):
        assert table_of(agent, tmp_path / str(memory), question, compute=Compute(memory=memory)) == whole
    assert table_of(agent, tmp_path / "again", question) == whole


@QUESTIONS
def test_the_memory_changes_no_byte_of_what_torch_measures(agent, question):
    path = steps_of(agent)[1:]
    whole = parquet(measured(path, question, MEMORY, TorchNetwork))
    for memory in (1, 15_000, 150_000):
        assert parquet(measured(path, question, memory, TorchNetwork)) == whole


def test_a_root_is_searched_by_torch_to_the_same_bits_in_any_batch(agent):
    loaded = by_torch(load_agent(read_checkpoint(steps_of(agent)[2])))
    model, config = loaded.policy.model, loaded.policy.config
    with limited_threads(1):
        roots = model.roots(loaded.environment, loaded.environment.reset(range(300)))
        whole = search(model, roots, config=config, keep_tree=True)
        for chosen in (slice(0, 1), slice(3, 10), slice(200, 264)):
            part = search(model, roots[chosen], config=config, keep_tree=True)
            assert part.root_value.tobytes() == whole.root_value[chosen].tobytes()
            assert part.tree.reward.tobytes() == whole.tree.reward[chosen].tobytes()
            assert part.tree.prior.tobytes() == whole.tree.prior[chosen].tobytes()


@QUESTIONS
def test_torch_measures_what_the_kernels_measure_but_for_rounding(agent, question):
    path = steps_of(agent)[1:]
    torch_rows, kernel_rows = (measured(path, question, MEMORY, kind) for kind in (TorchNetwork, MLPNetwork))
    assert len(torch_rows) == len(kernel_rows) > 0
    for column in torch_rows.columns:
        if torch_rows[column].dtype == float:
            assert torch_rows[column].to_numpy() == pytest.approx(
                kernel_rows[column].to_numpy(), abs=1e-4, nan_ok=True
            ), column
        else:
            assert torch_rows[column].tolist() == kernel_rows[column].tolist(), column


@QUESTIONS
def test_another_seed_gives_other_numbers(agent, question):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    probe, config = PROBES[question.split()[0]], CONFIGS[question]
    others = [[loaded]] if probe.pair else []
    one, again, other = (probe.measure(loaded, config.model_copy(update={"seed": seed}), *others) for seed in (0, 0, 1))
    assert one.equals(again)
    assert not one.equals(other)

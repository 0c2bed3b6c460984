"""What only a CUDA device can show; skipped where there is none."""

import numpy as np
import pytest
import torch

from mzprobe.compute import Compute
from mzprobe.config import SearchConfig, load_preset
from mzprobe.envs import make
from mzprobe.networks import MLPNetwork, Support, build, check_network
from mzprobe.networks.engine import engine_for, place_on_device
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.search import LearnedModel, Rollout, search
from mzprobe.settings import EquivalenceConfig, HorizonConfig, PlanningConfig, SequencesConfig
from mzprobe.tables import read_table
from mzprobe.training.trainer import Trainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.mark.parametrize("leaf", ["value", Rollout(horizon=6)])
def test_search_on_cuda_gives_the_visits_of_the_cpu(leaf):
    generator = torch.Generator().manual_seed(0)
    support = Support(minimum=-10, maximum=10, atoms=21)
    network = MLPNetwork(observation_size=4, num_actions=3, support=support, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.3, 0.3, generator=generator)
    observations = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    config = SearchConfig(simulations=25)
    here = search(LearnedModel(network, num_actions=3, gamma=0.99, leaf=leaf), observations, config=config)
    there = search(
        LearnedModel(network.to("cuda"), num_actions=3, gamma=0.99, leaf=leaf, compute=Compute(device="cuda")),
        observations,
        config=config,
    )
    assert np.array_equal(here.visit_counts, there.visit_counts)


@pytest.mark.parametrize(
    "keys",
    [
        ["reanalyse.fraction=0"],
        ["reanalyse.fraction=0.5", "reanalyse.target_interval=2"],
        ["training.average_decay=0.9", "training.n_step_by_age=[[2, 1]]", "network.reward_input=transition"],
        ["reanalyse.fraction=0.5", "reanalyse.positions=drawn"],
    ],
)
def test_training_runs_on_cuda_and_resumes(tmp_path, keys):
    config = load_preset("cartpole", ["training.steps=5", "training.evaluation_episodes=1", *keys])
    for steps in (5, 8):
        further = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
        trainer = Trainer(further, seed=0, run="cuda", out=tmp_path, command="test", compute=Compute(device="cuda"))
        trainer.train()
        assert (trainer.folder / f"step-{steps:07d}").is_dir()


RESNET = ("environment.name=minatar-breakout", "network.kind=resnet", "network.channels=8", "training.steps=5")


@pytest.mark.parametrize(
    "options",
    [{}, {"channels_last": True}, {"precision": "bfloat16"}, {"precision": "high"}, {"compiled": True}],
    ids=str,
)
def test_a_residual_network_says_on_cuda_what_it_says_on_the_cpu(options):
    environment, config = make("minatar-breakout"), load_preset("cartpole", RESNET).network
    network = build(config, environment.spec, torch.Generator().manual_seed(0))
    seen, actions = environment.observe(environment.reset(range(40))), np.arange(40) % 3
    found = []
    for compute in (Compute(), Compute(device="cuda", **options)):
        with compute.limited():
            engine = engine_for(place_on_device(network, compute), compute)
            latents = engine.represent(seen)
            found.append([x.cpu() for x in (latents, *engine.dynamics(latents, actions), *engine.predict(latents))])
    tolerance = 1e-4 if options.get("precision", "highest") == "highest" else 0.1
    for x, y in zip(*found, strict=True):
        assert x.dtype == torch.float32
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
    check_network(network, environment.spec, device="cuda")


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16", "channels_last": True}], ids=str)
def test_a_residual_agent_learns_on_cuda_and_resumes(tmp_path, options):
    less = ("search.simulations=4", "training.warmup_environment_steps=100", "training.evaluation_episodes=0")
    config = load_preset("cartpole", [*RESNET, *less])
    for steps in (5, 8):
        further = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
        compute = Compute(device="cuda", **options)
        trainer = Trainer(further, seed=0, run="cuda", out=tmp_path, command="test", compute=compute)
        trainer.train()
        assert (trainer.folder / f"step-{steps:07d}").is_dir()


@pytest.mark.parametrize(
    ("probe", "config"),
    [
        ("horizon", HorizonConfig(states=4, episodes=2, horizon=3)),
        ("sequences", SequencesConfig(states=4, episodes=2, length=3)),
        ("planning", PlanningConfig(episodes=2, simulations=(4,))),
        ("equivalence", EquivalenceConfig(states=4, episodes=2, horizon=3)),
    ],
)
def test_a_probe_on_cuda_gives_the_same_bytes_whatever_the_memory(probe, config, agent, tmp_path):
    tables = [
        run_probe(
            ProbeRun(
                probe=PROBES[probe],
                agent=agent,
                config=config,
                analyses=tmp_path / str(memory),
                compute=Compute(device="cuda", memory=memory),
            )
        )
        for memory in (10_000, 10_000_000)
    ]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    assert read_table(tables[0]).frame.notna().any(axis=None)

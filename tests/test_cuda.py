"""What only a CUDA device can show; skipped where there is none."""

import numpy as np
import pytest
import torch

from mzprobe.config import SearchConfig, load_preset
from mzprobe.networks import MLPNetwork, Support
from mzprobe.search import LearnedModel, search
from mzprobe.training.trainer import Trainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def test_search_on_cuda_gives_the_visits_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    support = Support(minimum=-10, maximum=10, atoms=21)
    network = MLPNetwork(observation_size=4, num_actions=3, support=support, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.3, 0.3, generator=generator)
    observations = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    config = SearchConfig(simulations=25)
    here = search(LearnedModel(network, num_actions=3, gamma=0.99), observations, config=config)
    there = search(
        LearnedModel(network.to("cuda"), num_actions=3, gamma=0.99, device="cuda"), observations, config=config
    )
    assert np.array_equal(here.visit_counts, there.visit_counts)


def test_training_runs_on_cuda(tmp_path):
    config = load_preset("cartpole", ["training.steps=5", "training.evaluation_episodes=1"])
    trainer = Trainer(config, seed=0, run="cuda", out=tmp_path, command="test", device="cuda")
    trainer.train()
    assert (trainer.folder / "step-0000005").is_dir()

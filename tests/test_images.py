"""Images stay bytes from the environment to the network, which sees them as shares of 255 wherever it is asked."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import mzprobe
from mzprobe.config import MLPConfig
from mzprobe.envs import CartPole, check_env, make
from mzprobe.envs.history import HistoryEnvironment
from mzprobe.envs.validation import valid_spec
from mzprobe.errors import UsageError
from mzprobe.inputs import as_floats, as_tensor
from mzprobe.networks import build, check_network
from mzprobe.networks.engine import TorchEngine
from mzprobe.system.memory import size_of
from mzprobe.training.replay import Replay

SHAPE = (6, 5, 1)


class Pictures(gymnasium.Env):
    """A bright column moves left or right; it pays where it was seen, and ends at an edge."""

    observation_space, action_space = spaces.Box(0, 255, SHAPE, np.uint8), spaces.Discrete(2)

    def _picture(self):
        picture = np.zeros(SHAPE, np.uint8)
        picture[:, self.at] = 255 - self.at
        return picture

    def reset(self, *, seed=None, options=None):  # noqa: ARG002 - as Gymnasium calls it
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(1, 4))
        return self._picture(), {}

    def step(self, action):
        self.at += 2 * int(action) - 1
        return self._picture(), float(self.at), self.at in (0, 4), False, {}


class Wide(Pictures):
    """Promises bytes and shows other integers."""

    def _picture(self):
        return super()._picture().astype(np.int64)


class TooWide(Pictures):
    """Promises bytes and shows what is none."""

    def _picture(self):
        return super()._picture().astype(np.int64) + 250


@pytest.fixture
def config(registered, tiny_config):
    return tiny_config(f"environment.name=gym:{registered(Pictures)}")


@pytest.mark.parametrize("shown", [Pictures, Wide])
def test_what_gymnasium_calls_bytes_are_bytes(registered, shown):
    environment = make(f"gym:{registered(shown)}", gamma=0.9)
    states = environment.reset([0, 1, 2])
    seen = environment.observe(states)
    assert (environment.spec.observation_dtype, seen.dtype, seen.shape) == ("uint8", np.uint8, (3, *SHAPE))
    assert seen.max(axis=(1, 2, 3)).tolist() == [255 - int(np.argmax(one[0, :, 0])) for one in seen]
    check_env(environment, processes=False)


def test_numbers_that_are_no_bytes_are_refused(registered):
    with pytest.raises(UsageError, match=r"numbers from 250 to 50\d, not uint8 as its space says, at step 0"):
        make(f"gym:{registered(TooWide)}", gamma=0.9)


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        (np.array([[0, 51, 255]], np.uint8), [[0, 0.2, 1]]),
        (np.array([[True, False]]), [[1, 0]]),
        (np.array([[0.5, -3]], np.float32), [[0.5, -3]]),
        (np.array([[0.5, -3]], np.float64), [[0.5, -3]]),
    ],
)
def test_networks_are_given_shares_of_255(kept, given):
    floats, tensor = as_floats(kept), as_tensor(kept)
    assert (floats.dtype, tensor.dtype) == (np.float32, torch.float32)
    assert floats.tolist() == tensor.tolist() == np.asarray(given, np.float32).tolist()


def test_every_byte_is_the_same_number_in_a_kernel_and_a_tensor():
    kept = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(as_floats(kept), as_tensor(kept).numpy())


def test_images_become_floats_as_many_at_a_time_as_the_network_sees(monkeypatch):
    seen = []

    class Network:
        cpu_batch_size = 4

        def represent(self, observations):
            seen.append((len(observations), observations.dtype))
            return observations.flatten(1)

    shown = np.random.default_rng(0).integers(256, size=(10, 2, 3, 1)).astype(np.uint8)
    latents = TorchEngine(Network()).represent(shown)
    assert seen == [(4, torch.float32)] * 3
    assert torch.equal(latents, torch.from_numpy(shown).flatten(1).float() / 255)


def test_both_engines_and_the_learner_see_the_same(config):
    environment = make(config.environment.name, **config.environment.options)
    network = build(MLPConfig(), environment.spec, torch.Generator().manual_seed(0))
    seen = environment.observe(environment.reset(range(5)))
    inside, outside = (engine.represent(seen) for engine in (network.kernel_engine(), TorchEngine(network)))
    assert inside.numpy() == pytest.approx(outside.numpy(), abs=1e-6)
    check_network(network, environment.spec)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_the_check_of_a_network_draws_what_the_environment_shows(dtype):
    given = []

    class Seeing:
        def represent(self, observations):
            if observations.dtype == torch.uint8:
                raise TypeError("takes no bytes")
            given.append(observations)
            return observations.flatten(1)

        def dynamics(self, latents, _actions):
            return latents, latents.sum(dim=1)

        def predict(self, latents):
            return latents[:, :2], latents.sum(dim=1)

    check_network(Seeing(), replace(CartPole(gamma=0.9).spec, observation_shape=(200,), observation_dtype=dtype))
    assert {one.dtype for one in given} == {torch.float32}
    assert (given[0].min() >= 0) == (dtype != "float32")
    assert (len(torch.unique(given[0])) == 2) == (dtype == "bool")


def test_an_agent_learns_from_bytes_and_goes_on_to_the_same_bits(config, tmp_path, make_trainer, train_in_pieces):
    whole = make_trainer(config, tmp_path / "whole")
    whole.train()
    kept = whole.experience.replay.observations[:]
    assert (kept.dtype, kept.max() > 200) == (np.uint8, True)
    pieces = train_in_pieces(config, tmp_path / "pieces", turns=(7, 6))
    for name, weights in whole.learner.network.state_dict().items():
        assert torch.equal(weights, pieces.learner.network.state_dict()[name])


def test_a_probe_asks_an_agent_of_images(config, tmp_path, make_trainer):
    trainer = make_trainer(config, tmp_path)
    trainer.train()
    agent = mzprobe.open_agent(trainer.folder)
    rows = mzprobe.measure(agent, "horizon", states=5, horizon=3)
    assert rows["error"].notna().all()
    assert agent.position_bytes < 4 * np.prod(SHAPE) + 4 * 64 + 64  # its state is not float32


def test_a_buffer_of_packed_bytes_takes_a_hundredth_and_says_what_it_takes(config):
    large = {"observation_shape": (96, 96, 3), "num_actions": 2, "gamma": 0.9}
    training = config.training.model_copy(update={"replay_capacity": 10**9})
    with pytest.raises(UsageError, match=r"replay_capacity=1000000000 with observations of \[96, 96, 3\] uint8") as few:
        Replay(training, observation_dtype="uint8", **large)
    with pytest.raises(UsageError, match="TiB of memory") as many:
        Replay(training, **large)
    sizes = [size_of(str(said.value).partition("would take ")[2].partition(" of memory")[0]) for said in (few, many)]
    assert sizes[1] / sizes[0] > 100


def test_a_history_of_bytes_is_refused():
    environment = CartPole(gamma=0.9)
    environment._spec = replace(environment.spec, observation_dtype="uint8")
    with pytest.raises(ValueError, match="takes observations of float32, not of uint8"):
        HistoryEnvironment(environment, 2)


def test_a_dtype_that_nobody_knows_is_refused():
    spec = replace(CartPole(gamma=0.9).spec, observation_dtype="float64")
    with pytest.raises(ValueError, match="observation_dtype must be float32, uint8 or bool, not float64"):
        valid_spec(spec)

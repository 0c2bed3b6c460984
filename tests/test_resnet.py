"""Residual networks: what they compute, that only the learner moves their statistics, and an agent that has one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import mzprobe
from mzprobe.compute import Compute
from mzprobe.config import MLPConfig, ResNetConfig, SearchConfig, TrainingConfig, load_preset
from mzprobe.envs import CartPole, make
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.inputs import as_tensor
from mzprobe.networks import build, check_network
from mzprobe.networks.engine import TorchEngine, engine_for, place_on_device
from mzprobe.networks.resnet import scale_planes
from mzprobe.search import LearnedModel, search
from mzprobe.training.learner import Learner
from mzprobe.training.targets import Batch

BRICKS = make("minatar-breakout").spec
SMALL = {"channels": 4, "head_channels": 2, "head_hidden": 8}
SETTINGS = [f"network.{key}={value}" for key, value in {"kind": "resnet", **SMALL}.items()]


pytestmark = pytest.mark.usefixtures("one_thread")


def resnet(spec=BRICKS, *, seed=0, heads=True, **options):
    """A small one; its heads say something unless told otherwise, and its statistics are no longer those of a start."""
    generator = torch.Generator().manual_seed(seed)
    network = build(ResNetConfig(**(SMALL | options)), spec, generator)
    with torch.no_grad():
        for name, x in network.state_dict().items():
            if heads and x.is_floating_point():
                drawn = torch.rand(x.shape, generator=generator)
                x += 0.2 * (drawn if "var" in name else 2 * drawn - 1)
    return network


def images_of(spec, B, seed=0):
    """Observations as an environment shows them."""
    drawn = np.random.default_rng(seed).integers(256, size=(B, *spec.observation_shape))
    return drawn.astype(np.uint8) if spec.observation_dtype == "uint8" else drawn > 128


SCREEN = replace(BRICKS, observation_shape=(96, 96, 6), observation_dtype="uint8")
TALL = replace(BRICKS, observation_shape=(2, 7, 5), observation_dtype="float32")


@pytest.mark.parametrize(
    ("spec", "options", "latent"),
    [
        (BRICKS, {}, (4, 10, 10)),
        (BRICKS, {"action_planes": "one_hot", "blocks": 2}, (4, 10, 10)),
        (SCREEN, {"downsample": True}, (4, 6, 6)),
        (TALL, {"image_layout": "first"}, (4, 7, 5)),
    ],
)
def test_it_keeps_the_protocol(spec, options, latent):
    network = resnet(spec, **options)
    check_network(network, spec)
    latents = engine_for(network).represent(images_of(spec, 3))
    assert tuple(latents.shape[1:]) == network.latent_shape == latent


def test_where_the_channels_stand_is_another_way_to_say_the_same():
    last, first = resnet(), resnet(replace(BRICKS, observation_shape=(4, 10, 10)), image_layout="first")
    first.load_state_dict(last.state_dict())
    seen = torch.rand(5, 10, 10, 4)
    torch.testing.assert_close(first.represent(seen.permute(0, 3, 1, 2)), last.represent(seen))


def test_every_plane_of_a_latent_reaches_from_0_to_1_or_is_0():
    z = scale_planes(torch.randn(3, 4, 5, 6) * torch.tensor([1.0, 100.0, 1e-3, 0.0])[:, None, None])
    assert (z.amin(dim=(2, 3)) == 0).all()
    assert z.amax(dim=(2, 3))[:, :2] == pytest.approx(1, abs=1e-4)
    assert (z[:, 3] == 0).all()
    network = resnet()
    latents = network.represent(torch.rand(3, 10, 10, 4))
    for z in (latents, network.transition(latents, torch.arange(3))):
        assert ((z >= 0) & (z <= 1)).all()


@pytest.mark.parametrize(("planes", "expected"), [("share", [[0], [1 / 3], [2 / 3]]), ("one_hot", np.eye(3).tolist())])
def test_the_dynamics_read_planes_of_the_action(planes, expected):
    network, read = resnet(action_planes=planes), []
    network.step.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    z = torch.rand(3, 4, 10, 10)
    network.transition(z, torch.arange(3))
    assert torch.equal(read[0][:, :4], z)
    given = read[0][:, 4:]
    assert (given == given[:, :, :1, :1]).all()
    np.testing.assert_allclose(given[:, :, 0, 0], expected, rtol=1e-6)


def test_a_seed_decides_the_initial_weights_and_no_other_generator_is_drawn_from():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (resnet(seed=seed, heads=False).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_fresh_one_predicts_nothing():
    network = resnet(heads=False)
    latents, reward = network.dynamics(network.represent(torch.rand(3, 10, 10, 4)), torch.arange(3))
    logits, value = network.predict(latents)
    assert max(x.abs().max() for x in (logits, reward, value)) < 1e-6


@pytest.mark.parametrize("rows", [1, 5, 16, 40])
def test_a_row_has_the_same_bits_in_whatever_batch(rows):
    network = resnet()
    engine, seen, actions = engine_for(network), images_of(BRICKS, 40), np.arange(40) % 3
    latents = engine.represent(seen)
    whole = [latents, *engine.dynamics(latents, actions), *engine.predict(latents)]
    latents = engine.represent(seen[:rows])
    part = [latents, *engine.dynamics(latents, actions[:rows]), *engine.predict(latents)]
    assert all(torch.equal(x[:rows], y) for x, y in zip(whole, part, strict=True))


def test_an_environment_without_images_is_refused():
    with pytest.raises(UsageError, match=r"is for images .*cartpole shows \[4\]: use network.kind=mlp"):
        build(ResNetConfig(), CartPole(gamma=0.9).spec, torch.Generator())


def test_planes_of_a_single_entry_which_scaling_makes_0_are_refused():
    with pytest.raises(
        UsageError, match=r"of each plane of 10x10 one entry is left, .*: leave network.downsample=true out, or show"
    ):
        resnet(downsample=True)


def test_in_bfloat16_the_model_that_is_trained_is_the_one_that_is_searched():
    compute, network = Compute(precision="bfloat16"), resnet(SCREEN, downsample=True)
    engine = engine_for(network, compute)
    shown, actions = images_of(SCREEN, 16), torch.arange(16) % 3
    latents = engine.represent(shown)
    with torch.inference_mode(), compute.autocast():
        unrolled = network.represent(as_tensor(shown))
        for _ in range(4):
            assert torch.equal(latents, unrolled)
            latents, _ = engine.dynamics(latents, actions)
            unrolled = network.transition(unrolled, actions)


def test_what_the_gradient_keeps_of_an_image_is_about_what_is_said():
    network, kept = resnet(SCREEN, downsample=True).train(), []
    B = 3
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        network.represent(as_tensor(images_of(SCREEN, B)))
    weights = {x.data_ptr() for x in network.parameters()}
    apart = {x.data_ptr(): x.numel() for x in kept if x.data_ptr() not in weights}
    assert sum(apart.values()) / B == pytest.approx(network.kept_per_position, rel=0.35)


def test_one_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match=r"network.channels=60000 .*PiB of memory"):
        build(ResNetConfig(channels=60_000, blocks=1000), BRICKS, torch.Generator())


# In evaluation mode but for the learner's step


def test_a_search_and_an_evaluation_move_no_statistic_whatever_mode_they_find():
    network = resnet().train()
    kept = {name: x.clone() for name, x in network.state_dict().items()}
    model = LearnedModel(network, num_actions=3, gamma=0.9)
    one, two = (search(model, images_of(BRICKS, 4), config=SearchConfig(simulations=5)) for _ in range(2))
    assert np.array_equal(one.root_value, two.root_value)
    assert all(torch.equal(x, kept[name]) for name, x in network.state_dict().items())
    assert network.training  # left as it was


def test_the_check_finds_batch_norm_in_training_mode():
    with pytest.raises(CheckFailed, match="no call may move what the network keeps: is a batch norm in training mode"):
        check_network(resnet().train(), BRICKS)


def test_the_check_finds_dropout():
    network = resnet()
    network.trunk.append(torch.nn.Dropout(0.5).train())
    with pytest.raises(CheckFailed, match="the same input must give the same output"):
        check_network(network, BRICKS)


class Seeing:
    """Its latents are what it sees."""

    def __init__(self, seen):
        self.seen = seen

    def represent(self, observations):
        return self.seen(observations).flatten(1)

    def dynamics(self, latents, _actions):
        return latents, latents.sum(dim=1)

    def predict(self, latents):
        return latents[:, :3], latents.sum(dim=1)


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        (lambda x: x / 255, False),  # what is divided already
        (lambda x: x.float(), False),  # bytes as they are
        (lambda x: x / 255 if x.dtype == torch.uint8 else x, True),
        (lambda x: x @ torch.ones(x.shape[-1], 2), True),  # takes no bytes
    ],
)
def test_the_check_finds_a_network_that_sees_bytes_otherwise_than_their_shares(seen, kept):
    spec = replace(BRICKS, observation_dtype="uint8")
    if kept:
        check_network(Seeing(seen), spec)
    else:
        with pytest.raises(CheckFailed, match="represent must see the bytes of an image as shares of 255"):
            check_network(Seeing(seen), spec)


def test_the_check_finds_an_engine_that_says_something_else():
    network, other = (build(MLPConfig(), CartPole().spec, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    network.kernel_engine = other.kernel_engine
    with pytest.raises(CheckFailed, match="its engine and the network disagree on the latents"):
        check_network(network, CartPole().spec)


# How it runs


def numbers(network, compute):
    engine = TorchEngine(network, compute)
    latents = engine.represent(images_of(BRICKS, 20))
    following, reward = engine.dynamics(latents, np.arange(20) % 3)
    return latents, following, reward, *engine.predict(following)


def test_weights_that_lie_channels_last_say_the_same():
    network = resnet()
    expected = numbers(network, Compute())
    place_on_device(network, Compute(channels_last=True))
    assert network.step.weight.is_contiguous(memory_format=torch.channels_last)
    for x, y in zip(numbers(network, Compute(channels_last=True)), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_coarser_and_comes_back_as_float32():
    network = resnet()
    rounded, expected = (numbers(network, Compute(precision=precision)) for precision in ("bfloat16", "highest"))
    for x, y in zip(rounded, expected, strict=True):
        assert x.dtype == torch.float32
        assert not torch.equal(x, y)
        torch.testing.assert_close(x, y, rtol=0.1, atol=0.1)


def batch_of(B, K):
    rng, ones = np.random.default_rng(0), np.ones((K + 1, B), np.float32)
    return Batch(
        observations=images_of(BRICKS, B),
        actions=rng.integers(3, size=(K, B)),
        rewards=rng.random((K, B), dtype=np.float32),
        values=rng.random((K + 1, B), dtype=np.float32),
        policies=np.full((K + 1, B, 3), 1 / 3, np.float32),
        reward_weights=ones[:K],
        value_weights=ones,
        policy_weights=ones,
    )


def test_the_learner_takes_a_step_in_bfloat16_with_losses_and_values_in_float32():
    config, found = TrainingConfig(batch_size=8, unroll_steps=2), []
    for precision in ("highest", "bfloat16"):
        network = resnet()
        losses, values = Learner(network, config, compute=Compute(precision=precision)).step(batch_of(8, 2), 0)
        assert values.dtype == np.float32
        assert {x.dtype for x in network.parameters()} == {torch.float32}
        found.append(([*losses.values()], values))
    (exact, at), (rounded, near) = found
    assert rounded == pytest.approx(exact, rel=0.05)
    assert not np.array_equal(near, at)
    assert near == pytest.approx(at, abs=0.1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_moments_are_taken_back_as_weights_lie(channels_last):
    config, compute = TrainingConfig(batch_size=8, unroll_steps=2), Compute(channels_last=channels_last)
    whole, resumed = (Learner(place_on_device(resnet(seed=seed), compute), config, compute=compute) for seed in (0, 1))
    for step in range(2):
        whole.step(batch_of(8, 2), step)
    resumed.restore({name: x.copy() for name, x in whole.state().items()})
    for learner in (whole, resumed):
        learner.step(batch_of(8, 2), 2)
    for own, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_head_is_read_in_float32_whatever_the_network_runs_in():
    support = resnet(atoms=601, support_minimum=-300, support_maximum=300).support
    logits = 5 * torch.randn(4, 601, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, coarse = support.scalar(logits), support.scalar(logits.bfloat16())
    assert torch.equal(inside, support.scalar(logits))
    assert torch.equal(coarse, support.scalar(logits.bfloat16().float()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch warns of itself
def test_what_is_compiled_says_the_same(monkeypatch):
    compiled, real = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or real(function, backend="eager"))
    network = resnet()
    for x, y in zip(numbers(network, Compute(compiled=True)), numbers(network, Compute()), strict=True):
        torch.testing.assert_close(x, y)
    assert len(compiled) == 3
    config, losses = TrainingConfig(batch_size=8, unroll_steps=2), []
    for asked in (True, False):
        learner = Learner(resnet(), config, compute=Compute(compiled=asked))
        losses.append([*learner.step(batch_of(8, 2), 0)[0].values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(compiled) == 4


def test_tf32_is_off_unless_asked_for():
    before = torch.backends.cudnn.allow_tf32
    for precision, rounded in (("highest", False), ("bfloat16", False), ("high", True), ("medium", True)):
        with Compute(precision=precision).limited():
            assert torch.backends.cudnn.allow_tf32 == rounded
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_record_says_what_was_asked_for():
    assert Compute().record() == {"device": "cpu", "precision": "highest"}
    record = Compute(precision="bfloat16", compiled=True, channels_last=True).record()
    assert record == {"device": "cpu", "precision": "bfloat16", "compiled": "yes", "channels_last": "yes"}


# An agent


@pytest.fixture
def config(tiny_config):
    return load_preset("cartpole", ["environment.name=minatar-breakout", *SETTINGS, *_tiny(tiny_config)])


def _tiny(tiny_config):
    training = tiny_config().training
    keys = ("environments", "batch_size", "unroll_steps", "n_step", "training_ratio")
    return [f"training.{key}={getattr(training, key)}" for key in keys] + [
        "training.warmup_environment_steps=40",
        "training.steps=6",
        "training.checkpoint_interval=3",
        "training.evaluation_episodes=0",
        "training.average_decay=0.9",
        "reanalyse.target_interval=3",
        "search.simulations=4",
    ]


def test_an_agent_learns_and_goes_on_to_the_same_bits(config, tmp_path, make_trainer, train_in_pieces, contents):
    whole = make_trainer(config, tmp_path / "whole")
    before = {name: x.clone() for name, x in whole.network.state_dict().items()}
    whole.train()
    after = whole.network.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == set()
    assert not whole.network.training
    pieces = train_in_pieces(config, tmp_path / "pieces", turns=(13,))
    assert contents(pieces.folder, states=True) == contents(whole.folder, states=True)
    rows = mzprobe.measure(mzprobe.open_agent(whole.folder), "horizon", states=3, episodes=1, horizon=2)
    assert rows["error"].notna().all()


def test_batch_statistics_move_by_the_momentum_of_the_configuration():
    config = ResNetConfig(channels=4, head_channels=2, head_hidden=8, momentum=0.3)
    network = build(config, make("minatar-breakout").spec, torch.Generator())
    norms = [one.momentum for one in network.modules() if isinstance(one, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert norms
    assert set(norms) == {0.3}

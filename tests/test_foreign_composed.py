import foreign_composed
import foreign_networks
import numpy as np
import pytest
import torch

from mzprobe.compute import Compute
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import CheckpointError, UsageError
from mzprobe.networks import check_network
from mzprobe.networks.batching import usual_batch_size
from mzprobe.networks.engine import TorchEngine, engine_for
from mzprobe.sources import find_source, open_agent, sources
from mzprobe.sources.archives import read_archive
from mzprobe.sources.foreign import FileSource
from mzprobe.sources.lightzero import LightZero
from mzprobe.sources.looking import described

LAYOUTS = pytest.mark.parametrize("layout", foreign_composed.SHAPES)
IMAGES = [layout for layout, (shape, _) in foreign_composed.SHAPES.items() if len(shape) == 3]


@pytest.fixture
def file(tmp_path, layout):
    return foreign_networks.save(tmp_path / f"{layout}.pth.tar", foreign_composed.tree(layout))


def network_of(layout):
    source = sources()[foreign_composed.SOURCES[layout]]
    return source.adapter.network(foreign_composed.tree(layout), source=layout)


@LAYOUTS
def test_a_network_keeps_the_protocol(layout):
    shape, actions = foreign_composed.SHAPES[layout]
    spec = EnvironmentSpec(
        name="planes",
        observation_shape=shape,
        num_actions=actions,
        gamma=0.997,
        time_limit=10,
        action_meanings=tuple(map(str, range(actions))),
        source="nothing",
    )
    network = network_of(layout)
    check_network(network, spec)
    assert isinstance(engine_for(network), TorchEngine)


@LAYOUTS
def test_the_reward_of_a_step_is_the_same_by_itself(layout):
    network = network_of(layout)
    observations, actions = (torch.from_numpy(x[:20]) for x in foreign_composed.inputs(layout))
    latents = network.represent(observations)
    following, reward = network.dynamics(latents, actions)
    assert torch.equal(network.transition(latents, actions), following)
    assert torch.equal(network.support.scalar(network.reward_logits(latents, actions, following)), reward)


def test_convolutions_have_few_rows_a_call_on_a_cpu_whoever_calls():
    for layout in foreign_composed.SHAPES:
        network, rows = network_of(layout), 16 if layout in IMAGES else 256
        assert usual_batch_size(network, Compute()) == rows


def test_putting_a_network_together_draws_no_number():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    network_of("lightzero")
    assert torch.equal(torch.random.get_rng_state(), before)


@LAYOUTS
def test_a_file_is_recognised(layout, file):
    name = foreign_composed.SOURCES[layout]
    known = [one.name for one in sources().values() if one.recognises(file)]
    if layout in ("lightzero", "lightzero-0.0"):  # named alike
        assert known == ["lightzero", "lightzero-0.0"]
        assert find_source(file).name == "lightzero"
    else:
        assert known == [name]


def test_which_of_two_generations_is_meant_is_said_by_the_user(tmp_path):
    file = foreign_networks.save(tmp_path / "iteration_500.pth.tar", foreign_composed.tree("lightzero-0.0"))
    younger, older = open_agent(file), open_agent(file, source="lightzero-0.0")
    observations = torch.from_numpy(foreign_composed.inputs("lightzero-0.0")[0])
    sums = younger.network.represent(observations).unflatten(1, (-1, 8)).sum(dim=2)
    assert sums.numpy() == pytest.approx(1, abs=1e-5)
    assert float(older.network.represent(observations).min()) < 0
    assert "older ones need --source lightzero-0.0" in "\n".join(described(younger))
    assert "LightZero up to 0.0.5" in "\n".join(described(older))


def test_an_agent_of_lightzero_knows_where_it_is_from(tmp_path):
    file = foreign_networks.save(tmp_path / "iteration_500.pth.tar", foreign_composed.tree("lightzero"))
    agent = open_agent(file)
    assert (agent.origin.training_step, agent.origin.environment_steps) == (500, 2000)
    assert (agent.temperature, agent.unroll, agent.search.simulations) == (0.25, 5, 25)
    assert (agent.environment.spec.name, agent.environment.spec.time_limit) == ("cartpole", 200)
    assert agent.environment.spec.gamma == 0.997
    assert agent.origin.facts["temperature"] == "lzero/policy/muzero.py"
    assert agent.origin.facts["search"].endswith("cartpole_muzero_config.py")
    assert agent.search.untried == "mean"
    assert agent.search.node_visits == "children"
    assert agent.origin.differences == ()
    assert not any(name.startswith("projection") for name, _ in agent.network.named_parameters())


def test_the_lander_of_lightzero_had_engines_dispersed(tmp_path):
    pytest.importorskip("Box2D")
    file = foreign_networks.save(tmp_path / "ckpt_best.pth.tar", foreign_composed.tree("lightzero-norm"))
    agent = open_agent(file)
    assert (agent.environment.spec.name, agent.search.simulations) == ("lunarlander", 50)
    assert "dispersed" in agent.origin.differences[0]
    assert "representation" not in agent.origin.facts  # its norm is to be seen


@pytest.mark.parametrize("layout", IMAGES)
def test_the_environment_of_planes_is_asked_for(layout, file):
    with pytest.raises(UsageError, match=r"does not say its environment\.name"):
        open_agent(file)
    with pytest.raises(UsageError, match=r"is no network for cartpole, which shows \(4,\)"):
        open_agent(file, given=["environment.name=cartpole", "temperature=1"])


@pytest.mark.parametrize("other", ["dynamics_network.lstm.weight_hh_l0", "chance_encoder.0.weight"])
def test_other_algorithms_of_lightzero_are_left_alone(tmp_path, other):
    tree = foreign_composed.tree("lightzero")
    tree["model"] = {**tree["model"], other: np.zeros((3, 3), np.float32)}
    file = foreign_networks.save(tmp_path / "file", tree)
    assert not FileSource(LightZero()).recognises(file)


def changed(layout, change):
    """A tree of a layout with its weights changed; those of a word may be left out."""
    tree = foreign_composed.tree(layout)
    key = "model" if "model" in tree else "weights"
    found = dict(tree[key])
    for name in [name for name in found if change.get("without", "nothing") in name]:
        del found[name]
    for name in [name for name in found if change.get("cut", "nothing") in name]:
        found[name] = found[name][..., :-1] if found[name].ndim else found[name]
    for name in [name for name in found if change.get("spoilt", "nothing") in name]:
        found[name] = np.full_like(found[name], np.nan)
    return {**tree, key: found, **change.get("counters", {})}


BROKEN = {
    "a head is missing": ("lightzero", {"without": "fc_value_head"}),
    "a layer is missing": ("lightzero", {"without": "fc_dynamics_1.3.weight"}),
    "a norm is missing": ("lightzero", {"without": "fc_prediction_common.4."}),
    "a norm is cut": ("lightzero", {"cut": "fc_dynamics_1.1.running_var"}),
    "a layer is cut": ("lightzero", {"cut": "fc_reward_head.3.weight"}),
    "an even support": ("lightzero", {"cut": "fc_value_head.3.bias"}),
    "a number is none": ("lightzero", {"spoilt": "fc_policy_head.3.bias"}),
    "a step is none": ("lightzero", {"counters": {"last_iter": -3}}),
    "latents are cut": ("lightzero-0.0", {"cut": "fc_prediction_common.0.weight"}),
    "a kernel is cut": ("muzero-general-cnn", {"cut": "conv1x1_value.weight"}),
    "an action too few": ("lightzero-norm", {"cut": "fc_dynamics_1.0.weight"}),
    "a convolution is missing": ("lightzero-boards", {"without": "dynamics_network.conv.weight"}),
    "a convolution's norm is cut": ("lightzero-images", {"cut": "downsample_block.conv1.1.weight"}),
    "a block is without its second half": ("lightzero-images", {"without": "resblocks2.0.conv2.0"}),
    "planes of muzero-general are missing": ("muzero-general-residual", {"without": "conv1x1_reward"}),
    "a head of muzero-general is cut": ("muzero-general-cnn", {"cut": "fc_value.2.weight"}),
    "a kernel is missing": ("muzero-general-resnet", {"without": "downsample_net.conv2"}),
}


@pytest.mark.parametrize(("layout", "change"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_whole_is_refused_in_one_sentence(tmp_path, layout, change):
    file = foreign_networks.save(tmp_path / "file", changed(layout, change))
    source = foreign_composed.SOURCES[layout]
    with pytest.raises(CheckpointError) as caught:
        open_agent(file, source=source, given=["environment.name=cartpole", "temperature=1"])
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@LAYOUTS
def test_every_array_that_is_missing_is_missed(layout):
    tree = foreign_composed.tree(layout)
    key = "model" if "model" in tree else "weights"
    adapter = sources()[foreign_composed.SOURCES[layout]].adapter
    unused = ["projection", "num_batches_tracked"]
    if layout in ("muzero-general-resnet", "muzero-general-cnn"):
        unused += ["representation_network.module.conv.", "representation_network.module.bn."]
    for missing in [name for name in tree[key] if not any(part in name for part in unused)]:
        rest = {name: array for name, array in tree[key].items() if name != missing}
        with pytest.raises(CheckpointError):
            adapter.network({**tree, key: rest}, source="a file")


def test_a_mislabelled_file_gets_one_sentence(tmp_path):
    file = foreign_networks.save(tmp_path / "file", foreign_composed.tree("lightzero-images"))
    with pytest.raises(UsageError, match="holds no checkpoint of muzero-general"):
        open_agent(file, source="muzero-general")
    with pytest.raises(UsageError, match=r"holds no checkpoint of LightZero up to 0\.0\.5"):
        open_agent(file, source="lightzero-0.0")
    assert read_archive(file)["last_iter"] == 500

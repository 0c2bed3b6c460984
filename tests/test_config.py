"""One configuration: what it takes, what it refuses, and in which words."""

from functools import reduce
from operator import getitem

import pytest
from pydantic import ValidationError

from mzprobe.config import (
    EnvironmentConfig,
    FactoryConfig,
    MLPConfig,
    ResNetConfig,
    RunConfig,
    SearchConfig,
    TrainingConfig,
    keys,
    load_preset,
    of_record,
    validated,
    with_overrides,
)
from mzprobe.errors import UsageError
from mzprobe.probes.registry import PROBES
from mzprobe.settings import HorizonConfig, OnlineConfig, StepsConfig, StudyConfig, load_study, study_runs
from mzprobe.toml import shipped


def refused(*overrides):
    """The one sentence with which `--set` is refused."""
    with pytest.raises(UsageError) as reason:
        load_preset("cartpole", overrides)
    assert "\n" not in str(reason.value)
    return str(reason.value)


# Keys


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("training.batch_sise", "training.batch_size"),
        ("batch_size", "training.batch_size"),
        ("search.simulation", "search.simulations"),
        ("trainning.learning_rate", "training.learning_rate"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(given, meant):
    assert refused(f"{given}=1") == f"there is no configuration key {given}: did you mean {meant}?"


def test_a_key_like_no_other_lists_them_all():
    said = refused("xyzzy=1")
    assert all(name in said for name, _ in keys(RunConfig))


def test_a_section_is_not_a_key():
    assert "there is no configuration key training" in refused("training=1")


def test_an_unknown_key_of_a_file_names_the_nearest_one(tmp_path):
    (tmp_path / "own.toml").write_text("[search]\nsimulatons = 3\n")
    with pytest.raises(UsageError, match=r"no configuration key search\.simulatons: did you mean search\.simulations"):
        load_preset(str(tmp_path / "own.toml"))


def test_options_of_an_environment_have_free_keys():
    config = load_preset("cartpole", ["environment.options.of_my_own=[1, 2]", "environment.options.gamma=0.5"])
    assert config.environment.options == {"gamma": 0.5, "of_my_own": [1, 2]}


@pytest.mark.parametrize(
    "overrides", [("environment.options.gamma.x=1",), ("environment.options=5", "environment.options.gamma=0.9")]
)
def test_a_key_inside_a_number_is_a_usage_error(overrides):
    assert "environment.options" in refused(*overrides)


# Values


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.batch_size=0", "training.batch_size"),
        ("training.batch_size=1.5", "training.batch_size"),
        ("training.batch_size=many", "training.batch_size"),
        ("training.learning_rate=-1", "training.learning_rate"),
        ("training.learning_rate=Infinity", "training.learning_rate"),
        ("training.learning_rate=NaN", "training.learning_rate"),
        ("training.learning_rate_decay=1.1", "training.learning_rate_decay"),
        ("training.steps=-1", "training.steps"),
        ("network.atoms=1", "network.atoms"),
        ("network.support_minimum=20", "support_minimum must be below support_maximum"),
        ("training.temperatures=[[1, 1.0]]", "temperatures must begin at step 0"),
        ("training.temperatures=[[0, 1.0], [9, 1.0], [5, 1.0]]", "temperatures must begin at step 0"),
        ("training.temperatures=[[0, 1.0], [0, 0.5]]", "temperatures must begin at step 0"),
        ("training.temperatures=[]", "temperatures must begin at step 0"),
        ("training.temperatures=[[0, 0.0]]", "training.temperatures"),
        ("training.n_step_by_age=[[9, 2], [9, 1]]", "n_step_by_age must be in increasing order of age"),
        ("training.learning_rate_floor=0.1", "learning_rate_floor must not be above learning_rate"),
        (f"training.temperature_ladder={[1] * 17}", "temperature_ladder has 17 temperatures for environments=16"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(override, key):
    said = refused(override)
    assert key in said
    assert "is not valid" in said


def test_averaged_weights_that_nobody_uses_are_refused():
    assert "averaged must say who uses" in refused("training.average_decay=0.9", "training.averaged=[]")


@pytest.mark.parametrize("override", ["training.batch_size", "=64", ""])
def test_an_override_that_is_no_assignment_shows_how_one_looks(override):
    assert refused(override) == f"--set takes key=value, such as training.batch_size=64, not {override!r}"


def test_values_are_json_or_else_text():
    config = load_preset(
        "cartpole",
        [
            "training.temperatures=[[0, 2.0], [10, 0.5]]",
            "training.checkpoint_steps=[1, 5]",
            "search.c1=2",
            "network.kind=own.module:factory",
            'environment.name="tabular"',
            "environment.options={}",
        ],
    )
    assert config.training.temperatures == ((0, 2.0), (10, 0.5))
    assert config.training.checkpoint_steps == (1, 5)
    assert config.search.c1 == 2.0
    assert config.network.kind == "own.module:factory"
    assert (config.environment.name, config.environment.options) == ("tabular", {})


def test_a_text_may_hold_the_sign_of_assignment():
    assert load_preset("cartpole", ["environment.name=a=b"]).environment.name == "a=b"


def test_the_last_of_two_overrides_counts():
    assert load_preset("cartpole", ["search.c1=2", "search.c1=3"]).search.c1 == 3.0


def test_overrides_leave_the_configuration_they_start_from():
    before = HorizonConfig()
    assert with_overrides(before, ["states=7", "horizon=3"]) == HorizonConfig(states=7, horizon=3)
    assert before == HorizonConfig()


def test_a_configuration_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().training.steps = 3


def test_json_takes_a_configuration_back_to_itself(tiny_config):
    config = tiny_config("training.checkpoint_steps=[3]")
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert validated(RunConfig, config.model_dump(mode="json"), "here") == config


# Networks by kind


def test_a_section_without_a_kind_is_of_perceptrons_as_older_checkpoints_have_it():
    values = RunConfig().model_dump(mode="json")
    del values["network"]["kind"]
    assert of_record(values, "here").network == MLPConfig()


@pytest.mark.parametrize("config", [MLPConfig(latent=3), ResNetConfig(blocks=2), FactoryConfig(kind="a:b")])
def test_json_takes_every_kind_back_to_itself(config):
    run = RunConfig(network=config)
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    assert of_record(run.model_dump(mode="json"), "here") == run


def test_another_kind_takes_from_a_preset_what_it_knows_itself():
    network = load_preset("cartpole", ["network.kind=resnet", "network.channels=8"]).network
    assert network == ResNetConfig(channels=8, support_minimum=-10, support_maximum=10, atoms=21)
    factory = load_preset("cartpole", ["network.kind=a:b", "network.options.depth=3"]).network
    assert factory == FactoryConfig(kind="a:b", latent=32, hidden=64, options={"depth": 3})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["network.channels=8"], "there is no configuration key network.channels with network.kind=mlp"),
        (["network.kind=resnet", "network.latent=8"], "no configuration key network.latent with network.kind=resnet"),
        (["network.kind=a:b", "network.blocks=8"], "no configuration key network.blocks with network.kind=module:attr"),
        (["network.options.depth=3"], "there is no configuration key network.options with network.kind=mlp"),
        (["network.chanels=8"], "did you mean network.channels?"),
        (["network.kind=resnot"], "there is no network resnot: use mlp, resnet, or module:attribute of a factory"),
        (["network.kind=resnet", "network.channels=0"], "network.channels is not valid"),
        (["network.kind=resnet", "network.channels=true"], "network.channels is not valid: true and false are no"),
    ],
)
def test_keys_of_another_kind_are_refused_in_one_sentence(overrides, said):
    assert said in refused(*overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.rule=gumbel", "training.temperature_ladder=[1, 0.5]"], "temperature_ladder does nothing"),
        (["training.unroll_steps=0"], "give training.plan_in=true"),
        (["dataset.use=demonstrations"], "needs dataset.path"),
        (["reanalyse.fraction=0.9999"], "9,999 searches for each of play"),
        (["network.kind=resnet", "training.batch_size=1"], "batch_size must be at least 2"),
        (["network.kind=resnet", "network.channels=1", "network.downsample=true"], "channels must be at least 2"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(overrides, said):
    assert said in refused(*overrides)


def test_every_key_is_described():
    probes = [probe.config for probe in PROBES.values()]
    for model in (MLPConfig, ResNetConfig, FactoryConfig, SearchConfig, TrainingConfig, EnvironmentConfig, *probes):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


# Schedules


def test_the_temperature_changes_at_its_step():
    config = TrainingConfig(temperatures=((0, 1.0), (10, 0.5), (20, 0.25)))
    assert [config.temperature(step) for step in (0, 9, 10, 19, 20, 10**6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_checkpoints_are_at_the_interval_at_further_steps_and_at_both_ends():
    config = TrainingConfig(steps=25, checkpoint_interval=10, checkpoint_steps=(3,))
    assert [step for step in range(26) if config.is_checkpoint(step)] == [0, 3, 10, 20, 25]
    assert config.checkpoints() == (0, 3, 10, 20, 25)
    assert TrainingConfig(steps=2, checkpoint_interval=10, checkpoint_steps=(1, 7)).checkpoints() == (0, 1, 2)


# Presets and studies


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_preset_is_valid(name):
    assert isinstance(load_preset(name), RunConfig)


@pytest.mark.parametrize("name", shipped("presets/studies"))
def test_every_shipped_study_is_valid(name):
    study, config = load_study(name)
    assert study.seeds
    given = {key: reduce(getitem, key.split("."), config.model_dump()) for key in study.overrides}
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()} == study.overrides


def test_there_are_shipped_presets_and_studies():
    assert "cartpole" in shipped()
    assert "cartpole-quick" in shipped("presets/studies")


def test_an_unknown_preset_names_the_nearest_one_or_lists_them():
    with pytest.raises(UsageError, match="there is no preset cartpol: did you mean cartpole"):
        load_preset("cartpol")
    with pytest.raises(UsageError, match=r"there is no preset zzz: known are .*cartpole"):
        load_preset("zzz")
    with pytest.raises(UsageError, match="there is no study cartpole-quik: did you mean cartpole-quick"):
        load_study("cartpole-quik")


def test_a_preset_of_ones_own_is_a_path(tmp_path):
    (tmp_path / "own.toml").write_text("[training]\nsteps = 3\ntemperatures = [[0, 0.5]]\n")
    config = load_preset(str(tmp_path / "own.toml"), ["search.simulations=9"])
    assert (config.training.steps, config.training.temperatures, config.search.simulations) == (3, ((0, 0.5),), 9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist: give the path of a TOML file or one of"),
        (b"[training\n", "is not valid TOML"),
        (b"\xff\xfe\x00", "is not valid TOML"),
        (b"training = 5\n", "training is not valid"),
    ],
)
def test_a_preset_that_is_not_a_configuration_is_refused_by_its_path(tmp_path, content, said):
    path = tmp_path / "own.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as reason:
        load_preset(str(path))
    assert str(path) in str(reason.value)


def study_file(folder, text):
    (folder / "own.toml").write_text(f'preset = "cartpole"\n{text}\n')
    return str(folder / "own.toml")


def test_a_study_of_ones_own_overrides_its_preset(tmp_path):
    path = study_file(tmp_path, 'seeds = [4, 5]\n[overrides]\n"training.steps" = 7\n[horizon]\nstates = 3')
    study, config = load_study(path)
    assert (study.seeds, study.horizon.states, config.training.steps) == ((4, 5), 3, 7)


def test_keys_of_a_study_need_no_quotes(tmp_path):
    path = study_file(
        tmp_path,
        "seeds = [4]\n[overrides]\ntraining.steps = 7\nenvironment.options.gamma = 0.9\n"
        "[variants.few.search]\nsimulations = 2\n[variants.many]\nsearch.simulations = 9\n",
    )
    study, config = load_study(path)
    assert (config.training.steps, config.environment.options["gamma"]) == (7, 0.9)
    assert [run.config.search.simulations for run in study_runs(path, study)] == [2, 9]


def test_what_does_nothing_is_refused_where_an_agent_is_begun_and_read_where_one_is_recorded():
    values = {"search": {"rule": "regularised", "untried": "mean"}}
    assert of_record(values, "here").search.untried == "mean"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds = [-1]", "seeds"),
        ('seeds = [0]\n[overrides]\ntraining.steps = 7\n"training.steps" = 8', "training.steps is given twice"),
        ("seeds = []", "seeds"),
        ("seeds = [1, 1]", "seeds"),
        ("", "seeds"),
        ("seeds = [0]\nseed = 1", "no configuration key seed: did you mean seeds"),
        ('seeds = [0]\n[overrides]\n"training.stepps" = 7', r"did you mean training\.steps"),
        ("seeds = [0]\n[horizon]\nstate = 7", r"did you mean horizon\.states"),
        ("seeds = [0]\n[planning]\nleaf = 'net'", r"planning\.leaf is not valid: Input should be 'rollout' or 'value'"),
        ("seeds = [0]\n[search_error]\nsimulations = [0]", r"search_error\.simulations is not valid"),
        ("seeds = [0]\n[steps]\nsearch_error = [-1]", r"steps\.search_error is not valid"),
        ("seeds = [0]\n[steps]\nhorizon = [1]", r"steps\.horizon is given, and there is no section \[horizon\]"),
        ("seeds = [0]\n[overrides]\ntraining.stepps = 7", r"did you mean training\.steps"),
        ("seeds = 3", r"seeds is not valid: give a list, such as \[0, 1, 2\]"),
        ("seeds = []", "seeds is not valid: it has 0 entries, and 1 is the fewest"),
        ("seeds = [0]\n[horizons]\nstates = 7", r"key horizons: did you mean the section \[horizon\]"),
        ("seeds = [0]\n[steps]\nreturns = [1]", r"no configuration key steps\.returns: "),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_by_its_key(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        load_study(study_file(tmp_path, text))


def test_the_probes_of_a_study_are_those_that_have_a_section(tmp_path):
    text = "seeds = [0]\n[steps]\nonline = [3]\n[planning]\n[online]\nepisodes = 3"
    study, _ = load_study(study_file(tmp_path, text))
    assert study.probes() == {"online": (OnlineConfig(episodes=3), (3,)), "planning": (PROBES["planning"].config(), ())}
    assert list(study.probes()) == ["online", "planning"]


def test_a_study_has_a_section_and_steps_for_every_probe_and_no_other():
    assert list(StepsConfig.model_fields) == list(PROBES)
    sections = StudyConfig(preset="cartpole", seeds=(0,), **{name: {} for name in PROBES}).probes()
    assert {name: type(config) for name, (config, _) in sections.items()} == {
        name: probe.config for name, probe in PROBES.items()
    }


def test_naming_another_environment_drops_the_options_of_the_presets_own():
    assert load_preset("cartpole", ["environment.name=cartpole"]).environment.options == {"gamma": 0.99}
    other = load_preset("cartpole", ["environment.name=tabular", "environment.options.seed=3"])
    assert other.environment.options == {"seed": 3}


def test_the_order_of_overrides_does_not_decide_whose_options_are_dropped():
    overrides = ["environment.options.seed=3", "environment.name=tabular"]
    forth, back = (load_preset("cartpole", keys) for keys in (overrides, overrides[::-1]))
    assert forth.environment.options == back.environment.options == {"seed": 3}

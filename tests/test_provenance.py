"""The machine is named where bits can depend on it, and nowhere else."""

import pytest

from mzprobe.provenance import machine


def test_our_own_kernels_in_an_environment_of_ours_name_no_machine():
    assert machine("cartpole", network="mlp") == {}


@pytest.mark.parametrize("environment", ["lunarlander", "gym:MountainCar-v0", "tabular"])
def test_an_engine_that_others_compiled_names_the_processor(environment):
    found = machine(environment, network="mlp")
    assert set(found) == {"processor", "libc"}
    assert found["processor"]


def test_a_network_that_torch_runs_names_its_kernels_too():
    found = machine("cartpole", network="my_module:make_network")
    assert set(found) == {"device", "torch_kernels", "processor", "libc"}
    assert found["device"] == "cpu"

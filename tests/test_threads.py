"""The number of threads is held everywhere, since bits and speed depend on it."""

import torch
from threadpoolctl import threadpool_info

from mzprobe.threads import limited_threads


def test_every_blas_is_held_to_the_configured_threads():
    with limited_threads(1):
        pools = threadpool_info()
        assert any(pool["user_api"] == "blas" for pool in pools)
        assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} == {1}
        assert torch.get_num_threads() == 1

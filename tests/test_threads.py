"""The number of threads and the precision of products are held everywhere, since bits and speed depend on them."""

import torch
from threadpoolctl import threadpool_info

from mzprobe.compute import Compute
from mzprobe.system.threads import limited_threads


def test_every_blas_is_held_to_the_configured_threads():
    with limited_threads(1):
        pools = threadpool_info()
        assert any(pool["user_api"] == "blas" for pool in pools)
        assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} == {1}
        assert torch.get_num_threads() == 1


def test_a_precision_holds_while_it_is_entered_and_no_longer():
    with Compute(precision="high").limited():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"

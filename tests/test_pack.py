"""Rounded tables: smaller, the same figures and claims to as many digits, and no probe goes on with them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_tables import table_of

from mzprobe.errors import UsageError
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import OnlineConfig
from mzprobe.tables import read_table, rounded, write_table


def errors(values, **record):
    return table_of(pd.DataFrame({"seed": 0, "training_step": 0, "error": np.array(values, dtype=float)}), **record)


@given(values=st.lists(st.floats(-1e300, 1e300) | st.just(np.nan), min_size=1), bits=st.integers(2, 52))
def test_numbers_keep_their_digits_their_signs_and_their_order(values, bits):
    table = errors(values)
    found = rounded(table, bits).frame["error"].to_numpy()
    given_ = table.frame["error"].to_numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(given_))
    known = ~np.isnan(given_) & (np.abs(given_) > 1e-300)
    assert (np.abs(found - given_)[known] <= np.abs(given_[known]) * 2.0**-bits).all()
    assert (np.sign(found) == np.sign(given_))[known].all()
    order = np.argsort(given_[known], kind="stable")
    assert (np.diff(found[known][order]) >= 0).all()
    assert rounded(table, bits).frame["seed"].tolist() == table.frame["seed"].tolist()


def test_what_few_digits_say_stays_and_what_they_do_not_is_rounded_to_even():
    found = rounded(errors([0.0, 1.5, -500.0, 1 + 2**-14, 1 + 3 * 2**-14]), 14).frame["error"]
    assert found.tolist() == [0.0, 1.5, -500.0, 1.0, 1 + 2**-12]


def test_a_table_is_rounded_once_and_says_so():
    once = rounded(errors([1 / 3]), 9)
    assert once.record == {**errors([1 / 3]).record, "bits": 9}
    with pytest.raises(UsageError, match="rounded to 9 bits already"):
        rounded(once, 8)


def test_a_run_is_packed_into_another_folder(run_cli, tmp_path):
    values = np.random.default_rng(0).standard_normal(5000)
    whole = tmp_path / "analyses" / "tiny" / "horizon" / "seed-0.parquet"
    write_table(whole, errors(values, run="tiny"))
    arguments = ("pack", "tiny", "--analyses", tmp_path / "analyses", "--out", tmp_path / "shipped")
    code, said, _ = run_cli(*arguments)
    assert (code, said.split(",")[0]) == (0, "1 tables")
    packed = tmp_path / "shipped" / "tiny" / "horizon" / "seed-0.parquet"
    assert packed.stat().st_size < 0.6 * whole.stat().st_size
    np.testing.assert_allclose(read_table(packed).frame["error"], values, rtol=2**-14)
    assert read_table(packed).record == {**read_table(whole).record, "bits": 14}
    written = packed.stat()
    code, said, _ = run_cli(*arguments)  # as after a kill: what is there is as it should be
    assert (code, said.split(",")[0]) == (0, "1 tables")
    assert (packed.stat().st_ino, packed.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    code, _, said = run_cli(*arguments, "--bits", 9)
    assert (code, "is there already, with other content: choose another --out" in said) == (2, True)
    assert read_table(packed).record["bits"] == 14
    code, _, said = run_cli("pack", "tiny", "--analyses", tmp_path / "shipped", "--out", tmp_path / "again")
    assert (code, said.split(": ")[2]) == (2, "the table was rounded to 14 bits already")
    assert "seed-0.parquet" in "".join(said.split())
    code, _, said = run_cli("pack", "tinny", "--out", tmp_path / "shipped")
    assert (code, "there are no tables of run tinny" in said) == (2, True)


def test_no_probe_goes_on_with_a_rounded_table(agent, tmp_path):
    def run(*steps):
        config = OnlineConfig(episodes=2)
        return ProbeRun(probe=PROBES["online"], agent=agent, config=config, analyses=tmp_path, steps=steps)

    path = run_probe(run(20))
    write_table(path, rounded(read_table(path), 14))
    before = path.read_bytes()
    assert run_probe(run(20)).read_bytes() == before  # there is nothing to do
    with pytest.raises(UsageError, match="is rounded, nothing can be added to it"):
        run_probe(run(20, 40))
    assert path.read_bytes() == before

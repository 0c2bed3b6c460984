"""The folder of a study's figures: what is drawn of its variants, and what is refused."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from stored_tables import store
from variant_tables import RUNS, acting_table, online_table, timing_table

from mzprobe.errors import UsageError
from mzprobe.figures.comparison import draw_comparison
from mzprobe.figures.style import simulations_axis, variant_looks
from mzprobe.tables import read_table, write_table


def test_variants_that_outnumber_the_colours_share_them_by_their_first_word():
    names = [f"{rule}-{N}" for rule in ("puct", "gumbel", "regularised") for N in (2, 4, 8, 16)]
    colours = {name: tuple(look["colour"]) for name, look in variant_looks(names).items()}
    assert len(set(colours.values())) == 3
    assert len({colours[name] for name in names[:4]}) == 1


def test_the_largest_number_of_simulations_has_its_number():
    axes = Figure().subplots()
    simulations_axis(axes, np.array([4, 8, 16, 32, 64, 128, 4]))
    assert axes.get_xticks().tolist() == [8, 32, 128]


def test_a_variant_with_a_word_more_has_the_colour_of_the_other_and_dashes():
    looks = variant_looks(["0", "0.5", "0.8", "0.5-fewer", "0.8-fewer", "0.8-fewer-still", "other-fewer"])
    colours = [look["colour"] for look in looks.values()]
    assert colours[3:6] == [colours[1], colours[2], colours[2]]
    assert len(set(colours)) == 4
    assert [look["linestyle"] for look in looks.values()] == ["-", "-", "-", "--", "--", ":", "-"]
    assert len({(str(look["colour"]), look["linestyle"]) for look in looks.values()}) == 7


def test_runs_beside_each_other_have_colours_of_their_own_whatever_their_names():
    looks = variant_looks(["lunarlander", "lunarlander-full"], kin=False)
    assert len({(tuple(look["colour"]), look["marker"]) for look in looks.values()}) == 2
    assert {look["linestyle"] for look in looks.values()} == {"-"}


@pytest.fixture
def write(tmp_path):
    """Writes a table of a variant, an agent a file."""

    def to(name, variant, frame, **changes):
        said = {"settings": {"episodes": 2}, "config": {"training": {"n_step": len(variant)}}, **changes}
        steps = {"commands": {str(step): "mzprobe study mine" for step in frame["training_step"].unique()}}
        store(tmp_path / "analyses", frame, probe=name, run=RUNS[variant], **steps, **said)

    return to


@pytest.fixture
def draw(tmp_path):
    return lambda **options: draw_comparison(
        "mine", RUNS, analyses=tmp_path / "analyses", figures=tmp_path / "figures", **options
    )


def test_a_study_has_its_figures_in_its_folder_and_the_same_bytes_again(write, draw, tmp_path):
    for variant in RUNS:
        write("online", variant, online_table(variant))
        write("timing", variant, timing_table(variant))
        write("planning-value", variant, acting_table(variant))
    names = [
        str(tmp_path / "figures" / "mine" / f"{name}.{suffix}")
        for name in ("learning", "agents", "acting")
        for suffix in ("png", "svg", "csv")
    ]
    assert [(drawn.what, drawn.status) for drawn in draw()] == [(name, "written") for name in names]
    assert {drawn.status for drawn in draw()} == {"unchanged"}
    assert "replaced" in {drawn.status for drawn in draw(reference=20.0)}
    text = (tmp_path / "figures" / "mine" / "learning.csv").read_text("utf-8")
    assert text.startswith("# command: mzprobe study mine\n# b: seeds: 0, 1\n# b: config: ")
    cells = pd.read_csv(io.StringIO(text), comment="#")
    assert list(cells.columns) == [
        "variant",
        "training_step",
        "environment_steps",
        "core_seconds",
        "mean",
        "standard_error",
        "agents",
    ]
    assert list(dict.fromkeys(cells["variant"])) == list(RUNS)


def test_a_variant_without_a_table_is_said_and_the_others_are_drawn(write, draw):
    write("online", "a", online_table("a"))
    said = [(drawn.what, drawn.remedy) for drawn in draw() if drawn.status == "missing"]
    remedy = "mzprobe study mine"
    lacking = [f"{figure}, variant {variant}" for figure in ("learning", "agents") for variant in ("b", "a-few")]
    assert said == [(what, remedy) for what in lacking]
    assert len(draw()) == 2 * (2 + 3)


def test_a_variant_without_times_is_said_where_others_have_theirs(write, draw):
    for variant in ("b", "a"):
        write("online", variant, online_table(variant))
    assert [drawn.what for drawn in draw() if "timing" in drawn.what] == []  # a figure without times has no such panel
    write("timing", "a", timing_table("a"))
    said = [(drawn.what, drawn.remedy) for drawn in draw() if drawn.status == "missing" and "timing" in drawn.what]
    assert said == [("timing in learning, variant b", "mzprobe study mine, if its training kept the times")]


def test_a_study_without_any_table_is_refused_with_the_command_that_makes_them(draw):
    with pytest.raises(UsageError, match=r"no tables of the runs of study mine under .*: make them with mzprobe study"):
        draw()


def test_variants_that_were_measured_in_other_ways_are_not_compared(write, draw):
    write("online", "b", online_table("b"))
    write("online", "a", online_table("a"), settings={"episodes": 3})
    with pytest.raises(UsageError, match=r"online tables of b and a were made with other settings \(episodes\)"):
        draw()


def test_variants_may_have_learned_from_other_datasets_but_the_agents_of_one_may_not(write, draw, tmp_path):
    write("online", "b", online_table("b"))
    for variant in ("a", "a-few"):
        write("online", variant, online_table(variant), dataset={"sha256": variant})
    assert len(draw()) == 6  # two figures
    path = tmp_path / "analyses" / RUNS["a"] / "online" / "seed-1.parquet"
    table = read_table(path)
    write_table(path, replace(table, record={**table.record, "dataset": {"sha256": "other"}}))
    with pytest.raises(UsageError, match=r"were made with other dataset \(sha256\)"):
        draw()

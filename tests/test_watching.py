"""Watching an episode: what it keeps is what was played, searched and dreamt, and files hold its frames."""

import sys

import numpy as np
import pytest
from agents import made_agent
from brute import TabularPolicy, follow, wrong_network
from PIL import Image

from mzprobe.cli.playing import _screen
from mzprobe.envs import random_mdp
from mzprobe.errors import UsageError
from mzprobe.search.mcts import search
from mzprobe.sources import open_agent
from mzprobe.watching import check_video, frames_of, watch
from mzprobe.watching.frames import dreamt_returns


def watched_mdp(seed=4, *, terminal_fraction=0.0, **options):
    env = random_mdp(seed, num_states=6, num_actions=2, terminal_fraction=terminal_fraction, time_limit=9)
    agent = made_agent(env, wrong_network(seed, 6, 2), temperature=1.0)
    return env, agent, watch(agent, horizon=4, **options)


def visited(env, watched, start):
    states = [start]
    for action in watched.actions:
        states.append(int(env.transitions[states[-1], action]))
    return states


def starts_of(env, watched):
    """The states from which these actions bring these rewards."""
    found = []
    for state in range(6):
        path = visited(env, watched, state)
        if [env.rewards[s, a] for s, a in zip(path, watched.actions, strict=False)] == watched.rewards.tolist():
            found.append(path)
    return found


def test_an_episode_is_what_was_played_and_its_dreams_are_the_model_unrolled_along_it():
    env, agent, watched = watched_mdp()
    (path,) = starts_of(env, watched)
    anything = TabularPolicy(np.ones((6, 2)))
    for t in range(9):
        for k in range(min(4, 9 - t)):
            actions = watched.actions[t : t + k + 1].tolist()
            dream = follow(env, agent.network, anything, path[t], actions)
            assert watched.dreamt_rewards[t, k] == pytest.approx(dream.predicted_reward, abs=1e-6)
            assert watched.dreamt_values[t, k] == pytest.approx(float(agent.network.values[dream.believed]), abs=1e-6)
        assert np.isnan(watched.dreamt_rewards[t, 9 - t :]).all()
    assert watched.value == pytest.approx(agent.network.values[path].tolist(), abs=1e-6)
    assert not watched.terminated


def test_what_it_acts_by_is_the_search_of_each_state():
    env, agent, watched = watched_mdp()
    (path,) = starts_of(env, watched)
    observations = np.eye(6, dtype=np.float32)[path[:-1]]
    result = search(agent.planning_in("learned"), observations, config=agent.search)
    assert (watched.acting == result.acting(1.0)).all()
    assert watched.search_value == pytest.approx(result.root_value)
    assert watched.prior == pytest.approx(result.prior, abs=1e-6)


def test_a_policy_network_acts_without_a_search():
    _, _, watched = watched_mdp(actor="prior")
    assert watched.acting == pytest.approx(watched.prior)
    assert np.isnan(watched.search_value).all()


def test_the_same_episode_is_the_same_and_another_is_another():
    _, _, first = watched_mdp(episode=1)
    _, _, again = watched_mdp(episode=1)
    _, _, other = watched_mdp(episode=2)
    assert first.actions.tolist() == again.actions.tolist()
    assert first.rewards.tolist() != other.rewards.tolist()


def test_returns_ahead_are_summed_and_end_in_a_value():
    env, _, watched = watched_mdp()
    gamma = env.spec.gamma
    dreamt, true = dreamt_returns(watched, 6)
    assert len(dreamt) == len(true) == 4  # three steps are left
    assert dreamt[0] == true[0] == watched.value[6]
    rewards = watched.rewards[6:8]
    assert true[2] == pytest.approx(rewards[0] + gamma * rewards[1] + gamma**2 * watched.value[8])
    rewards = watched.dreamt_rewards[6]
    assert dreamt[2] == pytest.approx(rewards[0] + gamma * rewards[1] + gamma**2 * watched.dreamt_values[6, 1])


def test_a_real_end_is_worth_nothing():
    for seed in range(20):
        _, _, watched = watched_mdp(seed, terminal_fraction=0.5)
        if watched.terminated:
            assert watched.value[-1] == 0
            assert (watched.value[:-1] != 0).all()
            return
    raise AssertionError("no episode ended")


def test_frames_are_of_one_size_and_every_so_many_steps(agent):
    watched = watch(open_agent(agent, step=20), steps=5, horizon=3)
    frames = list(frames_of(watched, every=2, title="tiny"))
    assert len(frames) == 4  # steps 0, 2 and 4, and the last state
    assert {frame.shape for frame in frames} == {(360, 800, 3)}
    assert (frames[0] != frames[1]).any()


def test_an_environment_that_does_not_draw_itself_says_so():
    _, _, watched = watched_mdp(steps=1)
    assert watched.pictures is None
    assert len(list(frames_of(watched))) == 2


@pytest.mark.parametrize("name", ["episode.gif", "episode.mp4"])
def test_an_episode_is_written_and_never_over_another_file(run_cli, agent, tmp_path, name):
    out = tmp_path / name
    code, printed, said = run_cli("play", agent, "--step", 20, "--steps", 4, "--out", out)
    assert code == 0, said
    assert printed.strip() == str(out)
    assert "steps, " in said
    if out.suffix == ".gif":
        with Image.open(out) as image:
            assert (image.n_frames, image.size) == (3, (800, 360))
    before = out.read_bytes()
    code, _, said = run_cli("play", agent, "--step", 20, "--steps", 4, "--out", out)
    assert code == 2
    assert "is there already: give another name, or --overwrite" in said
    assert out.read_bytes() == before


def test_an_episode_is_printed_where_there_is_no_terminal(run_cli, agent):
    code, printed, said = run_cli("play", agent, "--step", 20, "--steps", 3, "--every", 1, "--policy", "prior")
    assert code == 0, said
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["step 0", "step 1", "step 2"]
    assert "reward 1 (dreamt " in lines[0]
    assert "push left 0." in lines[0]


def test_a_terminal_shows_the_picture_in_half_blocks(agent):
    text, picture = _screen(watch(open_agent(agent, step=20), steps=2), 1).renderables
    assert text.plain.startswith("step 1: ")
    rows = picture.plain.splitlines()
    assert {len(row) for row in rows} == {64}
    assert set("".join(rows)) == {"\u2580"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("episode.webm", "an episode is written as .gif or .mp4"),
        ("nowhere/episode.gif", "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_played(tmp_path, name, sentence):
    with pytest.raises(UsageError, match=sentence):
        check_video(tmp_path / name, overwrite=False)


def test_a_missing_extra_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=r"pip install 'mzprobe\[video\]', or write a .gif"):
        check_video(tmp_path / "episode.mp4", overwrite=False)

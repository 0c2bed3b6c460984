"""Atari's games equal an emulator that was never put back, frame for frame, and their states are values."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from mzprobe.envs import check_env, concatenate, make
from mzprobe.errors import UsageError
from mzprobe.trust import named_code

pytest.importorskip("ale_py")

from mzprobe.envs import atari_emulator
from mzprobe.envs.atari_screens import Eye, covered

SKIP = 4
RAW = {"observation": "screen", "size": 0, "stack": 1, "colour": "grey", "end_of_life": False}


class Bare:
    """ALE by itself, as its manual says: no state is ever cloned."""

    def __init__(self, game, *, memory):
        import ale_py
        import ale_py.roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.console = ale_py.ALEInterface()
        self.console.setInt("random_seed", 0)
        self.console.setFloat("repeat_action_probability", 0.0)
        self.console.loadROM(ale_py.roms.get_rom_path(game))
        self.codes, self.memory = [action.value for action in self.console.getMinimalActionSet()], memory

    def reset(self, seed):
        self.console.reset_game()
        for _ in range(np.random.default_rng(seed).integers(1, 31)):
            self.console.act(0)
        self.lives = 0
        return self.frames(1)

    def step(self, action):
        seen, reward = self.frames(self.codes[action])
        if self.console.lives() < self.lives and not self.console.game_over():
            more = self.frames(0)[1]
            seen, last = self.frames(1)
            reward += more + last
        self.lives = self.console.lives()
        return seen, reward, self.console.game_over()

    def frames(self, code):
        reward = sum(self.console.act(code) for _ in range(SKIP - 1))
        before = self.console.getScreenGrayscale()
        reward += self.console.act(code)
        self.lives = self.lives or self.console.lives()
        if self.memory:
            return self.console.getRAM().tobytes(), reward
        return np.maximum(before, self.console.getScreenGrayscale()).tobytes(), reward


def episode(env, seed, rng, steps):
    """Random play with detours: actions, what was seen, and one of the detours with its beginning."""
    A, states = env.spec.num_actions, env.reset([seed])
    actions, seen, detour = [], [(env.observe(states).tobytes(), 0, False)], None
    for t in range(steps):
        if rng.random() < 0.1:  # to come back from
            aside, taken, there = states, [], []
            for action in rng.integers(A, size=3).tolist():
                aside, outcome = env.step(aside, [action])
                taken.append(action)
                there.append((env.observe(aside).tobytes(), outcome.score[0], bool(outcome.terminated[0])))
            detour = (t, taken, there)
        action = int(rng.integers(A))
        states, outcome = env.step(states, [action])
        actions.append(action)
        seen.append((env.observe(states).tobytes(), outcome.score[0], bool(outcome.terminated[0])))
        assert outcome.reward[0] == np.sign(outcome.score[0])
        assert states.points[0].done == outcome.terminated[0]
        if outcome.terminated[0]:
            break
    return actions, seen, detour, states


def compare(game, options, steps):
    env = make(f"atari:{game}", **options)
    bare, rng, seed, done, lost = Bare(game, memory=options["observation"] == "ram"), np.random.default_rng(0), 0, 0, 0
    while done < steps:
        actions, seen, detour, states = episode(env, seed, rng, steps - done)
        first, reward = bare.reset(seed)
        assert (first, reward) == seen[0][:2]
        for t, action in enumerate(actions):
            if detour is not None and detour[0] == t and seed % 10 == 0:  # its end is another episode
                assert [bare.step(a) for a in detour[1]] == detour[2][: len(detour[1])]
                break
            before = bare.lives
            assert bare.step(action) == seen[t + 1]
            lost += bare.lives < before
        else:
            assert states.points[0].lives == bare.lives
        done, seed = done + len(actions), seed + 1
    assert lost


@pytest.mark.slow
@pytest.mark.parametrize(("options", "steps"), [(RAW, 25_000), ({"observation": "ram", "end_of_life": False}, 25_000)])
def test_it_equals_an_emulator_that_was_never_put_back(options, steps):
    compare("breakout", options, steps)


@pytest.mark.parametrize(("options", "steps"), [(RAW, 200), ({"observation": "ram", "end_of_life": False}, 400)])
def test_some_steps_equal_an_emulator_that_was_never_put_back(options, steps):
    compare("breakout", options, steps)


def walked(env, states, actions):
    """What is seen along a walk."""
    seen = []
    for chosen in actions:
        states, outcome = env.step(states, chosen)
        seen.append((env.observe(states).tobytes(), outcome.score.tolist(), outcome.terminated.tolist()))
    return seen


def test_another_process_goes_on_from_states():
    env = make("atari:breakout", colour="grey", size=20)
    actions = np.random.default_rng(2).integers(4, size=(30, 2))
    states = env.reset([3, 4])
    for chosen in actions[:10]:
        states, _ = env.step(states, chosen)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = pool.submit(walked, env, states, actions[10:]).result()
    assert there == walked(env, states, actions[10:])


@pytest.mark.parametrize(
    "options", [{"observation": "ram", "stack": 2}, {**RAW, "size": 12, "stack": 3, "clip_rewards": False}]
)
def test_it_keeps_the_protocol(options):
    check_env(make("atari:breakout", **options), processes=False, steps=24)


def test_starts_are_those_of_seeds():
    env = make("atari:breakout", observation="ram")
    seen = env.observe(env.reset(range(200)))
    assert len({row.tobytes() for row in seen}) == 30
    still = make("atari:breakout", observation="ram", no_ops=0)
    assert len({row.tobytes() for row in still.observe(still.reset(range(5)))}) == 1
    unopened = make("atari:breakout", observation="ram", no_ops=0, opening=[])
    assert unopened.observe(unopened.reset([0])).tobytes() != still.observe(still.reset([0])).tobytes()


def test_a_lost_life_is_an_end_or_opens_the_next_one():
    lost = make("atari:breakout", observation="ram")
    states, steps = lost.reset([0]), 0
    while not lost.terminal(states)[0]:
        states, outcome = lost.step(states, [0])
        steps += 1
    assert outcome.terminated[0]
    assert states.points[0].lives == 4
    whole = make("atari:breakout", observation="ram", end_of_life=False)
    states = whole.reset([0])
    lives = []
    while not whole.terminal(states)[0] and len(lives) < 20 * steps:
        states, _ = whole.step(states, [0])  # nobody presses fire, and balls fly nevertheless
        lives.append(states.points[0].lives)
    assert whole.terminal(states)[0]
    assert lives.index(4) == steps - 1
    assert sorted(set(lives)) == [0, 1, 2, 3, 4, 5]
    along = whole.rewards_along(whole.reset([0]), np.zeros((1, len(lives) + 5), int))
    assert not along.any()


def test_scores_are_told_beside_clipped_rewards():
    clipped = make("atari:ms_pacman", observation="ram")
    plain = make("atari:ms_pacman", observation="ram", clip_rewards=False)
    actions = np.random.default_rng(0).integers(9, size=(120, 1))
    states, others, found = clipped.reset([0]), plain.reset([0]), 0
    for chosen in actions:
        states, outcome = clipped.step(states, chosen)
        others, other = plain.step(others, chosen)
        assert other.score is None
        assert outcome.score == other.reward
        assert outcome.reward == np.sign(other.reward)
        found = max(found, outcome.score[0])
    assert found > 1
    starts = clipped.reset([0])
    assert clipped.rewards_along(starts, actions.T).sum() < plain.rewards_along(starts, actions.T).sum()


def test_few_emulators_play_many_episodes():
    actions = np.random.default_rng(0).integers(4, size=(20, 5))
    seen = []
    for emulators in (1, 2, 8):
        env = make("atari:breakout", observation="ram", emulators=emulators)
        seen.append(walked(env, env.reset(range(5)), actions))
        assert len(env._emulators) == min(emulators, 5)
    assert seen[0] == seen[1] == seen[2]


def test_states_count_what_they_share_once():
    env = make("atari:breakout", size=10, colour="grey")
    states, _ = env.step(env.reset([0]), [0])
    env.observe(states)
    once = states.nbytes
    assert once > 7000 + 2 * 100
    assert states.take([0, 0, 0]).nbytes == once
    assert concatenate([states, env.reset([0])]).nbytes < 2 * once


@pytest.mark.parametrize(("size", "length"), [(3, 7), (2, 5), (5, 5), (96, 210), (84, 160)])
def test_parts_of_a_screen_are_covered_once(size, length):
    places, weights = covered(size, length).astype(int)
    table = np.zeros((size, length), int)
    for part in range(size):
        for place, weight in zip(places[part], weights[part], strict=True):
            table[part, place] += weight
    fine = np.zeros((size, length), int)  # both in small parts, of which each has as many as the other has members
    for small in range(size * length):
        fine[small // length, small // size] += 1
    assert np.array_equal(table, fine)


def test_a_pixel_is_the_mean_of_what_it_covers():
    rng = np.random.default_rng(0)

    class Shown:
        colours = rng.integers(256, size=(256, 3), dtype=np.uint8)

        def getScreenRGB(self):  # noqa: N802
            return self.colours[self.screen]

    eye, console, screens = Eye("rgb", size=(3, 4), screen=(7, 16)), Shown(), []
    for colours in (5, 5, 256):  # the last one has new ones
        console.screen = rng.integers(colours, size=(7, 16), dtype=np.uint8)
        eye.learn(console.screen, console)
        screens.append(console.screen)
    for before, last in ((None, screens[0]), (screens[1], screens[2])):
        bright = Shown.colours[last].astype(int)
        if before is not None:
            bright = np.maximum(bright, Shown.colours[before])
        fine = bright.repeat(3, axis=0).repeat(4, axis=1).reshape(3, 7, 4, 16, 3)
        assert np.array_equal(eye.look(before, last), (fine.mean(axis=(1, 3)) + 0.5).astype(np.uint8))


def test_the_newest_frame_is_last():
    env = make("atari:breakout", size=8)
    states = env.reset([0])
    frames = [env.observe(states)[..., -3:]]
    assert np.array_equal(env.observe(states), np.concatenate(frames * 4, axis=-1))
    for _ in range(3):
        states, _ = env.step(states, [2])
        frames.append(env.observe(states)[..., -3:])
    assert np.array_equal(env.observe(states), np.concatenate(frames, axis=-1))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("atari:brekout", {}, "no game 'brekout', did you mean 'breakout'"),
        ("atari:breakout", {"opening": ["jump"]}, "which are nothing, fire, right, left"),
        ("atari:breakout", {"size": 161}, "from 1 to 160, or 0"),
        ("atari:breakout", {"observation": "ram", "pooled": True}, "it needs the screen"),
        ("atari:breakout", {"frame_skip": 1, "pooled": True}, "and a frame_skip of at least 2"),
        ("atari:breakout", {"observation": "sound"}, "screen or ram"),
        ("atari:breakout", {"frame_skip": 0}, "at least 1"),
        ("atari:breakout", {"sise": 3}, "did you mean 'size'"),
    ],
)
def test_what_there_is_not_is_said_in_a_sentence(name, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        make(name, **options)
    assert "\n" not in str(caught.value)


def test_missing_packages_and_roms_are_said_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    atari_emulator.cartridge.cache_clear()
    with pytest.raises(UsageError, match="the ROM of 'pong' is not at hand"):
        make("atari:pong")
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UsageError, match=r"pip install 'mzprobe\[atari\]'"):
        make("atari:pong")


def test_a_file_that_names_a_game_names_no_code():
    assert not list(named_code({"environment": {"name": "atari:breakout"}}))

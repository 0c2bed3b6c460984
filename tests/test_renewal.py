"""The oldest targets first, against a plain sort; and a buffer at a share of one half, where turns are of no use."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import made_up, replay_of

from mzprobe.training import renewal


class Plain:
    """Numbers of targets in a dictionary, sorted whenever they are asked for."""

    def __init__(self):
        self.made, self.count = {}, 0

    def note(self, names):
        for name in names:
            self.made[name] = self.count
            self.count += 1

    def oldest(self, count, names):
        return sorted(names, key=self.made.__getitem__)[:count]


def targets_of(replay):
    """The slots that have targets, with the name (episode, time) of each."""
    named = {}
    for kept in replay.episodes:
        for t in range(kept.slots):
            slot = kept.first + t
            if replay.left[slot] > 0 or not replay.terminated[slot]:
                named[slot] = (int(replay.observations[kept.first, 0]), t)
    return named


moves = st.lists(
    st.tuples(st.just("add"), st.integers(1, 9), st.booleans()) | st.tuples(st.just("renew"), st.integers(1, 20)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(moves=moves, at_once=st.sampled_from([1, 4, 64]), keep_best=st.sampled_from([None, 3]))
def test_the_oldest_are_those_of_a_plain_sort_whatever_is_stored_dropped_or_moved(moves, at_once, keep_best):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renewal, "_AT_ONCE", at_once)
        replay, plain = replay_of(replay_capacity=40, keep_best=keep_best), Plain()
        for marker, (what, size, *terminated) in enumerate(moves):
            before = set(targets_of(replay).values())
            if what == "add":
                replay.add(made_up(size, marker=marker, terminated=terminated[0]))
                now = sorted(set(targets_of(replay).values()) - before)
                # All slots of an episode are numbered, a terminal end too.
                plain.note(now + [(marker, size)] * (bool(now) and terminated[0]))
            else:
                named = targets_of(replay)
                slots = replay.oldest(size)
                assert [named[slot] for slot in slots] == plain.oldest(size, named.values())
                replay.take_targets(slots, np.zeros(len(slots)))
                plain.note([named[slot] for slot in slots])


@given(moves=moves)
@settings(max_examples=50, deadline=None)
def test_a_buffer_that_is_restored_goes_on_with_the_same_positions(moves):
    replay = replay_of(replay_capacity=40)
    for marker, (what, size, *terminated) in enumerate(moves):
        if what == "add":
            replay.add(made_up(size, marker=marker, terminated=terminated[0]))
        else:
            replay.take_targets(slots := replay.oldest(size), np.zeros(len(slots)))
    again = replay_of(replay_capacity=40)
    again.restore(*replay.state())
    for _ in range(5):
        slots = replay.oldest(7)
        assert again.oldest(7).tolist() == slots.tolist()
        replay.take_targets(slots, np.zeros(len(slots)))
        again.take_targets(slots, np.zeros(len(slots)))


def ages_at_one_half(choose):
    """Ages of all targets, in buffers, where each stored position makes the target of another anew."""
    replay = replay_of(replay_capacity=2000)
    oldest = []
    for marker in range(600):
        replay.add(made_up(19, marker=marker, terminated=True))
        for _ in range(4):
            slots = choose(replay)(5)
            replay.take_targets(slots, np.zeros(len(slots)))
        if marker >= 400:
            made = replay.ages.made[: replay.used][replay.left[: replay.used] > 0]
            oldest.append((replay.ages.count - made.min()) / 2 / 2000)
    return max(oldest)


def test_at_one_half_turns_leave_targets_as_old_as_the_buffer_and_the_oldest_first_does_not():
    assert ages_at_one_half(lambda replay: replay.stale) > 0.9
    assert ages_at_one_half(lambda replay: replay.oldest) < 0.67


def test_an_agent_that_renews_the_oldest_resumes_to_the_same_bytes(
    tmp_path, tiny_config, make_trainer, train_in_pieces, contents
):
    config = tiny_config("reanalyse.fraction=0.5", "reanalyse.positions=oldest", "training.replay_capacity=501")
    whole, pieces = make_trainer(config, tmp_path / "whole"), tmp_path / "pieces"
    whole.train()
    assert 0 <= whole.experience.counts.due(0.5) < whole.experience.reanalysed_at_once
    assert whole.experience.counts.reanalysed > 0
    assert whole.experience.replay.cursor == 0  # nobody took turns
    assert contents(train_in_pieces(config, pieces, turns=[30, 45, 20]).folder, states=True) == contents(
        whole.folder, states=True
    )


def test_no_training_step_is_due_for_the_time_before_there_was_anything_to_learn_from(
    tmp_path, tiny_config, make_trainer
):
    config = tiny_config("environment.name=gym:MountainCar-v0", "training.replay_capacity=20000")
    experience = make_trainer(config, tmp_path).experience  # 4 episodes of 200 steps, and a warm-up of 100
    for _ in range(199):
        experience.play_step(0)
        assert not experience.may_train(100_000, 0)
    experience.play_step(0)
    assert experience.replay.positions == 800
    assert experience.waited == 796
    assert not experience.may_train(800, 0)
    assert experience.may_train(804, 0)
    parts, record = experience.state()
    again = make_trainer(config, tmp_path / "again").experience
    again.restore(parts, record, experience.files().get)
    assert again.waited == 796

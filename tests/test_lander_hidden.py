"""What the full observation of Lunar Lander adds: read from Box2D, the same however a state was reached."""

import numpy as np
import pytest
from test_lunarlander import landing

from mzprobe.envs import check_env, lander_hidden, make
from mzprobe.envs.lunarlander import LanderSimulator
from mzprobe.errors import UsageError

PLAIN = 8
TIMER = -1
JOINTS, BELOW, CONTACTS = slice(8, 12), slice(12, 18), slice(18, 24)


def landed(seed, *, steps=600):
    """A simulator's observations on the way to rest, and the simulator at every step."""
    simulator, rng = LanderSimulator(full=True), np.random.default_rng(seed)
    simulator.reset(seed)
    seen, ended = [simulator.observe()], False
    while not ended and len(seen) < steps:
        _, ended = simulator.step(landing(np.array(seen[-1][:PLAIN]), rng))
        seen.append(simulator.observe())
        yield simulator, np.array(seen), ended


def test_its_first_numbers_are_gymnasiums_and_the_others_have_a_meaning_each():
    plain, full = make("lunarlander"), make("lunarlander", observation="full")
    assert full.spec.observation_shape == (PLAIN + len(lander_hidden.MEANINGS),) == (25,)
    generator = np.random.default_rng(0)
    one, other = (env.reset(np.arange(6)) for env in (plain, full))
    for _ in range(60):
        actions = generator.integers(4, size=6)
        (one, first), (other, second) = plain.step(one, actions), full.step(other, actions)
        assert plain.observe(one).tobytes() == full.observe(other)[:, :PLAIN].tobytes()
        assert first.reward.tobytes() == second.reward.tobytes()


@pytest.mark.parametrize("options", [{"simulators": 1}, {"snapshots": False}, {}])
def test_it_keeps_the_protocol_by_replays_and_by_memory_put_back(options):
    check_env(make("lunarlander", observation="full", **options), steps=100, processes=False)


def test_the_timer_tells_when_a_lander_comes_to_rest():
    simulator, seen, ended = list(landed(0))[-1]
    assert ended
    assert not simulator._lander.awake
    timer = seen[:, TIMER]
    # Box2D's 0.5 s are 25 steps: 24 of them stand on the timer before the last one, which puts it back to 0.
    np.testing.assert_allclose(timer[-25:-1], np.arange(1, 25) / 25, rtol=1e-5)
    assert timer[-1] == 0
    still = np.ptp(seen[-25:-1, :PLAIN], axis=0).max()
    assert still < 0.01  # what Gymnasium shows hardly moves all that time


def test_distances_and_slopes_are_those_of_the_terrain():
    for step, (simulator, seen, _) in enumerate(landed(3)):
        if step % 20:
            continue
        scene = simulator._scene
        corners = np.array([edge[0] for edge in scene.sky_polys] + [scene.sky_polys[-1][1]], float)
        for k, body in enumerate((scene.legs[0], scene.lander, scene.legs[1])):
            x, y = body.position
            distance, slope = seen[-1, BELOW][2 * k : 2 * k + 2]
            ground = np.interp(x, *corners.T)
            assert distance == pytest.approx((y - ground) / (200 / 30), abs=1e-6)
            beside = (np.interp(x + 1e-4, *corners.T) - np.interp(x - 1e-4, *corners.T)) / 2e-4
            assert slope == pytest.approx(beside, abs=1e-2) or np.abs(corners[:, 0] - x).min() < 1e-3


def test_joints_and_contacts_are_box2ds():
    touched = 0
    for simulator, seen, _ in landed(1):
        legs = simulator._scene.legs
        expected = [number for leg in legs for number in (leg.joint.angle, leg.joint.speed / 10)]
        np.testing.assert_array_equal(seen[-1, JOINTS], expected)
        points, normal = seen[-1, CONTACTS][[0, 3]], seen[-1, CONTACTS][[1, 4]]
        assert (normal[points == 0] == 0).all()
        touched += int((normal > 0).any())
    assert touched > 20
    # At rest the legs carry the whole: the impulses of a step against gravity's, mass times 10 / 50.
    mass = sum(body.mass for body in (simulator._scene.lander, *legs))
    assert seen[-2, CONTACTS][[1, 4]].sum() == pytest.approx(mass * 10 / 50, rel=0.1)


def test_an_unknown_build_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr("mzprobe.envs.box2d_memory.supported", lambda: False)
    make("lunarlander")
    with pytest.raises(UsageError, match=r"the full observation reads Box2D's sleep timer.*install box2d==2.3.10"):
        make("lunarlander", observation="full")
    with pytest.raises(UsageError, match="observation must be plain or full, not half"):
        make("lunarlander", observation="half")

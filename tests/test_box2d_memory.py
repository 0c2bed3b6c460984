"""Worlds brought back in memory go on as an undisturbed one does, bit for bit; what cannot be restored is refused."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

Box2D = pytest.importorskip("Box2D")

from gymnasium.envs.box2d.lunar_lander import ContactDetector, heuristic  # noqa: E402 - needs Box2D

from mzprobe.envs import box2d_memory  # noqa: E402
from mzprobe.envs.box2d_memory import Snapshot, UnsupportedBuild, WorldMemory, supported  # noqa: E402

if not supported():
    pytest.skip("this build of Box2D is not supported", allow_module_level=True)


class Calm:
    """Stands for the generator once an episode has begun: engines without dispersion."""

    @staticmethod
    def uniform(*_bounds):
        return 0.0


class Recorder(ContactDetector):
    """Gymnasium's listener, which also notes what began and ended."""

    def __init__(self, env):
        super().__init__(env)
        self.events = []

    def note(self, kind, contact):
        bodies = [self.env.moon, self.env.lander, *self.env.legs]
        pair = [bodies.index(fixture.body) for fixture in (contact.fixtureA, contact.fixtureB)]
        self.events.append((kind, *pair, tuple(contact.fixtureA.shape.vertices[0])))

    def BeginContact(self, contact):  # noqa: N802
        self.note("begin", contact)
        super().BeginContact(contact)

    def EndContact(self, contact):  # noqa: N802
        self.note("end", contact)
        super().EndContact(contact)


class Lander:
    """Gymnasium's LunarLander-v3, its memory, and the Python attributes that are not in it."""

    def __init__(self, seed):
        self.env = gymnasium.make("LunarLander-v3").unwrapped
        self.observation, _ = self.env.reset(seed=seed)
        self.env.np_random = Calm()
        self.listener = Recorder(self.env)
        self.env.world.contactListener = self.listener
        self.memory = WorldMemory(self.env.world)

    def step(self, action):
        """One step; all there is to see of it, in floats that hold every bit."""
        env = self.env
        self.listener.events.clear()
        self.observation, reward, ended, _, _ = env.step(action)
        bodies = [
            (*b.position, b.angle, *b.linearVelocity, b.angularVelocity, b.awake) for b in [env.lander, *env.legs]
        ]
        joints = [(leg.joint.angle, leg.joint.speed, leg.joint.GetMotorTorque(50.0)) for leg in env.legs]
        contacts = [
            (c.touching, c.manifold.pointCount, [tuple(p.localPoint) for p in c.manifold.points])
            for c in env.world.contacts
            if c.touching
        ]
        legs = [leg.ground_contact for leg in env.legs]
        return bodies, joints, contacts, legs, env.game_over, reward, ended, tuple(self.listener.events)

    def save(self):
        env = self.env
        return self.memory.save(), [leg.ground_contact for leg in env.legs], env.game_over, env.prev_shaping

    def restore(self, saved):
        snapshot, legs, self.env.game_over, self.env.prev_shaping = saved
        for leg, ground_contact in zip(self.env.legs, legs, strict=True):
            leg.ground_contact = ground_contact
        return self.memory.restore(snapshot)

    def wander(self, rng, steps):
        for action in rng.integers(4, size=steps):
            self.step(int(action))


def undisturbed(seed, *, lands, steps):
    """Actions of an episode, played on beyond its end, and what each step shows."""
    lander = Lander(seed)
    rng = np.random.default_rng(seed)
    actions, seen = [], []
    for _ in range(steps):
        actions.append(int(heuristic(lander.env, lander.observation)) if lands else int(rng.integers(4)))
        seen.append(lander.step(actions[-1]))
    return actions, seen


def phase(step):
    """Where an episode is, from what a step showed."""
    bodies, _, contacts, legs, game_over, *_ = step
    speed = max(abs(value) for body in bodies for value in body[3:6])
    if not bodies[0][6]:
        return "asleep"
    if game_over:
        return "crashed"
    if all(legs):
        return "resting" if speed < 0.01 else "both legs"
    return "one leg" if contacts else "flight"


def turns(seen):
    """Steps at which a phase begins."""
    phases = [phase(step) for step in seen]
    return [t for t in range(1, len(seen)) if phases[t] != phases[t - 1]]


EPISODES = [(seed, False) for seed in range(12)] + [(seed, True) for seed in range(8)]


@pytest.mark.slow
def test_a_restored_world_goes_on_as_the_undisturbed_one():
    visited = set()
    for seed, lands in EPISODES:
        steps = 450 if lands else 160
        actions, seen = undisturbed(seed, lands=lands, steps=steps)
        rng = np.random.default_rng([seed, lands])
        at = {*rng.integers(1, steps, size=6).tolist(), *turns(seen)[:12], *(t + 3 for t in turns(seen)[:12])}
        lander = Lander(seed)
        for t, action in enumerate(actions):
            if t in at:
                visited.add(phase(seen[t - 1]))
                saved = lander.save()
                for _ in range(2):  # a snapshot can be used again
                    lander.wander(rng, int(rng.integers(1, 80)))
                    assert lander.restore(saved)
                    ahead = range(t, min(t + int(rng.integers(1, 60)), steps))
                    assert [lander.step(actions[k]) for k in ahead] == [seen[k] for k in ahead]
                assert lander.restore(saved)
            assert lander.step(action) == seen[t]
    assert visited == {"flight", "one leg", "both legs", "resting", "asleep", "crashed"}


@pytest.mark.parametrize("lands", [False, True])
def test_many_snapshots_are_restored_out_of_order(lands):
    actions, seen = undisturbed(3, lands=lands, steps=400)
    rng = np.random.default_rng(5)
    lander = Lander(3)
    saved = {}
    for t, action in enumerate(actions):
        if t % 7 == 0:
            saved[t] = lander.save()
        lander.step(action)
    for t in rng.choice(list(saved), size=150).tolist():
        assert lander.restore(saved[t])
        end = min(t + int(rng.integers(1, 25)), len(actions))
        assert [lander.step(actions[k]) for k in range(t, end)] == seen[t:end]
        if end < len(actions):
            saved[end] = lander.save()  # taken in a branch, and as good as the first ones
        lander.wander(rng, int(rng.integers(0, 5)))


def test_interleaved_worlds_do_not_disturb_each_other():
    runs = [undisturbed(seed, lands=True, steps=350) for seed in range(3)]
    landers = [Lander(seed) for seed in range(3)]
    saved = [{0: lander.save()} for lander in landers]
    now = [0, 0, 0]
    rng = np.random.default_rng(0)
    for _ in range(300):
        i = int(rng.integers(3))
        if rng.random() < 0.3:
            now[i] = int(rng.choice(list(saved[i])))
            assert landers[i].restore(saved[i][now[i]])
        for _ in range(int(rng.integers(1, 30))):
            if now[i] < 350:
                assert landers[i].step(runs[i][0][now[i]]) == runs[i][1][now[i]]
                now[i] += 1
        saved[i][now[i]] = landers[i].save()
        other = int(rng.integers(3))
        assert other == i or not landers[other].memory.restore(saved[i][now[i]][0])


def test_a_contact_that_touched_when_saved_ends_again():
    lander = Lander(0)
    while not all(leg.ground_contact for leg in lander.env.legs):
        lander.step(int(heuristic(lander.env, lander.observation)))
    saved = lander.save()
    up = [lander.step(2) for _ in range(60)]
    assert sum(event[0] == "end" for step in up for event in step[-1]) >= 2
    assert not any(leg.ground_contact for leg in lander.env.legs)
    down = [lander.step(0) for _ in range(250)]
    assert any(event[0] == "begin" for step in down for event in step[-1])
    assert lander.restore(saved)
    assert [lander.step(2) for _ in range(60)] == up
    assert [lander.step(0) for _ in range(250)] == down


def test_the_scene_before_its_first_contact_comes_back_after_many():
    actions, seen = undisturbed(1, lands=False, steps=300)
    lander = Lander(1)
    assert lander.env.world.contactCount == 0
    saved = lander.save()
    for _ in range(5):
        assert [lander.step(action) for action in actions] == seen
        assert lander.env.world.contactCount > 0
        assert lander.restore(saved)
        assert lander.env.world.contactCount == 0


@pytest.mark.slow
def test_memory_holds_under_many_saves_and_restores_and_when_worlds_go():
    code = """
import gc, resource
import gymnasium, numpy as np
from mzprobe.envs.box2d_memory import WorldMemory
rng = np.random.default_rng(0)
env = gymnasium.make("LunarLander-v3").unwrapped
env.reset(seed=0)
memory = WorldMemory(env.world)
saved = [memory.save() for _ in range(50)]
for cycle in range(20_000):
    if cycle == 4_000:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if cycle % 2:
        saved[rng.integers(50)] = memory.save()
    else:
        assert memory.restore(saved[rng.integers(50)])
    env.step(int(rng.integers(4)))
    if cycle % 500 == 0:  # many begin in the air
        env.lander.awake = True
growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert growth < 2048, growth  # KiB
assert memory.restore(saved[0])
old = env.world
env.reset(seed=1)  # destroys the bodies of the old world
assert not memory.restore(saved[0])
for order in range(30):
    env = gymnasium.make("LunarLander-v3").unwrapped
    env.reset(seed=order)
    memory = WorldMemory(env.world)
    start = memory.save()
    for _ in range(120):
        env.step(int(rng.integers(4)))
    assert memory.restore(start)
    for _ in range(order):
        env.step(2)
    if order % 3 == 0:
        del memory
    elif order % 3 == 1:
        env.reset()
    else:
        env.close()
    gc.collect()
print("whole")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")


def image(lander):
    return b"".join(lander.memory._state)


def add_a_body(env):
    env.world.CreateDynamicBody(position=(1, 1), fixtures=Box2D.b2FixtureDef(shape=Box2D.b2CircleShape(radius=0.1)))


def add_and_destroy_bodies(env):
    bodies = [env.world.CreateDynamicBody(position=(k, 1)) for k in range(3)]
    for body in bodies:
        env.world.DestroyBody(body)


def replace_a_joint(env):
    env.world.DestroyJoint(env.legs[0].joint)
    env.world.CreateDistanceJoint(
        bodyA=env.lander, bodyB=env.legs[0], anchorA=env.lander.position, anchorB=env.legs[0].position
    )


def set_user_data(env):
    env.lander.userData = object()


def change_friction(env):
    env.lander.fixtures[0].friction = 0.9


def remove_a_fixture(env):
    env.moon.DestroyFixture(env.moon.fixtures[3])


@pytest.mark.parametrize(
    "change", [add_a_body, add_and_destroy_bodies, replace_a_joint, set_user_data, change_friction, remove_a_fixture]
)
def test_a_world_with_other_bodies_is_left_as_it_is(change):
    lander = Lander(0)
    saved = lander.save()
    lander.wander(np.random.default_rng(0), 50)
    change(lander.env)
    before = image(lander)
    assert not lander.restore(saved)
    assert image(lander) == before
    with pytest.raises(RuntimeError, match="between steps"):
        lander.memory.save()


def test_a_snapshot_belongs_to_one_world():
    one, other = Lander(0), Lander(0)
    snapshot = one.memory.save()
    before = image(other)
    assert not other.memory.restore(snapshot)
    assert not other.memory.restore(Snapshot(object(), snapshot.data))
    assert not WorldMemory(one.env.world).restore(snapshot)
    assert image(other) == before


def test_a_step_under_way_is_neither_saved_nor_restored():
    lander = Lander(1)
    saved = lander.memory.save()
    outcomes = []

    class Meddling(ContactDetector):
        def BeginContact(self, _contact):  # noqa: N802
            with pytest.raises(RuntimeError, match="between steps"):
                lander.memory.save()
            with pytest.raises(UnsupportedBuild):
                WorldMemory(lander.env.world)
            outcomes.append(lander.memory.restore(saved))

    lander.env.world.contactListener = listener = Meddling(lander.env)
    for _ in range(200):
        lander.env.step(0)
    assert outcomes
    assert not any(outcomes)
    assert lander.memory.restore(saved)
    del listener


def test_a_snapshot_is_small():
    assert len(Lander(0).memory.save().data) < 16 * 1024


def test_another_version_is_not_supported(monkeypatch):
    world = Box2D.b2World()
    monkeypatch.setattr(box2d_memory, "_VERSION", "2.3.9")
    box2d_memory._allocator.cache_clear()
    supported.cache_clear()
    assert not supported()
    with pytest.raises(UnsupportedBuild, match=r"2\.3\.9"):
        WorldMemory(world)
    monkeypatch.undo()
    supported.cache_clear()
    assert supported()


@pytest.mark.parametrize(
    "name", ["_ALLOCATOR", "_BODIES", "_JOINT_COUNT", "_GRAVITY", "_PROXY_COUNT", "_NODES", "_BODY"]
)
def test_another_layout_is_refused(monkeypatch, name):
    lander = Lander(0)
    before = image(lander)
    monkeypatch.setattr(box2d_memory, name, getattr(box2d_memory, name) + 8 + 32 * (name == "_BODY"))
    with pytest.raises(UnsupportedBuild, match="as expected"):
        WorldMemory(lander.env.world)
    assert image(lander) == before

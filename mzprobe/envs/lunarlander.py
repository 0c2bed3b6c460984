"""Lunar Lander without chance after the start: Gymnasium's scene in Box2D, stepped with no engine dispersion."""

import math
import warnings
from functools import partial
from typing import Any, Literal, NamedTuple

from mzprobe.envs import box2d_memory, lander_hidden
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.envs.scenes import lander_drawing
from mzprobe.envs.shapes import Drawing
from mzprobe.envs.simulators import SimulatorEnvironment
from mzprobe.errors import UsageError

# Gymnasium's constants; m is Box2D's unit of length, of which the view has 20 by 13.3.
_SCALE = 30.0  # pixels / m
_FPS = 50  # steps / s
_HALF_WIDTH = 600 / _SCALE / 2  # m, of the view
_HALF_HEIGHT = 400 / _SCALE / 2  # m
_LEG_DOWN = 18 / _SCALE  # m
_MAIN_POWER, _SIDE_POWER = 13.0, 0.6
_MAIN_OFFSET = 4.0 / _SCALE  # m, of the main engine below the lander's position
_SIDE_AWAY = 12.0 / _SCALE  # m, of the side engines from the middle
_SIDE_HEIGHT = 14.0 / _SCALE  # m, as Gymnasium has it upwards
_SIDE_SHIFT = 17 / _SCALE  # m, as Gymnasium has it sidewards
_MAIN_FUEL, _SIDE_FUEL = 0.30, 0.03  # reward a step
_ITERATIONS = 6 * 30, 2 * 30  # of Box2D's solver, for velocities and for positions
_NOTHING, _LEFT, _MAIN, _RIGHT = range(4)


def scene_class() -> Any:
    """Gymnasium's LunarLander.

    Raises:
        UsageError: if Box2D is not installed.
    """
    from gymnasium.error import DependencyNotInstalled

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's types warn as they are made, and crash where that is an error
        try:
            import Box2D  # noqa: F401
            from gymnasium.envs.box2d.lunar_lander import LunarLander as Scene
        except (ImportError, DependencyNotInstalled):  # the latter is Gymnasium's, for Box2D and for pygame
            raise UsageError(
                "the environment 'lunarlander' needs Box2D and pygame: pip install 'mzprobe[box2d]'"
            ) from None
    return Scene


class LanderSimulator:
    """One lander. Gymnasium builds the scene, this steps it: impulses, Box2D, the eight numbers, and no more.

    Args:
        snapshots: whether to save the memory of worlds, where it is known, so that they can be put back.
        full: whether to observe what is hidden too.
    """

    def __init__(self, *, snapshots: bool = True, full: bool = False) -> None:
        self._scene: Any = scene_class()()
        self._snapshots = snapshots and box2d_memory.supported()
        self._full = full
        self._hidden: lander_hidden.Hidden | None = None  # of this world, where it is observed
        self._memory: box2d_memory.WorldMemory | None = None  # of this world, once it is to be saved
        self._seen: tuple[float, ...] = ()
        self._shaping = 0.0  # Gymnasium's potential where the lander is, of which rewards are differences
        self._looked = False  # whether both are of where it is now

    def reset(self, seed: int) -> None:
        """A new world: terrain and initial push by the seed, as `reset(seed=...)` in Gymnasium."""
        scene = self._scene
        scene.reset(seed=seed)
        self._memory = None
        self._world, self._lander = scene.world, scene.lander
        self._left_leg, self._right_leg = scene.legs
        self._ground = scene.helipad_y + _LEG_DOWN
        self._hidden = lander_hidden.Hidden(scene, _HALF_HEIGHT) if self._full else None
        self._look()

    def advance(self, action: int) -> None:
        """One step of which nothing is looked at, before the last of them."""
        self._fire(action)
        self._world.Step(1.0 / _FPS, *_ITERATIONS)
        self._looked = False

    def step(self, action: int) -> tuple[float, bool]:
        """One step: reward, and whether the lander crashed, left the view or came to rest."""
        if not self._looked:
            self._look()
        before = self._shaping
        self._fire(action)
        self._world.Step(1.0 / _FPS, *_ITERATIONS)
        self._look()
        reward = self._shaping - before
        if action == _MAIN:
            reward -= _MAIN_FUEL
        elif action != _NOTHING:
            reward -= _SIDE_FUEL
        if not self._lander.awake:
            return 100.0, True
        if self._scene.game_over or abs(self._seen[0]) >= 1.0:
            return -100.0, True
        return reward, False

    def observe(self) -> tuple[float, ...]:
        """Position and velocity (x, y), angle, angular velocity in Gymnasium's scaling, and contact of the legs.

        What is hidden comes after them, where it is observed.
        """
        if not self._looked:
            self._look()
        return self._seen if self._hidden is None else (*self._seen, *self._hidden.look())

    def save(self) -> "_Saved | None":
        """Box2D's memory, and what Gymnasium keeps beside it."""
        if not self._snapshots:
            return None
        if self._memory is None:
            try:
                self._memory = box2d_memory.WorldMemory(self._world)
            except box2d_memory.UnsupportedBuild:
                self._snapshots = False
                return None
        contacts = self._left_leg.ground_contact, self._right_leg.ground_contact
        return _Saved(self._memory.save(), *contacts, self._scene.game_over)

    def restore(self, saved: "_Saved") -> bool:
        """Goes back within this world."""
        if self._memory is None or not self._memory.restore(saved.world):
            return False
        self._left_leg.ground_contact, self._right_leg.ground_contact = saved.left_contact, saved.right_contact
        self._scene.game_over = saved.crashed
        self._looked = False
        return True

    def _look(self) -> None:
        lander = self._lander
        position, velocity = lander.position, lander.linearVelocity
        left = 1.0 if self._left_leg.ground_contact else 0.0
        right = 1.0 if self._right_leg.ground_contact else 0.0
        x = (position.x - _HALF_WIDTH) / _HALF_WIDTH
        y = (position.y - self._ground) / _HALF_HEIGHT
        x_dot = velocity.x * _HALF_WIDTH / _FPS
        y_dot = velocity.y * _HALF_HEIGHT / _FPS
        angle = lander.angle
        self._seen = (x, y, x_dot, y_dot, angle, 20.0 * lander.angularVelocity / _FPS, left, right)
        self._shaping = (
            -100 * math.sqrt(x * x + y * y)
            - 100 * math.sqrt(x_dot * x_dot + y_dot * y_dot)
            - 100 * abs(angle)
            + 10 * left
            + 10 * right
        )
        self._looked = True

    def _fire(self, action: int) -> None:
        if action == _NOTHING:
            return
        lander = self._lander
        sine, cosine = math.sin(lander.angle), math.cos(lander.angle)
        position = lander.position
        if action == _MAIN:
            across, up = sine * _MAIN_OFFSET, -cosine * _MAIN_OFFSET
            point = (position.x + across, position.y + up)
            power = _MAIN_POWER
        else:
            arm = (action - 2) * _SIDE_AWAY
            across, up = -cosine * arm, -sine * arm
            point = (position.x + across - sine * _SIDE_SHIFT, position.y + up + cosine * _SIDE_HEIGHT)
            power = _SIDE_POWER
        lander.ApplyLinearImpulse((-across * power, -up * power), point, True)


class _Saved(NamedTuple):
    """Where a lander was."""

    world: box2d_memory.Snapshot
    left_contact: bool
    right_contact: bool
    crashed: bool


class LunarLander(SimulatorEnvironment):
    """Land between two flags: Gymnasium's LunarLander-v3, its engine dispersion zero and without wind.

    Observations, rewards and ends equal Gymnasium's bit for bit where its random draws after the start are zero; the
    initial push and the terrain still come from the seed.

    Args:
        gamma: discount, in (0, 1].
        time_limit: steps after which whoever plays calls the episode truncated.
        simulators: most worlds that are alive at once: about 0.1 MB each, 0.3 MB where it is branched from.
        snapshots: whether worlds that are branched from are put back by copying Box2D's memory, where its build is
            known, instead of being replayed; no number depends on it.
        observation: `plain`, Gymnasium's eight numbers, or `full`, which has what they hide too (`lander_hidden`):
            the legs' joints, the ground below, contacts and the sleep timer.

    Raises:
        UsageError: if Box2D is not installed, or is not the one whose sleep timer can be read.
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        gamma: float = 0.999,
        time_limit: int = 1000,
        simulators: int = 512,
        snapshots: bool = True,
        observation: Literal["plain", "full"] = "plain",
    ) -> None:
        scene_class()  # or it says at once what is missing
        if observation not in ("plain", "full"):
            raise ValueError(f"observation must be plain or full, not {observation}")
        full = observation == "full"
        if full and not box2d_memory.supported():
            raise UsageError(
                "the full observation reads Box2D's sleep timer, which is known for version 2.3.10 on 64-bit machines "
                "alone: install box2d==2.3.10, or leave observation=full out"
            )
        spec = EnvironmentSpec(
            name="lunarlander",
            observation_shape=(8 + full * lander_hidden.SIZE,),
            num_actions=4,
            gamma=gamma,
            time_limit=time_limit,
            action_meanings=("nothing", "left engine", "main engine", "right engine"),
            source="Gymnasium LunarLander-v3 without engine dispersion" + full * ", with what it does not observe",
        )
        super().__init__(spec, partial(LanderSimulator, snapshots=snapshots, full=full), simulators=simulators)

    def draw(self, states: Any) -> list[Drawing]:
        """What they look like, as far as it is observed: the ground is not."""
        return [
            lander_drawing(
                x * _HALF_WIDTH,
                y * _HALF_HEIGHT,
                angle,
                left=left > 0,
                right=right > 0,
                half_width=_HALF_WIDTH,
                half_height=_HALF_HEIGHT,
            )
            for x, y, _, _, angle, _, left, right in self.observe(states)[:, :8].tolist()
        ]

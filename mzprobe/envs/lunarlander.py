"""Lunar Lander that is deterministic after the start: Gymnasium's scene in Box2D, without engine dispersion."""

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

# Gymnasium's constants; m is Box2D's unit of length; the view is 20 by 13.3 m.
_SCALE = 30.0  # pixels / m
_FPS = 50  # steps / s
_HALF_WIDTH = 600 / _SCALE / 2  # m, of the view
_HALF_HEIGHT = 400 / _SCALE / 2  # m
_LEG_DOWN = 18 / _SCALE  # m
_MAIN_POWER, _SIDE_POWER = 13.0, 0.6
_MAIN_OFFSET = 4.0 / _SCALE  # m, of the main engine below the lander's position
_SIDE_AWAY = 12.0 / _SCALE  # m, distance of the side engines from the middle
_SIDE_HEIGHT = 14.0 / _SCALE  # m, upwards, as in Gymnasium
_SIDE_SHIFT = 17 / _SCALE  # m, sideways, as in Gymnasium
_MAIN_FUEL, _SIDE_FUEL = 0.30, 0.03  # cost in reward per step
_ITERATIONS = 6 * 30, 2 * 30  # iterations of Box2D's solver for velocities and for positions
_NOTHING, _LEFT, _MAIN, _RIGHT = range(4)


def scene_class() -> Any:
    """Returns Gymnasium's LunarLander class.

    Raises:
        UsageError: if Box2D or pygame is not installed.
    """
    from gymnasium.error import DependencyNotInstalled

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's types warn when they are made, and crash where warnings are errors
        try:
            import Box2D  # noqa: F401
            from gymnasium.envs.box2d.lunar_lander import LunarLander as Scene
        except (ImportError, DependencyNotInstalled):  # Gymnasium raises the latter for Box2D and for pygame
            raise UsageError(
                "the environment 'lunarlander' needs Box2D and pygame: pip install 'mzprobe[box2d]'"
            ) from None
    return Scene


class LanderSimulator:
    """Simulator of one lander in a scene that Gymnasium builds; a step only applies impulses, steps Box2D and observes.

    Args:
        snapshots: whether to save the memory of worlds, if its layout is known, so that they can be restored.
        full: whether to observe the hidden numbers too.
    """

    def __init__(self, *, snapshots: bool = True, full: bool = False) -> None:
        self._scene: Any = scene_class()()
        self._snapshots = snapshots and box2d_memory.supported()
        self._full = full
        self._hidden: lander_hidden.Hidden | None = None  # reader of this world; None if not observed
        self._memory: box2d_memory.WorldMemory | None = None  # memory of this world; None before the first save
        self._seen: tuple[float, ...] = ()
        self._shaping = 0.0  # Gymnasium's potential of the lander's state; rewards are its differences
        self._looked = False  # whether both are those of the current state

    def reset(self, seed: int) -> None:
        """Begins a new world, with terrain and initial push by the seed, as `reset(seed=...)` in Gymnasium."""
        scene = self._scene
        scene.reset(seed=seed)
        self._memory = None
        self._world, self._lander = scene.world, scene.lander
        self._left_leg, self._right_leg = scene.legs
        self._ground = scene.helipad_y + _LEG_DOWN
        self._hidden = lander_hidden.Hidden(scene, _HALF_HEIGHT) if self._full else None
        self._look()

    def advance(self, action: int) -> None:
        """Takes a step without computing its reward, end and observation."""
        self._fire(action)
        self._world.Step(1.0 / _FPS, *_ITERATIONS)
        self._looked = False

    def step(self, action: int) -> tuple[float, bool]:
        """Takes a step; returns its reward, and whether the lander crashed, left the view or came to rest."""
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
        """Returns position and velocity (x, y), angle and angular velocity in Gymnasium's scaling, and leg contacts.

        The hidden numbers follow if they are observed.
        """
        if not self._looked:
            self._look()
        return self._seen if self._hidden is None else (*self._seen, *self._hidden.look())

    def save(self) -> "_Saved | None":
        """Saves Box2D's memory and what Gymnasium keeps beside it; returns None if worlds are not saved."""
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
        """Goes back to a saved state of this world; returns whether that was possible."""
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
    """Saved state of a lander."""

    world: box2d_memory.Snapshot
    left_contact: bool
    right_contact: bool
    crashed: bool


class LunarLander(SimulatorEnvironment):
    """Land between two flags: Gymnasium's LunarLander-v3, with zero engine dispersion and without wind.

    Observations, rewards and ends equal Gymnasium's bit for bit where its random draws after the start are zero; the
    initial push and the terrain still come from the seed.

    Args:
        gamma: discount, in (0, 1].
        time_limit: steps after which the caller truncates an episode.
        simulators: largest number of worlds alive at once, of about 0.1 MB each, or 0.3 MB if they are branched from.
        snapshots: whether worlds that are branched from are restored by copying Box2D's memory, if its build is known,
            instead of being replayed; results do not depend on it.
        observation: `plain`, Gymnasium's eight numbers, or `full`, which adds what they hide (`lander_hidden`):
            the legs' joints, the ground below, contacts and the sleep timer.

    Raises:
        UsageError: if Box2D is not installed, or `full` is observed and this Box2D's sleep timer cannot be read.
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
        scene_class()  # raises at once if a package is missing
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
        """Returns one drawing per state; it leaves out the ground, which is not observed."""
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

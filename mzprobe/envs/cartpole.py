"""CartPole that equals Gymnasium's CartPole-v1 bit for bit, and steps a batch of states at a time."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mzprobe._kernel import inlined, kernel
from mzprobe.envs.core import Bool, EnvironmentSpec, Float32, Float64, Int64, Outcome
from mzprobe.envs.scenes import cartpole_drawing
from mzprobe.envs.shapes import Drawing
from mzprobe.envs.states import ArrayStates
from mzprobe.envs.validation import valid_actions, valid_seeds, valid_sequences, valid_spec

_GRAVITY = 9.8  # m / s^2
_MASS_POLE = 0.1  # kg
_MASS_TOTAL = 0.1 + 1.0  # kg, pole and cart
_LENGTH = 0.5  # m, half the pole
_POLE_MASS_LENGTH = _MASS_POLE * _LENGTH  # kg m
_FORCE = 10.0  # N
_TAU = 0.02  # s, one step
_POSITION_LIMIT = 2.4  # m
_ANGLE_LIMIT = 12 * 2 * math.pi / 360  # rad
_START_BOUND = 0.05  # every component of a start is uniform in +-0.05


@dataclass(frozen=True, eq=False)
class CartPoleStates(ArrayStates):
    """A batch of cart-pole states; the arrays become read-only."""

    position: Float64  # [B, 4]: cart position (m), its velocity (m/s), pole angle (rad), its velocity (rad/s)
    done: Bool  # [B], whether the state is terminal


@inlined
def advance(
    x: float, x_dot: float, theta: float, theta_dot: float, action: int
) -> tuple[float, float, float, float, bool]:
    """Makes one Euler step of one state, with operations in Gymnasium's order; for use inside other kernels.

    Args:
        x: cart position, m.
        x_dot: cart velocity, m/s.
        theta: pole angle from upright, rad.
        theta_dot: pole velocity, rad/s.
        action: 0 pushes left, 1 pushes right.

    Returns:
        The next four numbers in the same units, and whether that state is terminal.
    """
    force = _FORCE if action == 1 else -_FORCE
    cosine = math.cos(theta)
    sine = math.sin(theta)
    # Gymnasium squares with np.square, which is one multiplication; `**` could become a call to pow.
    temp = (force + _POLE_MASS_LENGTH * (theta_dot * theta_dot) * sine) / _MASS_TOTAL
    theta_acceleration = (_GRAVITY * sine - cosine * temp) / (
        _LENGTH * (4.0 / 3.0 - _MASS_POLE * (cosine * cosine) / _MASS_TOTAL)
    )
    x_acceleration = temp - _POLE_MASS_LENGTH * theta_acceleration * cosine / _MASS_TOTAL
    next_x = x + _TAU * x_dot
    next_x_dot = x_dot + _TAU * x_acceleration
    next_theta = theta + _TAU * theta_dot
    next_theta_dot = theta_dot + _TAU * theta_acceleration
    fallen = (
        next_x < -_POSITION_LIMIT or next_x > _POSITION_LIMIT or next_theta < -_ANGLE_LIMIT or next_theta > _ANGLE_LIMIT
    )
    return next_x, next_x_dot, next_theta, next_theta_dot, fallen


@kernel
def _step_batch(position: Float64, done: Bool, actions: Int64) -> tuple[Float64, Bool, Float64]:
    """Steps every state that is not terminal; returns next `[B, 4]`, terminal `[B]` and reward `[B]`."""
    batch = actions.shape[0]
    next_position = np.empty((batch, 4), dtype=np.float64)
    next_done = np.empty(batch, dtype=np.bool_)
    reward = np.empty(batch, dtype=np.float64)
    for i in range(batch):
        if done[i]:
            next_position[i, :] = position[i, :]
            next_done[i] = True
            reward[i] = 0.0
        else:
            x, x_dot, theta, theta_dot, fallen = advance(
                position[i, 0], position[i, 1], position[i, 2], position[i, 3], actions[i]
            )
            next_position[i, 0] = x
            next_position[i, 1] = x_dot
            next_position[i, 2] = theta
            next_position[i, 3] = theta_dot
            next_done[i] = fallen
            reward[i] = 1.0
    return next_position, next_done, reward


@kernel
def _rewards_along(position: Float64, done: Bool, actions: Int64) -> Float64:
    """Returns the rewards `[B, T]` along actions `[B, T]` from positions `[B, 4]`."""
    rewards = np.zeros(actions.shape)
    for i in range(actions.shape[0]):
        x, x_dot, theta, theta_dot = position[i, 0], position[i, 1], position[i, 2], position[i, 3]
        ended = done[i]
        for t in range(actions.shape[1]):
            if ended:
                break
            x, x_dot, theta, theta_dot, ended = advance(x, x_dot, theta, theta_dot, actions[i, t])
            rewards[i, t] = 1.0
    return rewards


def _start(seed: int) -> Float64:
    """Returns the start that Gymnasium draws for a seed, `[4]`."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return generator.uniform(-_START_BOUND, _START_BOUND, size=4)


class CartPole:
    """Balance a pole on a cart, for a reward of 1 per step, including the one that ends the episode.

    Resets, float64 states, observations, rewards and ends equal those of Gymnasium's CartPole-v1 for the same
    seed and actions, wherever numba and NumPy agree on every sine and cosine, which the tests assert.

    Args:
        gamma: discount, in (0, 1].
        time_limit: steps after which the caller truncates an episode.

    Raises:
        ValueError: if the discount or the time limit is out of range.
    """

    def __init__(self, gamma: float = 0.997, time_limit: int = 500) -> None:
        self._spec = valid_spec(
            EnvironmentSpec(
                name="cartpole",
                observation_shape=(4,),
                num_actions=2,
                gamma=gamma,
                time_limit=time_limit,
                action_meanings=("push left", "push right"),
                source="Gymnasium CartPole-v1",
            )
        )

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        return self._spec

    def reset(self, seeds: ArrayLike) -> CartPoleStates:
        """Starts fresh episodes: seeds `[B]`, each the same start as `reset(seed=...)` in Gymnasium.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
        """
        numbers = valid_seeds(seeds)
        position = np.array([_start(int(seed)) for seed in numbers]).reshape(-1, 4)
        return CartPoleStates(position, np.zeros(len(numbers), dtype=np.bool_))

    def step(self, states: CartPoleStates, actions: ArrayLike) -> tuple[CartPoleStates, Outcome]:
        """Applies actions `[B]` (0 left, 1 right); a terminal state stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action per state, or an action is neither 0 nor 1.
        """
        chosen = valid_actions(actions, batch=len(states), num_actions=2)
        position, done, reward = _step_batch(states.position, states.done, chosen)
        return CartPoleStates(position, done), Outcome(reward=reward, terminated=done)

    def rewards_along(self, states: CartPoleStates, actions: ArrayLike) -> Float64:
        """Returns the rewards `[B, T]` along action sequences `[B, T]`, equal to those of T calls of `step`.

        Raises:
            ValueError: if there is not one sequence per state, or an action is neither 0 nor 1.
        """
        chosen = valid_sequences(actions, batch=len(states), num_actions=2)
        return _rewards_along(states.position, states.done, chosen)

    def observe(self, states: CartPoleStates) -> Float32:
        """Returns the states rounded to float32, `[B, 4]`, in the same units."""
        return states.position.astype(np.float32)

    def terminal(self, states: CartPoleStates) -> Bool:
        """Whether the cart has left the track or the pole has fallen, bool `[B]`."""
        return states.done

    def draw(self, states: CartPoleStates) -> list[Drawing]:
        """Returns one drawing per state."""
        return [
            cartpole_drawing(float(x), float(theta), track=_POSITION_LIMIT, pole=2 * _LENGTH)
            for x, theta in states.position[:, [0, 2]]
        ]

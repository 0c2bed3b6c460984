"""MinAtar's Breakout (Young and Tian 2019) without sticky actions, thousands of states at a time.

The board is 10 by 10. A ball flies along diagonals, turns back at walls, at bricks and at the paddle, which moves along
the lowest row. A brick that is hit disappears and pays 1. When none is left, three new rows appear as soon as the ball
comes down to the paddle's row. The episode ends when the ball reaches the lowest row beside the paddle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe._kernel import inlined, kernel
from mzprobe.envs.core import Bool, EnvironmentSpec, Float64, Int64, Outcome
from mzprobe.envs.scenes import board_pixels
from mzprobe.envs.shapes import Pixels
from mzprobe.envs.states import ArrayStates
from mzprobe.envs.validation import valid_actions, valid_seeds, valid_sequences, valid_spec

SIZE = 10
_ROWS = 3  # rows of bricks, below a free one
_BRICKS = (1 << _ROWS * SIZE) - 1  # one bit per brick, row by row from the upper left
_PADDLE, _BALL, _TRAIL, _BRICK, _STRIKE = range(5)  # channels
CHANNELS = ("paddle", "ball", "trail", "brick", "strike")

_X, _Y, _LAST_X, _LAST_Y, _RIGHT, _DOWN, _AT, _STRUCK = range(8)  # columns of `BreakoutStates.numbers`

Small = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class BreakoutStates(ArrayStates):
    """A batch of boards; the arrays become read-only."""

    numbers: Small  # [B, 8]: ball x and y, the same a step ago, whether it flies right and down, paddle x, strike
    bricks: Int64  # [B], one bit per brick
    done: Bool  # [B], whether the ball is lost


@inlined
def _advance(
    x: int, y: int, right: int, down: int, at: int, struck: int, bricks: int, action: int
) -> tuple[int, int, int, int, int, int, int, float, bool]:
    """Steps one board; returns its numbers but the ball's previous place, bricks, reward and whether it is over."""
    # No branches, since most would be mispredicted: bits are and-ed, and one of two numbers is selected.
    at = min(max(at + int(action == 2) - int(action == 1), 0), SIZE - 1)
    next_x, next_y = x + 2 * right - 1, y + 2 * down - 1
    side = int(next_x < 0) | int(next_x >= SIZE)
    next_x = x if side else next_x
    right ^= side
    top, bottom = int(next_y < 0), int(next_y == SIZE - 1)
    place = ((next_y - 1) * SIZE + next_x) & 31  # bit of the brick there, in the rows of bricks
    hit = int(next_y >= 1) & int(next_y <= _ROWS) & (bricks >> place) & 1
    pays = hit & (1 - struck)  # right after a hit, the ball flies through bricks until it has been at a free place
    bricks ^= pays << place
    bricks = _BRICKS if bottom & int(bricks == 0) else bricks
    flat = bottom & int(x == at)
    corner = bottom & (1 - flat) & int(next_x == at)
    right ^= corner
    back = pays | flat | corner
    down ^= top | back
    next_y = 0 if top else y if back else next_y
    reward, lost = float(pays), bottom & (1 - flat) & (1 - corner) == 1
    return next_x, next_y, right, down, at, hit, bricks, reward, lost


@inlined
def _unpacked(board: int) -> tuple[int, int, int, int, int, int]:
    """Unpacks a board's numbers but the ball's previous place from an integer of eight bytes, lowest byte first."""
    x, y, right, down = board & 255, board >> 8 & 255, board >> 32 & 255, board >> 40 & 255
    return x, y, right, down, board >> 48 & 255, board >> 56


@inlined
def _packed(x: int, y: int, last_x: int, last_y: int, right: int, down: int, at: int, struck: int) -> int:
    """Packs the numbers of a board into an integer of eight bytes, lowest byte first."""
    return x | y << 8 | last_x << 16 | last_y << 24 | right << 32 | down << 40 | at << 48 | struck << 56


@kernel
def _step_batch(numbers: Small, bricks: Int64, done: Bool, actions: Int64) -> tuple[Small, Int64, Bool, Float64]:
    """Steps every board that has not ended; returns the next numbers, bricks and ends, and rewards `[B]`."""
    following, left = np.empty_like(numbers), np.empty_like(bricks)
    ended, rewards = np.empty_like(done), np.empty(actions.shape[0])
    # A board's numbers are one integer here, and nothing branches, so that eight boards are stepped at once (SIMD).
    boards = numbers.reshape(numbers.size).view(np.int64)
    after = following.reshape(following.size).view(np.int64)
    for i in range(actions.shape[0]):
        board, standing, over = boards[i], bricks[i], done[i]
        x, y, right, down, at, struck = _unpacked(board)
        next_x, next_y, right, down, at, hit, bricks_left, reward, lost = _advance(
            x, y, right, down, at, struck, standing, actions[i]
        )
        after[i] = board if over else _packed(next_x, next_y, x, y, right, down, at, hit)
        left[i] = standing if over else bricks_left
        rewards[i] = 0.0 if over else reward
        ended[i] = over | lost
    return following, left, ended, rewards


@kernel
def _rewards_along(numbers: Small, bricks: Int64, done: Bool, actions: Int64) -> Float64:
    """Returns the rewards `[B, T]` along actions `[B, T]`."""
    rewards = np.zeros(actions.shape)
    for i in range(actions.shape[0]):
        x, y = int(numbers[i, _X]), int(numbers[i, _Y])
        right, down = int(numbers[i, _RIGHT]), int(numbers[i, _DOWN])
        at, struck = int(numbers[i, _AT]), int(numbers[i, _STRUCK])
        left, lost = bricks[i], done[i]
        for t in range(actions.shape[1]):
            if lost:
                break
            x, y, right, down, at, struck, left, rewards[i, t], lost = _advance(
                x, y, right, down, at, struck, left, actions[i, t]
            )
    return rewards


@kernel
def _observe(numbers: Small, bricks: Int64) -> Bool:
    """Returns boards `[B, 10, 10, 4]`, with all channels but the last."""
    B = numbers.shape[0]
    seen = np.empty((B, SIZE, SIZE, _STRIKE), np.bool_)
    # A place's four channels are one integer here, the first lowest, so that a row of bricks is written at once (SIMD).
    places = seen.reshape(seen.size).view(np.uint32).reshape(B, SIZE * SIZE)
    for i in range(B):
        board, place, standing = numbers[i], places[i], bricks[i]
        for j in range(SIZE * SIZE):
            place[j] = 0
        for brick in range(_ROWS * SIZE):
            place[SIZE + brick] = (standing >> brick & 1) << 8 * _BRICK
        place[SIZE * (SIZE - 1) + board[_AT]] |= 1 << 8 * _PADDLE
        place[SIZE * board[_Y] + board[_X]] |= 1 << 8 * _BALL
        place[SIZE * board[_LAST_Y] + board[_LAST_X]] |= 1 << 8 * _TRAIL
    return seen


class MinAtarBreakout:
    """Breakout on a board of 10 by 10, for a reward of 1 per brick.

    States, observations, rewards and ends equal those of the package MinAtar 1.0.15 without sticky actions, for the
    same seed and actions. Its observations leave out one bit of the state: whether the ball has met a brick in the
    last step, after which it flies through the next one.

    Args:
        gamma: discount, in (0, 1].
        time_limit: steps after which the caller truncates an episode; MinAtar itself has no limit.
        strike: whether that bit is observed too, as a fifth channel.

    Raises:
        ValueError: if the discount or the time limit is out of range.
    """

    def __init__(self, gamma: float = 0.997, time_limit: int = 2500, *, strike: bool = False) -> None:
        self.channels = CHANNELS if strike else CHANNELS[:-1]
        self._spec = valid_spec(
            EnvironmentSpec(
                name="minatar-breakout",
                observation_shape=(SIZE, SIZE, len(self.channels)),
                observation_dtype="bool",
                num_actions=3,
                gamma=gamma,
                time_limit=time_limit,
                action_meanings=("nothing", "left", "right"),
                source=f"MinAtar 1.0.15 breakout without sticky actions{', strike observed' if strike else ''}",
            )
        )

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        return self._spec

    def reset(self, seeds: ArrayLike) -> BreakoutStates:
        """Starts fresh episodes: seeds `[B]`, each the same start as MinAtar's environment has after `seed(seed)`.

        There are two starts: the ball comes from the left or from the right.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
        """
        numbers = valid_seeds(seeds)
        from_right = np.array([_side(seed) for seed in numbers.tolist()], np.int8).reshape(-1)
        x = from_right * (SIZE - 1)
        y, one, none = (np.full(len(numbers), value, np.int8) for value in (_ROWS, 1, 0))
        paddle = np.full(len(numbers), SIZE // 2 - 1, np.int8)
        board = np.stack([x, y, x, y, 1 - from_right, one, paddle, none], axis=1).astype(np.int8)
        return BreakoutStates(board, np.full(len(numbers), _BRICKS), np.zeros(len(numbers), np.bool_))

    def step(self, states: BreakoutStates, actions: ArrayLike) -> tuple[BreakoutStates, Outcome]:
        """Applies actions `[B]` (0 nothing, 1 left, 2 right); an ended board stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action per state, or an action is none of these.
        """
        chosen = valid_actions(actions, batch=len(states), num_actions=3)
        numbers, bricks, done, reward = _step_batch(states.numbers, states.bricks, states.done, chosen)
        return BreakoutStates(numbers, bricks, done), Outcome(reward=reward, terminated=done)

    def rewards_along(self, states: BreakoutStates, actions: ArrayLike) -> Float64:
        """Returns the rewards `[B, T]` along action sequences `[B, T]`, equal to those of T calls of `step`.

        Raises:
            ValueError: if there is not one sequence per state, or an action is none of those of `step`.
        """
        chosen = valid_sequences(actions, batch=len(states), num_actions=3)
        return _rewards_along(states.numbers, states.bricks, states.done, chosen)

    def observe(self, states: BreakoutStates) -> Bool:
        """Returns the boards, `[B, 10, 10, channels]`."""
        seen = _observe(states.numbers, states.bricks)
        if len(self.channels) == _STRIKE:
            return seen
        struck = states.numbers[:, _STRUCK].astype(np.bool_)
        return np.concatenate([seen, np.broadcast_to(struck[:, None, None, None], (*seen.shape[:3], 1))], axis=3)

    def terminal(self, states: BreakoutStates) -> Bool:
        """Whether the ball is lost, bool `[B]`."""
        return states.done

    def draw(self, states: BreakoutStates) -> list[Pixels]:
        """Returns one image per state, with one pixel per place of the board."""
        return board_pixels(self.observe(states))


def _side(seed: int) -> int:
    """Returns 0 if the ball comes from the left, 1 if from the right, as MinAtar draws it after `seed(seed)`."""
    return int(np.random.RandomState(seed % 2**32).randint(2))

"""Restores a Box2D world to an earlier state in place, bit for bit, so that a search can branch without a replay.

Python can reach neither the impulses that warm-start the solver, nor sleep timers, contacts and the broad phase's tree.
Therefore the memory that a step can change is copied, and written back to the same addresses. Offsets are those of
Box2D 2.3.10 with 64-bit pointers. Nothing is written unless the memory agrees with what Box2D's own interface reports.
"""

import ctypes
import functools
import importlib.metadata
import struct
import sys
import warnings
from collections import deque
from collections.abc import Sequence
from itertools import combinations, repeat
from operator import setitem
from typing import Any, NamedTuple

_VERSION = "2.3.10"
_BLOCK_SIZES = (16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640)  # bytes, of the block allocator
_CHUNK = 16 * 1024  # bytes; a chunk holds blocks of one size
_BODY, _FIXTURE, _PROXY, _CONTACT, _NODE = 184, 72, 32, 208, 40  # bytes each
_LOCKED = 2  # the flag of a world in the middle of a step

# Offsets in b2World. The block allocator is first: chunk table, its length and capacity, and the lists of free blocks.
_CHUNKS, _CHUNK_COUNT, _CHUNK_ROOM = 0x0, 0x8, 0xC
_STACK_INDEX, _STACK_ENTRIES = 0x19080, 0x19290  # after 100 KiB that only a step uses
_FLAGS, _NODES, _NODE_ROOM, _PROXY_COUNT = 0x19298, 0x192A8, 0x192B4, 0x192C8
_MOVED, _MOVED_ROOM = 0x192D0, 0x192D8
_CONTACTS, _CONTACT_COUNT = 0x192F8, 0x19300
_ALLOCATOR, _BODIES, _JOINTS, _BODY_COUNT, _JOINT_COUNT, _GRAVITY = 0x19318, 0x19320, 0x19328, 0x19330, 0x19334, 0x19338

# Parts of b2World that are restored: free lists; flags, tree and move buffer; contacts; gravity and whether bodies may
# sleep; the last step's length and solver flags. The pair buffer is empty between steps and may have moved since.
_STATE = ((0x10, 0x80), (_FLAGS, 0x192E0), (_CONTACTS, 0x19304), (_GRAVITY, 0x19341), (0x19358, 0x19360))
# Parts that must not have changed: address and number of chunks, nodes and moves; first body and joint of the lists.
_FIXED = ((_CHUNKS, 0x10), (_NODES, 0x192B8), (_PROXY_COUNT, 0x192DC), (_ALLOCATOR, _GRAVITY))
_FIXED_OF_BODY = ((0x58, 0x88), (0xB0, 0xB8))  # its world, neighbours, fixtures and joints; user data
_FIXED_OF_JOINT = ((0x0, 0x70), (0x78, 0x80))  # its type, neighbours and bodies; user data


class UnsupportedBuild(RuntimeError):  # noqa: N818 - reads as the reason why states are replayed instead
    """Raised if this Box2D, or this world, is not laid out in memory as expected; nothing was written."""


class Snapshot(NamedTuple):
    """State of one world; valid only for the `WorldMemory` that made it."""

    owner: object
    data: bytes


class WorldMemory:
    """Memory of one world, which it saves and restores; to be made after all bodies, fixtures and joints of the world.

    These must stay, and fixtures and shapes must keep their values; otherwise `restore` refuses. Listeners, and Python
    attributes of listeners and bodies, are not part of a state. Python's objects for contacts are invalid after
    `restore`, as they are after a step. Must not be used while another thread steps the world.

    Args:
        world: a `Box2D.b2World` between steps; kept alive by this object.

    Raises:
        UnsupportedBuild: if the installed Box2D, or the layout of the world's memory, is not the expected one.
    """

    def __init__(self, world: Any) -> None:
        allocate, free = _allocator()
        bodies, joints, proxies = _checked_layout(world)
        base = int(world.this)
        # Otherwise the first contact would allocate the chunk of contacts and invalidate all earlier snapshots.
        free(base, allocate(base, _CONTACT), _CONTACT)
        state = _views(base, _STATE)
        fixed = _views(base, _FIXED)
        for body in bodies:
            fixed += _views(body, _FIXED_OF_BODY)
        for joint in joints:
            fixed += _views(joint, _FIXED_OF_JOINT)
        moving = (*bodies, *joints, *proxies)
        for size, start in _chunks(base):
            # Free blocks form a stack, with those never used at its bottom in order of address. So only blocks that
            # were used can change, and as many more as there can be contacts.
            blocks = _CHUNK // size
            of_contacts = size == _block_size(_CONTACT)
            used = min(blocks, _used_blocks(size, start) + (_most_contacts(world) if of_contacts else 0))
            changes = of_contacts or any(start <= address < start + _CHUNK for address in moving)
            if changes:
                state += _views(start, ((0, used * size),))
            # Anything that uses more blocks writes to the first unused one, which reveals bodies made in between.
            fixed += _views(start, ((used * size if changes else 0, min(used + 1, blocks) * size),))
        state += _views(_u64(base + _NODES), ((0, _i32(base + _NODE_ROOM) * _NODE),))
        state += _views(_u64(base + _MOVED), ((0, _i32(base + _MOVED_ROOM) * 4),))
        self._world = world
        self._owner = object()
        self._state: list[Any] = [view for view in state if view.nbytes]  # mypy cannot type `setitem` of a slice
        self._pieces = struct.Struct("".join(f"{view.nbytes}s" for view in self._state))
        self._flags = _views(base, ((_FLAGS, _FLAGS + 1),))[0]
        self._fixed = [view for view in fixed if view.nbytes]
        self._expected = b"".join(self._fixed)

    def save(self) -> Snapshot:
        """Copies the state of the world, in microseconds.

        Raises:
            RuntimeError: if a step is under way, or bodies, fixtures or joints differ from those at construction.
        """
        if not self._intact():
            raise RuntimeError("a world is saved between steps, and with the bodies and joints that it began with")
        return Snapshot(self._owner, b"".join(self._state))

    def restore(self, snapshot: Snapshot) -> bool:
        """Writes a saved state of this world back, in microseconds; any number of times and in any order.

        Returns:
            Whether the state was restored. If not, nothing was written: a step is under way, the snapshot is of another
            world, or bodies, fixtures or joints have changed. Then only a replay leads back.
        """
        if snapshot.owner is not self._owner or not self._intact():
            return False
        pieces = self._pieces.unpack(snapshot.data)
        # One call into C, since an interrupt between two pieces would leave the world half restored.
        deque(map(setitem, self._state, repeat(slice(None)), pieces), maxlen=0)
        return True

    def _intact(self) -> bool:
        return not self._flags[0] & _LOCKED and b"".join(self._fixed) == self._expected


@functools.cache
def supported() -> bool:
    """Whether worlds of the installed Box2D can be saved and restored, tested on a small one; False in any doubt."""
    try:
        return _trial()
    except Exception:  # replays are correct in any case
        return False


@functools.cache
def _allocator() -> tuple[Any, Any]:
    """Returns Box2D's own functions that allocate and free a block.

    Raises:
        UnsupportedBuild: if the memory layout of the installed build is not known.
    """
    if sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise UnsupportedBuild("Box2D's memory is known for 64-bit little-endian machines only")
    try:
        version = importlib.metadata.version("box2d")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import crashes where warnings are errors
            from Box2D import _Box2D
        functions = ctypes.PyDLL(_Box2D.__file__)  # PyDLL keeps the GIL, so no other thread runs
        allocate, free = functions._ZN16b2BlockAllocator8AllocateEi, functions._ZN16b2BlockAllocator4FreeEPvi
    except (ImportError, OSError, AttributeError) as error:
        raise UnsupportedBuild(f"no Box2D whose memory is known: {error}") from error
    if version != _VERSION:
        raise UnsupportedBuild(f"the memory of Box2D {_VERSION} is known, not that of {version}")
    allocate.argtypes, allocate.restype = [ctypes.c_void_p, ctypes.c_int32], ctypes.c_void_p
    free.argtypes, free.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32], None
    return allocate, free


def _u64(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def _i32(address: int) -> int:
    return ctypes.c_int32.from_address(address).value


def _views(base: int, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
    """Returns the memory from `base + start` to `base + end`, for each of the ranges."""
    return [memoryview((ctypes.c_char * (end - start)).from_address(base + start)).cast("B") for start, end in ranges]


def _block_size(size: int) -> int:
    return next(block for block in _BLOCK_SIZES if block >= size)


def _chunks(base: int) -> list[tuple[int, int]]:
    """Returns block size (bytes) and address of every chunk."""
    table = _u64(base + _CHUNKS)
    return [(_i32(table + 16 * k), _u64(table + 16 * k + 8)) for k in range(_i32(base + _CHUNK_COUNT))]


def _used_blocks(size: int, start: int) -> int:
    """Counts the blocks before the last ones that still point each to the next one, as in a new chunk."""
    blocks = _CHUNK // size
    following = 0
    for k in range(blocks - 1, -1, -1):
        if _u64(start + k * size) != following:
            return k + 1
        following = start + k * size
    return 0


def _most_contacts(world: Any) -> int:
    """Returns how many contacts there can be at once: one per pair of fixture children of bodies that can meet."""
    bodies = [(sum(_i32(int(f.this) + 0x30) for f in body.fixtures), body.type == 2) for body in world.bodies]
    return sum(n * m for (n, moves), (m, also) in combinations(bodies, 2) if moves or also)


def _require(holds: bool) -> None:
    if not holds:
        raise UnsupportedBuild("this world does not lie in memory as expected")


def _checked_layout(world: Any) -> tuple[list[int], list[int], list[int]]:
    """Compares memory with what Box2D's interface reports; follows pointers only once the world itself has agreed.

    Returns:
        Addresses of bodies, joints and the fixtures' children in the broad phase.

    Raises:
        UnsupportedBuild: if they differ.
    """
    _require(not world.locked)
    base = int(world.this)
    bodies, joints, contacts = world.bodies[::-1], world.joints[::-1], world.contacts[::-1]  # in linked order
    _check_world(world, base, bodies, joints, contacts)
    chunks = _chunks(base)
    _require(all(size in _BLOCK_SIZES and start and start % 8 == 0 for size, start in chunks))
    _check_bodies(base, bodies, chunks)
    _check_joints_and_contacts(joints, contacts, chunks)
    proxies = _checked_proxies(base, [fixture for body in bodies for fixture in body.fixtures], chunks)
    _require(len(proxies) == world.proxyCount)
    return [int(body.this) for body in bodies], [int(joint.this) for joint in joints], proxies


def _check_world(world: Any, base: int, bodies: Sequence[Any], joints: Sequence[Any], contacts: Sequence[Any]) -> None:
    """Checks the world's own numbers and the heads of its lists."""
    _require(_u64(base + _ALLOCATOR) == base and _i32(base + _STACK_INDEX) == 0 == _i32(base + _STACK_ENTRIES))
    _require(ctypes.string_at(base + _GRAVITY, 8) == struct.pack("<2f", *world.gravity))
    _require(_i32(base + _PROXY_COUNT) == world.proxyCount)
    for head, count, things in (
        (_BODIES, _BODY_COUNT, bodies),
        (_JOINTS, _JOINT_COUNT, joints),
        (_CONTACTS, _CONTACT_COUNT, contacts),
    ):
        _require(_i32(base + count) == len(things))
        _require(_u64(base + head) == (int(things[0].this) if things else 0))
    _require(0 < _i32(base + _CHUNK_COUNT) <= _i32(base + _CHUNK_ROOM) and _i32(base + _CHUNK_ROOM) % 128 == 0)
    _require(all(_u64(base + at) > 0 == _u64(base + at) % 8 for at in (_CHUNKS, _NODES, _MOVED)))
    _require(world.proxyCount <= _i32(base + _NODE_ROOM) < 1 << 20 and 0 < _i32(base + _MOVED_ROOM) < 1 << 20)


def _in_block(address: int, size: int, chunks: Sequence[tuple[int, int]]) -> bool:
    """Whether a block for `size` bytes begins at the address."""
    return any(
        0 <= address - start < _CHUNK and (address - start) % block == 0 and block == _block_size(size)
        for block, start in chunks
    )


def _check_bodies(base: int, bodies: Sequence[Any], chunks: Sequence[tuple[int, int]]) -> None:
    """Checks the list of bodies, and their positions and velocities."""
    for body, following in zip(bodies, [*bodies[1:], None], strict=True):
        at = int(body.this)
        _require(_in_block(at, _BODY, chunks) and _u64(at + 0x58) == base)
        _require(_u64(at + 0x68) == (int(following.this) if following else 0))
        _require(_i32(at + 0x78) == len(body.fixtures))
        _require(_u64(at + 0x70) == (int(body.fixtures[-1].this) if body.fixtures else 0))
        for offset, values in (
            (0x0C, (*body.position,)),
            (0x38, (body.angle,)),
            (0x40, (*body.linearVelocity, body.angularVelocity)),
        ):
            _require(ctypes.string_at(at + offset, 4 * len(values)) == struct.pack(f"<{len(values)}f", *values))


def _check_joints_and_contacts(
    joints: Sequence[Any], contacts: Sequence[Any], chunks: Sequence[tuple[int, int]]
) -> None:
    """Checks which bodies and fixtures they are of."""
    for joint in joints:
        at = int(joint.this)
        _require(any(0 <= at - start < _CHUNK and (at - start) % block == 0 for block, start in chunks))
        _require((_u64(at + 0x60), _u64(at + 0x68)) == (int(joint.bodyA.this), int(joint.bodyB.this)))
    for contact in contacts:
        at = int(contact.this)
        _require(_in_block(at, _CONTACT, chunks))
        _require((_u64(at + 0x60), _u64(at + 0x68)) == (int(contact.fixtureA.this), int(contact.fixtureB.this)))


def _checked_proxies(base: int, fixtures: Sequence[Any], chunks: Sequence[tuple[int, int]]) -> list[int]:
    """Checks fixtures, and returns the addresses of their children in the broad phase."""
    proxies: list[int] = []
    for fixture in fixtures:
        at = int(fixture.this)
        count = _i32(at + 0x30)
        _require(_in_block(at, _FIXTURE, chunks) and _u64(at + 0x10) == int(fixture.body.this) and 0 <= count < 1 << 16)
        _require(_u64(at + 0x18) == int(fixture.shape.this))
        _require(count * _PROXY <= _BLOCK_SIZES[-1])  # larger ones lie outside the chunks
        _require(count == 0 or _in_block(_u64(at + 0x28), count * _PROXY, chunks))
        proxies += [_u64(at + 0x28) + k * _PROXY for k in range(count)]
        for proxy in proxies[len(proxies) - count :]:
            node = _i32(proxy + 0x1C)
            _require(_u64(proxy + 0x10) == at and 0 <= node < _i32(base + _NODE_ROOM))
            _require(_u64(_u64(base + _NODES) + node * _NODE + 0x10) == proxy)
    return proxies


def _trial() -> bool:
    """Whether two jointed boxes that fall and come to rest do so again from snapshots in the air and on the ground."""
    _allocator()
    import Box2D

    world = Box2D.b2World(gravity=(0, -10))
    world.CreateStaticBody(shapes=Box2D.b2EdgeShape(vertices=[(-9, 0), (9, 0.5)]))
    boxes = [
        world.CreateDynamicBody(
            position=(x, 2 + x),
            fixtures=Box2D.b2FixtureDef(shape=Box2D.b2PolygonShape(box=(0.5, 0.3)), density=1, friction=0.8),
        )
        for x in (0.0, 1.0)
    ]
    world.CreateRevoluteJoint(
        bodyA=boxes[0], bodyB=boxes[1], anchor=(0.5, 2.5), enableMotor=True, maxMotorTorque=2.0, motorSpeed=1.0
    )
    memory = WorldMemory(world)

    def run(steps: int) -> list[tuple[Any, ...]]:
        seen = []
        for step in range(steps):
            if step < 50:
                boxes[0].ApplyLinearImpulse((0.3 * (-1) ** step, 0.0), boxes[0].position, True)
            world.Step(0.02, 180, 60)
            touching = sum(contact.touching for contact in world.contacts)
            motion = [(*b.position, b.angle, *b.linearVelocity, b.angularVelocity, b.awake) for b in boxes]
            seen.append((world.contactCount, touching, *motion))
        return seen

    in_air = memory.save()
    whole = run(100)
    on_ground = memory.save()
    whole += run(300)
    if not memory.restore(on_ground) or run(300) != whole[100:]:
        return False
    if not memory.restore(in_air) or run(100) + run(300) != whole:
        return False
    # The trial counts only if contacts began and bodies fell asleep.
    return whole[0][0] == 0 < whole[99][1] and not boxes[0].awake

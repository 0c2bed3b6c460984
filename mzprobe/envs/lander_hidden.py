"""Reads what Gymnasium's eight numbers leave out of a Lunar Lander's state, as far as it determines the next states.

The legs hang on springs, the terrain beside the pad is rough, contacts push, and a lander has come to rest only when
Box2D's sleep timer has run out: none of it is observed. `Hidden` reads it from Box2D, for a control that tells how
much of a model's error comes from not observing it.
"""

import ctypes
from typing import Any

_LEGS, _PARTS = ("left", "right"), ("left leg", "lander", "right leg")
MEANINGS = (
    *(f"{leg} leg's joint, {what}" for leg in _LEGS for what in ("angle (rad)", "speed (10 rad / s)")),
    *(f"ground below the {part}, {what}" for part in _PARTS for what in ("distance", "slope")),
    *(
        f"{leg} leg's contacts, {what}"
        for leg in _LEGS
        for what in ("points", "normal (kg m / s)", "tangent (kg m / s)")
    ),
    "time at rest, of what it takes to fall asleep",
)
SIZE = len(MEANINGS)

_SLEEP_TIMER = 0xAC  # offset in a b2Body of Box2D 2.3.10
_TIME_TO_SLEEP = 0.5  # s, Box2D's b2_timeToSleep


class Hidden:
    """Reader of the hidden numbers of one scene of Gymnasium, made after its reset.

    Args:
        scene: Gymnasium's Lunar Lander.
        half_height: unit of distances, m, in which the lander's own height is observed too.
    """

    def __init__(self, scene: Any, half_height: float) -> None:
        self._bodies = (scene.lander, *scene.legs)
        self._legs = scene.legs
        self._unit = half_height
        self._ground = [polygon[:2] for polygon in scene.sky_polys]  # edges of the terrain from left to right

    def look(self) -> tuple[float, ...]:
        """Returns the numbers that `MEANINGS` names."""
        left, right = self._legs
        seen: list[float] = []
        for leg in self._legs:
            seen += [leg.joint.angle, leg.joint.speed / 10]
        for body in (left, self._bodies[0], right):
            seen += self._below(*body.position)
        for leg in self._legs:
            seen += _pushed(leg)
        timers = [ctypes.c_float.from_address(int(body.this) + _SLEEP_TIMER).value for body in self._bodies]
        return (*seen, min(timers) / _TIME_TO_SLEEP)

    def _below(self, x: float, y: float) -> list[float]:
        """Returns the distance to the ground below a point and the ground's slope there; it is flat beyond the view."""
        edges = self._ground
        (x1, y1), (x2, y2) = next((edge for edge in edges if x < edge[1][0]), edges[-1])
        if not edges[0][0][0] <= x <= edges[-1][1][0]:
            return [(y - (y1 if x < x1 else y2)) / self._unit, 0.0]
        slope = (y2 - y1) / (x2 - x1)
        return [(y - (y1 + slope * (x - x1))) / self._unit, slope]


def _pushed(leg: Any) -> list[float]:
    """Returns a leg's number of contact points, and the sums of the impulses (kg m / s) that start the solver there."""
    points, normal, tangent = 0, 0.0, 0.0
    for edge in leg.contacts:
        manifold = edge.contact.manifold
        for point in manifold.points[: manifold.pointCount]:
            points += 1
            normal += point.normalImpulse
            tangent += point.tangentImpulse
    return [float(points), normal, tangent]

"""The embedded world: scenes of coloured shapes, and a renderer that draws them as short clips.

A `Scene` says what a caption could say and no more; everything else (places, speeds, texture) is drawn from a random
generator, so that one scene has many clips. Coordinates are pixels of the finished picture, x to the right, y down.

    frames_THWC = render(Scene(skill="plain", things=(Thing("red", "circle", moves=("left",)),)),
    np.random.default_rng(0))
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import cv2
import numpy as np

SIZE = 48  # px, height and width
NUM_FRAMES = 17
FPS = 8.0  # Hz
FLOOR_Y = 40.0  # px, top of the floor in scenes with gravity
SUPERSAMPLE = 4  # drawn this many times larger, then averaged down: anti-aliased edges and sub-pixel motion

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 45, 45),
    "yellow": (230, 210, 40),
    "green": (45, 190, 70),
    "cyan": (50, 205, 215),
    "blue": (60, 85, 235),
    "magenta": (215, 60, 205),
}
SHAPES = (
    "circle",
    "bar",
    "pillar",
)  # round, lying, standing: still distinguishable when a small autoencoder softens edges
SIZES = {"small": 4.5, "medium": 6.5, "large": 9.0}  # px, radius
GROUNDS = {"dark": 55, "grey": 105, "light": 165, "textured": 110}  # grey level
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
CAMERAS = ("static", "pans left", "pans right", "tilts up", "tilts down", "zooms in", "zooms out")
EVENTS = ("bounces", "stays")
ZOOM = 1.5  # largest scale of a zoom
CAMERA_TRAVEL = 15.0  # px of a pan or tilt over the clip


@dataclass(frozen=True)
class Thing:
    """One object, or `count` equal ones.

    `becomes` is a colour, "larger" or "smaller": what the object turns into during the clip.
    """

    color: str
    shape: str
    size: str = "medium"
    count: int = 1
    moves: tuple[str, ...] = ()
    becomes: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a caption says: a skill (see `grammar.SKILLS`), one or two things, and what happens to them.

    `relation` holds where the first thing is seen from the second: once if it stays, twice if it changes.
    """

    skill: str
    things: tuple[Thing, ...]
    relation: tuple[str, ...] = ()
    event: str | None = None
    camera: str = "static"
    ground: str = "grey"


@dataclass(frozen=True)
class _Track:
    """One drawn object: per-frame centre (T, 2), radius (T,) and colour (T, 3)."""

    shape: str
    centre_T2: np.ndarray
    radius_T: np.ndarray
    color_T3: np.ndarray


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw one clip of a scene.

    Returns:
        frames_THWC: uint8 RGB, (17, 48, 48, 3).
    """
    tracks = _place(scene, rng)
    ground = _ground(scene.ground, rng)
    cameras = _camera_path(scene.camera, rng)
    frames = [_draw(ground, cameras[t], tracks, t, floor=scene.event is not None) for t in range(NUM_FRAMES)]
    return np.stack(frames)


def _ground(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Grey levels of a world twice as wide as the picture, (2*SIZE, 2*SIZE) float32, centred on the picture."""
    level = GROUNDS[kind] + rng.uniform(-10, 10)
    side = 2 * SIZE
    if kind != "textured":
        return np.full((side, side), level, np.float32)
    # Cells of a token's size: at half of it, no base model learned to move the texture as the camera does.
    coarse = rng.uniform(-1, 1, (side // 12, side // 12)).astype(np.float32)
    return level + 60 * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def _camera_path(camera: str, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Per frame (scale, dx, dy): a world point p is seen at scale * (p - centre) + centre + (dx, dy)."""
    progress = np.linspace(0, 1, NUM_FRAMES)
    travel = CAMERA_TRAVEL * rng.uniform(0.85, 1.1)
    if camera in ("zooms in", "zooms out"):
        scale = np.linspace(1, ZOOM * rng.uniform(0.93, 1.05), NUM_FRAMES)
        return [(float(s), 0.0, 0.0) for s in (scale if camera == "zooms in" else scale[::-1])]
    if camera == "static":
        return [(1.0, 0.0, 0.0)] * NUM_FRAMES
    way_x, way_y = DIRECTIONS[camera.split()[1]]
    # The camera turns left, so what it sees slides right. Centred, so that things are in view half-way.
    return [(1.0, float(-way_x * travel * (p - 0.5)), float(-way_y * travel * (p - 0.5))) for p in progress]


def _draw(
    ground: np.ndarray, camera: tuple[float, float, float], tracks: list[_Track], t: int, *, floor: bool
) -> np.ndarray:
    scale, dx, dy = camera
    centre, s = SIZE / 2, SUPERSAMPLE
    # World pixel -> supersampled picture pixel. The ground array's middle is the picture's middle.
    warp = np.array(
        [
            [scale * s, 0, s * (centre + dx) - scale * s * SIZE],
            [0, scale * s, s * (centre + dy) - scale * s * SIZE],
        ],
        np.float32,
    )
    grey = cv2.warpAffine(ground, warp, (SIZE * s, SIZE * s), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    picture = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if floor:
        picture[int(FLOOR_Y * s) :] = np.clip(picture[int(FLOOR_Y * s) :].astype(np.int16) - 35, 0, 255)
    for track in tracks:
        x, y = (scale * (track.centre_T2[t] - centre) + centre + (dx, dy)) * s
        _fill(picture, track.shape, x, y, float(track.radius_T[t]) * scale * s, track.color_T3[t])
    return cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def outline(shape: str, radius: float) -> np.ndarray:
    """Corners (N, 2) of a shape around its centre of mass; the three shapes of one radius cover the same area."""
    if shape == "circle":
        angle = np.linspace(0, 2 * pi, 48, endpoint=False)
        return radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    long, short = radius * sqrt(pi / 2), radius * sqrt(pi / 2) / 2  # half sides of 2 : 1 with the circle's area
    x, y = (long, short) if shape == "bar" else (short, long)
    return np.array([(-x, -y), (x, -y), (x, y), (-x, y)])


def _fill(picture: np.ndarray, shape: str, x: float, y: float, radius: float, color: np.ndarray) -> None:
    points = np.round((outline(shape, radius) + np.array([x, y])) * 16).astype(np.int32)
    cv2.fillPoly(picture, [points], tuple(int(c) for c in color), lineType=cv2.LINE_AA, shift=4)


def _place(scene: Scene, rng: np.random.Generator) -> list[_Track]:
    """Choose where everything is and how it moves."""
    things = scene.things
    if scene.event:
        return [_falling(things[0], scene.event, rng)]
    if scene.relation:
        return _related(things, scene.relation, rng)
    if len(things) == 2:
        return _side_by_side(things, rng)
    if things[0].count > 1:
        return _crowd(things[0], rng)
    return [_single(things[0], rng)]


def _track(thing: Thing, path_T2: np.ndarray, radius: float) -> _Track:
    radius_T = np.full(NUM_FRAMES, radius)
    color_T3 = np.repeat(np.array([COLORS[thing.color]], float), NUM_FRAMES, 0)
    ramp_T = np.clip((np.arange(NUM_FRAMES) - 4) / 8, 0, 1)  # the change fills the middle half of the clip
    if thing.becomes in COLORS:
        color_T3 += ramp_T[:, None] * (np.array(COLORS[thing.becomes], float) - color_T3)
    elif thing.becomes:
        small, large = 4.5, 9.5
        first, last = (small, large) if thing.becomes == "larger" else (large, small)
        radius_T = first + ramp_T * (last - first)
    return _Track(thing.shape, path_T2, radius_T, color_T3)


def _path(moves: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """Offsets (T, 2) from the start: equal times for each move, at constant speed."""
    if not moves:
        return np.zeros((NUM_FRAMES, 2))
    length = rng.uniform(17, 22) if len(moves) == 1 else rng.uniform(13, 16)
    turns = np.cumsum([(0, 0), *(np.array(DIRECTIONS[m]) * length for m in moves)], axis=0)
    at = np.linspace(0, len(moves), NUM_FRAMES)
    return np.stack([np.interp(at, range(len(turns)), turns[:, axis]) for axis in (0, 1)], 1)


def _inside(path_T2: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Shift a path so that a thing of that radius stays in the picture."""
    margin = radius * 1.26 + 1
    low, high = margin - path_T2.min(0), SIZE - margin - path_T2.max(0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0)
    return path_T2 + middle + rng.uniform(-1, 1, 2) * np.minimum(half, 10)


def _single(thing: Thing, rng: np.random.Generator) -> _Track:
    radius = 9.5 if thing.becomes in ("larger", "smaller") else SIZES[thing.size] * rng.uniform(0.95, 1.05)
    return _track(thing, _inside(_path(thing.moves, rng), radius, rng), radius)


def _crowd(thing: Thing, rng: np.random.Generator) -> list[_Track]:
    """Equal things on a jittered 2 x 2 grid, moving as one, never closer than a gap that a detector can see."""
    radius = 4.7 * rng.uniform(0.95, 1.05)
    cells = rng.permutation([(-1, -1), (1, -1), (-1, 1), (1, 1)])[: thing.count]
    spread = 9.5
    offsets = cells * spread + rng.uniform(-1.0, 1.0, (thing.count, 2))
    move = _path(thing.moves, rng) * 0.6  # a shorter way: the whole crowd must stay in the picture
    group = _inside(np.concatenate([move + o for o in offsets]), radius, rng)
    return [_track(thing, p, radius) for p in np.split(group, thing.count)]


def _related(things: tuple[Thing, ...], relation: tuple[str, ...], rng: np.random.Generator) -> list[_Track]:
    """Two things on opposite sides of a point; if the relation changes, both walk half a circle around it."""
    radius = 5.2
    middle = np.array([SIZE / 2, SIZE / 2]) + rng.uniform(-3, 3, 2)
    arm = np.array(RELATIONS[relation[0]], float) * rng.uniform(8.0, 9.0)
    turn_T = np.zeros(NUM_FRAMES) if len(relation) == 1 else np.linspace(0, pi, NUM_FRAMES) * rng.choice([-1, 1])
    arm_T2 = np.stack([_rotation(angle) @ arm for angle in turn_T])
    return [_track(things[0], middle + arm_T2, radius), _track(things[1], middle - arm_T2, radius)]


def _rotation(angle: float) -> np.ndarray:
    return np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])


def _side_by_side(things: tuple[Thing, ...], rng: np.random.Generator) -> list[_Track]:
    """Two things in lanes of their own: beside each other if they move up or down, else one above the other."""
    vertical = bool(things[0].moves) and things[0].moves[0] in ("up", "down")
    if not things[0].moves:
        vertical = bool(rng.integers(2))
    lanes = rng.permutation([13.0, 35.0])
    tracks = []
    for thing, lane in zip(things, lanes, strict=True):
        radius = (SIZES[thing.size] if thing.size != "medium" else 5.5) * rng.uniform(0.95, 1.05)
        path = _inside(_path(thing.moves, rng), radius, rng)
        path[:, 0 if vertical else 1] = lane + rng.uniform(-1.5, 1.5)
        tracks.append(_track(thing, path, radius))
    return tracks


def _falling(thing: Thing, event: str, rng: np.random.Generator) -> _Track:
    """Free fall onto the floor; then a bounce that keeps about half the height, or rest."""
    radius = {"small": 4.4, "medium": 5.5, "large": 6.6}[thing.size]
    foot = float(outline(thing.shape, radius)[:, 1].max())  # centre to lowest point
    rest = FLOOR_Y - foot
    top = rest - rng.uniform(21, 24)
    landing = rng.uniform(8.0, 9.0)  # frames; slower than real, so that a short clip shows all of it
    gravity = 2 * (rest - top) / landing**2
    bounce = rng.uniform(0.7, 0.8) * gravity * landing if event == "bounces" else 0.0  # speed after the floor
    fall_T = np.arange(NUM_FRAMES, dtype=float)
    flight_T = np.maximum(fall_T - landing, 0)
    after_T = np.minimum(rest - bounce * flight_T + gravity * flight_T**2 / 2, rest)
    y_T = np.where(fall_T <= landing, top + gravity * fall_T**2 / 2, after_T)
    x = rng.uniform(SIZE * 0.3, SIZE * 0.7)
    return _track(thing, np.stack([np.full(NUM_FRAMES, x), y_T], 1), radius)

"""The language of the embedded world: scene <-> caption, and (caption, dimension) -> questions.

It plays the part that a language model plays for real generators. Prompts go out and come back as plain text; nothing
but text passes between the stages, so `parse` reads what `describe` (or anyone) wrote.

    describe(scene)             "a red circle moves left, then moves up"
    describe(scene, full=True)  "a red circle moves left, then moves up, static camera, dark ground"
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from gigavideo_data.miniature.world import (
    CAMERAS,
    COLORS,
    DIRECTIONS,
    EVENTS,
    GROUNDS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
)

NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SPLITS = {"pretrain": 36, "tune": 34, "dev": 13, "test": 17}  # percent of all combinations
_T = TypeVar("_T")


@dataclass(frozen=True)
class Question:
    """A yes/no question about a clip and the answer that the prompt promises."""

    text: str
    expected: str  # "yes" or "no"
    gate: bool = False


# --- scene -> text ---------------------------------------------------------------------------------------------------


def describe(scene: Scene, *, full: bool = False) -> str:
    """Write a scene as a short prompt, or in full: with camera and ground, as the base model's captions are."""
    first = scene.things[0]
    clause = _noun_phrase(first)
    if scene.event == "bounces":
        clause += " falls and bounces off the floor"
    elif scene.event == "stays":
        clause += " falls and stays on the floor"
    elif first.becomes in COLORS:
        clause += f" turns {first.becomes}"
    elif first.becomes:
        clause += " grows" if first.becomes == "larger" else " shrinks"
    elif len(scene.relation) == 1:
        clause += f" {scene.relation[0]} {_noun_phrase(scene.things[1])}"
    elif len(scene.relation) == 2:
        clause += f" goes from {scene.relation[0]} to {scene.relation[1]} {_noun_phrase(scene.things[1])}"
    else:
        clause += _moves(first)
        if len(scene.things) == 2:
            clause += f" and {_noun_phrase(scene.things[1])}{_moves(scene.things[1])}"
    if full or scene.camera != "static":
        clause += f", camera {scene.camera}" if scene.camera != "static" else ", static camera"
    return clause + (f", {scene.ground} ground" if full else "")


def _noun_phrase(thing: Thing) -> str:
    words = [NUMBERS[thing.count]]
    if thing.size != "medium":
        words.append(thing.size)
    words += [thing.color, thing.shape + ("s" if thing.count > 1 else "")]
    return " ".join(words)


def _moves(thing: Thing) -> str:
    verb = "move" if thing.count > 1 else "moves"
    return ", then".join(f" {verb} {m}" for m in thing.moves)


# --- text -> scene ---------------------------------------------------------------------------------------------------

_COLOR, _SHAPE, _DIRECTION = "|".join(COLORS), "|".join(SHAPES), "|".join(DIRECTIONS)
_RELATION = "|".join(RELATIONS)
_NOUN = rf"(?:{'|'.join(NUMBERS.values())}) (?:small |large )?(?:{_COLOR}) (?:{_SHAPE})s?"
_NOUN_PARTS = re.compile(
    rf"(?P<count>{'|'.join(NUMBERS.values())}) (?:(?P<size>small|large) )?(?P<color>{_COLOR}) (?P<shape>{_SHAPE})s?"
)
_SUBJECT = re.compile(
    rf"(?P<first>{_NOUN})"
    rf"(?: falls and (?P<event>bounces off|stays on) the floor"
    rf"| turns (?P<turns>{_COLOR})"
    rf"| (?P<resizes>grows|shrinks)"
    rf"| (?P<relation>{_RELATION}) (?P<beside>{_NOUN})"
    rf"| goes from (?P<before>{_RELATION}) to (?P<after>{_RELATION}) (?P<around>{_NOUN})"
    rf"|(?P<moves>(?:,? ?(?:then )?moves? (?:{_DIRECTION}))*)"
    rf"(?: and (?P<second>{_NOUN})(?P<second_moves>(?: moves? (?:{_DIRECTION}))*))?)"
    rf"(?:, (?:camera (?P<camera>{'|'.join(CAMERAS[1:])})|static camera))?"
    rf"(?:, (?P<ground>{'|'.join(GROUNDS)}) ground)?"
)


def parse(text: str) -> Scene | None:
    """Read a prompt or caption of this world back into a scene; None if it is not one."""
    match = _SUBJECT.fullmatch(text.strip().lower())
    if match is None:
        return None
    part = match.groupdict()
    first = _thing(part["first"], part["moves"])
    if part["turns"]:
        first = replace(first, becomes=part["turns"])
    if part["resizes"]:
        first = replace(first, becomes="larger" if part["resizes"] == "grows" else "smaller")
    other = part["second"] or part["beside"] or part["around"]
    things = (first, _thing(other, part["second_moves"])) if other else (first,)
    relation = tuple(r for r in (part["relation"], part["before"], part["after"]) if r)
    camera = part["camera"] or "static"
    scene = Scene(
        skill="plain",
        things=things,
        relation=relation,
        event=part["event"].split()[0] if part["event"] else None,
        camera=camera,
        ground=part["ground"] or ("textured" if camera != "static" else "grey"),
    )
    return replace(scene, skill=_skill(scene))


def _thing(noun: str, moves: str | None) -> Thing:
    part = _NOUN_PARTS.fullmatch(noun)
    assert part is not None, noun
    count = next(n for n, word in NUMBERS.items() if word == part["count"])
    directions = tuple(re.findall(rf"moves? ({_DIRECTION})", moves or ""))
    return Thing(part["color"], part["shape"], part["size"] or "medium", count, directions)


def _skill(scene: Scene) -> str:
    """The skill that a scene needs: the name of the dimension it tests, or "plain"."""
    first = scene.things[0]
    if scene.camera != "static":
        return "camera_motion"
    if scene.event:
        return "mechanics"
    if len(scene.relation) == 2:
        return "dynamic_spatial_relationship"
    if first.becomes:
        return "dynamic_attribute"
    if first.count > 1:
        return "instance_preservation"
    if len(first.moves) == 2:
        return "motion_order_understanding"
    if len(scene.things) == 2 and not scene.relation:
        return "composition"
    return "plain"


# --- sampling --------------------------------------------------------------------------------------------------------


def split_of(scene: Scene) -> str:
    """The split of a scene: one of `SPLITS`, from the hash of its combination.

    A combination is all that a prompt states: colour, shape, size, number, motion, change, relation, event, camera.
    Ground is style: variants of one prompt never straddle the splits. The base model is pretrained on combinations of
    "pretrain" alone, so that the other three are equally new to it.
    """
    number = int.from_bytes(hashlib.sha256(describe(replace(scene, ground="grey")).encode()).digest()[:4]) % 100
    for split, percent in SPLITS.items():
        number -= percent
        if number < 0:
            return split
    raise AssertionError("the shares of the splits are not 100 percent")


def sample_scene(skill: str, rng: np.random.Generator, split: str) -> Scene:
    """Draw a scene that needs `skill` and belongs to `split`.

    Raises:
        KeyError: for a skill that this world does not have.
    """
    while True:
        scene = replace(SKILLS[skill](rng), skill=skill)
        if split_of(scene) == split:
            return scene


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _any_thing(rng: np.random.Generator, **fixed: Any) -> Thing:
    return Thing(_pick(rng, list(COLORS)), _pick(rng, SHAPES), **fixed)


def _two_things(rng: np.random.Generator) -> tuple[Thing, Thing]:
    """Two things that share neither colour nor shape, so that a swap of either can be seen."""
    colors, shapes = rng.permutation(list(COLORS)), rng.permutation(list(SHAPES))
    return Thing(str(colors[0]), str(shapes[0])), Thing(str(colors[1]), str(shapes[1]))


def _any_ground(rng: np.random.Generator) -> str:
    return _pick(rng, ("dark", "grey", "light"))


def _plain(rng: np.random.Generator) -> Scene:
    if rng.random() < 0.2:
        return Scene("plain", _two_things(rng), relation=(_pick(rng, list(RELATIONS)),), ground=_any_ground(rng))
    moves = () if rng.random() < 0.2 else (_pick(rng, list(DIRECTIONS)),)
    size = _pick(rng, ("small", "medium", "medium", "large"))
    return Scene("plain", (_any_thing(rng, size=size, moves=moves),), ground=_pick(rng, list(GROUNDS)))


def _counts(rng: np.random.Generator) -> Scene:
    moves = () if rng.random() < 0.4 else (_pick(rng, list(DIRECTIONS)),)
    return Scene("", (_any_thing(rng, count=int(rng.integers(2, 5)), moves=moves),), ground=_any_ground(rng))


def _order(rng: np.random.Generator) -> Scene:
    moves = tuple(str(m) for m in rng.permutation(list(DIRECTIONS))[:2])
    return Scene("", (_any_thing(rng, size=_pick(rng, list(SIZES)), moves=moves),), ground=_any_ground(rng))


def _change(rng: np.random.Generator) -> Scene:
    thing = _any_thing(rng)
    becomes = _pick(rng, [c for c in COLORS if c != thing.color] + ["larger", "smaller"] * 2)
    size = _pick(rng, list(SIZES)) if becomes in COLORS else "medium"
    return Scene("", (replace(thing, size=size, becomes=becomes),), ground=_any_ground(rng))


def _relation_change(rng: np.random.Generator) -> Scene:
    before = _pick(rng, list(RELATIONS))
    return Scene("", _two_things(rng), relation=(before, OPPOSITE[before]), ground=_any_ground(rng))


def _gravity(rng: np.random.Generator) -> Scene:
    thing = _any_thing(rng, size=_pick(rng, list(SIZES)))
    return Scene("", (thing,), event=_pick(rng, EVENTS), ground=_any_ground(rng))


def _binding(rng: np.random.Generator) -> Scene:
    first, second = _two_things(rng)
    if rng.random() < 0.5:
        sizes = rng.permutation(["small", "large"])
        things = (replace(first, size=str(sizes[0])), replace(second, size=str(sizes[1])))
    else:
        ways = rng.permutation(_pick(rng, (["left", "right"], ["up", "down"])))
        things = (replace(first, moves=(str(ways[0]),)), replace(second, moves=(str(ways[1]),)))
    return Scene("", things, ground=_any_ground(rng))


def _camera(rng: np.random.Generator) -> Scene:
    thing = _any_thing(rng, size=_pick(rng, list(SIZES)))
    return Scene("", (thing,), camera=_pick(rng, CAMERAS[1:]), ground="textured")


SKILLS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "plain": _plain,
    "camera_motion": _camera,
    "composition": _binding,
    "dynamic_attribute": _change,
    "dynamic_spatial_relationship": _relation_change,
    "instance_preservation": _counts,
    "mechanics": _gravity,
    "motion_order_understanding": _order,
}

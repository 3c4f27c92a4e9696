"""From a prompt of the embedded world to yes/no questions: the part of the question-writing language model.

Only facts that the text states are asked, so a caption that shows less of a dimension gets fewer questions, and one
that shows nothing of it gets none.
"""

from __future__ import annotations

from gigavideo_data.miniature.grammar import NUMBERS, OPPOSITE, Question
from gigavideo_data.miniature.world import CAMERAS, COLORS, Scene, Thing

BACK = {"left": "right", "right": "left", "up": "down", "down": "up"}
CAMERA_VERB = {camera: camera.replace("s ", " ", 1) for camera in CAMERAS if camera != "static"}


def ask(scene: Scene, dimension: str) -> list[Question]:
    """Questions about what a scene's text states of a dimension; empty if it states nothing of it.

    Raises:
        KeyError: for a dimension that this world cannot show.
    """
    return ASK[dimension](scene)


def ask_plain(scene: Scene) -> list[Question]:
    """Questions for everyday scenes, which test no dimension: is the thing there, and does it move as captioned?"""
    questions = [Question(f"Is there a {_name(thing, sized=True)} in the video?", "yes") for thing in scene.things]
    for thing in scene.things:
        questions += [Question(f"Does the {_name(thing)} move {move}?", "yes") for move in thing.moves]
    return questions


def ask_everyday(scene: Scene) -> list[Question]:
    """The plain questions that fit any scene: whatever its skill is, is each thing there, does it move as captioned?

    Not asked is what a dimension is about: the order of moves, numbers, changes, and sizes in scenes with gravity.
    """
    questions = [_is_there(thing, sized=scene.event is None) for thing in scene.things]
    for thing in scene.things:
        if thing.count == 1 and len(thing.moves) == 1:
            questions.append(Question(f"Does the {_name(thing)} move {thing.moves[0]}?", "yes"))
    return questions


def _is_there(thing: Thing, *, sized: bool) -> Question:
    if thing.becomes in COLORS:
        return Question(f"Is the {thing.shape} {thing.color} at the start?", "yes")
    return Question(f"Is there a {_name(thing, sized=sized)} in the video?", "yes")


def _name(thing: Thing, *, sized: bool = False) -> str:
    size = f"{thing.size} " if sized and thing.size != "medium" else ""
    return f"{size}{thing.color} {thing.shape}"


def _next_color(color: str) -> str:
    colors = list(COLORS)
    return colors[(colors.index(color) + 1) % len(colors)]


def _instance_preservation(scene: Scene) -> list[Question]:
    if scene.event or scene.relation or any(thing.becomes for thing in scene.things):
        return []
    questions = []
    for thing in scene.things:
        if thing.count == 1:
            questions.append(Question(f"Is there exactly one {_name(thing)} in every frame?", "yes"))
        else:
            questions.append(
                Question(f"Are there exactly {NUMBERS[thing.count]} {_name(thing)}s in every frame?", "yes")
            )
        questions.append(Question(f"Does a {_name(thing)} appear or vanish during the video?", "no"))
    return questions


def _camera_motion(scene: Scene) -> list[Question]:
    if scene.ground != "textured":
        return []  # on an even ground nobody could tell
    if scene.camera == "static":
        return [Question("Is the camera static?", "yes"), Question("Does the camera zoom in?", "no")]
    wrong = CAMERAS[1:][(CAMERAS.index(scene.camera) + 1) % (len(CAMERAS) - 1)]
    return [
        Question(f"Does the camera {CAMERA_VERB[scene.camera]}?", "yes"),
        Question(f"Does the camera {CAMERA_VERB[wrong]}?", "no"),
        Question("Is the camera static?", "no"),
    ]


def _motion_order(scene: Scene) -> list[Question]:
    thing = scene.things[0]
    if len(scene.things) != 1 or thing.count != 1 or scene.camera != "static" or not thing.moves:
        return []
    if len(thing.moves) == 1:
        way = thing.moves[0]
        return [
            Question(f"Does the {_name(thing)} move {way}?", "yes"),
            Question(f"Does the {_name(thing)} move {BACK[way]}?", "no"),
        ]
    first, last = thing.moves
    return [
        Question(f"Does the {_name(thing)} start by moving {first}?", "yes"),
        Question(f"Does the {_name(thing)} end by moving {last}?", "yes"),
        Question(f"Does the {_name(thing)} start by moving {last}?", "no"),
    ]


def _dynamic_attribute(scene: Scene) -> list[Question]:
    thing = scene.things[0]
    if len(scene.things) != 1 or thing.count != 1 or scene.event or scene.camera != "static":
        return []
    if thing.becomes in COLORS:
        return [
            Question(f"Is the {thing.shape} {thing.color} at the start?", "yes"),
            Question(f"Is the {thing.shape} {thing.becomes} at the end?", "yes"),
            Question(f"Is the {thing.shape} {thing.color} at the end?", "no"),
        ]
    if thing.becomes:
        right, wrong = ("grow", "shrink") if thing.becomes == "larger" else ("shrink", "grow")
        return [
            Question(f"Does the {_name(thing)} {right}?", "yes"),
            Question(f"Does the {_name(thing)} {wrong}?", "no"),
        ]
    return [
        Question(f"Is the {thing.shape} {thing.color} at the start?", "yes"),
        Question(f"Is the {thing.shape} {thing.color} at the end?", "yes"),
        Question(f"Is the {thing.shape} {_next_color(thing.color)} at the end?", "no"),
    ]


def _dynamic_spatial_relationship(scene: Scene) -> list[Question]:
    if not scene.relation:
        return []
    first, second = (_name(thing) for thing in scene.things)
    before, after = scene.relation[0], scene.relation[-1]
    return [
        Question(f"Is the {first} {before} the {second} at the start?", "yes"),
        Question(f"Is the {first} {after} the {second} at the end?", "yes"),
        Question(f"Is the {first} {OPPOSITE[after]} the {second} at the end?", "no"),
    ]


def _mechanics(scene: Scene) -> list[Question]:
    if not scene.event:
        return []
    name = _name(scene.things[0])
    bounces, stays = "bounce back up off the floor", "stay on the floor once it has landed"
    right, other = (bounces, stays) if scene.event == "bounces" else (stays, bounces)
    return [
        Question(f"Is there a {name} above the floor at the start?", "yes", gate=True),
        Question(f"Does the {name} {right}?", "yes"),
        # A thing that hangs in the air does not do the other thing either, and deserves nothing for it.
        Question(f"Does the {name} {other}, or never come down?", "no"),
    ]


def _composition(scene: Scene) -> list[Question]:
    if scene.event or any(thing.becomes or thing.count > 1 for thing in scene.things):
        return []
    questions = ask_plain(scene)
    if len(scene.things) == 1:
        thing = scene.things[0]
        questions.append(Question(f"Is there a {_next_color(thing.color)} {thing.shape} in the video?", "no"))
    else:  # the swap that a model makes when it loses track of which is which
        first, second = scene.things
        questions.append(Question(f"Is there a {first.color} {second.shape} in the video?", "no"))
        questions.append(Question(f"Is there a {second.color} {first.shape} in the video?", "no"))
    return questions


ASK = {
    "camera_motion": _camera_motion,
    "composition": _composition,
    "dynamic_attribute": _dynamic_attribute,
    "dynamic_spatial_relationship": _dynamic_spatial_relationship,
    "instance_preservation": _instance_preservation,
    "mechanics": _mechanics,
    "motion_order_understanding": _motion_order,
}

"""Base prompts, their extension, questions and block-lists: what is rejected, and for which reason."""

import json

import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_data.models.llm.templates.extension import STYLES, VARIANTS, ask, camera_moves, lost_facts
from gigavideo_data.models.llm.templates.prompts import Draft, Seen, flaw, normalised
from gigavideo_data.models.llm.templates.questions import Question, flaws
from gigavideo_data.pipeline.sources import decontamination
from gigavideo_data.pipeline.sources.decontamination import Blocklist

# --- drafts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "objects", "reason"),
    [
        ("A tabby cat leaps onto a crate.", ["tabby cat", "crate"], None),
        ("A tabby cat leaps onto a crate.", ["Tabby Cat"], None),
        ("A tabby cat leaps onto a crate.", ["dog"], "objects_not_named"),
        ("A tabby cat leaps onto a crate.", ["cat leap"], "objects_not_named"),
        ("A tabby cat leaps onto a crate.", ["!"], "objects_not_named"),
        ("A cat leaps.\nA dog barks.", ["cat"], "several_lines"),
        (" ", ["cat"], "bad_text"),
        ("A cat\0leaps.", ["cat"], "bad_text"),
        ("very " * 40 + "long cat", ["cat"], "too_many_words"),
    ],
)
def test_a_draft_is_taken_or_falls_for_a_reason(prompt, objects, reason):
    assert flaw(Draft(prompt=prompt, objects=objects)) == reason


def test_spellings_of_one_prompt_are_equal():
    assert normalised("  A Cat’s paw, twice! ") == normalised("a cat's PAW twice") == "a cat's paw twice"


def test_near_prompts_are_told_from_equal_and_from_other_ones():
    seen = Seen(0.85, ["A brown dog jumps over a low fence."])
    assert seen.double("a brown dog jumps over a low fence") == "duplicate"
    assert seen.double("Over a low fence a brown dog jumps!") == "near_duplicate"
    assert seen.double("A kettle boils on a camping stove") is None
    assert Seen(None, ["a brown dog jumps"]).double("a brown dogs jumps") is None


# --- extension -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "extended", "objects", "lost"),
    [
        ("Three gulls land on a pier.", "On a weathered pier, 3 white gulls are landing.", ["gulls", "pier"], []),
        ("Three gulls land on a pier.", "On a pier, four white gulls are landing.", ["gulls", "pier"], ["number"]),
        ("Three gulls land on a pier.", "Gulls land on a pier. Three clouds pass.", ["gulls"], ["number"]),
        ("A gull lands on a pier.", "A white bird lands on a pier.", ["gull", "pier"], ["'gull'"]),
        ("Two berries fall.", "Two small red berries, shining, fall from a twig.", ["berries"], []),
        (
            "A crane bows, then spreads its wings.",
            "A crane bows low and then slowly spreads both wings.",
            ["crane"],
            [],
        ),
        ("A crane bows, then spreads its wings.", "A crane spreads its wings and then bows low.", ["crane"], ["order"]),
        ("A crane bows, then spreads its wings.", "A crane bows.", ["crane"], ["order"]),
        ("A ball rolls left, then right.", "A red ball rolls to the left, and then it rolls right.", ["ball"], []),
        ("A ball rolls left, then right.", "A red ball rolls to the right, then it goes left.", ["ball"], ["order"]),
        ("A mill at dusk, the camera zooms in.", "A mill at dusk. Slowly the camera zooms in on it.", ["mill"], []),
        ("A mill at dusk, the camera zooms in.", "A mill at dusk, in golden light.", ["mill"], ["zoom in"]),
        ("A mill, zoom in.", "The camera zooms in on a mill while it pans left.", ["mill"], ["pan left was added"]),
        ("A mill turns.", "A mill turns while the camera pans left.", ["mill"], []),
    ],
)
def test_an_extension_keeps_what_the_prompt_states(base, extended, objects, lost):
    found = lost_facts(base, extended, objects)
    assert len(found) == len(lost), found
    assert all(part in said for part, said in zip(lost, found, strict=True))


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("the camera is zooming slowly in", {"zoom in"}),
        ("Zoom out from a castle", {"zoom out"}),
        ("the view pans from left to right", {"pan right"}),
        ("the camera tilts up the tower", {"tilt up"}),
        ("the camera orbits the statue", {"orbit"}),
        ("a fixed camera watches", {"static"}),
        ("the camera stays perfectly still", {"static"}),
        ("a satellite in a frying pan, left alone", set()),
        ("a woman looks up", set()),
    ],
)
def test_camera_moves_are_read_from_words(text, moves):
    assert camera_moves(text) == moves


def test_every_family_and_variant_has_its_own_wording():
    asked = {json.dumps(ask("A cat leaps.", family, variant)) for family in STYLES for variant in range(len(VARIANTS))}
    assert len(asked) == len(STYLES) * len(VARIANTS)
    assert ask("A cat leaps.", "wan", len(VARIANTS)) == ask("A cat leaps.", "wan", 0)


# --- questions -------------------------------------------------------------------------------------------------------


def question(text, expected="yes", *, gate=False, negated="Is it otherwise?"):
    return Question(question=text, expected=expected, gate=gate, negated=negated)


GOOD = [question("Is there a ball?"), question("Does it vanish?", "no")]


@pytest.mark.parametrize(
    ("asked", "combine", "words"),
    [
        (GOOD, "mean", None),
        ([], "gate", None),
        ([question("Is there a ball?", gate=True), GOOD[1]], "gate", None),
        (GOOD, "gate", "a gate and a question behind it"),
        ([question("Is there a ball?", gate=True), GOOD[1]], "all", "cannot be a gate"),
        ([GOOD[0], question("is there a BALL?", "no")], "mean", "asked twice"),
        ([question("There is a ball."), GOOD[1]], "mean", "is no question"),
        ([question("Is there a ball (answer yes)?"), GOOD[1]], "mean", "tells or names an answer"),
        ([question("Is there a ball?", negated="Is there a ball?"), GOOD[1]], "mean", "not turned round"),
        ([question("Is there " + "a very " * 30 + "big ball?"), GOOD[1]], "mean", "longer than"),
        ([GOOD[0], question("Is it red?")], "mean", "both answers must be expected"),
    ],
)
def test_questions_are_usable_or_say_why_not(asked, combine, words):
    found = flaws(asked, combine)
    assert (not found) if words is None else (len(found) == 1 and words in found[0]), found


# --- block-lists -----------------------------------------------------------------------------------------------------

BLOCKED = ["A horse is grazing in the field, then it suddenly starts running.", "Old mill, zoom in.", "a dog"]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a horse is grazing in the FIELD then it suddenly starts running", "blocked"),
        ("At dawn a horse is grazing in the field, then it suddenly rolls over.", "blocked_words"),
        ("Mist hangs over the old mill; zoom in on its wheel.", "blocked_words"),
        ("A horse is grazing in a field, and suddenly it starts running.", "blocked_near"),
        ("A dog digs a hole.", None),
        ("A dog", "blocked"),
        ("A heron wades through reeds.", None),
    ],
)
def test_blocked_prompts_fall(prompt, reason):
    assert Blocklist(BLOCKED).reason(prompt) == reason


def test_no_list_blocks_nothing():
    assert Blocklist([]).reason("A dog") is None


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "one prompt\n\nanother\n", {"one prompt", "another"}),
        ("a.json", '["one"]', {"one"}),
        ("a.json", '[{"prompt_en": "one", "dimension": ["x"]}]', {"one"}),
        ("a.json", '{"cut sho": {"caption": "cut short"}}', {"cut sho", "cut short"}),
        ("a.jsonl", '{"prompt": "one"}\n{"text": "two"}\n', {"one", "two"}),
        ("a.csv", 'id,caption\n1,"one, two"\n', {"one, two"}),
    ],
)
def test_lists_are_read_in_their_usual_forms(tmp_path, name, content, texts):
    (tmp_path / name).write_text(content)
    assert set(decontamination.read(tmp_path / name)) == texts


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.csv", 'prompt,dim\n"two cats\njump over",mechanics\n,\n', {"two cats\njump over"}),
        ("a.CSV", "prompt\n007\ntrue\nNA\n", {"007", "true", "NA"}),
        ("a.tsv", "id\tprompt\n1\tone, two\n", {"one, two"}),
        ("a.JSONL", '{"prompt": "one\u2028two"}\n', {"one\u2028two"}),
        ("a.json", '{"version": "2", "prompts": ["one", {"text": "two"}]}', {"one", "two"}),
        ("a.json", '{"mechanics": ["one"], "human anatomy": ["two"]}', {"one", "human anatomy", "two"}),
        ("a.json", '{"prompt": "one", "dimension": ["x"], "id": 3}', {"one", "x"}),
        ("a.json", '{"001": "one two", "three four": null}', {"one two", "three four"}),
        ("a.TXT", "one\u2028two\r\nthree\rfour", {"one\u2028two", "three", "four"}),
        ("list", "\ufeffone", {"one"}),
    ],
)
def test_a_record_of_a_list_ends_where_its_format_says(tmp_path, name, content, texts):
    (tmp_path / name).write_bytes(content.encode())
    assert set(decontamination.read(tmp_path / name)) == texts


def test_a_blocked_prompt_over_several_lines_of_a_table_blocks_what_holds_half_of_it(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,dim\n"two cats\njump over a wall",x\n')
    assert (
        Blocklist(decontamination.read(tmp_path / "a.csv")).reason("two cats jump over a low wall") == "blocked_words"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"id,sentence\n1,one\n", "no column prompt_en or prompt or caption or text; .* has id, sentence"),
        ("a.csv", b"prompt,id\n,1\n", "row 2: no prompt"),
        ("a.csv", b"prompt\none, two\n", "row 2 has 2 cells, the header 1; put cells with commas"),
        ("a.csv", b'prompt\n"one\n', "row 2: .*quotes"),
        ("a.csv", "prompt\nun café\n".encode("latin-1"), r"row 2: not UTF-8 text \(b'un caf\\xe9'\); save it as UTF-8"),
        ("a.txt", "one\n猫在屋顶".encode("gbk"), "line 2: not UTF-8 text"),
        ("a.txt", "one".encode("utf-16"), "line 1: not UTF-8 text"),
        ("a.txt", b'{"prompt": "one"}\n', "line 1: is JSON"),
        ("a.txt", b"1\tone\n", "line 1: has several columns"),
        ("a.txt", b"one\n...\n", "line 2: '...' has no words"),
        ("a.yaml", b"- one\n", r"must end in .txt, .csv, .tsv, .json, .jsonl"),
        ("a.json", b'["one", ["two"]]', "item 2: no text"),
        ("a.json", b'[{"sentence": "one"}]', "item 1: no text, and no object with prompt_en or"),
        ("a.json", b'{"version": "2", "prompts": {"a": 1}}', "'version': neither a prompt"),
        ("a.json", b'{"prompts": ["one"], "more": {"x": ["two"]}}', "'more': neither a prompt"),
        ("a.json", b'{"prompts": ["one", 2]}', "'prompts': item 2: no text"),
        ("a.jsonl", b'{"prompt": "one"}\n{"prompts": ["two"]}\n', "line 2: item 1: no text"),
        ("a.jsonl", b'{"prompt": "one"}\n{"prompt": \n', "line 2: no JSON"),
    ],
)
def test_a_list_that_would_block_less_than_it_seems_to_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=f"blocklists: .*{words}"):
        decontamination.read(tmp_path / name)


@pytest.mark.parametrize(("name", "content"), [("a.json", "{"), ("a.json", '[{"x": 1}]'), ("a.txt", "\n"), (None, "")])
def test_a_list_without_prompts_is_refused(tmp_path, name, content):
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(RecipeError, match="blocklists: "):
        decontamination.read(tmp_path / (name or "none.txt"))

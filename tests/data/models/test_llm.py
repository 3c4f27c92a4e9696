"""Language models: what is sent to an endpoint, what goes wrong there, and what a writer makes of the answers."""

import json
import socket
from contextlib import closing
from typing import Any

import pytest

from gigavideo_data import heartbeat
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models.llm import openai_client
from gigavideo_data.models.llm.base import Completion
from gigavideo_data.models.llm.http_model import HttpModel
from gigavideo_data.models.llm.templates.extension import VARIANTS
from gigavideo_data.models.llm.writer import EMPTY_CALLS, LanguageWriter
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from tests.support.openai_server import form, serving

SCHEMA = {"title": "Extended", "type": "object"}
SETTINGS = {"backend": "http", "model": "tiny", "temperature": 0.5, "max_tokens": 100}
ABOUT = load_dimension("motion_order_understanding").model_dump(mode="json")
RULES = {"per_call": 3, "likeness": 0.9, "sift": False}


def model(server):
    return HttpModel({**SETTINGS, "endpoint": server.endpoint})


# --- the endpoint ----------------------------------------------------------------------------------------------------


def test_a_request_holds_what_decides_the_answer(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of mine")
    with serving(lambda _: "{}") as server:
        assert model(server).complete([{"role": "user", "content": "go"}], SCHEMA, 5) == Completion("{}", 7, 3)
    (request,) = server.requests
    assert (request["path"], request["key"]) == ("/v1/chat/completions", "Bearer of mine")
    assert (request["model"], request["temperature"], request["max_tokens"], request["seed"]) == ("tiny", 0.5, 100, 5)
    assert request["messages"] == [{"role": "user", "content": "go"}]
    assert request["response_format"]["json_schema"] == {"name": "Extended", "schema": SCHEMA, "strict": True}


def test_what_may_pass_is_tried_again():
    with serving(lambda _: "{}") as server:
        server.faults = [500, "drop", 429, 503]
        beats: list[int] = []
        with heartbeat.listening(lambda: beats.append(1)):
            assert model(server).complete([], SCHEMA, 0).text == "{}"
    assert len(beats) == 1, "an answer is a heartbeat, an attempt is not"
    assert len(server.requests) == 5
    assert len({json.dumps(request["messages"]) for request in server.requests}) == 1


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (429, TimeoutError, "too busy"),
        (500, TimeoutError, "too busy"),
        (400, RowError, "refused"),
        (401, RunError, "OPENAI_API_KEY"),
        (403, RunError, "OPENAI_API_KEY"),
        (404, RunError, "no model 'tiny'"),
    ],
)
def test_errors_of_the_endpoint_are_translated(status, error, words):
    with serving(lambda _: "{}") as server:
        server.faults = [status] * 99
        with pytest.raises(error, match=words):
            model(server).complete([], SCHEMA, 0)
    assert len(server.requests) <= 1 + openai_client.RETRIES


def test_no_server_is_nothing_that_another_row_would_change(monkeypatch):
    monkeypatch.setattr(openai_client, "RETRIES", 1)
    with serving(lambda _: "{}") as server:
        pass
    with pytest.raises(RunError, match="cannot be reached"):
        model(server).complete([], SCHEMA, 0)


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b"<html>Welcome</html>", RowError, "bad_answer"),
        (b"[]", RunError, "not a chat completion"),
        (b"null", RunError, "not a chat completion"),
        (b'{"choices": null}', RowError, "no_answer"),
        (b'{"choices": [{"index": 0, "message": null}]}', RowError, "bad_answer"),
        (b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": [1]}}]}', RowError, "bad_answer"),
    ],
)
def test_a_body_that_breaks_the_protocol_is_translated(body, error, words):
    with serving(lambda _: body) as server, pytest.raises(error, match=words):
        model(server).complete([], SCHEMA, 0)


def test_missing_counts_of_tokens_are_zero():
    body = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": null}}], "usage": {}}'
    with serving(lambda _: body) as server:
        assert model(server).complete([], SCHEMA, 0) == Completion("", 0, 0)


# --- the writer ------------------------------------------------------------------------------------------------------


class Scripted:
    """A model that returns the given texts in turn, and then the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.asked, self.seeds = list(answers), [], []

    def complete(self, messages, schema, seed):  # noqa: ARG002 - the protocol
        self.asked.append(messages)
        self.seeds.append(seed)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Completion(answer if isinstance(answer, str) else json.dumps(answer), 2, 1)


def drafts(*texts):
    return {"prompts": [{"prompt": text, "objects": [text.split()[1]]} for text in texts]}


def written(model, count, **rules):
    writer = LanguageWriter({}, model)
    return writer.prompts("motion_order_understanding", ABOUT, RULES | rules, count, 0, "train")


# For each of the paper's kinds of variants: a prompt, a long form that keeps what it states, and one that replaces it.
REPLACED = {
    1: (
        "a man crosses a yard at night",
        "Under a bright lamp a man crosses a paved yard at night.",
        "On a sunny morning a man crosses a yard.",
        "night",
    ),
    2: (
        "a girl runs to a gate, then stops",
        "With heavy steps a girl runs to a wooden gate, and then she stops.",
        "A girl walks slowly to a gate, and then she stops.",
        "runs",
    ),
    3: (
        "a man in a red checked shirt chops wood",
        "A tall old man in a red checked shirt chops wood.",
        "A young man in a blue coat chops wood.",
        "red",
    ),
}


def extended(prompt: str, thing: str, variant: int) -> dict[str, Any]:
    return {"prompt": prompt, "objects": [thing], "variant": variant, "family": "wan", "seed": 0}


@pytest.mark.parametrize("variant", REPLACED)
def test_each_kind_of_variant_keeps_what_its_prompt_states(variant):
    prompt, good, bad, word = REPLACED[variant]
    inputs: dict[str, Any] = {
        "prompt": prompt,
        "objects": [prompt.split()[1]],
        "variant": variant,
        "family": "wan",
        "seed": 0,
    }
    model = Scripted({"prompt": bad}, {"prompt": good}, {"lost": []})
    found = LanguageWriter({}, model).extend(**inputs, about=ABOUT)
    assert found["prompt"] == good
    assert f"the word '{word}'" in model.asked[1][-1]["content"], "the model is asked again with the reason"
    assert [*VARIANTS.values()][variant] in model.asked[0][0]["content"]
    assert ABOUT["definition"] in model.asked[0][0]["content"]
    with pytest.raises(RowError, match="lost_facts"):
        LanguageWriter({}, Scripted({"prompt": bad})).extend(**inputs, about=ABOUT)


def test_a_variant_that_the_model_finds_to_have_lost_the_tested_facts_is_rejected():
    good, lost = {"prompt": REPLACED[2][1]}, {"lost": ["that she stops"]}
    inputs = extended(REPLACED[2][0], "girl", 2)
    model = Scripted(good, lost, good, {"lost": []})
    assert LanguageWriter({}, model).extend(**inputs, about=ABOUT)["prompt"] == good["prompt"]
    (check,) = model.asked[1]
    assert ABOUT["definition"] in check["content"]
    assert REPLACED[2][0] in check["content"]
    assert good["prompt"] in check["content"]
    assert "that she stops" in model.asked[2][-1]["content"]
    assert len(set(model.seeds)) == 4
    with pytest.raises(RowError, match=r"lost_facts.*that she stops"):
        LanguageWriter({}, Scripted(good, lost, good, lost)).extend(**inputs, about=ABOUT)


def test_the_plain_form_is_checked_by_its_words_alone():
    model = Scripted({"prompt": REPLACED[3][2].replace("coat", "shirt")})
    inputs: dict[str, Any] = {
        "prompt": REPLACED[3][0],
        "objects": ["man", "shirt"],
        "variant": 0,
        "family": "wan",
        "seed": 0,
    }
    LanguageWriter({}, model).extend(**inputs, about=ABOUT)
    assert len(model.asked) == 1


def test_prompts_are_asked_for_until_there_are_enough():
    model = Scripted(
        drafts("a heron wades, then dives", "A heron wades, then dives!", "a kettle boils, then whistles"),
        drafts("a heron dives, then wades", "a mason lays a brick, then taps it", "a gate opens, then shuts"),
    )
    found = written(model, 4)
    assert [draft["prompt"] for draft in found["prompts"]] == [
        "a heron wades, then dives",
        "a kettle boils, then whistles",
        "a mason lays a brick, then taps it",
        "a gate opens, then shuts",
    ]
    assert [draft["reason"] for draft in found["dropped"]] == ["duplicate", "near_duplicate"]
    assert found["tokens"] == {"prompt": 4, "completion": 2}
    assert "Write 2 new prompts" in model.asked[1][-1]["content"]
    assert "- a heron wades, then dives" in model.asked[1][-1]["content"]  # what exists is shown
    assert ABOUT["seeds"][0] in model.asked[0][0]["content"]
    assert len(set(model.seeds)) == 2


def test_a_model_without_ideas_is_not_asked_for_ever():
    model = Scripted(drafts("a heron wades, then dives"))
    assert len(written(model, 50)["prompts"]) == 1
    assert len(model.asked) == 1 + EMPTY_CALLS


def test_a_model_is_shown_used_prompts_and_they_come_last_where_it_writes_no_others():
    used = ["a heron wades, then dives", "a kettle boils, then whistles"]
    answers = drafts("A kettle boils, then whistles.", "a gate opens, then shuts")
    writer = LanguageWriter({}, model := Scripted(answers))
    few, more = (
        writer.prompts("motion_order_understanding", ABOUT, RULES, count, 0, "train", used=order)
        for count, order in ((1, used), (9, used[::-1]))
    )
    assert all(f"- {text}" in model.asked[0][-1]["content"] for text in used)
    assert [draft["prompt"] for draft in few["prompts"]] == ["a gate opens, then shuts"]
    assert [draft["reason"] for draft in few["dropped"]] == ["duplicate"]
    fresh, *rest = [draft["prompt"] for draft in more["prompts"]]
    assert (fresh, sorted(rest)) == ("a gate opens, then shuts", used)
    again = LanguageWriter({}, Scripted(answers)).prompts(
        "motion_order_understanding", ABOUT, RULES, 9, 0, "train", used=used
    )
    assert again == more  # whatever their order


def test_one_bad_call_does_not_lose_the_list():
    model = Scripted(drafts("a heron wades, then dives"), "nonsense", "nonsense", drafts("a gate opens, then shuts"))
    assert len(written(model, 2)["prompts"]) == 2
    with pytest.raises(RowError) as caught:
        written(Scripted("nonsense"), 2)
    assert caught.value.reason == "bad_form"


def test_impossible_prompts_fall():
    model = Scripted(drafts("a thought forms, then fades", "a gate opens, then shuts"), {"impossible": [1, 99]})
    found = written(model, 1, sift=True)
    assert [draft["prompt"] for draft in found["prompts"]] == ["a gate opens, then shuts"]
    assert found["dropped"] == [{"prompt": "a thought forms, then fades", "reason": "impossible"}]
    assert "1. a thought forms" in model.asked[1][0]["content"]


def test_an_answer_that_breaks_the_rules_is_sent_back_once():
    model = Scripted({"prompt": "A gull sits."}, {"prompt": "A  grey gull lands\non a pier."})
    extended = LanguageWriter({}, model).extend("A gull lands on a pier.", ["gull", "pier"], 0, "wan", 0)
    assert extended == {"prompt": "A grey gull lands on a pier.", "tokens": {"prompt": 4, "completion": 2}}
    assert "lost the thing 'pier'" in model.asked[1][-1]["content"]
    assert len(set(model.seeds)) == 2


def test_an_extension_without_text_is_sent_back():
    model = Scripted({"prompt": " \n"}, {"prompt": "A gull\0lands on a pier."})
    with pytest.raises(RowError, match="the prompt has a NUL character"):
        LanguageWriter({}, model).extend("A gull lands.", [], 0, "wan", 0)
    assert "the prompt is blank" in model.asked[1][-1]["content"]


def test_a_second_bad_answer_rejects_the_row_with_its_reason():
    with pytest.raises(RowError) as caught:
        LanguageWriter({}, Scripted({"prompt": "A gull sits."})).extend("A gull lands.", ["pier"], 0, "wan", 0)
    assert caught.value.reason == "lost_facts"
    for text in ("{", "[]", '{"prompt": ""}', '{"prompt": "a", "more": 1}'):
        with pytest.raises(RowError) as caught:
            LanguageWriter({}, Scripted(text)).extend("A gull lands.", ["gull"], 0, "wan", 0)
        assert caught.value.reason == "bad_form"


def test_questions_follow_the_rules_or_the_row_falls():
    good = [
        {"question": "Does it rise first?", "expected": "yes", "gate": False, "negated": "Does it rise last?"},
        {"question": "Does it sink first?", "expected": "no", "gate": False, "negated": "Does it sink last?"},
    ]
    writer = LanguageWriter({}, Scripted({"questions": good}))
    assert writer.questions("it rises, then sinks", "motion_order_understanding", ABOUT)["questions"] == good
    assert LanguageWriter({}, Scripted({"questions": []})).questions("a dog", "m", ABOUT)["questions"] == []
    with pytest.raises(RowError, match="both answers"):
        LanguageWriter({}, Scripted({"questions": good[:1]})).questions("it rises", "m", ABOUT)


def test_the_same_row_asks_with_the_same_seeds():
    def seeds(seed, prompt):
        model = Scripted({"prompt": "A grey gull lands."})
        LanguageWriter({}, model).extend(prompt, ["gull"], 0, "wan", seed)
        return model.seeds

    assert seeds(0, "A gull lands.") == seeds(0, "A gull lands.")
    assert seeds(0, "A gull lands.") != seeds(1, "A gull lands.")


def test_the_schema_that_is_sent_describes_the_answer():
    with serving(lambda _: json.dumps(drafts("a heron wades"))) as server:
        LanguageWriter({**SETTINGS, "endpoint": server.endpoint}).prompts("m", ABOUT, RULES, 1, 0, "train")
    assert form(server.requests[0]) == "Drafts"
    assert "objects" in json.dumps(server.requests[0]["response_format"])


def test_a_server_that_takes_no_connection_is_not_reached_and_soon_given_up(monkeypatch):
    monkeypatch.setattr(openai_client, "CONNECT_S", 0.05)
    monkeypatch.setattr(openai_client, "RETRIES", 0)
    with closing(socket.socket()) as deaf:  # its queue of one is full, so that later connections wait for ever
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        host, port = deaf.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((host, port))
        with pytest.raises(RunError, match="cannot be reached"):
            HttpModel({**SETTINGS, "endpoint": f"http://{host}:{port}/v1"}).complete([], SCHEMA, 0)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_endpoint_on_this_machine_is_asked_past_the_proxy(monkeypatch, host):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(lambda _: "{}") as server:
        url = server.endpoint.replace("127.0.0.1", host)
        assert HttpModel({**SETTINGS, "endpoint": url}).complete([], SCHEMA, 0).text == "{}"


@pytest.mark.parametrize("answers", [True, False])
def test_an_endpoint_elsewhere_that_a_proxy_does_not_give_names_the_proxy(monkeypatch, answers):
    monkeypatch.setattr(openai_client, "RETRIES", 0)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(lambda _: "{}") as server:
        server.faults = [503] * 9
        proxy = server.endpoint.removeprefix("http://").removesuffix("/v1") if answers else "127.0.0.1:1"
        monkeypatch.setenv("http_proxy", f"http://name:secret@{proxy}")
        expected = TimeoutError if answers else RunError
        with pytest.raises(expected, match=rf"through the proxy {proxy} \(http_proxy\)") as error:
            HttpModel({**SETTINGS, "endpoint": "http://gpu.example:8000/v1"}).complete([], SCHEMA, 0)
    assert "secret" not in str(error.value)

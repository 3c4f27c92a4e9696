"""The writer by vLLM: a genuine architecture that has learned nothing, held to forms."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gigavideo_data.errors import RowError
from gigavideo_data.models.llm.templates import extension, prompts, questions
from gigavideo_data.models.registry import load_engine, writer_spec
from gigavideo_data.recipe.recipe import Vllm, Writer
from tests.support import qwen_vl
from tests.support.vllm_here import ENVIRONMENT, SETTINGS

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
ASKED = [{"role": "user", "content": "Write a title for a clip of a heron."}]


class Title(BaseModel):
    """A form short enough that whoever keeps to it ends in time."""

    model_config = ConfigDict(extra="forbid", title="Title")

    words: Annotated[str, Field(pattern="^[a-z ]{1,12}$")]
    kind: Literal["calm", "lively"]
    stars: Annotated[list[Literal[1, 2, 3]], Field(min_length=1, max_length=3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = qwen_vl.build_text(tmp_path_factory.mktemp("text"))
    named = Writer(backend="vllm", model=str(folder), temperature=1.0, max_tokens=200, vllm=Vllm(**SETTINGS))
    decides, location = writer_spec(named)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield load_engine("writer", decides | location).model


def complete(model, seed, shape=Title, messages=ASKED):
    return model.complete(messages, shape.model_json_schema(), seed)


def test_a_model_that_knows_nothing_keeps_to_the_form(model):
    completions = [complete(model, seed) for seed in range(5)]
    assert len({Title.model_validate_json(completion.text).words for completion in completions}) > 1
    assert all(0 < completion.completion_tokens <= 200 for completion in completions)
    said = "<|im_start|>user\n" + ASKED[0]["content"] + "<|im_end|>\n<|im_start|>assistant\n"
    assert completions[0].prompt_tokens == len(qwen_vl.tokenizer().encode(said))


def test_a_seed_decides_the_text_also_in_company(model):
    alone = [complete(model, seed).text for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: complete(model, seed).text, range(6)))
    assert together == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("shape", [prompts.Drafts, prompts.Verdicts, extension.Extended, questions.Questions])
def test_every_form_that_is_asked_for_can_be_kept_to(model, shape):
    assert complete(model, 0, shape).text.startswith('{"')


def test_a_conversation_that_is_too_long_is_a_reject_and_harms_no_other(model):
    long = [{"role": "user", "content": "heron " * 1000}]
    with ThreadPoolExecutor(2) as pool:
        refused, made = pool.submit(complete, model, 0, Title, long), pool.submit(complete, model, 0)
    assert isinstance(refused.exception(), RowError)
    assert made.result().text == complete(model, 0).text

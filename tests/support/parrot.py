"""A tiny Qwen2 that has learnt three answers by heart, so that a whole build can have vLLM behind its texts.

Its weights begin at random and are trained here, in a minute: whatever is asked for a prompt, an extension or questions
gets the same prompt, extension or questions. Everything else of a real model is there: architecture, tokenizer, chat
template, and the JSON it must write.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoTokenizer, Qwen2ForCausalLM

from gigavideo_data.miniature.grammar import describe, sample_scene
from gigavideo_data.models.llm.templates import extension, prompts, questions
from gigavideo_data.pipeline.sources.intake import about
from tests.support import qwen_vl

DIMENSION = "composition"
SCENE = sample_scene(DIMENSION, np.random.default_rng(3), "tune")
THINGS = [f"{thing.color} {thing.shape}" for thing in SCENE.things]
ASKED = [
    {"question": "Are both things there?", "expected": "yes", "gate": False, "negated": "Is one of them missing?"},
    {"question": "Is it all dark?", "expected": "no", "gate": False, "negated": "Is anything to be seen?"},
]
STEPS, MANY = 600, 6


def build(folder: Path) -> Path:
    """Train it, and write it."""
    qwen_vl.build_text(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    lessons = [_encoded(tokenizer, *lesson) for lesson in _lessons()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 30) * (1 - step / STEPS)
        tokens_L, start = lessons[step % len(lessons)]
        logits_LV = model(tokens_L[None]).logits[0]
        loss = functional.cross_entropy(logits_LV[start - 1 : -1], tokens_L[start:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.save_pretrained(folder)
    return folder


def _lessons() -> list[tuple[list[dict[str, str]], str]]:
    """Conversations, and what is answered; questions are asked about texts of every kind."""
    of_prompts, of_questions = about(DIMENSION, "definition", "seeds"), about(DIMENSION, "question_guidance", "combine")
    base = describe(SCENE)
    drafts = prompts.Drafts.model_validate({"prompts": [{"prompt": base, "objects": THINGS}]})
    extended = extension.Extended(prompt=describe(SCENE, full=True))
    asked = questions.Questions.model_validate({"questions": ASKED})
    texts = [describe(sample_scene(DIMENSION, np.random.default_rng(seed), "tune"), full=True) for seed in range(MANY)]
    lessons = [
        (prompts.ask(of_prompts["about"], 1, []), drafts.model_dump_json()),
        (extension.ask(base, "wan", 0), extended.model_dump_json()),
    ]
    return lessons * 2 + [(questions.ask(text, of_questions["about"]), asked.model_dump_json()) for text in texts]


def _encoded(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> tuple[torch.Tensor, int]:
    said = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (said, answer))
    return torch.tensor([*before, *after, tokenizer.eos_token_id]), len(before)

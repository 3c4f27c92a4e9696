"""Tiny models of genuine architecture with random weights, and a vocabulary of letters and some words."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
SPECIAL += ["<|video_pad|>"]
WORDS = ["yes", "Yes", "YES", "no", "No", "NO", "Ġyes", "ĠYes", "Ġno", "ĠNo"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TEXT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the words of an answer as single tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in WORDS:  # a word is reached by merging from the left; with a space before it, that comes last
        parts = [(word[:end], word[end]) for end in range(1, len(word))]
        merges += [("Ġ", word[1:])] if word.startswith("Ġ") else parts
    merges = list(dict.fromkeys(merges))
    tokens = list(dict.fromkeys([*letters, *("".join(pair) for pair in merges)]))
    bpe = models.BPE({token: number for number, token in enumerate(tokens)}, merges)
    core = Tokenizer(bpe)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    made.chat_template = TEMPLATE
    return made


def build(kind: str, folder: Path) -> Path:
    """Write a model of a kind (qwen2_5_vl, qwen3_vl), its tokenizer and how its own processor is set."""
    made = tokenizer()
    ids = {name: made.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    special = {
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
        "image_token_id": made.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": made.convert_tokens_to_ids("<|video_pad|>"),
    }
    text = _text(made)
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64}
    vision |= {"out_hidden_size": 64, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3}
    torch.manual_seed(0)
    if kind == "qwen2_5_vl":
        rope: dict[str, Any] = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}
        vision |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2}
        config = Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=vision, **special)
        model: Any = Qwen2_5_VLForConditionalGeneration(config)
    else:
        rope = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True, "rope_theta": 10000.0}
        vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        text |= {"head_dim": 32, "rope_parameters": rope}
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **special))
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    for name, settings in _processor(kind, vision["patch_size"]).items():
        (folder / name).write_text(json.dumps(settings))
    return folder


def build_text(folder: Path) -> Path:
    """Write a Qwen2 that speaks, and its tokenizer."""
    made = tokenizer()
    made.chat_template = TEXT_TEMPLATE
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(**_text(made))).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def _text(made: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(made),
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": made.eos_token_id,
    }


def _processor(kind: str, patch_size: int) -> dict[str, dict[str, Any]]:
    """Files of the models' own processors; their limits of size are those of no clip of a test."""
    family = {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}[kind]
    common = {"patch_size": patch_size, "temporal_patch_size": 2, "merge_size": 2, "processor_class": family}
    common |= {"size": {"shortest_edge": 28 * 28, "longest_edge": 2**24}}
    videos = "Qwen3VLVideoProcessor" if kind == "qwen3_vl" else "Qwen2VLVideoProcessor"
    return {
        "preprocessor_config.json": common | {"image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": common | {"video_processor_type": videos, "do_sample_frames": False},
    }

"""vLLM in this process: how a model is loaded, and what goes wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.reasons import Reason

# One process: it leaves no other behind that holds on to an accelerator, and batches are scheduled the same each time.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

try:
    import vllm
    from vllm.exceptions import VLLMClientError, VLLMServerError
    from vllm.platforms import current_platform
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "vllm":
        raise
    raise RunError("backend vllm needs the package vllm: pip install 'gigavideo[vllm]'") from error

FIT = -1  # in vLLM's words: the model's own length, or what fits into memory


def load(engine: dict[str, Any], **more: Any) -> Any:
    """Load a `vllm.LLM`.

    Args:
        engine: `load` and `load_revision`, its Hub id and commit, or its folder and None; `vllm`, the settings of
            `recipe.Vllm`; `gpus`, over how many the model is laid, 1 if left out.
        more: arguments for `vllm.LLM`.
    """
    here = dict(engine["vllm"])
    length = here.pop("max_model_len")
    return vllm.LLM(
        model=engine["load"],
        revision=engine["load_revision"],
        tokenizer_revision=engine["load_revision"],
        tensor_parallel_size=max(1, int(engine.get("gpus", 1))),
        dtype="float32" if current_platform.is_cpu() else "bfloat16",
        max_model_len=FIT if length is None else length,
        seed=0,
        disable_log_stats=True,
        **here,
        **more,
    )


@contextmanager
def told_apart() -> Iterator[None]:
    """What goes wrong in vLLM, told apart: a row's fault, or nothing that another row would change.

    Raises:
        RowError: a request was refused, such as one that is too long.
        RunError: the engine broke.
    """
    try:
        yield
    except (VLLMClientError, ValueError) as error:
        raise RowError(Reason.REFUSED, " ".join(str(error).split())[:200]) from error
    except (VLLMServerError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200]
        raise RunError(f"vLLM broke ({told}). Run the same command again: finished rows are kept.") from error

"""vLLM in this process: loading a model, and translating its errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gigavideo_data.errors import DeadEngineError, RowError, RunError
from gigavideo_data.models.device_errors import is_dead, is_out_of_memory
from gigavideo_data.reasons import Reason

# One process: no other one is left that holds an accelerator, and batches are scheduled the same each time.
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

AUTO_LENGTH = -1  # vLLM's value for: the model's own length, or what fits into memory


def load(engine: dict[str, Any], **more: Any) -> Any:
    """Load a `vllm.LLM`.

    Args:
        engine: `load` and `load_revision`, its Hub id and commit, or its folder and None; `vllm`, the settings of
            `recipe.Vllm`; `gpus`, the number of GPUs that share the model, 1 by default.
        more: arguments for `vllm.LLM`.
    """
    options = dict(engine["vllm"])
    length = options.pop("max_model_len")
    return vllm.LLM(
        model=engine["load"],
        revision=engine["load_revision"],
        tokenizer_revision=engine["load_revision"],
        tensor_parallel_size=max(1, int(engine.get("gpus", 1))),
        dtype="float32" if current_platform.is_cpu() else "bfloat16",
        max_model_len=AUTO_LENGTH if length is None else length,
        seed=0,
        disable_log_stats=True,
        **options,
        **more,
    )


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate vLLM's errors into those of a row or of the run.

    Raises:
        RowError: a request was refused, such as one that is too long.
        DeadEngineError: the GPU or the engine died. Also after out of memory: requests of the failed call stay in the
            engine, and their results would be returned by a later call.
        RunError: the engine failed, and no other row would succeed.
    """
    try:
        yield
    except (VLLMClientError, ValueError) as error:
        raise RowError(Reason.REFUSED, " ".join(str(error).split())[:200]) from error
    except (VLLMServerError, RuntimeError) as error:
        if is_dead(error) or is_out_of_memory(error):
            raise DeadEngineError(" ".join(str(error).split())[:200]) from error
        message = " ".join(str(error).split())[:200]
        raise RunError(f"vLLM failed ({message}). Run the same command again: finished rows are kept.") from error

"""Errors of a GPU: out of memory, which a row may cause, and those after which the process computes nothing more.

Types are compared by name, because workers without a model do not import torch.
"""

from __future__ import annotations

import gc
import sys

from gigavideo_data.errors import DeadEngineError

# After these, all later calls of the process fail too. Some versions of torch raise a plain RuntimeError, and so does a
# model that is sharded over processes: it quotes the message of one of them.
_DEAD_TYPES = ("torch.AcceleratorError", "EngineDeadError")  # the second one is vLLM's
_DEAD_MESSAGES = ("CUDA error: ", "CUDA driver error: ", "HIP error: ", "Triton Error [CUDA]: ")
_OUT_OF_MEMORY_TYPE = "torch.OutOfMemoryError"
_OUT_OF_MEMORY_MESSAGES = ("error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # memory that torch does not manage


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU has too little memory for a call; the next call may succeed."""
    if _OUT_OF_MEMORY_TYPE in _type_names(error):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_MESSAGES)


def is_dead(error: BaseException) -> bool:
    """Whether the GPU or the engine can process no other row in this process."""
    if is_out_of_memory(error):
        return False
    if isinstance(error, DeadEngineError) or any(name in _DEAD_TYPES for name in _type_names(error)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _DEAD_MESSAGES)


def free_memory() -> None:
    """Return memory of the GPU that no tensor uses.

    Call it outside of the `except` block: the frames of an exception hold tensors.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _type_names(error: BaseException) -> set[str]:
    types = type(error).__mro__
    return {cls.__name__ for cls in types} | {f"{cls.__module__}.{cls.__name__}" for cls in types}

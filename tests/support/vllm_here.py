"""vLLM as the tests run it: little memory, no compilation, threads left to whoever has them."""

from typing import Any

SETTINGS: dict[str, Any] = {"max_model_len": 1024, "enforce_eager": True}
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}

"""Every module of the packages is imported, those that commands import only where they are needed too."""

import importlib
import pkgutil

import gigavideo_data
import gigavideo_loop
import gigavideo_train

# Of vLLM, which make test-vllm installs.
IN_PROCESS = {f"gigavideo_data.models.{name}" for name in ("judges.vllm_judge", "llm.vllm_model", "llm.vllm_engine")}


def test_every_module_is_imported():
    names = {
        module.name
        for package in (gigavideo_data, gigavideo_train, gigavideo_loop)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    }
    for name in sorted(names - IN_PROCESS):
        importlib.import_module(name)
    assert names > {"gigavideo_train.models.wan", *IN_PROCESS}

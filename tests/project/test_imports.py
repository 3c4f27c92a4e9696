"""Every module of both packages is imported, those that commands import only where they are needed too."""

import importlib
import pkgutil

import gigavideo_data
import gigavideo_train

IN_PROCESS = {f"gigavideo_data.{name}" for name in ("judges.vllm", "llm.vllm", "llm.in_process")}  # make test-vllm


def test_every_module_is_imported():
    names = {
        module.name
        for package in (gigavideo_data, gigavideo_train)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    }
    for name in sorted(names - IN_PROCESS):
        importlib.import_module(name)
    assert names > {"gigavideo_train.models.wan", *IN_PROCESS}

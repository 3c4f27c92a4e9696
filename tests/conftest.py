"""Nothing here reaches the network, caches go to a folder of this run, and each process computes with one thread.

These are read when huggingface_hub and torch are imported, so they are set before.
"""

import os
import signal
import tempfile

# A shell that starts the tests in the background lets them ignore Ctrl-C, and their children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

CACHE = tempfile.TemporaryDirectory(prefix="gigavideo-hf-")  # removed when the run ends

# The models here are too small to share out: threads that wait for each other cost up to ten times what they compute.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
    os.environ[name] = "1"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HOME"] = CACHE.name

"""One build over a Ray cluster of several nodes on this machine, one of which dies in the middle."""

import os
import time
from collections import Counter

import pytest
from ray.cluster_utils import Cluster

from tests.support.workspace import BATCH, FAULTS, Workspace

NODES = 2
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A head that runs nothing, and nodes that do; they start with the faults that a build's own workers would have."""
    for name, value in {"PYTHONPATH": str(FAULTS), "GV_CALLS": str(tmp_path / "calls"), "GV_SLEEP_S": "0.5"}.items():
        monkeypatch.setenv(name, value)
    small = {"include_dashboard": False, "object_store_memory": 2**27}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(NODES):
        made.add_node(num_cpus=2, object_store_memory=2**27)
    yield made
    made.shutdown()


def test_a_node_that_dies_in_the_middle_loses_and_doubles_nothing(small_build, cluster, tmp_path):
    workspace = Workspace(tmp_path / "spread")
    workspace.calls_file = tmp_path / "calls"
    process = workspace.start(faults={"RAY_ADDRESS": cluster.address})
    victim = sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0]
    deadline = time.monotonic() + 240
    while workspace.finished("synthesize") < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    before = workspace.finished("synthesize")
    cluster.remove_node(victim, allow_graceful=False)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert 3 <= before < small_build.calls(), "the node must die in the middle"
    assert workspace.files() == small_build.files()
    assert workspace.manifest()["ledger"] == small_build.manifest()["ledger"]
    again = Counter(workspace.calls_file.read_text().splitlines()) - Counter(
        small_build.calls_file.read_text().splitlines()
    )
    assert again.total() <= 2 * BATCH, "only rows that were being made on the dead node are made again"


def test_a_store_that_a_node_does_not_see_ends_the_build(cluster, tmp_path):
    """The nodes lie on one machine here, so what no node sees is a store that is taken away."""
    import ray

    from gigavideo_data.errors import RunError
    from gigavideo_data.pipeline.execution.ray_session import check_shared

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        (tmp_path / "format").write_text("1\n")
        check_shared(tmp_path)
        with pytest.raises(RunError, match="shared storage"):
            check_shared(tmp_path / "elsewhere")
    finally:
        ray.shutdown()
        os.environ.pop("RAY_ADDRESS", None)

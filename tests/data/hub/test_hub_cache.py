"""Files in the Hub client's cache that are no longer what was downloaded."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from gigavideo_data import heartbeat
from gigavideo_data.errors import HubError
from gigavideo_data.hub.models import file_of, folder_of
from gigavideo_data.io.hashing import is_damaged, sha256_of
from tests.data.hub.test_download import put
from tests.support.hub_clients import gv_train
from tests.support.hub_server import serving
from tests.support.train_set import training_set

FILES = {"model_index.json": b"{}", "vae/config.json": b"{ }", "vae/weights.safetensors": b"weights" * 1000}
COMMIT = "1" * 40


class Cache:
    """A cache as the client writes it, and a Hub that gives `files`."""

    def __init__(self, root: Path) -> None:
        self.root, self.files, self.fetched = root, dict(FILES), list[str]()
        for name, data in FILES.items():
            path = self.snapshot / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(root / "blobs" / self.etag(name))
            self.write(name, data)

    @property
    def snapshot(self) -> Path:
        return self.root / "snapshots" / COMMIT

    def etag(self, name: str) -> str:
        data = FILES[name]
        if name.endswith(".safetensors"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def write(self, name: str, data: bytes) -> None:
        blob = self.root / "blobs" / self.etag(name)
        blob.parent.mkdir(exist_ok=True)
        blob.unlink(missing_ok=True)
        blob.write_bytes(data)

    def download(self, _: str, name: str, *, force_download: bool = False, **__: object) -> str:
        if force_download:
            self.fetched.append(name)
            self.write(name, self.files[name])
        return str(self.snapshot / name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    made = Cache(tmp_path / "models--org--m")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(made.snapshot))
    return made


READERS: list[Callable[[str], Path]] = [
    lambda name: file_of("org/m", None, name),
    lambda name: folder_of("org/m", None, ["vae"]) / name,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_model_is_fetched_again_and_whole_ones_are_not(
    cache: Cache, name: str, read: Callable[[str], Path]
) -> None:
    assert read(name).read_bytes() == FILES[name]
    assert cache.fetched == []
    cache.write(name, FILES[name][:-1] + b"!")
    assert read(name).read_bytes() == FILES[name]
    assert cache.fetched == [name]


def test_each_fetched_file_is_a_heartbeat(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_: str, *, tqdm_class: type, **__: object) -> str:
        bar = tqdm_class(total=len(FILES), disable=True)
        for _name in FILES:
            bar.update(1)
        return str(cache.snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    beats: list[int] = []
    with heartbeat.listening(lambda: beats.append(1)):
        folder_of("org/m", None, ["vae"])
    assert len(beats) == len(FILES)


def test_a_file_that_stays_damaged_is_refused(cache: Cache) -> None:
    name = "vae/weights.safetensors"
    cache.files[name] = b"other"
    cache.write(name, b"other")
    with pytest.raises(HubError, match=r"weights\.safetensors: damaged in the cache, and when it was fetched again"):
        folder_of("org/m", None, ["vae"])


def test_a_damaged_file_without_a_network_is_named(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_: str, name: str, *, force_download: bool = False, **__: object) -> str:
        if force_download:
            raise OSError("offline")
        return str(cache.snapshot / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    cache.write("model_index.json", b"{")
    with pytest.raises(HubError, match=r"in the cache is damaged; remove .*blobs/.*does not answer"):
        file_of("org/m", None, "model_index.json")


def test_a_file_that_is_no_link_cannot_be_compared(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert not is_damaged(tmp_path / "a")


def test_the_sum_of_a_file_that_changes_is_computed_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"a").hexdigest()
    (tmp_path / "a").unlink()
    (tmp_path / "a").write_bytes(b"b")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"b").hexdigest()


@pytest.mark.slow
def test_a_damaged_set_in_the_cache_is_not_trained_on(tmp_path: Path) -> None:
    with serving() as hub:
        put(hub, training_set(tmp_path / "set"), "v1.0.0")
        steps = ("--dataset", "org/ds", "--set", "max_steps=1", "--set", "epochs=9", "--set", "batch_size=2")
        code, _, said = gv_train(hub, tmp_path, *steps)
        assert code == 0, said
        latents = tensors(tmp_path / "runs" / "latents")
        shutil.rmtree(tmp_path / "runs")
        blobs = [path for path in (tmp_path / "stranger").rglob("blobs/*") if path.is_file()]
        kept = {path: path.read_bytes() for path in blobs}
        assert any(b"PAR1" in data for data in kept.values())
        for path, data in kept.items():
            path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        code, _, said = gv_train(hub, tmp_path, *steps)
    assert code == 0, said
    assert tensors(tmp_path / "runs" / "latents") == latents
    assert {path: path.read_bytes() for path in blobs} == kept


def tensors(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}

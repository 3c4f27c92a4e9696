"""How much of a dataset must be uploaded again after its videos were scored again.

    gv-data score runs/quickstart-all --recipe quickstart-all --set judge.readout=text --out runs/hard
    python -m benchmarks.rescore_bytes runs/quickstart-all runs/hard

Xet, the Hub's storage, cuts files into content-defined chunks and stores each chunk once. Both datasets are cut here in
the same way: a gear hash over 64 bytes, 64 KiB on average, from 8 to 128 KiB. The bytes of the chunks that are only in
the second one are counted. The table of the hash is our own, so the cut points differ from those of the Hub.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MIN_BYTES, MAX_BYTES = 8 << 10, 128 << 10
CUT_BITS = np.uint64(0xFFFF << 48)  # all zero at one place of 64 Ki on average
WINDOW = 64
GEAR = np.random.default_rng(0).integers(0, 1 << 64, 256, np.uint64)


def chunks(data: bytes) -> Iterator[bytes]:
    """Cut bytes into content-defined chunks."""
    sums = GEAR[np.frombuffer(data, np.uint8)]
    for reach in (1, 2, 4, 8, 16, 32):  # each round doubles the window: sum over k < 64 of gear[i - k] << k
        sums[reach:] += sums[:-reach] << np.uint64(reach)
    start = 0
    for end in [*(np.flatnonzero((sums & CUT_BITS) == 0) + 1), len(data)]:
        while end - start > MAX_BYTES:
            yield data[start : start + MAX_BYTES]
            start += MAX_BYTES
        if end - start >= MIN_BYTES or end == len(data):
            yield data[start:end]
            start = end


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each chunk of a dataset's files, by its sha256."""
    return {
        hashlib.sha256(chunk).hexdigest(): len(chunk)
        for file in sorted(folder.rglob("*.parquet"))
        if ".gv" not in file.parts
        for chunk in chunks(file.read_bytes())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    folders = parser.parse_args()
    before, after = sizes(folders.before), sizes(folders.after)
    total, new = sum(after.values()), sum(size for name, size in after.items() if name not in before)
    known = {hashlib.sha256(file.read_bytes()).digest() for file in folders.before.rglob("*.parquet")}
    files = [file for file in folders.after.rglob("*.parquet") if ".gv" not in file.parts]
    whole = sum(file.stat().st_size for file in files if hashlib.sha256(file.read_bytes()).digest() not in known)
    print(f"`python -m benchmarks.rescore_bytes {folders.before} {folders.after}`, {platform.machine()}\n")
    print("| of the new dataset | MB | share |\n| --- | --- | --- |")
    for what, size in (
        ("all chunks", total),
        ("new chunks", new),
        ("files that differ, uploaded whole", whole),
    ):
        print(f"| {what} | {size / 1e6:.2f} | {size / total:.1%} |")


if __name__ == "__main__":
    main()

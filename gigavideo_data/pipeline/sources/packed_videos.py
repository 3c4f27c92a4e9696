"""Videos inside Parquet files, as the `datasets` library writes them, unpacked into a folder with a table beside them.

A file has a struct column with `bytes` and `path`, such as `video`, and text columns that become the table's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.errors import RecipeError
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress

BATCH = 16  # rows with their videos in memory at a time


def parquet_files(videos: Path) -> list[Path]:
    """The Parquet files of a folder or the file itself, if they hold videos; else none.

    Raises:
        RecipeError: a file cannot be read.
    """
    files = sorted(videos.rglob("*.parquet")) if videos.is_dir() else [videos] * (videos.suffix == ".parquet")
    return [file for file in files if _video_column(file)]


def unpack(files: list[Path], folder: Path, progress: Progress) -> Path:
    """Write the videos of Parquet files into a folder. Those that are there already are left as they are.

    Args:
        files: of `parquet_files`.
        folder: of the videos.
        progress: where to show it.

    Returns:
        The table of the videos: their file names and the text columns of the Parquet files, as JSON lines.

    Raises:
        RecipeError: a file cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    progress.start("unpack", total=sum(pq.ParquetFile(file).metadata.num_rows for file in files))
    for number, (video, row) in enumerate(_rows(files)):
        ending = PurePath(video.get("path") or "").suffix.lower() or ".mp4"
        file = folder / f"{number:06d}{ending}"
        data = video.get("bytes")
        if data is not None and (not file.exists() or file.stat().st_size != len(data)):
            write_durably(file, data)
        lines.append(json.dumps({**row, "file_name": file.name}, ensure_ascii=False) + "\n")
        progress.advance()
    progress.finish()
    table = folder / "metadata.jsonl"
    write_durably(table, "".join(lines).encode())
    return table


def _rows(files: list[Path]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The video and the text columns of each row."""
    for path in files:
        column = _video_column(path)
        with pq.ParquetFile(path) as file:
            texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
            for batch in file.iter_batches(BATCH, columns=[column, *texts]):
                for row in batch.to_pylist():
                    video = row.pop(column) or {}
                    yield video, {name: value for name, value in row.items() if value is not None}


def _video_column(path: Path) -> str | None:
    """The first struct column with bytes."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(f"{path}: cannot be read ({str(error).splitlines()[0][:120]})") from error
    structs = (field for field in schema if pa.types.is_struct(field.type))
    return next((field.name for field in structs if field.type.get_field_index("bytes") >= 0), None)

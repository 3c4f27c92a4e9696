"""A list on disk, for rows that are too many for memory."""

from __future__ import annotations

import os
import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile, gettempdir
from typing import TypeVar, overload

from gigavideo_data.errors import RunError

Value = TypeVar("Value")


class Spool(Sequence[Value]):
    """Values that can be pickled, in a temporary file that ends with the object; memory holds eight bytes of each.

    Every access makes a new object, so a value must not be changed. `append` is not safe in several threads.
    """

    def __init__(self, values: Iterable[Value] = ()) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - it is closed with this object
        self._is_flushed = True
        self._ends = array("Q", [0])
        self.extend(values)

    def append(self, value: Value) -> None:
        """Add a value at the end.

        Raises:
            RunError: the folder for temporary files is full.
        """
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with _full_disk_ends_the_run():
            self._file.write(data)
        self._is_flushed = False
        self._ends.append(self._ends[-1] + len(data))

    def extend(self, values: Iterable[Value]) -> None:
        """Add values at the end, one by one."""
        for value in values:
            self.append(value)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> list[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | list[Value]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # counts from the end, and raises IndexError, as a list does
        if not self._is_flushed:
            with _full_disk_ends_the_run():
                self._file.flush()
            self._is_flushed = True
        start, end = self._ends[number], self._ends[number + 1]
        value: Value = pickle.loads(os.pread(self._file.fileno(), end - start, start))  # noqa: S301 - no other wrote it
        return value

    def __iter__(self) -> Iterator[Value]:
        for number in range(len(self)):
            yield self[number]


@contextmanager
def _full_disk_ends_the_run() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{gettempdir()}: rows cannot be kept there ({error.strerror}). Free space, or set TMPDIR to another "
            "folder, then run the same command again: finished rows are kept."
        ) from error


def joined(*parts: Sequence[Value]) -> Sequence[Value]:
    """The values of several sequences, one after the other; the only one that is not empty is returned as it is."""
    filled = [part for part in parts if part]
    if len(filled) == 1:
        return filled[0]
    return Spool(value for part in filled for value in part)

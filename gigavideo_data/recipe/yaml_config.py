"""Read YAML into frozen pydantic models; an error names file and line of each mistake, and the nearest valid key.

Plain `yaml.safe_load` keeps the last of two equal keys, reads `no` as False, `010` as 8 and `1e-4` as text, and expands
aliases without limit. This reader follows the YAML 1.2 core schema and refuses what could be misread.

    recipe = validate(Recipe, read(Path("recipes/quickstart.yaml")))
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from gigavideo_data.errors import RecipeError

MAX_BYTES = 64 * 1024
KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Frozen values; an unknown key, or a value of another type, is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Document:
    """Plain values (dict, list, str, int, float, bool, None) and where each of them was written.

    `origins` maps the path of a value, such as ("generators", 0, "steps"), to "file:line"; `source` is the file.
    """

    data: Any
    source: str
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """Return "file:line" of the value at `path`, or of the nearest value that contains it."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, self.source)


def read(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        RecipeError: the file cannot be read, is too large, is not UTF-8, or is not plain YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES // 1024} kB; keep only what differs from the defaults")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RecipeError(
            f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str, *, numbered: bool = True) -> Document:
    """Read YAML text.

    Args:
        text: one YAML document.
        source: its name in messages.
        numbered: whether messages give line numbers; false for text that is not from a file.

    Raises:
        RecipeError: not YAML, or YAML that could be misread: duplicate keys, anchors, aliases, tags.
    """

    def place(mark: yaml.Mark | None) -> str:
        return f"{source}:{mark.line + 1}" if numbered and mark else source

    origins: dict[KeyPath, str] = {}
    try:
        node = _Loader(text).get_single_node()
        data = None if node is None else _plain(node, (), place, origins)
    except yaml.MarkedYAMLError as error:
        raise RecipeError(
            f"{place(error.problem_mark or error.context_mark)}: {error.problem or error.context}"
        ) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not readable as YAML: {error}") from error
    except RecursionError:
        raise RecipeError(f"{source}: nested too deeply; use fewer levels") from None
    return Document(data, source, origins)


def validate(model: type[Model], document: Document) -> Model:
    """Check a document against a pydantic model.

    Raises:
        RecipeError: one line per mistake: file and line, key, what is wrong, what would be right.
    """
    if not isinstance(document.data, dict):
        raise RecipeError(f"{document.where(())}: must contain keys and values, such as `name: physics`")
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        mistakes = [mistake for mistake in error.errors(include_url=False) if not _follows_from_another(mistake)]
        raise RecipeError("\n".join(_explain(model, document, mistake) for mistake in mistakes)) from None


def suggest(word: str, options: Iterable[str]) -> str:
    """Return the end of an "unknown ..." message: the nearest option, or all options if none is near."""
    options = sorted(options)
    near = difflib.get_close_matches(word, options, n=1)
    return f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(options)}"


def overlay(base: Document, top: Document) -> Document:
    """Return `base` with the values of `top` on it: mappings are merged, any other value of `top` replaces."""
    origins = dict(base.origins)

    def merge(below: Any, above: Any, path: KeyPath) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            merged = {key: merge(below[key], above[key], (*path, key)) for key in below if key in above}
            return {**below, **above, **merged}
        for known in [known for known in origins if known[: len(path)] == path]:
            del origins[known]
        return above

    data = merge(base.data, top.data, ())
    return Document(data, top.source, {**origins, **top.origins})


def override(document: Document, text: str, option: str = "--set") -> Document:
    """Return the document with one "a.b=c" applied; a number in the key is an index into a list.

    Args:
        document: what is changed.
        text: the key, = and the value in YAML.
        option: of the command line that gave the text, for messages.

    Raises:
        RecipeError: the text is not key=value, or the document has no place for it.
    """
    source = f"{option} {text}"
    key, equals, written = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"{source}: must look like key=value, such as prompts.per_dimension=4")
    path: KeyPath = tuple(int(part) if part.isdecimal() else part for part in parts)
    return replaced(document, path, parse(written, source, numbered=False).data, source)


def replaced(document: Document, path: KeyPath, value: Any, source: str) -> Document:
    """Return the document with `value` at `path`, as written at `source`.

    Raises:
        RecipeError: the document has no place for it.
    """
    origins = {known: place for known, place in document.origins.items() if known[: len(path)] != path}
    return Document(_put(document.data, path, value, source), document.source, {**origins, path: source})


def _put(data: Any, path: KeyPath, value: Any, source: str) -> Any:
    """Return a copy of `data` with `value` at `path`; missing levels are created."""
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        items = [{}] if data is None else data  # an omitted list has one entry with all defaults
        if not isinstance(items, list) or part >= len(items):
            found = f"it has {len(items)} entries" if isinstance(items, list) else "it is no list"
            raise RecipeError(f"{source}: there is no entry {part}: {found}")
        return [_put(item, rest, value, source) if index == part else item for index, item in enumerate(items)]
    if data is not None and not isinstance(data, dict):
        raise RecipeError(f"{source}: {part!r} cannot be set inside {data!r}, which has no keys")
    keys = data or {}
    return {**keys, part: _put(keys.get(part), rest, value, source)}


# --- YAML -> plain values --------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Composes nodes by the YAML 1.2 core schema, and refuses anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors (&) and aliases (*) are not allowed; repeat the value, or put the text in quotes",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "str": str,
}


def _plain(node: yaml.Node, path: KeyPath, place: Any, origins: dict[KeyPath, str]) -> Any:
    """Turn a node into plain values; record in `origins` where each was written."""
    origins[path] = place(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), place, origins) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag != _TAG + "str":
                raise RecipeError(f"{place(key_node.start_mark)}: a key must be text, not {key!r}; put it in quotes")
            if key in result:
                first = origins[(*path, key)]
                raise RecipeError(
                    f"{place(key_node.start_mark)}: key {key!r} is given twice (first at {first}); remove one"
                )
            result[key] = _plain(value_node, (*path, key), place, origins)
            origins[(*path, key)] = place(key_node.start_mark)
        return result
    if node.tag not in _SCALARS:
        raise RecipeError(f"{origins[path]}: tag {node.tag!r} is not allowed; write a plain value")
    try:
        value = _SCALARS[node.tag](node.value)
    except ValueError as error:
        raise RecipeError(f"{origins[path]}: {node.value[:40]!r} is not a number ({error})") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{origins[path]}: {node.value!r} is not a finite number")
    return value


# --- pydantic's errors -> one line each ------------------------------------------------------------------------------


def _follows_from_another(mistake: Any) -> bool:
    """Whether pydantic calls a list too short only because some of its items are wrong."""
    return mistake["type"] == "too_short" and len(mistake["input"]) >= mistake["ctx"]["min_length"]


def _explain(model: type[BaseModel], document: Document, mistake: Any) -> str:
    path: KeyPath = mistake["loc"]
    value = mistake["input"]
    if mistake["type"] == "extra_forbidden":
        problem = f"unknown key; {suggest(str(path[-1]), _keys_at(model, path[:-1]))}"
    elif mistake["type"] == "missing":
        problem = f"missing; {_field_at(model, path).description or 'add it'}"
    elif mistake["type"] == "value_error":
        problem = str(mistake["ctx"]["error"])
    else:
        kind = (
            mistake["msg"].replace("Input should be", "must be").replace("tuple", "list").replace("Tuple", "the list")
        )
        problem = f"{kind}, not {_shown(value)}{_hint(mistake['type'], value)}"
    key = ".".join(str(part) for part in path)
    return f"{document.where(path)}: {key}: {problem}" if key else f"{document.where(path)}: {problem}"


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that the mapping at `path` may have."""
    return list(_model_at(model, path).model_fields)


def _field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo:
    """Return the field at `path`."""
    return _model_at(model, path[:-1]).model_fields[str(path[-1])]


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """Return the model of the mapping at `path`."""
    for part in path:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(
                m for m in (annotation, *get_args(annotation)) if isinstance(m, type) and issubclass(m, BaseModel)
            )
    return model


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(kind: str, value: Any) -> str:
    if kind == "bool_type" and isinstance(value, str):
        return "; write true or false"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return "; write a decimal number, without quotes or leading zeros"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    return ""

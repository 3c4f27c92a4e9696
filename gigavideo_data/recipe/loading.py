"""Load a recipe: a file or a shipped name, the recipe that it extends, and the options of a command.

    recipe = load("physics", ["prompts.per_dimension=4"])
    recipe = load("paper", dimensions=["mechanics", "material"])

Every mistake is a `RecipeError` that names the file and line, or the option. `extends` names a shipped recipe, whose
values are the defaults of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe.dimensions import catalogue
from gigavideo_data.recipe.recipe import MAX_NAME, RENAMED_KEYS, Recipe
from gigavideo_data.recipe.yaml_config import Document, KeyPath, overlay, override, read, replaced, suggest, validate

# In a wheel the recipes are in the package; in a checkout, beside it.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")
_OLD_KEYS: list[tuple[KeyPath, str]] = [(("like",), "extends"), *RENAMED_KEYS.items()]


def load(
    path_or_name: str | None,
    overrides: Sequence[str] = (),
    *,
    dimensions: Sequence[str] | None = None,
    dataset_dimensions: Sequence[str] | None = None,
) -> Recipe:
    """Load a recipe. From now on, dimensions are also looked up in the folder `dimensions` beside its file.

    Args:
        path_or_name: a YAML file, or the name of a shipped recipe; None has only the defaults.
        overrides: "a.b=c", later ones win; a number in the key is an index into a list. "extends=small" replaces the
            recipe that the file extends.
        dimensions: replace those of the recipe. A recipe without any gets them added to its name.
        dataset_dimensions: those of an existing dataset; the recipe then needs neither a name nor dimensions.

    Raises:
        RecipeError: there is no such recipe, or something in it or in an option is wrong.
    """
    document = Document({}, "--set")
    if path_or_name is not None:
        path = _find(path_or_name)
        document = read(path)
        catalogue.use_dimensions_beside(path)
    extends = [text for text in overrides if text.partition("=")[0].strip() == "extends"]
    for text in extends:
        document = override(document, text)
    document = _with_extended(document)
    if dataset_dimensions is not None:
        existing = {"name": "dataset", "dimensions": list(dataset_dimensions)}
        document = overlay(Document(existing, document.source), document)
    if dimensions is not None:
        document = _with_dimensions(document, dimensions)
    for text in overrides:
        document = document if text in extends else override(document, text)
    _refuse_old_keys(document)
    return validate(Recipe, document)


def shipped() -> dict[str, Path]:
    """Return the files of the recipes that come with the project, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def description(path: Path) -> str:
    """Return the comment in the first line of a recipe file, or nothing if there is none."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _find(path_or_name: str) -> Path:
    if "/" in path_or_name or path_or_name.endswith((".yaml", ".yml")):
        return Path(path_or_name).expanduser()
    recipes = shipped()
    if path_or_name not in recipes:
        if path_or_name in catalogue.names():
            raise RecipeError(f"{path_or_name} is a dimension; use --recipe paper --dimensions {path_or_name}")
        raise RecipeError(
            f"no shipped recipe {path_or_name!r} (give a recipe of your own by its path: ./{path_or_name}.yaml); "
            f"{suggest(path_or_name, recipes)}"
        )
    return recipes[path_or_name]


def _with_extended(document: Document, below: tuple[str, ...] = ()) -> Document:
    """The document on top of the recipe that it extends, if any, which may extend another one.

    `below` are the files that extend this document.
    """
    if not isinstance(document.data, dict) or "extends" not in document.data:
        return document
    name, place = document.data["extends"], document.where(("extends",))
    own = {key: value for key, value in document.data.items() if key != "extends"}
    top = Document(own, document.source, document.origins)
    if name is None:
        return top
    recipes = shipped()
    if name not in recipes:
        raise RecipeError(f"{place}: extends: no shipped recipe {name!r}; {suggest(str(name), recipes)}")
    files = (*below, document.source)
    if str(recipes[name]) in files:
        raise RecipeError(f"{place}: extends: {files[0]} would extend itself; choose another recipe")
    return overlay(_with_extended(read(recipes[name]), files), top)


def _with_dimensions(document: Document, dimensions: Sequence[str]) -> Document:
    source = f"--dimensions {','.join(dimensions)}"
    name = document.data.get("name") if isinstance(document.data, dict) else None
    if isinstance(name, str) and "dimensions" not in document.data:
        full = "-".join((name, *dimensions))
        name = full if len(full) <= MAX_NAME else f"{name}-{len(dimensions)}-dimensions"
        document = replaced(document, ("name",), name, source)
    return replaced(document, ("dimensions",), list(dimensions), source)


def _refuse_old_keys(document: Document) -> None:
    for path, new in _OLD_KEYS:
        values = document.data
        for key in path[:-1]:
            values = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and path[-1] in values:
            old = ".".join(map(str, path))
            raise RecipeError(f"{document.where(path)}: {old}: this key is now called {new!r}; rename it")

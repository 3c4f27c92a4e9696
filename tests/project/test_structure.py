"""The structure that CONTRIBUTING describes: small folders, short functions, blind excepts only where it lists them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "gigavideo_data", ROOT / "gigavideo_train", ROOT / "gigavideo_loop"]
MAX_MODULES, MAX_LINES = 12, 80


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            yield file.relative_to(ROOT), ast.parse(file.read_text("utf-8"))


def test_no_folder_has_more_modules_than_a_reader_can_scan():
    folders = [folder for package in PACKAGES for folder in (package, *package.rglob("*")) if folder.is_dir()]
    sizes = {str(folder.relative_to(ROOT)): len([*folder.glob("[!_]*.py")]) for folder in folders}
    assert {name: size for name, size in sizes.items() if size > MAX_MODULES} == {}


def test_no_function_is_longer_than_a_screen_or_two():
    long = [
        f"{file}:{node.lineno} {node.name}"
        for file, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > MAX_LINES
    ]
    assert long == []


def test_contributing_lists_every_module_with_a_blind_except():
    rules = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    blind = {
        file.name
        for file, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
    }
    assert {name for name in blind if name not in rules} == set()


def test_init_files_hold_the_public_interface_and_nothing_else():
    filled = [str(file.parent) for file, tree in modules() if file.name == "__init__.py" and tree.body]
    assert set(filled) <= {"gigavideo_data", "gigavideo_train"}

"""The source of somebody else's class, as a digest: a result belongs to the code that gave it.

Of what lra-bench itself registers a record has the commit. A class at a dotted path, or offered by a package,
changes without one while its author works on it, so that its source is part of what a run is.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Hashable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages"}


def source_digest(kind: type) -> str:
    """SHA-256 over the source files behind a class; empty for one of lra-bench's, or without source.

    They are that of its module, those that it imports of the same package or, where it is not installed, of
    the same folder, wherever in the file the import stands, and so on. Other packages are not followed.

    As it was when first asked for: the class in memory does not change with its file.
    """
    top = kind.__module__.partition(".")[0]
    return "" if top == "lra_bench" else _digest(kind, top)


@functools.cache
def _digest(kind: Hashable, top: str) -> str:
    texts: dict[str, bytes] = {}
    waiting = [kind.__module__]
    while waiting:
        name = waiting.pop()
        path = None if name in texts else _file_of(name)
        if path is None or not _is_own(name, path, top):
            continue
        texts[name] = path.read_bytes().replace(b"\r\n", b"\n")
        waiting += _imports(name, texts[name], is_package=path.name == "__init__.py")
    digest = hashlib.sha256()
    for name in sorted(texts):
        digest.update(f"{name}\0{len(texts[name])}\0".encode() + texts[name])
    return digest.hexdigest() if texts else ""


def _file_of(name: str) -> Path | None:
    spec = _spec_of(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return path if path.is_file() else None


def _spec_of(name: str) -> ModuleSpec | None:
    """Of a module, without importing it or the packages that it lies in."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent, dot, _ = name.rpartition(".")
    if not dot:
        return PathFinder.find_spec(name)
    above = _spec_of(parent)
    if above is None or above.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, list(above.submodule_search_locations))


def _is_own(name: str, path: Path, top: str) -> bool:
    if name.partition(".")[0] == top:
        return True
    home = _file_of(top)
    if home is None or _INSTALLED & {*home.parts, *path.parts}:
        return False
    folder = home.parent.parent if home.name == "__init__.py" else home.parent
    return path.is_relative_to(folder)


def _imports(name: str, text: bytes, *, is_package: bool) -> Iterator[str]:
    """Names that a module imports, with the packages around them; some are no modules but what is in one."""
    package = name if is_package else name.rpartition(".")[0]
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # Of a file that nothing has run so far.
        return
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            found = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        for one in (*found, name):
            parts = one.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))

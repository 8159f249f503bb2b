"""Each folder imports only what lies below it, and heavy libraries stay where they belong."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "overlayfs"

# What a folder (or a module at the top) may import: parts of this package, then libraries.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "printable": (set(), set()),
    "sizes": (set(), set()),
    "version": (set(), set()),
    "tarheaders": (set(), set()),
    "waiting": (set(), set()),
    "linux": (set(), set()),
    "union": (set(), set()),
    "image": ({"errors", "printable"}, {"msgspec"}),
    "layers": ({"union", "linux", "tarheaders", "errors", "printable"}, set()),
    "archive": (
        {"image", "union", "linux", "tarheaders", "errors", "printable"},
        {"isal", "backports", "compression"},
    ),
    "store": (
        {"image", "union", "layers", "archive", "linux", "errors", "printable"},
        {"msgspec"},
    ),
    "view": (
        {
            "archive",
            "store",
            "layers",
            "image",
            "union",
            "linux",
            "errors",
            "printable",
            "tarheaders",
        },
        set(),
    ),
    "tree": ({"union", "linux", "layers", "errors"}, {"trio"}),
    "fuse": ({"tree", "union", "linux", "errors", "printable"}, {"trio", "pyfuse3"}),
    "doctor": ({"store", "union", "linux", "errors"}, set()),
    "tui": (
        {"view", "image", "union", "errors", "printable", "sizes"},
        {"textual", "rich"},
    ),
    "daemon": ({"errors"}, set()),
    "serving": ({"layers", "tree", "fuse", "union", "linux", "errors", "waiting"}, set()),
    "mounting": (
        {
            "daemon",
            "serving",
            "store",
            "layers",
            "tree",
            "image",
            "union",
            "linux",
            "errors",
            "waiting",
        },
        {"msgspec"},
    ),
    "cli": (
        {
            "mounting",
            "serving",
            "daemon",
            "doctor",
            "view",
            "store",
            "layers",
            "archive",
            "image",
            "union",
            "tui",
            "errors",
            "printable",
            "sizes",
            "version",
            "waiting",
        },
        {"click", "rich"},
    ),
    "__main__": ({"cli"}, set()),
}


def parts() -> list[str]:
    """The folders and modules directly below the package, by name."""
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and any(path.glob("*.py"))) or path.suffix == ".py"
        if path.name != "__init__.py" and path.name != "__pycache__"
    )


def modules(part: str) -> list[Path]:
    """Every source file of one part."""
    single = PACKAGE / f"{part}.py"
    return [single] if single.exists() else sorted((PACKAGE / part).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of every module that *tree* imports, wherever in the file it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module is not None
            if node.module == "overlayfs":
                yield from (f"overlayfs.{alias.name}" for alias in node.names)
            else:
                yield node.module


def forbidden(part: str, source: str) -> list[str]:
    """What *source*, a file of *part*, imports against the table."""
    own, libraries = ALLOWED[part]
    wrong = []
    for name in imports(ast.parse(source)):
        top, _, rest = name.partition(".")
        if top == "overlayfs":
            if rest and rest.partition(".")[0] not in own | {part}:
                wrong.append(name)
        elif top not in sys.stdlib_module_names and top not in libraries:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("part", parts())
def test_imports_follow_the_arrows(part: str) -> None:
    assert part in ALLOWED, f"overlayfs/{part} is new: say above what it may import"
    wrong = {
        str(module.relative_to(PACKAGE.parent)): found
        for module in modules(part)
        if (found := forbidden(part, module.read_text()))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("part", "source", "expected"),
    [
        pytest.param("union", "import pyfuse3", ["pyfuse3"], id="library"),
        pytest.param("union", "from overlayfs.linux import fds", ["overlayfs.linux"], id="above"),
        pytest.param("image", "from overlayfs import store", ["overlayfs.store"], id="from-top"),
        pytest.param("cli", "def f():\n    import pyfuse3", ["pyfuse3"], id="inside-a-function"),
        pytest.param("store", "import json\nfrom overlayfs.store import paths", [], id="own"),
    ],
)
def test_the_check_sees_an_arrow_against_the_grain(
    part: str, source: str, expected: list[str]
) -> None:
    assert forbidden(part, source) == expected


def test_only_linux_calls_the_c_library() -> None:
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.partition(".")[0] == "ctypes" for name in imports(ast.parse(path.read_text())))
    }
    assert users <= {"linux"}

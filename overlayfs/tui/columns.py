"""A line of the tree: columns, and the name where the tree has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.style import Style
from rich.text import Text

from overlayfs.printable import printable
from overlayfs.sizes import size
from overlayfs.tui import words
from overlayfs.tui.node import Change, Node
from overlayfs.tui.outline import Row
from overlayfs.tui.scope import Scope
from overlayfs.union.attrs import Kind

LETTERS = {Change.ADDED: "A", Change.CHANGED: "C", Change.REMOVED: "D"}
STYLES = {
    Change.ADDED: Style(color="green"),
    Change.CHANGED: Style(color="yellow"),
    Change.REMOVED: Style(color="red", strike=True),
}
HIDDEN = "~"
CONTAINS = "·"

DIM = Style(dim=True)
BOLD = Style(bold=True)
WASTE = Style(color="magenta")
_PRIVILEGED = Style(color="red", bold=True)
_FOUND = Style(reverse=True)

# So much of the name of the selected line is to be seen, however deep it is.
_LEAST_NAME = 16
_SETUID_OR_SETGID = 0o6000


class Options(NamedTuple):
    """What is drawn beside the names: *waste*, and what is searched for."""

    waste: bool = False
    needle: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column *width* wide, shown where the line has *least* cells: a name is worth more."""

    title: str
    width: int
    least: int
    cell: Callable[[Scope, Node], tuple[str, Style]]
    right: bool = True


def _mode(scope: Scope, node: Node) -> tuple[str, Style]:
    entry = scope.entry(node)
    privileged = entry.kind is Kind.FILE and entry.mode & _SETUID_OR_SETGID
    return words.mode(entry), _PRIVILEGED if privileged else DIM


def _owner(scope: Scope, node: Node) -> tuple[str, Style]:
    return words.owner(scope.entry(node)), DIM


def _layer(scope: Scope, node: Node) -> tuple[str, Style]:
    version = scope.version(node)
    return str(version.layer) if version else "", DIM


def _size(scope: Scope, node: Node) -> tuple[str, Style]:
    entry = scope.entry(node)
    has_bytes = entry.kind in (Kind.FILE, Kind.DIRECTORY)
    return size(scope.size(node)) if has_bytes else "", Style.null()


def _wasted(scope: Scope, node: Node) -> tuple[str, Style]:
    return size(node.wasted) if node.wasted else "", WASTE


_COLUMNS = (
    Column("mode", 10, 42, _mode, right=False),
    Column("owner", 9, 76, _owner, right=False),
    Column("layer", 5, 62, _layer),
    Column("size", 7, 24, _size),
)
_WASTE = Column("wasted", 7, 34, _wasted)


def columns(width: int, options: Options) -> Sequence[Column]:
    """Those that a line of *width* cells has."""
    if not options.waste:
        return [column for column in _COLUMNS if column.least <= width]
    fitting = [column for column in _COLUMNS if column.least + _WASTE.width < width]
    return [*fitting, _WASTE] if _WASTE.least <= width else fitting


def heading(width: int, options: Options) -> Text:
    """The names of the columns."""
    cells = [_aligned(column.title, column) for column in columns(width, options)]
    return Text(" ".join(["  ", *cells, "name"]), style=DIM, no_wrap=True, end="")


def file_line(row: Row, scope: Scope, width: int, options: Options, shift: int = 0) -> Text:
    """*row* in *width* cells; of what leads to the name, *shift* cells are left out."""
    node = row.node
    change = scope.change(node)
    style = STYLES[change] if change else Style.null()
    line = Text(no_wrap=True, end="", overflow="crop")
    if change is not None:
        line.append(LETTERS[change], STYLES[change] + BOLD + Style(strike=False))
    else:
        line.append(CONTAINS if scope.has_changes(node) else " ", STYLES[Change.CHANGED])
    line.append(HIDDEN if scope.hidden_by(node) else " ", WASTE)
    for column in columns(width, options):
        text, cell_style = column.cell(scope, node)
        line.append(" ").append(_aligned(text, column), cell_style)
    line.append(" ").append((row.guide + _knob(row))[shift:], DIM)
    line.append_text(_name(row, style, options.needle))
    entry = scope.entry(node)
    if entry.kind is Kind.SYMLINK:
        line.append(f" → {printable(entry.target)}", DIM)
    version = scope.version(node)
    if version is not None and version.opaque and version.layer > 1:
        line.append(" (opaque)", WASTE)
    return line


def shift_for(row: Row, width: int, options: Options) -> int:
    """How many cells of the guides to leave out, so that the name of *row* is seen."""
    before = sum(column.width + 1 for column in columns(width, options)) + 3
    return max(0, len(row.guide) - max(width - before - _LEAST_NAME, 0))


def _aligned(text: str, column: Column) -> str:
    return text.rjust(column.width) if column.right else text.ljust(column.width)


def _knob(row: Row) -> str:
    if not row.is_dir:
        return ""
    return "▾ " if row.is_open else "▸ "


def _name(row: Row, style: Style, needle: str) -> Text:
    name = printable(row.node.name) if row.node.parent else "/"
    text = Text(name, style + BOLD if row.is_dir else style)
    at = name.lower().find(needle.lower()) if needle else -1
    if at >= 0:
        text.stylize(_FOUND, at, at + len(needle))
    return text

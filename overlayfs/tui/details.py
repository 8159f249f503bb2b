"""What is known of the selected file, and of the chosen layer."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from overlayfs.image.history import Step
from overlayfs.printable import printable
from overlayfs.sizes import size
from overlayfs.tui import words
from overlayfs.tui.columns import BOLD, DIM, STYLES, WASTE
from overlayfs.tui.model import Model
from overlayfs.tui.node import Change, Node, own_size
from overlayfs.tui.scope import Scope
from overlayfs.tui.subject import Layer
from overlayfs.union.attrs import Kind

Steps = Mapping[int, Step[Layer]]


def by_number(steps: Sequence[Step[Layer]]) -> Steps:
    """The steps that have a layer, by its number."""
    return {step.number: step for step in steps if step.number is not None}


def of_file(
    node: Node,
    scope: Scope,
    steps: Steps,
    xattrs: Mapping[bytes, bytes] | None,
    *,
    full: bool = False,
) -> list[Text]:
    """The lines on what *scope* shows of *node*; *xattrs* None as long as they are not read.

    The most wanted come first, as there may be room for five short lines; with *full* there
    is a page.
    """
    version = scope.version(node)
    assert version is not None, "what is not shown cannot be selected"
    lines = [_title(node, scope), _attributes(node, scope)]
    layer = scope.entry(node).layer if version.entry is None else version.layer
    lines.append(_brought_by(layer, steps, full=full))
    lines.append(_past(node, scope, full=full))
    if xattrs:
        lines.append(Text("xattrs: ", DIM).append(", ".join(_xattrs(xattrs))))
    lines += _beneath(node, scope)
    return lines


def of_layer(step: Step[Layer], model: Model | None) -> list[Text]:
    """The lines on a step of the history and its layer."""
    entry = step.entry
    lines = [Text(words.one_line(step.created_by) or "(no history)", BOLD)]
    if step.number is None or step.layer is None:
        lines.append(Text("changes no file: it is in the configuration alone", DIM))
    else:
        lines.append(_layer(step.number, step.layer))
        if model is not None:
            lines.append(_changes(step.number, model))
    if entry is not None:
        known = {"created": entry.created, "by": entry.author, "comment": entry.comment}
        said = [f"{name} {words.one_line(text)}" for name, text in known.items() if text]
        if said:
            lines.append(Text(", ".join(said), DIM))
    return lines


# -- of a file -------------------------------------------------------------------------------


def _title(node: Node, scope: Scope) -> Text:
    change = scope.change(node)
    line = Text(words.path(node.path), BOLD + STYLES[change] if change else BOLD)
    entry = scope.entry(node)
    if entry.kind is Kind.SYMLINK:
        line.append(f" → {printable(entry.target)}", DIM)
    return line


def _attributes(node: Node, scope: Scope) -> Text:
    entry = scope.entry(node)
    parts = [words.mode(entry), words.owner(entry)]
    if entry.kind is Kind.FILE:
        parts.append(words.count(entry.size, "byte"))
    elif entry.is_dir:
        parts.append(f"{size(scope.size(node))} in it")
    elif entry.kind in (Kind.CHAR, Kind.BLOCK):
        parts.append(words.device(entry))
    parts.append(words.when(entry.mtime_ns))
    if entry.nlink > 1:
        parts.append(f"{entry.nlink} names")
    return Text("  ".join(parts))


def _brought_by(layer: int, steps: Steps, *, full: bool) -> Text:
    line = Text(f"layer {layer}")
    step = steps.get(layer)
    if step is None:
        return line
    if step.layer is not None and step.layer.diff_id is not None:
        diff_id = step.layer.diff_id
        line.append(f"  {diff_id if full else diff_id.short}", DIM)
    command = words.command(step.created_by)
    return line.append(f"  {command}") if command else line


def _past(node: Node, scope: Scope, *, full: bool) -> Text:
    """Every layer that did something, those that come later in the colour of waste."""
    line = Text("layers: ", DIM)
    told = [version for version in node.versions if full or version.change is not Change.KEPT]
    for place, version in enumerate(told):
        line.append(", " if place else "")
        words_ = f"{version.layer} {version.change}"
        if own_size(version.entry):
            words_ += f" ({size(own_size(version.entry))})"
        if version.opaque and version.layer > 1:
            words_ += " (opaque)"
        line.append(words_, WASTE if version.layer > scope.seen else "")
    return line


def _xattrs(xattrs: Mapping[bytes, bytes]) -> Iterator[str]:
    return (f"{printable(name)}={printable(value)}" for name, value in sorted(xattrs.items()))


def _beneath(node: Node, scope: Scope) -> Iterator[Text]:
    if node.totals is not None:
        counts = node.counts_of(scope.layer)
        if counts:
            yield Text(f"layer {scope.layer} here: {_counted(counts)}")
    if node.wasted:
        what = "in layers and not in the image"
        yield Text(f"wasted: {size(node.wasted)} {what}", WASTE)


# -- of a layer ------------------------------------------------------------------------------


def _layer(number: int, layer: Layer) -> Text:
    parts = [f"layer {number}"]
    parts.append(str(layer.diff_id) if layer.diff_id else "the upper directory of the mount")
    if layer.blob_size is not None:
        parts.append(f"blob {size(layer.blob_size)}")
    if layer.media_type:
        parts.append(words.one_line(layer.media_type))
    return Text("  ".join(parts))


def _changes(number: int, model: Model) -> Text:
    counts = _counted(model.root.counts_of(number)) or "no changes"
    line = Text(f"{counts}, {size(model.brought.get(number, 0))} of files")
    wasted = model.wasted.get(number, 0)
    if wasted:
        line.append(f", {size(wasted)} of them hidden by later layers", WASTE)
    return line


def _counted(counts: Mapping[Change, int]) -> str:
    return ", ".join(f"{counts[change]:,} {change}" for change in Change if counts.get(change))

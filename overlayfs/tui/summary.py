"""An image on one page: what it is, what its layers do, and what is wasted."""

from collections.abc import Iterator

from rich.text import Text

from overlayfs.sizes import size
from overlayfs.tui import words
from overlayfs.tui.columns import BOLD, DIM, WASTE
from overlayfs.tui.model import Model
from overlayfs.tui.node import Change
from overlayfs.tui.subject import Subject

_MOST_WASTE = 20
_LEAST_TITLE = 12


def of_image(subject: Subject, model: Model) -> Text:
    """The page on *subject*."""
    return Text("\n").join([*_what(subject, model), *_layers(subject, model), *_waste(model)])


def headline(subject: Subject, model: Model | None, width: int) -> Text:
    """The image in one line of *width* cells; of a long name the end is left."""
    layers = sum(step.number is not None for step in subject.steps)
    figures = Text(f"  {words.count(layers, 'layer')}")
    if model is not None:
        figures.append(f"  {size(_shown(model))}")
        figures.append(f"  efficiency {percent(model.efficiency)}")
        wasted = sum(model.wasted.values())
        figures.append(f"  wasted {size(wasted)}", WASTE if wasted else "")
    title = words.one_line(subject.title)
    room = max(width - figures.cell_len, _LEAST_TITLE)
    if len(title) > room:
        title = f"…{title[1 - room :]}"
    line = Text(title, BOLD, no_wrap=True, end="", overflow="ellipsis")
    return line.append_text(figures)


def percent(part: float) -> str:
    """A part of one, never rounded up to all of it."""
    return "100 %" if part >= 1 else f"{min(part * 100, 99.9):.1f} %"


def _shown(model: Model) -> int:
    return model.root.size_at(model.top)


def _what(subject: Subject, model: Model) -> Iterator[Text]:
    yield Text(words.one_line(subject.title), BOLD)
    config = subject.config
    if config is not None:
        yield Text(f"id          {config.id}")
        yield Text(f"platform    {words.one_line(str(config.platform))}")
        if config.created:
            yield Text(f"created     {words.one_line(config.created)}")
        runs = {"entrypoint": config.config.entrypoint, "cmd": config.config.cmd}
        for title, command in runs.items():
            if command:
                yield Text(f"{title:<11} {words.one_line(' '.join(command))}")
    yield Text(f"visible     {size(_shown(model))} of files")
    yield Text(f"in layers   {size(model.total)}")
    yield Text(f"wasted      {size(sum(model.wasted.values()))}")
    yield Text(f"efficiency  {percent(model.efficiency)}")
    yield Text()


def _layers(subject: Subject, model: Model) -> Iterator[Text]:
    head = f"{'layer':>5} {'size':>7} {'added':>7} {'changed':>7} {'removed':>7} {'wasted':>7}"
    yield Text(f"{head}  created by", DIM)
    for step in subject.steps:
        if step.number is None:
            continue
        counts = model.root.counts_of(step.number)
        cells = [f"{step.number:>5}", f"{size(model.brought.get(step.number, 0)):>7}"]
        cells += [
            f"{counts.get(change, 0):>7,}"
            for change in (Change.ADDED, Change.CHANGED, Change.REMOVED)
        ]
        wasted = model.wasted.get(step.number, 0)
        line = Text(" ".join(cells)).append(f" {size(wasted) if wasted else '':>7}", WASTE)
        yield line.append(f"  {words.command(step.created_by)}")
    yield Text()


def _waste(model: Model) -> Iterator[Text]:
    """The names that most is wasted under."""
    wasteful = [node for node in model.walk() if node.wasted and not node.children]
    if not wasteful:
        yield Text("No file is in a layer and not in the image.")
        return
    wasteful.sort(key=lambda node: (-node.wasted, node.path))
    yield Text("wasted  versions  file", DIM)
    for node in wasteful[:_MOST_WASTE]:
        versions = sum(version.entry is not None for version in node.versions)
        yield Text(f"{size(node.wasted):>7} {versions:>8}  {words.path(node.path)}")
    if len(wasteful) > _MOST_WASTE:
        yield Text(f"and {words.count(len(wasteful) - _MOST_WASTE, 'file')} more", DIM)

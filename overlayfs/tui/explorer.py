"""The explorer: what is on the screen, and what the keys do."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from overlayfs.printable import printable
from overlayfs.tui import details, keys, summary, words
from overlayfs.tui.background import Background, Failure
from overlayfs.tui.columns import DIM, heading
from overlayfs.tui.filetree import FileTree
from overlayfs.tui.filter import Filter
from overlayfs.tui.filterform import FilterForm
from overlayfs.tui.layerlist import LayerList
from overlayfs.tui.lines import Lines
from overlayfs.tui.links import destination
from overlayfs.tui.model import Model
from overlayfs.tui.node import Change, Node
from overlayfs.tui.outline import Outline
from overlayfs.tui.page import Page
from overlayfs.tui.prompt import Prompt
from overlayfs.tui.reading import Reading
from overlayfs.tui.scope import Mode, Scope
from overlayfs.tui.subject import Subject
from overlayfs.tui.taking import Taking
from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry

_HINTS = "enter open  / search  f filter  e extract  1 2 3 which tree  ? help  q quit"
_TITLES = {
    Mode.ALONE: "layer {} alone",
    Mode.UP_TO: "the tree up to layer {}",
    Mode.WHOLE: "the whole image, changes of layer {}",
}


class Explorer(App[Failure]):
    """Explores *subject*; ``run`` returns why it could not, or None when the user left.

    *environ* says which pager to use, and is what that gets.
    """

    TITLE = "pyoverlay explore"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,f10", "quit", show=False),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False),
        Binding("question_mark,f1", "help", show=False),
        Binding("escape", "stop", show=False),
        Binding("enter,f3", "open", show=False),
        Binding("e,f5", "extract", show=False),
        Binding("i", "about", show=False),
        Binding("I", "summary", show=False),
        Binding("1", "show('ALONE')", show=False),
        Binding("2", "show('UP_TO')", show=False),
        Binding("3", "show('WHOLE')", show=False),
        Binding("m", "next_mode", show=False),
        Binding("left_square_bracket", "layer(-1)", show=False),
        Binding("right_square_bracket", "layer(1)", show=False),
        Binding("l", "brought_by(-1)", show=False),
        Binding("L", "brought_by(1)", show=False),
        Binding("slash", "search", show=False),
        Binding("n", "again", show=False),
        Binding("N", "again(True)", show=False),
        Binding("f,ctrl+f", "filter", show=False),
        Binding("a", "without('added')", show=False),
        Binding("c", "without('changed')", show=False),
        Binding("d", "without('removed')", show=False),
        Binding("u", "without('')", show=False),
        Binding("x", "no_filter", show=False),
        Binding("s", "sort", show=False),
        Binding("w", "waste", show=False),
        Binding("r,ctrl+r", "reload", show=False),
    ]
    CSS = """
    #headline, #heading, #bar { height: 1; }
    #headline { background: $primary-darken-2; color: $text; padding: 0 1; }
    #bar { color: $text-muted; padding: 0 1; }
    #panes { height: 1fr; }
    #layers { width: 2fr; min-width: 26; border: round $panel-lighten-1; }
    #files { width: 3fr; border: round $panel-lighten-1; }
    #layers:focus, #files:focus-within { border: round $accent; }
    #layers, #files { border-title-color: $text; border-subtitle-color: $text-muted; }
    #tree { height: 1fr; }
    #details { height: 7; border: round $panel-lighten-1; padding: 0 1; }
    #details { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, subject: Subject, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._subject = subject
        self._reading = Reading(subject)
        self._steps = details.by_number(subject.steps)
        self._needle = ""
        self._xattrs: dict[tuple[Node, int], dict[bytes, bytes]] = {}
        self._asking = False
        self.model: Model | None = None
        self.outline: Outline | None = None
        self.background = Background(self)
        self._taking = Taking(self, self._reading, environ)

    def compose(self) -> ComposeResult:
        yield Static(id="headline", markup=False)
        with Horizontal(id="panes"):
            yield LayerList(self._subject.steps, id="layers")
            with Vertical(id="files"):
                yield Static(id="heading", markup=False)
                yield FileTree(id="tree")
        yield Static(id="details", markup=False)
        yield Static(_HINTS, id="bar", markup=False)
        yield Prompt(id="prompt")

    # -- the parts of the screen ---------------------------------------------------------------

    @property
    def layer_list(self) -> LayerList:
        """The list of layers."""
        return self.query_one(LayerList)

    @property
    def file_tree(self) -> FileTree:
        """The tree of files."""
        return self.query_one(FileTree)

    def say(self, text: str) -> None:
        """A line at the bottom, until the next move."""
        self.query_one("#bar", Static).update(Text(text or _HINTS, no_wrap=True))

    # -- reading -----------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Show the layers, and read them."""
        self.layer_list.focus()
        self.action_reload()

    def action_reload(self) -> None:
        """Read all layers, again if they were read before."""
        self.say("reading the layers …")
        self.background.run(self._reading.load, self._loaded, self._broken)

    def _loaded(self, model: Model) -> None:
        before, node = self.outline, self.file_tree.node
        self.model = model
        self._xattrs.clear()
        mode = before.scope.mode if before else Mode.UP_TO
        scope = Scope(mode, self.layer_list.chosen, model.top)
        self.outline = Outline(model.root, scope)
        self.file_tree.show(self.outline)
        if before is not None:
            self.outline.wanted, self.outline.by_size = before.wanted, before.by_size
            self.outline.refresh()
            found = model.find(node.path) if node else None
            self.file_tree.keep(model.root)
            if found is not None:
                self.file_tree.reveal(found)
        self.say("")
        self._changed()

    def _broken(self, failure: Failure) -> None:
        if self.model is None:
            self.exit(failure)
        else:
            self.complain(failure)

    def complain(self, failure: Failure) -> None:
        """Say why something could not be done."""
        self.say(words.failure(failure))

    def on_unmount(self) -> None:
        """Let go of the files, unless a thread is just reading them; it dies with us."""
        self._taking.close()
        if self.background.idle.is_set():
            self._reading.close()

    # -- what is shown -------------------------------------------------------------------------

    def _change(self, change: Callable[[Outline], None]) -> None:
        """Change what decides about the lines, and stay on the same file."""
        outline, node = self.outline, self.file_tree.node
        if outline is None:
            return
        change(outline)
        outline.refresh()
        self.file_tree.keep(node or outline.root)
        self._changed()

    def _changed(self) -> None:
        """Bring all that says what is shown up to date."""
        outline = self.outline
        assert outline is not None
        self.layer_list.show(self.model, outline.scope)
        title = _TITLES[outline.scope.mode].format(outline.scope.layer)
        files = self.query_one("#files", Vertical)
        files.border_title = Text(title)
        said = [] if outline.wanted.wants_all else [f"filter: {outline.wanted}"]
        said += ["by size"] if outline.by_size else []
        said += [f"search: {words.one_line(self._needle)}"] if self._needle else []
        files.border_subtitle = Text(", ".join(said))
        self._draw_headings()
        self._tell()

    def _draw_headings(self) -> None:
        width = self.file_tree.scrollable_content_region.width
        self.query_one("#heading", Static).update(heading(width, self.file_tree.options))
        headline = self.query_one("#headline", Static)
        headline.update(summary.headline(self._subject, self.model, headline.content_size.width))

    def on_resize(self) -> None:
        """More is told where there is room."""
        self.query_one("#details", Static).styles.height = 7 if self.size.height < 40 else 10
        self.call_after_refresh(self._draw_headings)

    @on(Lines.Moved)
    def _moved(self, event: Lines.Moved) -> None:
        self.say("")
        if event.lines is self.layer_list and self.outline is not None:
            layer = self.layer_list.chosen
            if layer != self.outline.scope.layer:
                self._change(lambda outline: _rescope(outline, layer=layer))
                return
        self._tell()

    def on_descendant_focus(self) -> None:
        """Tell of what has the focus now."""
        self._tell()

    # -- details -------------------------------------------------------------------------------

    def _tell(self) -> None:
        self.query_one("#details", Static).update(Text("\n").join(self._known()))

    def _known(self, *, full: bool = False) -> list[Text]:
        """What is known of the file or the layer that is selected."""
        node = self.file_tree.node
        if self.layer_list.has_focus or node is None or self.outline is None:
            step = self.layer_list.step
            return [Text("no layers", DIM)] if step is None else details.of_layer(step, self.model)
        entry = self.outline.scope.entry(node)
        xattrs = self._xattrs.get((node, entry.layer))
        if xattrs is None:
            self._ask(node, entry)
        return details.of_file(node, self.outline.scope, self._steps, xattrs, full=full)

    def _ask(self, node: Node, entry: Entry) -> None:
        """Read extended attributes, of one file at a time, and tell of what is selected then."""
        if self._asking:
            return
        self._asking = True

        def told(xattrs: dict[bytes, bytes]) -> None:
            self._asking = False
            self._xattrs[node, entry.layer] = xattrs
            self._tell()

        def failed(failure: Failure) -> None:
            told({})
            if node is self.file_tree.node:
                self.complain(failure)

        self.background.run(lambda: self._reading.xattrs(node.path, entry.layer), told, failed)

    def action_about(self) -> None:
        """All that is known, on a page."""
        self.push_screen(Page("Details", Text("\n").join(self._known(full=True))))

    def action_summary(self) -> None:
        """The image on one page."""
        if self.model is not None:
            self.push_screen(Page("Image", summary.of_image(self._subject, self.model)))

    def action_help(self) -> None:
        """The keys."""
        self.push_screen(Page("Keys", keys.page()))

    # -- layers and modes ------------------------------------------------------------------------

    def action_show(self, mode: str) -> None:
        """Another tree."""
        self._change(lambda outline: _rescope(outline, mode=Mode[mode]))

    def action_next_mode(self) -> None:
        """The next tree."""
        modes = list(Mode)
        self._change(
            lambda outline: _rescope(
                outline, mode=modes[(modes.index(outline.scope.mode) + 1) % len(modes)]
            )
        )

    def action_layer(self, by: int) -> None:
        """Another layer, whatever has the focus."""
        self.layer_list.go(self.layer_list.cursor + by)

    def action_brought_by(self, by: int) -> None:
        """Choose the layer that the selected file is from, if it is chosen the one before.

        With *by* 1 the next that did something to it.
        """
        node, outline = self.file_tree.node, self.outline
        if node is None or outline is None:
            return
        at = outline.scope.layer
        version = outline.scope.version(node)
        touched = [version.layer for version in node.versions]
        if by > 0:
            layer = min((number for number in touched if number > at), default=None)
        elif version is not None and version.layer != at:
            layer = version.layer
        else:
            layer = max((number for number in touched if number < at), default=None)
        if layer is None:
            self.say(f"no {'later' if by > 0 else 'earlier'} layer has {words.path(node.path)}")
        else:
            self.layer_list.choose(layer)

    def action_sort(self) -> None:
        """By size, or by name."""
        self._change(lambda outline: setattr(outline, "by_size", not outline.by_size))

    def action_waste(self) -> None:
        """Show what is wasted, or not."""
        options = self.file_tree.options
        self.file_tree.set_options(options._replace(waste=not options.waste))
        self._draw_headings()

    # -- searching and filtering ---------------------------------------------------------------

    def action_search(self) -> None:
        """Look for a name while it is typed."""
        outline, origin = self.outline, self.file_tree.node
        if outline is None or origin is None:
            return

        def typed(text: str) -> None:
            self._seek(text)
            found = outline.search(text, origin, also=True)
            self.file_tree.reveal(found or origin)

        def done(text: str) -> None:
            self.file_tree.focus()
            if text and outline.search(text, origin, also=True) is None:
                self.say(f"nothing here is called {words.one_line(text)}")

        def cancelled() -> None:
            self._seek("")
            self.file_tree.reveal(origin)
            self.file_tree.focus()

        question = "search:"
        self.query_one(Prompt).ask(question, done=done, changed=typed, cancelled=cancelled)

    def _seek(self, text: str) -> None:
        self._needle = text
        self.file_tree.set_options(self.file_tree.options._replace(needle=text))
        self._changed()

    def action_again(self, back: bool = False) -> None:
        """The next match, or the one before."""
        outline, node = self.outline, self.file_tree.node
        if outline is None or node is None:
            return
        if not self._needle:
            self.say("search first, with /")
            return
        found = outline.search(self._needle, node, back=back)
        if found is None:
            self.say(f"nothing here is called {words.one_line(self._needle)}")
        else:
            self.file_tree.reveal(found)

    def action_filter(self) -> None:
        """Ask for a filter."""
        if self.outline is not None:
            self.push_screen(FilterForm(self.outline.wanted), self._filter)

    def _filter(self, wanted: Filter | None) -> None:
        if wanted is None:
            return
        self._change(lambda outline: setattr(outline, "wanted", wanted))
        if self.outline is not None and len(self.outline.rows) == 1 and not wanted.wants_all:
            self.say("nothing here is like that; x shows all again")

    def action_without(self, change: str) -> None:
        """Hide what was changed so, or show it again."""
        if self.outline is not None:
            wanted = self.outline.wanted
            toggled = frozenset((Change(change) if change else None,))
            self._filter(replace(wanted, without=wanted.without ^ toggled))

    def action_no_filter(self) -> None:
        """Show all."""
        self._filter(Filter())

    # -- files -----------------------------------------------------------------------------------

    @on(Lines.Chosen)
    def action_open(self) -> None:
        """Do with what is selected what one would expect."""
        node, outline = self.file_tree.node, self.outline
        if node is None or outline is None:
            return
        if self.layer_list.has_focus:
            self.file_tree.focus()
            return
        entry = outline.scope.entry(node)
        if entry.is_dir:
            self.file_tree.action_turn()
        elif entry.kind is Kind.SYMLINK:
            self._follow(outline, node)
        elif entry.kind is Kind.FILE:
            self._taking.open(node.path, entry)
        else:
            self.say(f"{words.path(node.path)}: nothing can be read from it here")

    def _follow(self, outline: Outline, link: Node) -> None:
        found = destination(outline.root, outline.scope, link)
        if found is None:
            self.say(f"{words.path(link.path)}: leads nowhere in this tree")
        elif not self.file_tree.reveal(found):
            self.say(f"{words.path(link.path)}: {words.path(found.path)} is not shown here")

    def action_extract(self) -> None:
        """Ask where to, and make the file or directory there."""
        node, outline = self.file_tree.node, self.outline
        if node is None or outline is None:
            return
        path, layers = node.path, outline.scope.layers(node)

        def done(text: str) -> None:
            self.file_tree.focus()
            if text.strip():
                self._taking.extract(path, layers, text.strip())

        def cancelled() -> None:
            self.file_tree.focus()

        self.query_one(Prompt).ask(
            f"extract {words.path(path)} to:",
            printable(path.rpartition(b"/")[2]) or "image",
            done=done,
            cancelled=cancelled,
        )

    def action_stop(self) -> None:
        """Stop what is under way."""
        self._taking.stop()
        self._seek("")
        self.say("")


def _rescope(outline: Outline, *, mode: Mode | None = None, layer: int | None = None) -> None:
    """Look at another layer, or at another tree."""
    scope = outline.scope
    outline.scope = Scope(mode or scope.mode, layer or scope.layer, scope.top)

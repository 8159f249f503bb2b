"""The keys, as the help screen and the documentation list them."""

from rich.text import Text

from overlayfs.tui.columns import BOLD, DIM

# Headings, and below each what to press and what it does.
KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Moving",
        (
            ("tab", "from the layers to the tree and back"),
            ("up down, k j", "a line up or down"),
            ("pgup pgdn", "a page"),
            ("home end, g G", "first or last line"),
            ("[ ]", "the layer before or after, from anywhere"),
        ),
    ),
    (
        "The tree",
        (
            ("space", "open or close a directory"),
            ("right left", "open a directory, go into it; close it, go up"),
            ("+ -", "open or close all directories"),
            ("1 2 3", "this layer alone; the tree up to it; the whole image"),
            ("m", "the next of these three"),
            ("s", "sort by size, or by name"),
            ("w", "show what is wasted, or not"),
        ),
    ),
    (
        "Finding",
        (
            ("/", "search while you type; esc goes back"),
            ("n N", "next or previous match"),
            ("f", "filter by change, name, size, set-user-ID"),
            ("a c d u", "hide or show what is added, changed, removed (d), unchanged"),
            ("x", "no filter"),
            ("l L", "the layer that brought this file, then older ones; a later one"),
        ),
    ),
    (
        "Files",
        (
            ("enter", "open in the pager; open a directory; follow a symbolic link"),
            ("e", "extract to a path that is asked for"),
            ("i", "all that is known of the file or the layer"),
        ),
    ),
    (
        "Else",
        (
            ("I", "the image on one page, with what is wasted"),
            ("r", "read again, for a mount that changed"),
            ("?", "these keys"),
            ("esc", "stop what is under way; close a page"),
            ("q", "quit"),
        ),
    ),
)

MARKS = (
    ("A C D", "the chosen layer added, changed or removed it"),
    ("·", "the chosen layer changed something in it"),
    ("~", "a later layer replaces or removes it"),
    ("(opaque)", "the layer hides all that was in it before"),
)


def page() -> Text:
    """All of it."""
    lines = []
    for heading, keys in (*KEYS, ("Marks", MARKS)):
        lines.append(Text(heading, BOLD))
        lines += [Text(f"  {key:<14} ").append(what, DIM) for key, what in keys]
    return Text("\n").join(lines)

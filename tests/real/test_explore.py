"""An image by four tools in the explorer: the tree is the one that ``umoci unpack`` makes."""

from pathlib import Path

from overlayfs.tui.scope import Mode
from tests.support.pilot import Person, explore
from tests.support.tree import Tree


def test_the_tree_of_an_image_by_four_tools(layout: Path, umoci_trees: dict[str, Tree]) -> None:
    expected = {path.decode("utf-8", "surrogateescape") for path in umoci_trees["rich"]} - {"."}

    async def look(person: Person) -> None:
        await person.press("3", "tab", "plus")
        assert person.app.outline is not None
        assert person.app.outline.scope.mode is Mode.WHOLE
        assert {path[1:] for path in person.shown()} - {""} == expected
        screen = "\n".join(person.screen())
        assert "6 layers" in screen
        # The last one, by umoci: a whiteout.
        await person.press("1")
        assert "D  removed" in person.names()

    assert explore(f"oci:{layout}:rich", look) is None

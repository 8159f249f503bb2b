"""The explorer, driven by its keys on a real image."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads

import pytest
from textual.widgets import Checkbox, Input

from overlayfs.errors import OverlayError
from overlayfs.store.store import Store
from overlayfs.tui.filterform import FilterForm
from overlayfs.tui.page import Page
from overlayfs.tui.subject import Subject
from overlayfs.view.image import ImageView
from tests.support.command import PyOverlay
from tests.support.explored import write_sample
from tests.support.pilot import Driven, Person, explore
from tests.tui.test_pager import decoy

Drive = Callable[[Callable[[Person], Awaitable[None]]], None]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample") / "shop.tar")


@pytest.fixture
def drive(sample: Path) -> Drive:
    """Let somebody drive the explorer of the sample."""

    def run(what: Callable[[Person], Awaitable[None]]) -> None:
        assert explore(sample, what) is None

    return run


async def go(person: Person, path: str) -> None:
    """Find a path by searching for it, and forget the search."""
    person.app.file_tree.focus()
    await person.press("home", "slash")
    await person.paste(path)
    await person.press("enter", "escape")
    assert person.selected == path


# -- beginning -----------------------------------------------------------------------------------


def test_it_begins_with_the_image_and_what_its_last_layer_changed(drive: Drive) -> None:
    async def look(person: Person) -> None:
        screen = person.screen()
        assert "shop.tar" in screen[0]
        assert "5 layers" in screen[0]
        assert "efficiency 56.7 %" in screen[0]
        assert "wasted 7.5 MB" in screen[0]
        assert person.title == "the tree up to layer 5"
        assert person.names() == [
            "·  ▾ /",
            "   ▸ bin",
            "   ▸ etc",
            "   ▸ root",
            "·  ▸ srv",
            "   ▸ tmp",
            "   ▸ usr",
            "   ▸ var",
        ]

    drive(look)


def test_layers_have_number_size_and_command_and_steps_without_files_none(drive: Drive) -> None:
    async def look(person: Person) -> None:
        layers = person.app.layer_list
        assert [layers.draw(number, 60).plain for number in range(layers.count)] == [
            "▌  1 2.96 MB ADD file:7b2e95b2aa9e81e5 in /",
            "   ·         ENV LANG=C.UTF-8",
            "▌  2 14.1 MB apk add python3",
            "▌  3     0 B rm -rf /var/cache/apk /etc/motd",
            "▌  4  242 kB COPY shop /srv/shop # buildkit",
            "▌  5   640 B RUN /bin/sh -c chmod 755 /srv/shop/app.py && rm /srv/shop/secret.key "
            "# buildkit",
            '   ·         ENTRYPOINT ["python3" "/srv/shop/app.py"]',
        ]
        assert "changes no file" in person.details
        await person.press("up")
        assert "layer 5" in person.details
        assert "1 changed, 1 removed, 640 B of files" in person.details

    drive(look)


# -- layers and trees ----------------------------------------------------------------------------


def test_another_layer_shows_another_tree(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("home")
        assert person.title == "the tree up to layer 1"
        assert person.names()[:3] == ["·  ▾ /", "A  ▸ bin", "A  ▸ etc"]
        await person.press("down")
        assert person.title == "the tree up to layer 1", "a step without a layer"
        await person.press("right_square_bracket")
        assert person.title == "the tree up to layer 2"
        await person.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert person.title == "the tree up to layer 1"

    drive(look)


def test_one_layer_alone_or_the_whole_image(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("end", "up", "up", "up", "plus")
        await person.press("1", "tab", "plus")
        assert person.title == "layer 3 alone"
        assert person.names() == [
            "·  ▾ /",
            "·  ▾ etc",
            "D    motd",
            "·  ▾ var",
            "·    ▾ cache",
            "D      ▾ apk",
            "D        index.tar.gz",
            "D        python3.apk",
        ]
        await person.press("3")
        assert person.title == "the whole image, changes of layer 3"
        assert "/etc/motd" not in person.shown()
        assert "/srv/shop/app.py" in person.shown()
        await person.press("2")
        assert person.title == "the tree up to layer 3"
        assert "/etc/motd" in person.shown()
        assert "/srv" not in person.shown()
        await person.press("m")
        assert person.title.startswith("the whole image")
        await person.press("m")
        assert person.title == "layer 3 alone"

    drive(look)


def test_changes_and_what_later_layers_hide_are_marked_and_coloured(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("home", "tab", "plus")
        assert "A~   motd" in person.names()
        assert "A~   passwd" in person.names()
        assert "A    shadow" in person.names()
        colours = {}
        await person.press("2")
        await person.press(*["right_square_bracket"] * 5)
        tree = person.app.file_tree
        assert tree.outline is not None
        for number, row in enumerate(tree.outline.rows):
            spans = tree.draw(number, 200).spans
            colours[row.node.path] = {str(span.style) for span in spans}
        assert any("yellow" in style for style in colours[b"srv/shop/app.py"])
        assert any("red" in style for style in colours[b"srv/shop/secret.key"])
        await person.press("left_square_bracket")
        number = tree.outline.nearest(tree.outline.root.children[b"srv"].children[b"shop"])
        assert any("green" in str(span.style) for span in tree.draw(number, 200).spans)

    drive(look)


def test_the_layer_that_brought_a_file(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await go(person, "/etc/passwd")
        assert person.title == "the tree up to layer 5"
        await person.press("l")
        assert person.title == "the tree up to layer 2"
        assert person.selected == "/etc/passwd"
        await person.press("l")
        assert person.title == "the tree up to layer 1"
        await person.press("l")
        assert person.bar == "no earlier layer has /etc/passwd"
        await person.press("L")
        assert person.title == "the tree up to layer 2"
        await person.press("L")
        assert person.bar == "no later layer has /etc/passwd"

    drive(look)


# -- moving --------------------------------------------------------------------------------------


def test_directories_open_and_close(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "down", "space")
        assert person.selected == "/bin"
        assert "/bin/su" in person.shown()
        await person.press("space")
        assert "/bin/su" not in person.shown()
        await person.press("right", "right")
        assert person.selected == "/bin/busybox"
        await person.press("left")
        assert person.selected == "/bin"
        await person.press("left")
        assert "/bin/su" not in person.shown()
        await person.press("left")
        assert person.selected == "/"
        await person.press("left")
        assert "/bin" in person.shown(), "the root stays open"
        await person.press("plus")
        assert "/usr/lib/python3.12/abc.py" in person.shown()
        await person.press("end")
        assert person.selected == "/var/cache"
        await person.press("minus")
        assert person.selected == "/var"
        assert len(person.shown()) == 8
        await person.press("enter")
        assert "/var/cache" in person.shown()

    drive(look)


def test_moving_by_lines_and_pages(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "plus", "j", "j", "k")
        assert person.selected == "/bin"
        await person.press("G")
        assert person.selected == "/var/cache"
        await person.press("pageup", "pagedown", "g")
        assert person.selected == "/"
        await person.press("up")
        assert person.selected == "/"
        await person.press("tab")
        assert person.app.layer_list.has_focus
        await person.press("shift+tab")
        assert person.app.file_tree.has_focus

    drive(look)


def test_the_mouse_selects_and_chooses(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.pilot.click("#tree", offset=(30, 1))
        await person.settle()
        assert person.selected == "/bin"
        await person.pilot.click("#tree", offset=(30, 1))
        await person.settle()
        assert "/bin/su" in person.shown()
        await person.pilot.click("#layers", offset=(5, 1))
        await person.settle()
        assert person.title == "the tree up to layer 1"

    drive(look)


# -- searching -----------------------------------------------------------------------------------


def test_search_while_typing_then_next_and_previous(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "slash")
        await person.type("logo")
        assert person.selected == "/srv/shop/logo-small.png"
        await person.type(".")
        assert person.selected == "/srv/shop/logo.png"
        await person.press("backspace", "enter")
        assert person.selected == "/srv/shop/logo-small.png"
        assert person.state == "search: logo"
        await person.press("n")
        assert person.selected == "/srv/shop/logo.png"
        await person.press("n")
        assert person.selected == "/srv/shop/logo-small.png"
        await person.press("N")
        assert person.selected == "/srv/shop/logo.png"
        await person.press("escape")
        assert person.state == ""
        await person.press("n")
        assert person.bar == "search first, with /"

    drive(look)


def test_a_search_that_is_given_up_goes_back(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "down", "slash")
        await person.paste("json")
        assert person.selected == "/usr/lib/python3.12/json.py"
        await person.press("escape")
        assert person.selected == "/bin"
        assert person.app.file_tree.has_focus
        await person.press("slash")
        await person.paste("no such")
        assert person.selected == "/bin"
        await person.press("enter")
        assert person.bar == "nothing here is called no such"
        await person.press("n")
        assert person.bar == "nothing here is called no such"

    drive(look)


# -- filtering -----------------------------------------------------------------------------------


def test_keys_that_filter_by_change(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("up", "tab", "plus", "u")
        assert person.shown() == [
            "/",
            "/srv",
            "/srv/shop",
            "/srv/shop/app.py",
            "/srv/shop/secret.key",
        ]
        assert person.state == "filter: no unchanged"
        await person.press("d")
        assert "/srv/shop/secret.key" not in person.shown()
        await person.press("c")
        assert person.shown() == ["/"]
        assert person.bar == "nothing here is like that; x shows all again"
        await person.press("d", "a")
        assert "/srv/shop/secret.key" in person.shown()
        await person.press("x")
        assert "/bin/su" in person.shown()
        assert person.state == ""

    drive(look)


def test_the_form_filters_by_name_size_and_suid(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "plus", "f")
        form = person.app.screen
        assert isinstance(form, FilterForm)
        assert "▐ ▌ set-user-ID" in "\n".join(person.screen())
        form.query_one("#suid", Checkbox).focus()
        await person.press("space")
        assert "▐X▌ set-user-ID" in "\n".join(person.screen())
        await person.press("enter")
        assert person.shown() == ["/", "/bin", "/bin/su"]
        assert person.state == "filter: suid"
        await person.press("f", "escape")
        assert person.shown() == ["/", "/bin", "/bin/su"]
        await person.press("x", "f")
        form = person.app.screen
        form.query_one("#glob", Input).focus()
        await person.paste("*.p*")
        await person.press("down")
        await person.type("200")
        await person.press("enter")
        assert [path for path in person.shown() if "." in path.rpartition("/")[2]] == [
            "/srv/shop/app.py",
            "/srv/shop/logo-small.png",
            "/srv/shop/logo.png",
            "/usr/lib/python3.12",
            "/usr/lib/python3.12/abc.py",
            "/usr/lib/python3.12/argparse.py",
            "/usr/lib/python3.12/json.py",
        ]
        assert person.state == "filter: *.p*, from 200 bytes"

    drive(look)


def test_the_form_says_what_is_no_size(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("f")
        person.app.screen.query_one("#least", Input).focus()
        await person.type("x")
        await person.press("enter")
        assert isinstance(person.app.screen, FilterForm)
        wrong = person.app.screen.query_one("#wrong")
        assert "x: not a size" in str(wrong.render())

    drive(look)


def test_the_form_ticks_changes_and_what_is_hidden(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("home", "tab", "plus", "f")
        for name in ("hidden", "unchanged"):
            person.app.screen.query_one(f"#{name}", Checkbox).focus()
            await person.press("space")
        await person.press("enter")
        assert person.shown() == ["/", "/etc", "/etc/motd", "/etc/passwd"]
        assert person.state == "filter: no unchanged, hidden later"

    drive(look)


# -- sizes and waste -----------------------------------------------------------------------------


def test_sorting_by_size(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "s")
        assert person.shown()[1:4] == ["/usr", "/bin", "/srv"]
        assert person.state == "by size"
        await person.press("s")
        assert person.shown()[1:4] == ["/bin", "/etc", "/root"]

    drive(look)


def test_waste_has_a_column_of_its_own(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await go(person, "/etc/passwd")
        await person.press("w")
        line = next(line for line in person.screen() if " passwd" in line)
        assert "59 B    30 B" in line
        assert any("wasted name" in line for line in person.screen())
        await person.press("w")
        assert not any("wasted name" in line for line in person.screen())

    drive(look)


def test_the_page_on_the_image_has_its_efficiency_and_the_worst_files(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("I")
        page = person.page
        assert "efficiency  56.7 %" in page
        assert "platform    linux/amd64" in page
        assert "entrypoint  python3 /srv/shop/app.py" in page
        assert page.index("/var/cache/apk/python3.apk") < page.index("/var/cache/apk/index.tar.gz")
        assert "    3     0 B       0       0       4          rm -rf /var/cache/apk" in page
        await person.press("escape")
        assert not isinstance(person.app.screen, Page)

    drive(look)


# -- what is known of a file ---------------------------------------------------------------------


def test_details_of_a_file(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await go(person, "/etc/passwd")
        assert person.details.startswith("/etc/passwd\n-rw-r--r--  0:0  59 bytes  2020-09-13")
        assert "apk add python3" in person.details
        assert "layers: 1 added (30 B), 2 changed (59 B)" in person.details
        assert "wasted: 30 B" in person.details
        await person.press("i")
        assert "layer 2  sha256:" in person.page
        await person.press("i")
        await go(person, "/bin/sh")
        assert person.details.startswith("/bin/sh → busybox\n")
        await go(person, "/srv/shop/logo.png")
        assert "2 names" in person.details

    drive(look)


def test_enter_follows_a_symbolic_link(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await go(person, "/usr/bin/python3")
        await person.press("enter")
        assert person.selected == "/usr/bin/python3.12"

    drive(look)


def test_the_keys_are_on_a_page(drive: Drive) -> None:
    async def look(person: Person) -> None:
        await person.press("question_mark")
        assert "open in the pager" in person.page
        await person.press("q")
        assert not isinstance(person.app.screen, Page)
        await person.press("f1", "escape")

    drive(look)


# -- files ---------------------------------------------------------------------------------------


def with_pager(tmp_path: Path, name: str = "less") -> dict[str, str]:
    """An environment whose pager writes down what it is called with."""
    decoy(tmp_path, name)
    environ = {key: value for key, value in os.environ.items() if key != "PAGER"}
    return environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}


def test_enter_opens_a_file_in_the_pager_from_a_private_folder(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def look(person: Person) -> None:
        await go(person, "/etc/os-release")
        await person.press("enter")
        assert (tmp_path / "seen").read_bytes() == b'NAME="Small"\nVERSION_ID=3\n'
        *options, path = (tmp_path / "arguments").read_text().splitlines()
        assert options == ["-+R", "-+r", "-L"]
        assert path.startswith(f"{tmp_path}/pyoverlay-")
        assert path.endswith("/os-release")
        assert (tmp_path / "modes").read_text() == "600 1\n700 2\n"
        assert list((tmp_path / path).parent.iterdir()) == []
        # A second one of the same name.
        await person.press("enter")
        assert person.bar.startswith("enter open")

    assert explore(sample, look, environ=with_pager(tmp_path)) is None
    assert list(tmp_path.glob("pyoverlay-*")) == []


def test_what_is_gone_from_the_image_can_be_read(sample: Path, tmp_path: Path) -> None:
    async def look(person: Person) -> None:
        await go(person, "/srv/shop/secret.key")
        await person.press("enter")
        assert (tmp_path / "seen").read_bytes() == b"not for everybody\n"
        await go(person, "/etc/passwd")
        await person.press("l", "l", "enter")
        assert (tmp_path / "seen").read_bytes() == b"root:x:0:0:root:/root:/bin/sh\n"

    assert explore(sample, look, environ=with_pager(tmp_path)) is None


def test_a_pager_that_is_missing_is_told_of(sample: Path, tmp_path: Path) -> None:
    async def look(person: Person) -> None:
        await go(person, "/etc/passwd")
        await person.press("enter")
        assert "no-such: no such program" in person.bar

    assert explore(sample, look, environ={"PAGER": "no-such", "PATH": str(tmp_path)}) is None


def test_extract_a_file_and_a_directory(sample: Path, tmp_path: Path) -> None:
    async def look(person: Person) -> None:
        await go(person, "/srv/shop/app.py")
        await person.press("e")
        await person.press("ctrl+u")
        await person.paste(f"{tmp_path}/mine.py")
        await person.press("enter")
        assert person.bar == f"extracted /srv/shop/app.py to {tmp_path}/mine.py: 1 file, 640 B"
        await go(person, "/srv/shop")
        await person.press("e", "ctrl+u")
        await person.paste(str(tmp_path))
        await person.press("enter")
        assert "extracted /srv/shop" in person.bar
        await person.press("e", "ctrl+u")
        await person.paste(str(tmp_path))
        await person.press("enter")
        assert person.bar == f"{tmp_path}/shop: is there already"
        await person.press("e", "ctrl+u")
        await person.paste(f"{tmp_path}/no/such/place")
        await person.press("enter")
        assert person.bar == f"{tmp_path}/no/such: No such file or directory"
        await person.press("e", "escape")
        assert person.app.file_tree.has_focus

    assert explore(sample, look) is None
    assert (tmp_path / "mine.py").read_bytes() == b'print("a shop")\n' * 40
    assert (tmp_path / "mine.py").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "mine.py").stat().st_uid == os.geteuid()
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [
        "app.py",
        "logo-small.png",
        "logo.png",
        "templates",
    ]
    assert (tmp_path / "shop/logo.png").samefile(tmp_path / "shop/logo-small.png")


def test_extract_takes_the_tree_that_is_shown(sample: Path, tmp_path: Path) -> None:
    async def look(person: Person) -> None:
        for keys, name in ((("home", "2"), "one"), (("down", "down", "1"), "two")):
            person.app.layer_list.focus()
            await person.press(*keys)
            await go(person, "/etc")
            await person.press("e", "ctrl+u")
            await person.paste(f"{tmp_path}/{name}")
            await person.press("enter")

    assert explore(sample, look) is None
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "motd",
        "os-release",
        "passwd",
        "shadow",
    ]
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["passwd"]


# -- the screen ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (200, 60), (30, 10)])
def test_it_works_on_screens_of_any_size(sample: Path, size: tuple[int, int]) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "plus", "w", "end")
        screen = person.screen()
        assert len(screen) == size[1]
        if size >= (60, 16):
            assert any("cache" in line for line in screen)
        await person.press("question_mark", "escape", "f", "escape", "I", "escape")
        await person.pilot.resize_terminal(80, 24)
        await person.settle()
        assert person.selected == "/var/cache"
        assert any("cache" in line for line in person.screen())

    assert explore(sample, look, size=size) is None


def test_eighty_by_twenty_four_has_room_for_what_matters(sample: Path) -> None:
    async def look(person: Person) -> None:
        await go(person, "/srv/shop/templates/index.html")
        text = "\n".join(person.screen())
        assert "index.html" in text
        assert "COPY shop" in text
        assert "-rw-r--r--" in text
        assert "1.26 kB" in text
        assert "q quit" in text

    assert explore(sample, look, size=(80, 24)) is None


def test_quit(sample: Path) -> None:
    for key in ("q", "f10", "ctrl+c", "ctrl+q"):

        async def leave(person: Person, key: str = key) -> None:
            await person.pilot.press(key)
            assert not person.app.is_running or person.app._exit

        assert explore(sample, leave) is None


def test_leaving_waits_for_nobody_who_reads() -> None:
    """A layer that takes long to unpack is the case; here it takes until the explorer is gone."""
    gate = Event()

    def view() -> ImageView:
        gate.wait()
        raise OverlayError("too late")

    async def leave() -> None:
        app = Driven(Subject("image", (), view), {})
        async with app.run_test() as pilot:
            await pilot.press("down", "tab", "space", "slash", "I", "e", "l", "question_mark")
            await pilot.press("escape", "q")
        assert app.return_value is None

    before = set(enumerate_threads())
    asyncio.run(leave())
    (reader,) = set(enumerate_threads()) - before
    gate.set()
    reader.join()


# -- where images are ----------------------------------------------------------------------------


def test_an_image_of_the_store(sample: Path, tmp_path: Path, needs_root: None) -> None:
    pyoverlay = PyOverlay(tmp_path / "store")
    from overlayfs.archive.detect import open_image

    store = Store.open(pyoverlay.store)
    with open_image(str(sample), scratch=tmp_path) as source:
        store.add(source)

    async def look(person: Person) -> None:
        assert "shop:2.1" in person.screen()[0]
        assert "efficiency 56.7 %" in person.screen()[0]
        await go(person, "/srv/shop/secret.key")
        assert person.names()[0] == "·  ▾ /"
        await person.press("enter")
        assert (tmp_path / "seen").read_bytes() == b"not for everybody\n"

    environ = with_pager(tmp_path)
    assert explore("shop:2.1", look, store=pyoverlay.store, environ=environ) is None


def test_a_mount_with_its_upper_directory_on_top(
    sample: Path, tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    pyoverlay = PyOverlay(tmp_path / "store")
    with pyoverlay.mounted(sample, tmp_path / "mnt") as mountpoint:
        (mountpoint / "etc/passwd").unlink()
        (mountpoint / "etc/new").write_text("new\n")

        async def look(person: Person) -> None:
            assert "6 layers" in person.screen()[0]
            assert person.title == "the tree up to layer 6"
            await person.press("tab", "plus")
            assert "A    new" in person.names()
            assert "D    passwd" in person.names()
            assert "the upper directory of the mount" not in person.details
            await person.press("tab")
            assert "the upper directory of the mount" in person.details
            assert f"changes at {mountpoint}" in person.details
            (mountpoint / "etc/newer").write_text("newer\n")
            await go(person, "/etc/new")
            await person.press("r")
            assert "A    newer" in person.names()
            assert person.selected == "/etc/new"
            await person.press("enter")
            assert (tmp_path / "seen").read_bytes() == b"new\n"

        environ = with_pager(tmp_path)
        assert explore(mountpoint, look, store=pyoverlay.store, environ=environ) is None

"""What the live tree keeps in memory, and what it lets go of."""

import gc
import os
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayfs.fuse.convert import Converter
from overlayfs.tree.node import Node
from overlayfs.tree.numbers import ROOT
from overlayfs.tree.recent import Recent
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format
from overlayfs.union.presentation import AS_IT_IS
from tests.support.live import Live, live
from tests.support.union import Stack, write

# Memory of the daemon for each file that the kernel remembers: the bound of the README.
BOUND = 800


@pytest.fixture
def tree(tmp_path: Path, needs_root: None) -> Iterator[Live]:
    stack = Stack.make(tmp_path / "stack")
    for number in range(40):
        write(stack.lower / f"dir/file{number}")
        write(stack.lower / f"dir/sub/file{number}")
    for number in range(3):
        write(stack.lower / f"some/file{number}")
    (stack.lower / "dir/link").symlink_to("file1")
    (stack.lower / "some/hard").hardlink_to(stack.lower / "some/file0")
    with live(stack, Format.KERNEL) as made:
        yield made


def looked_up(tree: Live, path: str) -> list[Node]:
    """The nodes on the way to *path* and all in it, each with one reference more."""
    nodes = [tree.fs.tree.node(ROOT)]
    for name in Path(path).parts:
        nodes.append(tree.fs.lookup(nodes[-1].ino, os.fsencode(name)))
    here = nodes[-1]
    return [*nodes[1:], *(tree.fs.lookup(here.ino, name) for name in listed(tree, here))]


def found(tree: Live, folder: Node) -> list[Node]:
    """Everything below *folder*, each with one reference more, as of a find(1)."""
    nodes = []
    for name in listed(tree, folder):
        nodes.append(tree.fs.lookup(folder.ino, name))
        if nodes[-1].kind is Kind.DIRECTORY:
            nodes += found(tree, nodes[-1])
    return nodes


def listed(tree: Live, node: Node) -> list[bytes]:
    return list(tree.fs.tree.directory(node).children)


def forget(tree: Live, *nodes: Node) -> None:
    """Give back all references to *nodes*, in this order."""
    for node in dict.fromkeys(nodes):
        tree.fs.forget(node.ino, node.lookups)


def test_a_tree_that_is_forgotten_is_kept_no_more(tree: Live) -> None:
    nodes = found(tree, tree.fs.tree.root)
    assert len(tree.fs.tree.nodes) > 80
    forget(tree, *reversed(nodes))
    assert list(tree.fs.tree.nodes) == [ROOT]


def test_a_directory_that_stays_known_keeps_no_names_when_its_files_are_forgotten(
    tree: Live,
) -> None:
    """A working directory, say, and the root always."""
    folder, *files = looked_up(tree, "dir")
    forget(tree, *files)
    assert folder.directory is None
    assert folder.ino in tree.fs.tree.nodes
    assert not any(node.ino in tree.fs.tree.nodes for node in files)
    assert len(looked_up(tree, "dir")) == 1 + len(files)


def test_a_directory_keeps_its_names_while_one_of_its_files_is_known(tree: Live) -> None:
    folder, *files = looked_up(tree, "dir")
    forget(tree, *files[:-1])
    assert folder.directory is not None
    assert tree.fs.tree.child(folder, files[-1].name) is files[-1]


def test_a_parent_that_is_forgotten_before_its_children_goes_with_the_last(tree: Live) -> None:
    forget(tree, *found(tree, tree.fs.tree.root))
    assert list(tree.fs.tree.nodes) == [ROOT]


def test_files_that_come_and_go_do_not_have_their_directory_read_again(tree: Live) -> None:
    folder = tree.node("some")
    directory = tree.fs.tree.directory(folder)
    for _ in range(50):
        tree.create("some/new", 0o644)
        node = directory.children[b"new"]
        tree.unlink("some/new")
        forget(tree, node)
    assert folder.directory is directory


def test_a_file_that_is_known_by_another_name_stays(tree: Live) -> None:
    folder, *nodes = looked_up(tree, "some")
    (file,) = {node for node in nodes if len(node.names) > 1}
    forget(tree, *(node for node in nodes if node is not file))
    assert {name for _, name in file.names} == {b"file0", b"hard"}
    assert folder.directory is not None
    forget(tree, file)
    assert file.ino not in tree.fs.tree.nodes


def test_what_was_found_out_about_a_file_goes_when_it_is_forgotten(tree: Live) -> None:
    folder, *nodes = looked_up(tree, "dir")
    (link,) = (node for node in nodes if node.kind is Kind.SYMLINK)
    Converter(AS_IT_IS).entry(link, tree.fs.tree.attrs(link))
    tree.fs.readlink(link.ino)
    tree.fs.attributes.xattrs(link)
    forget(tree, link)
    assert folder.directory is not None
    assert (link.attrs, link.reply, link.xattrs, link.target) == (None, None, None, None)


def test_attributes_are_kept_once(tree: Live) -> None:
    node = tree.node("dir/file1")
    assert node.attrs is not None
    Converter(AS_IT_IS).entry(node, tree.fs.tree.attrs(node))
    assert node.reply is not None
    assert node.attrs is None


def test_a_file_without_a_name_keeps_its_attributes_for_those_who_ask_again(tree: Live) -> None:
    node = tree.node("dir/link")
    tree.unlink("dir/link")
    Converter(AS_IT_IS).entry(node, tree.fs.tree.attrs(node))
    assert tree.fs.tree.attrs(node).nlink == 0
    assert stat.S_ISLNK(tree.fs.tree.attrs(node).mode)


def test_of_many_files_only_the_newest_keep_what_can_be_read_again(tree: Live) -> None:
    gone: list[Node] = []
    recent = Recent(tree.fs.tree, gone.append, 10)
    nodes = looked_up(tree, "dir")[1:]
    for node in nodes:
        recent.add(node)
    assert gone == nodes[:-10]


def test_what_is_no_more_known_is_not_kept_for_being_recent(tree: Live) -> None:
    gone: list[Node] = []
    recent = Recent(tree.fs.tree, gone.append, 1)
    folder, first, *others = looked_up(tree, "dir")
    recent.add(first)
    forget(tree, first, *others, folder)
    recent.add(tree.node("some"))
    assert gone == []


def test_extended_attributes_are_kept_of_few_files(
    tmp_path: Path, needs_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlayfs.tree.attributes._KEPT", 2)
    stack = Stack.make(tmp_path / "stack")
    names = [f"file{number}" for number in range(5)]
    for name in names:
        os.setxattr(write(stack.lower / name), "user.name", os.fsencode(name))
    with live(stack, Format.KERNEL) as tree:
        nodes = [tree.node(name) for name in names]
        for name, node in zip(names * 2, nodes * 2, strict=True):
            assert tree.fs.attributes.xattr(node, b"user.name") == os.fsencode(name)
        assert [node.xattrs is not None for node in nodes] == [False, False, False, True, True]


def test_tidying_changes_nothing_but_the_room(tree: Live) -> None:
    before = tree.tree()
    nodes = tree.fs.tree.nodes
    known = dict(nodes)
    tree.fs.tree.tidy()
    assert tree.fs.tree.nodes is nodes
    assert nodes == known
    assert tree.tree() == before


def test_a_file_takes_little_memory(tmp_path: Path, needs_root: None) -> None:
    """As allocations are counted, of a tree of which everything was asked."""
    stack = Stack.make(tmp_path / "stack")
    for folder in range(10):
        for number in range(100):
            write(stack.lower / f"folder{folder}/some-file-of-the-usual-length-{number}.txt")
    converter = Converter(AS_IT_IS)
    with live(stack, Format.KERNEL) as tree:
        gc.collect()
        tracemalloc.start()
        try:
            seen = 0
            for folder in range(10):
                for node in looked_up(tree, f"folder{folder}"):
                    converter.entry(node, tree.fs.tree.attrs(node))
                    seen += 1
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert seen > 1000
    assert taken / seen < BOUND

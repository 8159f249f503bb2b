"""A tree that lies in one layer or in hundreds, and looks the same."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.archives import Made, from_1_10, write_tar
from tests.support.layers import file, folder, tar
from tests.support.union import Stack, write

FOLDERS = tuple(f"dir{number}" for number in range(10))
FILES = tuple(f"{FOLDERS[number % 10]}/file{number}" for number in range(400))
MISSING = tuple(f"{name}/missing{number}" for name in FOLDERS for number in range(10))


def folders_of(files: Sequence[str], *, everywhere: bool) -> Sequence[str]:
    """The directories of a layer that has *files*: what they lie in, or *everywhere* all."""
    return FOLDERS if everywhere else sorted({name.partition("/")[0] for name in files})


def deep_stack(base: Path, layers: int, *, everywhere: bool = False) -> Stack:
    """Directories to be mounted: `FILES`, dealt out to so many layers."""
    stack = Stack.make(base, lowers=layers)
    for number, lower in enumerate(stack.lowers):
        files = FILES[number::layers]
        for name in files:
            write(lower / name, name)
        for name in folders_of(files, everywhere=everywhere):
            (lower / name).mkdir(exist_ok=True)
    return stack


def deep_image(path: Path, layers: int, *, everywhere: bool = False) -> Path:
    """The same in a tar of ``docker save``; the image is called ``deep:LAYERS``."""
    made = []
    for number in range(layers):
        files = FILES[number::layers]
        made.append(
            tar(
                *(folder(name) for name in folders_of(files, everywhere=everywhere)),
                *(file(name, name.encode()) for name in files),
            )
        )
    return write_tar(path, from_1_10([(Made(tuple(made)), [f"deep:{layers}"])]))

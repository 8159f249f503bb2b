"""All looks, in the order in which what they find is in the way."""

from collections.abc import Iterator
from pathlib import Path

from overlayfs.doctor import disk, machine
from overlayfs.doctor.finding import Finding, State
from overlayfs.doctor.person import Person
from overlayfs.doctor.versions import libfuse, pyfuse3


def examination(root: Path, person: Person) -> Iterator[Finding]:
    """What *person* has here for the store *root*, which is not made if it is not there."""
    yield machine.device()
    yield machine.libraries(pyfuse3(), libfuse())
    yield machine.fusermount(person)
    yield machine.allow_other(person)
    yield machine.user_namespaces(person)
    yield machine.id_ranges(person)
    writable = disk.writable(root)
    yield writable
    if writable.state is State.OK:
        yield disk.attributes(root, person)
        yield disk.entry_types(root)
        yield disk.space(root)
        yield from disk.store(root, person)
    yield machine.clock(root)

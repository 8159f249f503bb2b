"""Extended headers of a tar: read in one way only, and in time with their length."""

import tarfile
import time

import pytest

from overlayfs.errors import InvalidImage
from tests.layers.conftest import Unpack
from tests.support.layers import file, folder, tar


def header(kind: bytes, data: bytes) -> bytes:
    """An extended header."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(data)
    return info.tobuf(tarfile.GNU_FORMAT) + data + b"\0" * (-len(data) % 512)


PATH = b"10 path=x\n"


@pytest.mark.parametrize(
    ("front", "says"),
    [
        pytest.param(header(b"x", b"no record"), "no length", id="no-length"),
        pytest.param(header(b"x", b"99 path=x\n"), "another length", id="too-long"),
        pytest.param(header(b"x", b"8 path=x\n"), "another length", id="too-short"),
        pytest.param(header(b"x", b"7 path\n"), "another length", id="no-value"),
        pytest.param(header(b"x", PATH) * 2, "two extended headers", id="twice"),
        pytest.param(header(b"L", b"x\0") * 2, "two extended headers", id="two-names"),
        pytest.param(header(b"L", b"x\0") + header(b"x", PATH), "of pax and of GNU", id="both"),
        pytest.param(header(b"x", b"12 uid=zero\n"), "no number", id="owner"),
        pytest.param(header(b"x", PATH) + b"\0" * 512, "without an entry", id="at-the-end"),
    ],
)
def test_what_is_not_read_in_one_way_is_refused(front: bytes, says: str, unpacked: Unpack) -> None:
    with pytest.raises(InvalidImage, match=says):
        unpacked(tar(file("a"), end=False) + front + tar(file("b")))


def test_global_headers_say_nothing(unpacked: Unpack) -> None:
    more = header(b"g", b"10 path=x\n9 uid=77\n" + b"20 comment=a commit\n")
    found = unpacked(tar(file("a"), end=False) + more * 3 + tar(file("b", b"1"), folder("c")))
    assert (found.entries, found.size) == (3, 1)


def test_a_long_name_with_a_slash_at_the_hundredth_byte_is_a_file(unpacked: Unpack) -> None:
    data = bytearray(tar(file("d" * 99 + "/" + "f" * 20, b"1"), form=tarfile.GNU_FORMAT))
    own = slice(1024, 1536)  # behind the long name
    header = data[own]
    header[156] = 0  # what the oldest tars have for a file, and for a directory
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[own] = header
    assert unpacked(bytes(data)).size == 1


def test_a_header_of_digits_takes_no_time(unpacked: Unpack) -> None:
    began = time.process_time()
    with pytest.raises(InvalidImage, match="no length"):
        unpacked(header(b"x", b"1" * (4 << 20)) + tar(file("a")))
    assert time.process_time() - began < 5

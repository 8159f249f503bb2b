"""The kernel's notes of origins and links, as it wrote them."""

import sys

import pytest

from overlayfs.union.origins import Origin, links, relative_to_lower, relative_to_upper

NOBODY = bytes(16)
# Of ext4 without a UUID, by Linux 6.18 on x86: an inode and its generation.
WRITTEN = bytes.fromhex("00fb1d0001" + "00" * 16 + "69014000c41277e7")
OF_UPPER = bytes.fromhex("00fb1d0401" + "00" * 16 + "6601400005a1f9d8")


@pytest.mark.skipif(sys.byteorder != "little", reason="it was written by a little-endian machine")
def test_what_the_kernel_wrote() -> None:
    origin = Origin(NOBODY, 1, bytes.fromhex("69014000c41277e7"))
    assert Origin.decode(WRITTEN) == origin
    assert origin.encode() == WRITTEN
    assert Origin.decode(OF_UPPER).encode(upper=True) == OF_UPPER


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(WRITTEN[:20], id="no-head"),
        pytest.param(WRITTEN[:-1], id="too-short"),
        pytest.param(WRITTEN + b"x", id="too-long"),
        pytest.param(b"\x01" + WRITTEN[1:], id="later-version"),
        pytest.param(b"\x00\xfa" + WRITTEN[2:], id="no-magic"),
        pytest.param(WRITTEN[:3] + b"\x01" + WRITTEN[4:], id="other-byte-order"),
    ],
)
def test_what_says_nothing(value: bytes) -> None:
    with pytest.raises(ValueError, match="origin"):
        Origin.decode(value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"U+0", 2),
        (b"U+1", 3),
        (b"U-1", 1),
        (b"U-2", None),
        (b"L+0", 5),
        (b"L-4", 1),
        (b"L-5", None),
        (b"X+1", None),
        (b"U1", None),
        (b"U+", None),
        (b"U+1 ", None),
        (None, None),
    ],
)
def test_links(value: bytes | None, found: int | None) -> None:
    assert links(value, upper=2, lower=5) == found


def test_links_of_a_file_that_has_but_one_below() -> None:
    assert links(b"U+1", upper=2, lower=1) is None


def test_what_is_written_is_read() -> None:
    assert links(relative_to_upper(-1), upper=4, lower=9) == 3
    assert links(relative_to_lower(-6), upper=4, lower=9) == 3
    assert (relative_to_upper(0), relative_to_lower(-2)) == (b"U+0", b"L-2")

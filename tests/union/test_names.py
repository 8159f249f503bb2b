"""Names with a meaning: markers, reserved attributes, the override attribute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayfs.union.attrs import Kind
from overlayfs.union.names import (
    OPAQUE_MARKER,
    OVERRIDE_STAT,
    Format,
    decode_override,
    encode_override,
    whiteout_target,
)


@pytest.mark.parametrize(
    ("fmt", "guest", "disk"),
    [
        pytest.param(Format.KERNEL, b"user.a", b"user.a", id="kernel-user"),
        pytest.param(Format.KERNEL, b"trusted.a", b"trusted.a", id="kernel-trusted"),
        pytest.param(
            Format.KERNEL,
            b"security.capability",
            b"security.capability",
            id="kernel-capability",
        ),
        pytest.param(
            Format.KERNEL,
            b"trusted.overlay.opaque",
            b"trusted.overlay.overlay.opaque",
            id="kernel-reserved-is-escaped",
        ),
        pytest.param(
            Format.KERNEL,
            b"trusted.overlay.overlay.opaque",
            b"trusted.overlay.overlay.overlay.opaque",
            id="kernel-escaped-twice",
        ),
        pytest.param(
            Format.KERNEL, b"user.overlay.opaque", b"user.overlay.opaque", id="kernel-not-reserved"
        ),
        pytest.param(Format.USER, b"user.a", b"user.a", id="user-user"),
        pytest.param(
            Format.USER,
            b"user.overlay.opaque",
            b"user.overlay.overlay.opaque",
            id="user-reserved-is-escaped",
        ),
        pytest.param(
            Format.USER,
            b"trusted.overlay.opaque",
            b"user.containers.override_trusted.overlay.opaque",
            id="user-trusted-is-kept-beneath-the-override",
        ),
        pytest.param(
            Format.USER,
            b"security.capability",
            b"user.containers.override_security.capability",
            id="user-capability-is-kept-beneath-the-override",
        ),
        pytest.param(
            Format.USER,
            OVERRIDE_STAT,
            b"user.containers.override_user.containers.override_stat",
            id="user-an-image-cannot-forge-owners",
        ),
    ],
)
def test_what_an_attribute_is_called_on_disk(fmt: Format, guest: bytes, disk: bytes) -> None:
    assert fmt.to_disk(guest) == disk
    assert fmt.to_guest(disk) == guest


@pytest.mark.parametrize(
    ("fmt", "disk"),
    [
        pytest.param(Format.KERNEL, b"trusted.overlay.opaque", id="kernel-opaque"),
        pytest.param(Format.KERNEL, b"trusted.overlay.origin", id="kernel-origin"),
        pytest.param(Format.USER, b"user.overlay.opaque", id="user-opaque"),
        pytest.param(Format.USER, OVERRIDE_STAT, id="user-override"),
        pytest.param(Format.USER, b"security.selinux", id="user-the-label-of-the-host"),
        pytest.param(Format.USER, b"system.posix_acl_access", id="user-the-list-of-the-host"),
    ],
)
def test_attributes_of_the_union_are_not_shown(fmt: Format, disk: bytes) -> None:
    assert fmt.to_guest(disk) is None


PREFIXES = st.sampled_from(
    [
        b"user.",
        b"trusted.",
        b"security.",
        b"system.",
        b"trusted.overlay.",
        b"trusted.overlay.overlay.",
        b"user.overlay.",
        b"user.overlay.overlay.",
        b"user.containers.",
        b"user.containers.override_",
        b"user.containers.override_stat",
        b"user.containers.override_security.",
    ]
)
GUEST_NAMES = st.builds(bytes.__add__, PREFIXES, st.binary(min_size=1, max_size=20))


@given(st.sampled_from(Format), GUEST_NAMES)
def test_every_attribute_comes_back_under_its_name(fmt: Format, name: bytes) -> None:
    assert fmt.to_guest(fmt.to_disk(name)) == name


@given(st.sampled_from(Format), GUEST_NAMES, GUEST_NAMES)
def test_no_two_attributes_share_a_place(fmt: Format, one: bytes, other: bytes) -> None:
    assert (fmt.to_disk(one) == fmt.to_disk(other)) == (one == other)


@given(st.sampled_from(Format), GUEST_NAMES)
def test_no_attribute_of_a_guest_is_one_of_the_union(fmt: Format, name: bytes) -> None:
    disk = fmt.to_disk(name)
    assert disk not in (fmt.opaque, fmt.prefix + b"whiteout", fmt.prefix + b"pyoverlay.origin")
    assert fmt is Format.KERNEL or disk != OVERRIDE_STAT


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(b".wh.a", b"a", id="marker"),
        pytest.param(b".wh..hidden", b".hidden", id="of-a-dot-file"),
        pytest.param(b".wh.\xff", b"\xff", id="not-utf-8"),
        pytest.param(b".wh.", b"", id="of-nothing"),
        pytest.param(b"a.wh.b", None, id="in-the-middle"),
        pytest.param(b".wh", None, id="too-short"),
        pytest.param(OPAQUE_MARKER, b".wh..opq", id="the-caller-knows-opaque-ones"),
    ],
)
def test_whiteout_markers(name: bytes, target: bytes | None) -> None:
    assert whiteout_target(name) == target


IDS = st.integers(0, 2**32 - 2)
NUMBERS = st.tuples(st.integers(0, 2**12 - 1), st.integers(0, 2**20 - 1))


@given(st.sampled_from(Kind), st.integers(0, 0o7777), IDS, IDS, NUMBERS)
def test_override_comes_back(
    kind: Kind, mode: int, uid: int, gid: int, rdev: tuple[int, int]
) -> None:
    numbers = rdev if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0)
    assert decode_override(encode_override(kind, mode, uid, gid, rdev)) == (
        kind,
        mode,
        uid,
        gid,
        numbers,
    )


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        pytest.param(b"0:0:0755", (None, 0o755, 0, 0, (0, 0)), id="fuse-overlayfs-names-no-type"),
        pytest.param(b"1000:50:4711:file", (Kind.FILE, 0o4711, 1000, 50, (0, 0)), id="suid-file"),
        pytest.param(b"0:6:0660:block-8-1", (Kind.BLOCK, 0o660, 0, 6, (8, 1)), id="block-device"),
        pytest.param(b"0:0:0666:char-1-3", (Kind.CHAR, 0o666, 0, 0, (1, 3)), id="char-device"),
        pytest.param(b"0:0:0644:pipe", (Kind.FIFO, 0o644, 0, 0, (0, 0)), id="fifo"),
    ],
)
def test_values_that_containers_storage_writes(
    value: bytes, meaning: tuple[Kind | None, int, int, int, tuple[int, int]]
) -> None:
    assert decode_override(value) == meaning


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"0:0",
        b"a:b:c",
        b"0:0:0999",
        b"0:0:0644:door",
        b"\xff:0:0644",
        b"0:0:0644:char-a-b",
    ],
)
def test_anything_else_is_no_override(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which one is not part of the promise
        decode_override(value)

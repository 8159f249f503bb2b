"""Whatever happens to the bytes of an archive, it is an image still or one clear error."""

import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlayfs.archive.detect import list_images, open_image
from overlayfs.errors import OverlayError
from tests.support.archives import (
    OCI,
    attestation,
    before_1_10,
    contents,
    descriptor,
    entry,
    from_1_10,
    from_25,
    image,
    layout,
    tar_bytes,
    to_json,
    v1_id,
)

ONE, TWO = image("base", "one"), image("base", "two", architecture="arm64")
INDEX = to_json(
    {
        "schemaVersion": 2,
        "manifests": [
            entry(ONE, platform={"os": "linux", "architecture": "amd64"}),
            entry(TWO, platform={"os": "linux", "architecture": "arm64"}),
            attestation(ONE)[0],
        ],
    }
)
ARCHIVES = [
    tar_bytes(members, form)
    for members in (
        from_1_10([(ONE, ["app:1"])]),
        from_25(ONE, "app:1"),
        before_1_10([(v1_id(1), {}, ONE.layers[0]), (v1_id(2), {}, ONE.layers[1])], None),
        layout([descriptor(f"{OCI}.index.v1+json", INDEX)], INDEX, *contents(ONE, TWO)),
    )
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
]
# Bytes that mean something in a header or in JSON.
TELLING = [b"\0", b"\xff", b"\x80\0\0", b"7777", b"-1", b"L", b"x", b"g", b"S", b"1", b"2"]
TELLING += [b"../", b"/", b'"', b"[", b"{}", b"null", b"99", b"\\u0000"]
WHERE = st.one_of(
    st.tuples(st.just("anywhere"), st.integers(0, 1 << 20)),
    st.tuples(st.just("header"), st.integers(0, 1 << 20)),
    st.tuples(st.just("text"), st.sampled_from([b"sha256", b"size", b"layers", b"json", b"blobs"])),
)


def damaged(data: bytes, where: tuple[str, int | bytes], patch: bytes, at: int) -> bytes:
    """*data* with *patch* written over some of it; a header's checksum is made right again."""
    kind, place = where
    if isinstance(place, bytes):
        found = data.find(place, at % len(data))
        start = max(found, 0)
        return data[:start] + patch + data[start + len(patch) :]
    start = place % len(data)
    if kind == "anywhere":
        return data[:start] + patch + data[start + len(patch) :]
    start -= start % 512
    block = bytearray(data[start : start + 512])
    if len(block) == 512:
        offset = at % 340
        block[offset : offset + len(patch)] = patch
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return data[:start] + bytes(block) + data[start + 512 :]


@pytest.mark.parametrize("number", range(len(ARCHIVES)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.lists(
        st.tuples(WHERE, st.sampled_from(TELLING), st.integers(0, 1 << 20)), min_size=1, max_size=4
    ),
    length=st.one_of(st.none(), st.floats(0.1, 1)),
)
def test_a_damaged_archive_is_an_image_or_an_error(
    tmp_path: Path,
    number: int,
    changes: list[tuple[tuple[str, int | bytes], bytes, int]],
    length: float | None,
) -> None:
    data = ARCHIVES[number]
    for where, patch, at in changes:
        data = damaged(data, where, patch, at)
    path = tmp_path / "x.tar"
    path.write_bytes(data if length is None else data[: int(len(data) * length)])
    for act in (read_all, list_all):
        try:
            act(path)
        except OverlayError as exc:
            shown = exc.message + exc.hint
            assert all(line.isprintable() for line in shown.splitlines())


def read_all(path: Path) -> None:
    with open_image(str(path), scratch=path.parent) as source:
        for layer in source.layers:
            with layer.open() as stream:
                stream.read()


def list_all(path: Path) -> None:
    list_images(str(path), scratch=path.parent)

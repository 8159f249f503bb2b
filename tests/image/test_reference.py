"""Names are read as Docker reads them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayfs.errors import OverlayError
from overlayfs.image.reference import Reference, is_tag

SHA = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("example.org/app", "example.org/app:latest", "example.org/app:latest"),
        ("example.org:8443/a/b:T", "example.org:8443/a/b:T", "example.org:8443/a/b:T"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
        ("a.b_c__d--e/f", "a.b_c__d--e/f", None),
        ("x/a.b_c__d---e", "docker.io/x/a.b_c__d---e:latest", "x/a.b_c__d---e:latest"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}", f"busybox@{SHA}"),
        (f"busybox:1@{SHA}", f"docker.io/library/busybox:1@{SHA}", f"busybox:1@{SHA}"),
        ("a" * 63, f"docker.io/library/{'a' * 63}:latest", f"{'a' * 63}:latest"),
        ("docker.io/x.y/z", "docker.io/x.y/z:latest", "docker.io/x.y/z:latest"),
        ("a" * 64 + ":x", f"docker.io/library/{'a' * 64}:x", f"{'a' * 64}:x"),
        ("app:5000", "docker.io/library/app:5000", "app:5000"),
    ],
)
def test_defaults_are_filled_in_and_left_out(
    text: str, canonical: str, familiar: str | None
) -> None:
    if familiar is None:  # an underscore makes no host name
        with pytest.raises(OverlayError, match="host"):
            Reference.parse(text)
        return
    reference = Reference.parse(text)
    assert reference.canonical == str(reference) == canonical
    assert reference.familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/",
        ":",
        ":tag",
        "a:",
        "a::b",
        "a:b:c",
        "a/",
        "/a",
        "a//b",
        "./a",
        "../a",
        "a/../b",
        "Busybox",
        "user/App",
        "a..b",
        "a-",
        "-a",
        "a___b",
        "_a",
        "a:.tag",
        "a:-tag",
        "a:" + "t" * 129,
        "a:ta/g",
        "a@",
        "a@sha256:12",
        f"a@{SHA}@{SHA}",
        f"@{SHA}",
        "a b",
        "a\0b",
        "a\n",
        "a:b\n",
        "é",
        "a:é",
        "٣",
        "exa_mple.org/a",
        "example.org:port/a",
        "a" * 64,
        "x" * 256,
        "x/" * 600 + "x",
        "\x1b[31mred",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(OverlayError) as caught:
        Reference.parse(text)
    assert caught.value.message.isprintable()


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,30}", fullmatch=True)
DOMAINS = ("user/", "localhost/", "example.org/", "h:5000/", "[fe80::1]/", "docker.io/")


@settings(deadline=None)
@given(st.sampled_from(DOMAINS), st.lists(COMPONENT, min_size=1, max_size=3), TAG, st.booleans())
def test_both_forms_mean_the_same_image(
    domain: str, components: list[str], tag: str, pinned: bool
) -> None:
    path = "/".join(components)
    reference = Reference.parse(f"{domain}x{path}:{tag}" + (f"@{SHA}" if pinned else ""))
    assert Reference.parse(reference.canonical) == reference
    assert Reference.parse(reference.familiar) == reference
    assert (reference.digest is not None) == pinned


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_is_more_than_an_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except OverlayError:
        return
    assert Reference.parse(reference.canonical) == reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [("latest", True), ("v1.2-3_x", True), ("a:b", False), ("a/b", False), ("", False)],
)
def test_a_tag_has_no_separators(text: str, expected: bool) -> None:
    assert is_tag(text) is expected

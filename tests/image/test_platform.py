"""An image is chosen for the machine it runs on."""

import platform

import pytest

from overlayfs.errors import OverlayError
from overlayfs.image.platform import Platform, best


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("arm64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/armhf", "linux/arm/v7"),
        ("i686", "linux/386"),
        ("Windows/AMD64", "windows/amd64"),
    ],
)
def test_platforms_are_read_in_the_words_people_use(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux/\x1b[0m"])
def test_anything_else_is_no_platform(text: str) -> None:
    with pytest.raises(OverlayError, match="not a platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        pytest.param("amd64", ["arm64", "amd64"], 1, id="architecture"),
        pytest.param("amd64", ["windows/amd64"], None, id="other-os"),
        pytest.param("amd64", ["arm64", "386"], None, id="none"),
        pytest.param("amd64", [], None, id="nothing-offered"),
        pytest.param("arm64", ["linux/arm64/v8"], 0, id="v8-goes-without-saying"),
        pytest.param("linux/arm64/v8", ["arm64"], 0, id="v8-goes-without-saying-either-way"),
        pytest.param("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1, id="newest-older-arm"),
        pytest.param("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1, id="no-newer-arm"),
        pytest.param("linux/arm/v6", ["linux/arm/v7"], None, id="only-newer"),
        pytest.param("linux/amd64/v3", ["amd64", "linux/amd64/v2"], 1, id="amd64-levels"),
        pytest.param("amd64", ["linux/amd64/v3", "amd64"], 1, id="no-newer-amd64"),
        pytest.param("amd64", ["amd64", "amd64"], 0, id="first-of-equals"),
        pytest.param("linux/mips/x", ["linux/mips/y"], None, id="unknown-variants-differ"),
        pytest.param("linux/mips/x", ["linux/mips/x"], 0, id="unknown-variants-equal"),
    ],
)
def test_the_best_of_what_is_offered(wanted: str, offered: list[str], expected: int | None) -> None:
    assert best(Platform.parse(wanted), [Platform.parse(one) for one in offered]) == expected


def test_this_machine_runs_what_is_made_for_it() -> None:
    host = Platform.host()
    assert host.os == "linux"
    assert host.matches(Platform.parse(f"linux/{platform.machine()}"))


def test_a_platform_is_not_printed_raw() -> None:
    assert str(Platform(os="linux", architecture="\x1b[2J")) == r"linux/\x1b[2J"

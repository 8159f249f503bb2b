"""Other mounts that podman asks the program for: overlay volumes, images as volumes."""

import pytest

from tests.support.podman import HERE, IMAGE, Containers

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")


def test_overlay_volume_takes_changes_and_leaves_the_folder_alone(containers: Containers) -> None:
    """A folder of the user's own, where the name of a marker means nothing."""
    shared = containers.empty("shared")
    containers.beside(
        'cd "$1"; echo v > v; mkdir d; echo in > d/in; echo > .wh.v; echo > d/.wh..wh..opq', shared
    )
    script = (
        "cd /shared; ls -A . d; cat v; echo more >> v; rm -r d; mkdir d; ls -A d; touch new; cat v"
    )
    for _ in range(2):
        said = containers.run(IMAGE, script, f"--volume={shared}:/shared:O")
        assert said == ".:\n.wh.v\nd\nv\n\nd:\n.wh..wh..opq\nin\nv\nv\nmore\n"
    said = containers.beside('cd "$1"; find . | sort; cat v d/in', shared)
    assert said == ".\n./.wh.v\n./d\n./d/.wh..wh..opq\n./d/in\n./v\nv\nin\n"


def test_image_as_a_volume_is_an_overlay_on_an_overlay(containers: Containers) -> None:
    script = """
    cd /image; cat again/now; ls -A partly; ! ls gone 2> /dev/null
    rm -r partly; mkdir partly; echo new >> again/now; cat again/now; ls -A partly; cat /again/now
    """
    mount = f"--mount=type=image,source={IMAGE},target=/image,rw=true"
    assert containers.run(IMAGE, script, mount) == "nowdeep\nnew\nnownew\nnow"
    refused = "! touch /image/x 2> /dev/null; cat /image/again/now"
    mount = f"--mount=type=image,source={IMAGE},target=/image"
    assert containers.run(IMAGE, refused, mount) == "now"


def test_read_only_container_cannot_write(containers: Containers) -> None:
    said = containers.run(IMAGE, "! touch /x 2> /dev/null; touch /tmp/y; ls /tmp", "--read-only")
    assert said == "y\n"


def test_volume_in_the_container_hides_and_is_not_committed(containers: Containers) -> None:
    with containers.container(IMAGE, "volume", "--volume=named:/tree") as name:
        assert "text" in containers.inside(name, "ls /tree; rm /tree/text; touch /tree/in-volume")
        assert containers.changes(name) == set()
    containers.podman("volume", "rm", "named")


def test_podman_knows_the_program_and_how_much_is_used(containers: Containers) -> None:
    told = containers.podman("info", "--format={{.Store.GraphOptions}}")
    assert "pyoverlayfs" in told
    with containers.container(IMAGE, "sized") as name:
        containers.inside(name, "head -c 3000000 /dev/zero > /big")
        sizes = containers.podman("ps", "--size", "--format={{.Size}}", f"--filter=name={name}")
    assert sizes.startswith("3MB")
    assert HERE.is_absolute()

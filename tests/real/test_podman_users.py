"""Who may do what in a container, and whose the files are on the disk."""

from pathlib import Path

import pytest

from tests.support.podman import HERE, IMAGE, LIMITS, SUBIDS, USER, Containers, machine, overlay

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

AS_USER = """
cat ~/note && echo more >> ~/note && stat -c %u:%g ~/note
touch /tmp/mine && stat -c %u:%g /tmp/mine
! cat /tree/c/two 2> /dev/null
! touch /tree/x 2> /dev/null
! ls /root 2> /dev/null
! chmod 777 /tree 2> /dev/null
! rm -f /tmp/of-root 2> /dev/null
ln -s /bin/busybox /tmp/plain-su
! /tmp/su -c 'id -u' 2> /dev/null
"""


def test_user_in_the_container_has_no_more_rights_than_elsewhere(containers: Containers) -> None:
    with containers.container(IMAGE, "users") as name:
        containers.inside(name, "touch /tmp/of-root; cp /bin/busybox /tmp/su; chmod 755 /tmp/su")
        said = containers.inside(name, AS_USER, "--user=1000:1000", "--env=HOME=/home/user")
        assert said == "mine\n1000:1000\n1000:1000\n"


def test_setuid_program_runs_as_its_owner(containers: Containers) -> None:
    """One that was copied up, one made there, and one of an image."""
    with containers.container(IMAGE, "setuid") as name:
        containers.inside(name, "cp /bin/busybox /tmp/su; chmod 4755 /tmp/su")
        su = "/tmp/su -c 'id -u'"
        assert containers.inside(name, su, "--user=1000") == "0\n"
        containers.stop(name)
        containers.podman("start", name)
        assert containers.inside(name, su, "--user=1000") == "0\n"
        containers.podman("commit", "--quiet", name, "localhost/setuid")
    assert containers.run("localhost/setuid", su, "--user=1000") == "0\n"
    # A write by another takes the right away, a chmod gives it back.
    said = containers.run(
        "localhost/setuid",
        "chmod 4777 /tmp/su; su user -c 'echo >> /tmp/su'; stat -c %a /tmp/su",
    )
    assert said == "777\n"
    containers.podman("rmi", "localhost/setuid")


def test_files_on_the_disk_belong_to_the_users_they_show(containers: Containers) -> None:
    """In a user's containers to his subordinate ids, so that only those may use them."""
    first = USER if containers.rootless else 0
    others = SUBIDS - 1 if containers.rootless else 0
    with containers.container(IMAGE, "owners") as name:
        containers.inside(name, "echo > /new; chown 5:6 /new; chown 7:0 /linked; chmod 4750 /new")
        where = "{{.GraphDriver.Data.UpperDir}}"
        upper = containers.podman("inspect", f"--format={where}", name).strip()
        found = [
            containers.folder / upper.removeprefix(f"{HERE}/") / each for each in ("new", "linked")
        ]
        stats = [path.stat() for path in found]
    assert [(each.st_uid, each.st_gid) for each in stats] == [
        (others + 5, others + 6),
        (others + 7, first),
    ]
    assert [each.st_mode & 0o7777 for each in stats] == [0o4750, 0o640]


def test_capability_of_a_file_is_kept_by_a_commit(containers: Containers) -> None:
    script = """
    where=$(podman mount "$1")
    setcap cap_net_bind_service+ep "$where/bin/busybox"
    getcap -n "$where/bin/busybox" | grep -o 'cap_net.*'
    podman unmount "$1" > /dev/null
    podman commit --quiet "$1" localhost/capable > /dev/null
    where=$(podman image mount localhost/capable)
    getcap "$where/bin/busybox" | grep -o 'cap_net.*'
    podman image unmount localhost/capable > /dev/null
    podman rmi localhost/capable > /dev/null
    """
    containers.podman("create", "--name=capable", *LIMITS, IMAGE, "true")
    said = containers.beside(script, "capable")
    assert said.split() == ["cap_net_bind_service=ep"] * 2
    containers.podman("rm", "capable")


@pytest.mark.parametrize("mapping", ["--userns=keep-id", "--uidmap=0:1:5000"])
def test_user_namespace_of_a_container_maps_its_files(by_user: Containers, mapping: str) -> None:
    script = """
    stat -c '%u:%g' /linked /home/user/note /opaque /suid
    touch /tmp/mine; test "$(stat -c %u /tmp/mine)" = "$(id -u)"
    """
    said = by_user.run(IMAGE, script, mapping, "--user=0")
    assert said == "3:4\n1000:1000\n5:6\n0:0\n"


def test_roots_container_with_a_user_namespace_shows_the_users_of_the_image(
    by_root: Containers,
) -> None:
    """Podman gives the layers on an idmapped mount, and the same mapping for the upper one."""
    mapping = ("--uidmap=0:100000:5000", "--gidmap=0:100000:5000")
    script = """
    stat -c '%u:%g' /linked /home/user/note /opaque /suid
    touch /tmp/mine && chown 5:6 /linked && echo more >> /linked && stat -c '%u:%g' /linked-too
    rm -r /partly && mkdir /partly && ls -A /partly
    """
    image = "localhost/mapped"
    with by_root.container(IMAGE, "mapped", *mapping) as name:
        said = by_root.inside(name, script)
        assert said == "3:4\n1000:1000\n5:6\n0:0\n5:6\n"
        by_root.stop(name)
        by_root.podman("start", name)
        assert by_root.inside(name, "stat -c '%u:%g' /linked-too /tmp/mine") == "5:6\n0:0\n"
        # Of a running one podman would compare the ids of its user namespace with the image's.
        by_root.stop(name)
        assert "D /partly/deep" in by_root.changes(name)
        by_root.podman("commit", "--quiet", name, image)
    assert by_root.run(image, "stat -c '%u:%g' /linked /tmp/mine /suid") == "5:6\n0:0\n0:0\n"
    by_root.podman("rmi", image)


OWNERS = "stat -c '%n %a %u:%g' /linked /opaque /home/user /suid"


def test_owners_beside_the_files_are_shown(containers: Containers) -> None:
    """As podman's ``force_mask`` keeps them, which drops the set-id and the sticky bits."""
    masked = containers.elsewhere("masked", *overlay("force_mask=700"))
    shown = "/linked 640 3:4\n/opaque 775 5:6\n/home/user 750 1000:1000\n/suid 755 0:0\n"
    changed = "/linked 640 7:8\n/opaque 1700 0:0\n/home/user 750 1000:1000\n/suid 4711 0:0\n"
    with masked.container(IMAGE, "masked") as name:
        assert masked.inside(name, f"{OWNERS}; ls -A /opaque") == f"{shown}deep\nkept\n"
        script = "chown 7:8 /linked; rm -r /opaque; mkdir -m 1700 /opaque; chmod 4711 /suid"
        masked.inside(name, script)
        for _ in range(2):
            assert (
                masked.inside(name, f"{OWNERS}; stat -c %a:%u /linked-too") == f"{changed}640:7\n"
            )
            masked.stop(name)
            masked.podman("start", name)
        assert masked.changes(name) == {
            *("C /linked", "C /linked-too", "C /opaque", "C /suid"),
            *("D /opaque/deep", "D /opaque/kept"),
        }
        masked.podman("commit", "--quiet", name, "localhost/masked")
    again = changed.replace(" 1700 ", " 700 ").replace(" 4711 ", " 711 ")
    assert masked.run("localhost/masked", OWNERS) == again


def test_user_without_subordinate_ids_owns_all(layered_image: Path, tmp_path: Path) -> None:
    options = {"rootless": True, "subids": False}
    with machine(tmp_path, layered_image, "ignore_chown_errors=true", **options) as alone:
        with alone.container(IMAGE, "alone") as name:
            said = alone.inside(name, f"{OWNERS}; ! chown 1:1 /suid 2> /dev/null")
            assert said == (
                "/linked 640 0:0\n/opaque 1775 0:0\n/home/user 750 0:0\n/suid 6755 0:0\n"
            )
            alone.inside(name, "rm -r /opaque; mkdir /opaque; echo > /opaque/new; chmod 600 /suid")
            alone.stop(name)
            assert alone.changes(name) == {
                *("C /opaque", "A /opaque/new", "D /opaque/deep", "D /opaque/kept", "C /suid")
            }
            alone.podman("commit", "--quiet", name, "localhost/alone")
        assert alone.run("localhost/alone", "ls -A /opaque; stat -c %a /suid") == "new\n600\n"


def test_device_can_be_made_by_who_may(by_root: Containers) -> None:
    script = "mknod /null c 1 3 && chmod 666 /null && echo > /null && rm /null && mknod /z b 7 0"
    with by_root.container(IMAGE, "devices", "--cap-add=mknod") as name:
        by_root.inside(name, script)
        by_root.podman("commit", "--quiet", name, "localhost/devices")
    assert by_root.run("localhost/devices", "stat -c '%F %t:%T' /z") == "block special file 7:0\n"
    by_root.podman("rmi", "localhost/devices")

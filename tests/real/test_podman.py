"""podman's containers on the mount program, as root and as a plain user with subuids."""

import json
import stat
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.podman import HERE, IMAGE, LIMITS, Containers

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

# What the image with markers of all kinds shows, but for busybox and the tree to work in.
SHOWN = """
/again d755 0:0
/again/now f644 0:0 now
/again/now-a-dir d755 0:0
/again/now-a-dir/in f644 0:0 in
/becomes-file f644 0:0 file
/linked f640 3:4 linked
/linked-too f640 3:4 linked
/opaque d1775 5:6
/opaque/deep d755 0:0
/opaque/deep/third f644 0:0 third
/opaque/kept f644 0:0 kept
/partly d755 0:0
/partly/deep d755 0:0
/partly/deep/left f644 0:0 left
/partly/new f600 1000:1000 new
/suid f6755 0:0 suid
"""

SHOW = r"""
cd "${1:-/}"
find again becomes-file linked linked-too opaque partly suid | sort | while read p
do
    type=$(stat -c %F "$p" | cut -c1 | tr r f)
    [ "$type" != f ] || content=$(cat "$p")
    echo "/$p $type$(stat -c '%a %u:%g' "$p")${content:+ $content}"
    unset content
done
"""
HIDDEN = ("gone", "removed", "opaque/old", "opaque/deep/old", "partly/old", "partly/deep/old")


def test_image_in_layers_shows_what_its_markers_leave(containers: Containers) -> None:
    assert containers.run(IMAGE, SHOW).strip() == SHOWN.strip()
    found = f"for name in {' '.join(HIDDEN)}; do ! stat /$name 2> /dev/null; done"
    assert containers.run(IMAGE, f"{found}; ls -A /again /opaque") == (
        "/again:\nnow\nnow-a-dir\n\n/opaque:\ndeep\nkept\n"
    )


def test_image_can_be_mounted_but_not_written(containers: Containers) -> None:
    show = f"""
    where=$(podman image mount "$1")
    ({SHOW.replace('"${1:-/}"', '"$where"')})
    touch "$where/again/other" 2>&1 | grep -o 'Read-only file system'
    podman image unmount "$1" > /dev/null
    ! ls "$where/again" 2> /dev/null
    """
    said = containers.beside(show, IMAGE)
    assert said.strip() == f"{SHOWN.strip()}\nRead-only file system"


def test_changes_stay_when_a_container_is_stopped(containers: Containers) -> None:
    with containers.container(IMAGE, "again") as name:
        containers.inside(name, "rm -r /partly; mkdir /partly; echo 1 > /partly/one; rm /linked")
        for _ in range(2):
            containers.stop(name)
            containers.podman("start", name)
            said = containers.inside(name, "ls /partly; cat /linked-too; echo 2 >> /partly/one")
            assert said == "one\nlinked"
        containers.podman("restart", "--time=0", name)
        assert containers.inside(name, "cat /partly/one; ! ls /linked 2> /dev/null") == "1\n2\n2\n"


def test_container_that_is_to_be_removed_is_removed_when_it_stops(containers: Containers) -> None:
    containers.podman("create", "--rm", "--name=brief", *LIMITS, IMAGE, "sh", "-c", "echo > /new")
    assert containers.podman("start", "--attach", "brief") == ""
    assert containers.podman("ps", "--all", "--quiet") == ""


# Whole directories are made anew, some with names that they had before.
RECREATE = """
rm -r /tree/a /tree/b /opaque /again
mkdir -p /tree/a /tree/b/deep /opaque/deep
echo new > /tree/a/new
echo g > /tree/b/deep/new
echo kept > /opaque/kept
echo file > /again
rm /tree/c/one && mkdir /tree/c/one
rm -r /tree/owned/sub
rm /tree/two
mv /tree/d /tree/moved
chmod 4711 /suid
"""
RECREATED = {
    *("C /tree", "C /tree/a", "A /tree/a/new", "D /tree/a/sub"),
    *("C /tree/b", "C /tree/b/deep", "A /tree/b/deep/new", "D /tree/b/deep/g"),
    *("C /opaque", "C /opaque/deep", "C /opaque/kept", "D /opaque/deep/third", "C /again"),
    *("C /tree/c", "C /tree/c/one", "C /tree/owned", "D /tree/owned/sub"),
    *("D /tree/two", "D /tree/d", "A /tree/moved", "A /tree/moved/in", "C /suid"),
}


def whiteouts(saved: Path) -> Iterator[str]:
    """What the topmost layer of a saved image hides."""
    with tarfile.open(saved) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        newest = image.extractfile(json.load(manifest)[0]["Layers"][-1])
        with tarfile.open(fileobj=newest) as tar:
            for path in map(Path, tar.getnames()):
                if path.name.startswith(".wh."):
                    yield f"/{path.with_name(path.name[4:])}"


def test_diff_and_commit_tell_every_deletion(containers: Containers) -> None:
    """Those in a directory made anew, too, which fuse-overlayfs loses."""
    image = "localhost/recreated"
    with containers.container(IMAGE, "recreated") as name:
        containers.inside(name, RECREATE)
        assert containers.changes(name) == RECREATED
        containers.stop(name)
        assert containers.changes(name) == RECREATED
        containers.podman("commit", "--quiet", name, image)
        assert containers.changes(name) == RECREATED
    assert containers.changes(image) == RECREATED
    found = "cat /again; cd /tree; find a b c moved owned /opaque | sort"
    assert containers.run(image, found).split() == [
        *("file", "/opaque", "/opaque/deep", "/opaque/kept", "a", "a/new"),
        *("b", "b/deep", "b/deep/new", "c", "c/one", "c/two", "moved", "moved/in"),
        *("owned", "owned/its", "owned/link", "owned/suid"),
    ]
    containers.podman("save", "--quiet", f"--output={HERE}/tmp/recreated.tar", image)
    assert set(whiteouts(containers.folder / "tmp/recreated.tar")) == {
        line[2:] for line in RECREATED if line.startswith("D")
    }
    containers.podman("rmi", image)


def test_diff_is_that_of_plain_directories(containers: Containers) -> None:
    """The same work in a copy of the image, without any overlay."""
    plain = containers.elsewhere("plain-storage", "--storage-driver=vfs")
    told = []
    for each in (containers, plain):
        with each.container(IMAGE, "compared") as name:
            each.inside(name, WORK, "--env=AT=/")
            told.append(each.changes(name))
    assert len(told[0]) > 40
    assert told[0] == told[1]


# What package managers and people do; every line says itself whether it worked.
WORK = r"""
cd "$AT/tree"
umask 022
tar -cf /tmp/a.tar a
rm -r a/sub
tar -xf /tmp/a.tar && rm /tmp/a.tar
mv b moved
mv moved/deep a/deep
mkdir new && mv new newer && touch newer/x
ln text text-link && echo more >> text-link
echo more >> two && chmod 600 three
ln one four && rm one
chown -R 7:8 owned && chmod 4755 owned/suid
chown -h 9:9 symlink
mkdir owned/inherits && touch owned/inherits/group
sed -i s/line/word/ text
rm c/one && mkdir c/one
rm -r d && echo file > d
rm e && mkdir e && touch e/in
mv x y
chmod 1777 c && chmod g-s owned/sub
truncate -s 100000 a/sub/f
printf tail | dd of=a/sub/f bs=1 seek=50000 conv=notrunc 2> /dev/null
cp -a . ../copy && mv ../copy copy && rm -r copy/a
find copy -name 't*' | xargs rm
mkfifo fifo
ln -s "$(printf '%0200d' 0)" long
touch "$(printf '%0255d' 0)"
echo odd > "$(printf 'odd \377\n')"
touch -h -d @1000000000 symlink 2> /dev/null || touch -d @1000000000 kept
touch -d @1100000000 c/two newer
! rmdir moved/.. 2> /dev/null
! mkdir a 2> /dev/null
! ln one five 2> /dev/null
mv mixed/third mixed/first
"""

# Times of this run say only that they are new; sizes and links of directories are their own, and
# busybox gives no link the time of what it copies.
LIST = r"""
cd "$AT/tree"
find . -print0 | sort -z | xargs -0 stat -c '%F|%a|%u:%g|%h|%s|%Y|%t:%T|%i|%N' |
awk -F'|' -v OFS='|' '
    $1 == "directory" { $4 = $5 = "" }
    $1 == "symbolic link" || $6 > 1600000000 { $6 = "new" }
    { if ($1 == "directory" || ! ($8 in first)) first[$8] = NR; $8 = first[$8]; print }'
find . -type f -print0 | sort -z | xargs -0 sha256sum
"""


def test_work_in_layers_ends_as_on_a_plain_disk(containers: Containers) -> None:
    """While mounted, at the next mount, and in an image made of it."""
    plain = containers.empty("plain")
    image = "localhost/worked"
    with containers.container(IMAGE, "worked", f"--volume={plain}:/plain") as name:
        containers.inside(name, "cp -a /tree /plain/tree")
        containers.inside(name, WORK, "--env=AT=/plain")
        expected = containers.inside(name, LIST, "--env=AT=/plain")
        containers.inside(name, WORK, "--env=AT=/")
        assert containers.inside(name, LIST, "--env=AT=/") == expected
        containers.stop(name)
        containers.podman("start", name)
        assert containers.inside(name, LIST, "--env=AT=/") == expected
        containers.podman("commit", "--quiet", name, image)
    assert containers.run(image, LIST, "--env=AT=/") == expected
    containers.podman("rmi", image)


def test_container_is_exported_as_it_is_seen(containers: Containers) -> None:
    with containers.container(IMAGE, "exported") as name:
        containers.inside(name, RECREATE)
        seen = containers.inside(name, "find / -xdev ! -path '/dev/*' ! -path '/run/*'").split()
        containers.podman("export", f"--output={HERE}/tmp/exported.tar", name)
    with tarfile.open(containers.folder / "tmp/exported.tar") as tar:
        members = {f"/{member.name.rstrip('/')}": member for member in tar.getmembers()}
    assert {path for path in members if not path.startswith(("/dev", "/run"))} | {
        "/",
        "/dev",
        "/run",
    } == set(seen)
    assert stat.S_IMODE(members["/tree/owned/its"].mode) == 0o640
    assert (members["/opaque"].uid, members["/tree/owned"].uid) == (0, 1000)
    assert members["/tree/three"].linkname == "tree/one"


def test_files_are_copied_in_and_out(containers: Containers) -> None:
    folder = containers.empty("copied")
    containers.beside(
        'mkdir "$1/in"; echo in > "$1/in/file"; chmod 2750 "$1/in"; chown 1000:33 "$1/in/file"',
        folder,
    )
    with containers.container(IMAGE, "copied") as name:
        for state in ("running", "stopped"):
            containers.podman("cp", f"{folder}/in", f"{name}:/tree/{state}")
            containers.podman("cp", f"{folder}/in/file", f"{name}:/tree/c/two")
            containers.podman("cp", f"{name}:/tree", f"{folder}/{state}")
            if state == "running":
                said = containers.inside(name, "cd /tree; stat -c '%a %n' running; cat c/two")
                assert said == "2750 running\nin\n"
                containers.stop(name)
        assert containers.podman("ps", "--quiet") == ""
        assert "A /tree/stopped/file" in containers.changes(name)
    said = containers.beside(
        'cd "$1"; cat stopped/running/file stopped/c/two; stat -c %a:%s running/owned/its; '
        "ls running > one; ls stopped > two; comm -3 one two",
        folder,
    )
    assert said == "in\nin\n640:4\n\tstopped\n"


def test_containers_of_one_image_do_not_see_each_other(containers: Containers) -> None:
    script = """
    for i in $(seq 50)
    do
        echo $0 >> /tree/text && mv /tree/y /tree/$0 && mv /tree/$0 /tree/y
    done
    uniq /tree/text
    ls /tree
    """

    def one(number: int) -> str:
        return containers.podman("run", "--rm", *LIMITS, IMAGE, "sh", "-ec", script, str(number))

    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(one, range(4)))
    names = said[0].split("\n", 2)[2]
    assert "y\n" in names
    assert said == [f"a line\n{number}\n{names}" for number in range(4)]


def test_container_works_again_when_its_daemon_was_killed(containers: Containers) -> None:
    with containers.container(IMAGE, "killed") as name:
        containers.inside(name, "echo new > /new; rm -r /partly; echo more >> /linked; sync")
        where = "{{.GraphDriver.Data.MergedDir}}"
        merged = containers.podman("inspect", f"--format={where}", name).strip()
        containers.beside('kill -9 $(pgrep -f "[p]yoverlayfs -o .*$1")', merged)
        assert containers.call("podman", *containers.storage, "exec", name, "ls").returncode != 0
        containers.stop(name)
        containers.podman("start", name)
        said = containers.inside(name, "cat /new /linked-too; ! ls /partly 2> /dev/null")
        assert said == "new\nlinkedmore\n"


def test_container_goes_on_from_fuse_overlayfs_and_back(containers: Containers) -> None:
    """What either wrote into the upper directory is read by the other."""
    former = containers.by("/usr/bin/fuse-overlayfs")
    found = "cd /tree; find . /opaque /again | sort; cat text x c/two; stat -c '%a %u:%g' owned/*"
    with former.container(IMAGE, "moved-on") as name:
        former.inside(name, "rm -r /tree/a /opaque; mkdir /opaque; touch /opaque/new; rm /tree/y")
        former.inside(name, "chown -R 7:8 /tree/owned; echo more >> /tree/text; mkdir /tree/y")
        seen = former.inside(name, found)
        former.stop(name)
        containers.podman("start", name)
        assert containers.inside(name, found) == seen
        containers.inside(
            name, "rm -r /tree/b /again; mkdir /again; mv /tree/y /tree/z; rm /tree/x"
        )
        containers.inside(name, "chmod 600 /tree/owned/its; echo x > /tree/x; echo 2 > /tree/c/two")
        seen = containers.inside(name, found)
        assert len(seen.splitlines()) > 2000
        assert {"D /tree/b", "D /opaque/kept", "A /opaque/new"} <= containers.changes(name)
        containers.stop(name)
        former.podman("start", name)
        assert former.inside(name, found) == seen

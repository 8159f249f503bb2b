"""Images built on the mount program: Containerfiles, buildah by hand, commits and saved files."""

import dataclasses
from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.podman import HERE, IMAGE, LAYERS, Containers
from tests.support.tree import Tree, assert_same, snapshot

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

# buildah's own words for what podman run is told with `LIMITS`.
ISOLATED = ("--cgroupns=host", "--network=none")

CONTAINERFILE = f"""
FROM {IMAGE} AS first
COPY given /tree/given
COPY --chown=1000:50 given/file /tree/a/sub/f
RUN rm -r /opaque /tree/b && mkdir /opaque && echo built > /opaque/built
RUN chown -R 1000:1000 /tree/c && chmod 4755 /suid && ln /linked /linked-new && \\
    cp /bin/busybox /bin/su-able && chmod 4755 /bin/su-able
RUN mkdir /tree/b && test ! -e /tree/b/deep && ls /opaque > /tree/b/list && test ! -e /opaque/kept
USER 1000
WORKDIR /home/user
RUN id -u > mine && ! touch /etc/forbidden 2> /dev/null && rm note

FROM {IMAGE}
COPY --from=first /tree/b/list /home/user/mine /from/
COPY --from=first /tree /from/tree
RUN rm -r /tree
"""


def context(containers: Containers, name: str) -> Path:
    """What an image is built of, and how."""
    made = containers.empty(name)
    (containers.folder / "tmp/Containerfile").write_text(CONTAINERFILE)
    script = 'cd "$1"; mkdir given; echo given > given/file; cat > Containerfile'
    containers.beside(f'{script} < "$2"', made, HERE / "tmp/Containerfile")
    return made


BUILD = ("build", "--pull=never", "--quiet", *ISOLATED)
FROM_FIRST = "cat /from/list /from/mine; ls /from/tree/c; ls -A /opaque; ! ls /tree 2> /dev/null"
FROM_FIRST_SAID = "built\n1000\none\ntwo\ndeep\nkept\n"


def test_each_step_of_a_build_is_a_layer(containers: Containers) -> None:
    where = context(containers, "layers")
    first, last = "localhost/built-first", "localhost/built"
    containers.podman(*BUILD, "--target=first", f"--tag={first}", where)
    containers.podman(*BUILD, f"--tag={last}", where)
    found = """
    cat /opaque/* /tree/b/* /home/user/mine /tree/a/sub/f; ls /tree/b /home/user
    stat -c '%n %a %u:%g %h' /tree/a/sub/f /tree/c/two /suid /linked-new /bin/su-able
    """
    assert containers.run(first, found, "--user=0") == (
        "built\nbuilt\n1000\ngiven\n/home/user:\nmine\n\n/tree/b:\nlist\n"
        "/tree/a/sub/f 644 1000:50 1\n/tree/c/two 400 1000:1000 1\n"
        "/suid 4755 0:0 1\n/linked-new 640 3:4 1\n/bin/su-able 4755 0:0 1\n"
    )
    assert containers.run(last, FROM_FIRST) == FROM_FIRST_SAID
    containers.podman("rmi", "--force", last, first)


def test_build_without_layers_makes_one(containers: Containers) -> None:
    where = context(containers, "one-layer")
    containers.podman(*BUILD, "--layers=false", "--tag=localhost/one-layer", where)
    assert containers.run("localhost/one-layer", FROM_FIRST) == FROM_FIRST_SAID
    layers = "{{len .RootFS.Layers}}"
    counted = containers.podman("image", "inspect", f"--format={layers}", "localhost/one-layer")
    assert counted == f"{len(LAYERS) + 1}\n"
    containers.podman("rmi", "localhost/one-layer")


def test_buildah_works_in_steps(containers: Containers) -> None:
    container = containers.buildah("from", "--pull-never", *ISOLATED, IMAGE)
    containers.buildah("run", container, "sh", "-ec", "rm -r /tree/a; mkdir /tree/a; echo 1 > /one")
    containers.buildah(
        "run", container, "sh", "-ec", "cat /one; ls -A /tree/a; mv /one /tree/a/two"
    )
    containers.buildah("copy", "--chown=5:6", container, HERE / "image.tar", "/tree/given/")
    containers.buildah("config", "--env=SET=yes", "--cmd=env", container)
    assert containers.buildah("run", container, "cat", "/tree/a/two") == "1"
    image = "localhost/by-buildah"
    containers.buildah("commit", "--quiet", container, image)
    containers.buildah("run", container, "rm", "-r", "/tree")
    containers.buildah("commit", "--quiet", "--rm", container, f"{image}-more")
    found = "ls -A /tree/a; stat -c '%u:%g %s' /tree/given/*; ! ls /one 2> /dev/null; echo $SET"
    size = (containers.folder / "image.tar").stat().st_size
    assert containers.run(image, found) == f"two\n5:6 {size}\nyes\n"
    assert (
        containers.run(f"{image}-more", "! ls -d /tree 2> /dev/null; ls /opaque") == "deep\nkept\n"
    )
    containers.podman("rmi", image, f"{image}-more")


def test_buildah_mounts_from_scratch(containers: Containers) -> None:
    """As tools do that fill a root from outside."""
    script = """
    buildah() { command buildah BUILDAH "$@"; }
    made=$(buildah from scratch)
    where=$(buildah mount "$made")
    mkdir -p "$where/deep/er"
    echo text > "$where/deep/er/file"
    ln "$where/deep/er/file" "$where/link"
    chown -R 7:8 "$where/deep"
    mkfifo "$where/fifo"
    buildah umount "$made"
    where=$(buildah mount "$made")
    mv "$where/deep" "$where/moved"
    rm "$where/fifo"
    buildah commit --quiet --rm "$made" localhost/filled
    where=$(podman image mount localhost/filled)
    (cd "$where" && find . | sort | xargs stat -c '%n %a %u:%g %h %F' | grep -v directory; cat link)
    podman image unmount localhost/filled
    podman rmi localhost/filled
    """
    said = containers.beside(script.replace("BUILDAH", " ".join(containers.storage)))
    assert "./link 644 7:8 2 regular file\n./moved/er/file 644 7:8 2 regular file\ntext\n" in said


def test_buildah_goes_on_when_the_daemon_was_killed(containers: Containers) -> None:
    """Its containers are mounted volatile, and this machine did not crash."""
    script = """
    buildah() { command buildah BUILDAH "$@"; }
    where=$(buildah mount "$1")
    rm -r "$where/partly" && mkdir "$where/partly" && echo text > "$where/partly/new"
    kill -9 $(pgrep -f "[p]yoverlayfs -o .*$where")
    ! ls "$where" 2> /dev/null
    buildah umount "$1" > /dev/null
    where=$(buildah mount "$1")
    ls -A "$where/partly" && cat "$where/partly/new"
    buildah umount "$1" > /dev/null
    """
    made = containers.buildah("from", "--pull-never", IMAGE)
    said = containers.beside(script.replace("BUILDAH", " ".join(containers.storage)), made)
    assert said == "new\ntext\n"
    containers.buildah("rm", made)


CHANGE = """
rm -r /tree/a /opaque/deep /again && mkdir /tree/a && echo a > /tree/a/f && mv /tree/b /tree/renamed
chown -R 11:12 /tree/c && chmod 6711 /suid && echo more >> /linked && ln -s x /tree/new-link
mkfifo /tree/fifo && touch -d @1000000000 /tree/a/f /tree/renamed && chmod 1777 /tree/a
"""


def seen_by(containers: Containers, path: str) -> Tree:
    """The tree at *path* of the machine, as root sees it."""
    return snapshot(Path(f"/proc/{containers.holder}/root{path}"))


def in_whole_seconds(tree: Tree) -> Tree:
    """*tree* with the times that podman writes in a tar."""
    whole = 1_000_000_000
    return {
        path: dataclasses.replace(entry, mtime_ns=entry.mtime_ns // whole * whole)
        for path, entry in tree.items()
    }


def test_saved_image_mounts_as_the_container_was(
    by_root: Containers, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    """What podman commits of our mount, mounted from the saved file by pyoverlay."""
    image, saved = "localhost/changed", by_root.folder / "tmp/changed.tar"
    with by_root.container(IMAGE, "changed") as name:
        by_root.inside(name, CHANGE)
        by_root.podman("stop", "--time=0", name)
        before = seen_by(by_root, by_root.podman("mount", name).strip())
        by_root.podman("unmount", name)
        by_root.podman("commit", "--quiet", name, image)
    mounted = seen_by(by_root, by_root.podman("image", "mount", image).strip())
    by_root.podman("image", "unmount", image)
    by_root.podman("save", "--quiet", f"--output={HERE}/tmp/changed.tar", image)
    by_root.podman("rmi", image)
    with pyoverlay.mounted(saved, tmp_path / "root", "--read-only") as root:
        ours = snapshot(root)
    # A tar by podman has no entry of the root.
    assert len(ours) > 100
    del ours[b"."], mounted[b"."], before[b"."]
    assert_same(mounted, ours)
    assert_same(in_whole_seconds(before), mounted)

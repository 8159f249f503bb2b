"""Real images: made, changed and copied by buildah, umoci, skopeo, podman and GNU tar.

None of the bytes in them are written by code of this project.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONG_NAME = b"long-" + b"n" * 240
BROKEN_NAME = b"not-utf8-\xff\xfe"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What *command* prints; an AssertionError with all of its output when it fails."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class Workshop:
    """The tools, each with its storage below *folder*, away from what the machine has."""

    folder: Path

    def buildah(self, *arguments: str | Path) -> str:
        """One line of output of buildah."""
        return run("buildah", *self._storage(), *arguments).strip()

    def podman(self, *arguments: str | Path) -> str:
        """One line of output of podman."""
        return run("podman", *self._storage(), *arguments).strip()

    def stored(self, name: str) -> str:
        """An image of buildah's and podman's storage, as skopeo names it."""
        return f"containers-storage:[vfs@{self.folder}/storage+{self.folder}/run]{name}"

    def _storage(self) -> tuple[str, ...]:
        return (
            f"--root={self.folder}/storage",
            f"--runroot={self.folder}/run",
            "--storage-driver=vfs",
        )

    def build(self, name: str, base: str, change: Callable[[Path], None]) -> None:
        """Image *name*: *base* (or ``scratch``) and one layer more, with what *change* does."""
        container = self.buildah("from", base)
        change(Path(self.buildah("mount", container)))
        self.buildah("commit", "--quiet", "--format=oci", container, name)
        self.buildah("rm", container)


def busybox_root(root: Path) -> None:
    """A root to run in: the static busybox, with its commands as symlinks."""
    (root / "bin").mkdir()
    shutil.copy2(busybox(), root / "bin/busybox")
    for command in ("sh", "ls", "cat", "id", "echo", "mkdir", "rm", "stat", "touch"):
        (root / "bin" / command).symlink_to("busybox")
    for folder, mode in {"etc": 0o755, "root": 0o700, "tmp": 0o1777, "var": 0o755}.items():
        (root / folder).mkdir()
        (root / folder).chmod(mode)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def busybox() -> Path:
    """The statically linked busybox of this machine."""
    found = shutil.which("busybox", path=f"{os.environ['PATH']}:/usr/bin:/bin")
    assert found is not None, "busybox-static is missing; scripts/test installs it"
    return Path(found)


def base_layer(root: Path) -> None:
    """What buildah commits: all kinds of file, and much for later layers to hide."""
    busybox_root(root)
    run("setcap", "cap_net_bind_service+ep", root / "bin/busybox")
    (root / "suid").write_bytes(b"#!\n")
    (root / "suid").chmod(0o6755)
    (root / "removed").write_text("by a whiteout alone\n")
    (root / "first").write_bytes(b"one file\n")
    (root / "second").hardlink_to(root / "first")
    os.setxattr(root / "first", "user.note", b"\x00binary\xff")
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o060660, os.makedev(8, 17))
    os.chown(root / "disk", 0, 6)
    for name in (LONG_NAME, BROKEN_NAME):
        Path(root / os.fsdecode(name)).write_bytes(name)
    (root / "dangling").symlink_to("/no/such" + "/far" * 60)
    (root / "old").write_bytes(b"before 1970\n")
    os.utime(root / "old", ns=(-1_000_000_000, -86_400_000_000_000))
    # For the layers above.
    for folder in ("opaque", "emptied", "gone", "becomes-file", "kept"):
        (root / folder / "deep").mkdir(parents=True)
        (root / folder / "deep/file").write_text(folder)
        (root / folder / "file").write_text(folder)
    (root / "becomes-dir").write_text("a file\n")
    (root / "becomes-link").mkdir()
    (root / "kept").chmod(0o2750)
    os.chown(root / "kept", 33, 44)


def removing_layer(root: Path) -> None:
    """What buildah writes whiteouts for."""
    (root / "old").unlink()
    (root / "fifo").unlink()
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "emptied")
    (root / "emptied").mkdir()
    (root / "emptied/new").write_text("new\n")
    shutil.rmtree(root / "becomes-file")
    (root / "becomes-file").write_text("now a file\n")
    (root / "becomes-dir").unlink()
    (root / "becomes-dir").mkdir()
    (root / "becomes-dir/inside").write_text("now a directory\n")
    (root / "becomes-link").rmdir()
    (root / "becomes-link").symlink_to("kept")


def tar_layer(folder: Path, archive: Path, *, sparse: bool) -> None:
    """What GNU tar writes: ACLs, trusted xattrs, holes, times in ns, large ids, a ``./`` entry."""
    folder.mkdir()
    folder.chmod(0o751)
    (folder / "acl").write_text("acl\n")
    run("setfacl", "-m", "u:1000:rw,g:50:r", folder / "acl")
    (folder / "acl-dir").mkdir()
    run("setfacl", "-d", "-m", "u:1000:rwx", folder / "acl-dir")
    os.setxattr(folder / "acl", "trusted.note", b"root only")
    os.setxattr(folder / "acl", "user.empty", b"")
    with (folder / "sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"data after a hole\n")
        file.truncate(9 << 20)
    (folder / "sparse-link").hardlink_to(folder / "sparse")
    (folder / "owned").write_text("large ids\n")
    os.chown(folder / "owned", 12_345_678, 3_000_000_000)
    (folder / "link").symlink_to("owned")
    os.mkfifo(folder / "fifo", 0o604)
    (folder / "dir").mkdir()
    (folder / "before").write_text("between two seconds before 1970\n")
    for name, when in {
        "before": -315_619_199_500_000_000,
        "owned": 1_577_836_800_123_456_789,
        "link": 1_000_000_000_000_000_001,
        "fifo": 999_999_999,
        "dir": 1_234_567_890_987_654_321,
    }.items():
        os.utime(folder / name, ns=(when, when), follow_symlinks=False)
    os.utime(folder, ns=(0, 1_600_000_000_500_000_000))
    run(
        *("tar", "--format=pax", "--numeric-owner", *(["--sparse"] if sparse else [])),
        *("--xattrs", "--xattrs-include=*", "-C", folder, "-cf", archive, "."),
    )


def rich_layout(shop: Workshop) -> Path:
    """An OCI layout with two images of six layers by four tools, ``rich`` and ``dense``.

    They are alike, but for the holes that GNU tar writes as such in ``rich``: podman cannot
    give such a layer back ("Digest did not match"), so it gets ``dense``.
    """
    layout = shop.folder / "layout"
    shop.build("base", "scratch", base_layer)
    shop.build("changed", "base", removing_layer)
    for name in ("rich", "dense"):
        image = f"{layout}:{name}"
        run("skopeo", "copy", "--quiet", shop.stored("localhost/changed"), f"oci:{image}")
        folder = shop.folder / name
        folder.mkdir()
        _upper_layers(folder, image, sparse=name == "rich")
    return layout


def _upper_layers(folder: Path, image: str, *, sparse: bool) -> None:
    """Four layers on *image*: one by GNU tar, three by umoci."""
    tar_layer(folder / "tar", folder / "layer.tar", sparse=sparse)
    run("umoci", "raw", "add-layer", "--image", image, folder / "layer.tar")
    # A layer by umoci's own comparison of a changed tree.
    bundle = folder / "bundle"
    run("umoci", "unpack", "--image", image, bundle)
    (bundle / "rootfs/second").unlink()
    (bundle / "rootfs/kept/deep/file").write_text("changed by umoci\n")
    (bundle / "rootfs/emptied/new").unlink()
    (bundle / "rootfs/by-umoci").mkdir()
    os.setxattr(bundle / "rootfs/by-umoci", "user.umoci", b"1")
    run("umoci", "repack", "--image", image, bundle)
    # An opaque directory and a whiteout, said in so many words.
    (folder / "insert").mkdir()
    (folder / "insert/alone").write_text("nothing else is left here\n")
    run("umoci", "insert", "--image", image, "--opaque", folder / "insert", "/opaque")
    run("umoci", "insert", "--image", image, "--whiteout", "/removed")


LAYOUTS = (
    "oci-by-umoci",
    "oci-by-skopeo",
    "oci-zstd-by-skopeo",
    "oci-archive-by-skopeo",
    "oci-archive-by-podman",
    "docker-archive-by-skopeo",
    "docker-archive-by-podman",
    "dir-by-skopeo",
    "dir-plain-by-skopeo",
    "docker-dir-by-podman",
    "oci-dir-by-podman",
    "docker-archive-in-gzip",
    "docker-archive-in-zstd",
    "docker-archive-in-xz",
)


def copied(shop: Workshop, source: str, layout: str, target: Path) -> str:
    """The image *source* (as skopeo names it) in one of `LAYOUTS` at *target*.

    Returns what ``pyoverlay mount`` is given.
    """

    def skopeo(destination: str, *options: str) -> str:
        run("skopeo", "copy", "--quiet", *options, source, f"{destination}:{target}")
        return str(target)

    def podman(form: str) -> str:
        name = f"localhost/saved:{layout}"
        run("skopeo", "copy", "--quiet", source, shop.stored(name))
        shop.podman("save", "--quiet", f"--format={form}", "--output", target, name)
        return str(target)

    match layout:
        case "oci-by-umoci":
            path, _, tag = source.removeprefix("oci:").rpartition(":")
            return f"{path}:{tag}"
        case "oci-by-skopeo":
            return skopeo("oci")
        case "oci-zstd-by-skopeo":
            return skopeo("oci", "--dest-compress-format=zstd", "--dest-compress-level=3")
        case "oci-archive-by-skopeo":
            return skopeo("oci-archive")
        case "oci-archive-by-podman":
            return podman("oci-archive")
        case "docker-archive-by-skopeo":
            return skopeo("docker-archive")
        case "docker-archive-by-podman":
            return podman("docker-archive")
        case "dir-by-skopeo":
            return skopeo("dir")
        case "dir-plain-by-skopeo":
            return skopeo("dir", "--dest-decompress")
        case "docker-dir-by-podman":
            return podman("docker-dir")
        case "oci-dir-by-podman":
            return podman("oci-dir")
        case _:
            plain = target.with_name(f"{target.name}.plain")
            run("skopeo", "copy", "--quiet", source, f"docker-archive:{plain}")
            # Named so that the name says nothing of what is in it.
            compress = {"gzip": "gzip", "zstd": "zstd", "xz": "xz"}[layout.rpartition("-")[2]]
            with target.open("wb") as file:
                subprocess.run([compress, "-1", "-c", plain], stdout=file, check=True)
            plain.unlink()
            return str(target)


def umoci_tree(layout: Path, tag: str, bundle: Path) -> Path:
    """The root that ``umoci unpack`` makes of an image."""
    run("umoci", "unpack", "--image", f"{layout}:{tag}", bundle)
    return bundle / "rootfs"


def debian_root(folder: Path, *, include: tuple[str, ...] = ()) -> Path:
    """A tar of a minimal Debian or Ubuntu, by debootstrap, of this machine's release and mirror."""
    mirror, suite = _mirror()
    archive = folder / "debian.tar"
    options = ["--variant=minbase"]
    if include:
        options.append(f"--include={','.join(include)}")
    run("debootstrap", *options, suite, folder / "debian", mirror)
    run("tar", "--numeric-owner", "--xattrs", "-C", folder / "debian", "-cf", archive, ".")
    shutil.rmtree(folder / "debian")
    return archive


def _mirror() -> tuple[str, str]:
    """The package mirror and the release that apt is configured with here."""
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    suite = release["VERSION_CODENAME"].strip('"')
    targets = run(
        *("apt-get", "indextargets", "--no-release-info"),
        *("--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"),
    )
    for line in targets.splitlines():
        uri, found, component = line.split()
        if (found, component) == (suite, "main"):
            return uri, suite
    raise AssertionError(f"apt knows no mirror of {suite} here:\n{targets}")

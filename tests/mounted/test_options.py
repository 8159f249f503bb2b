"""What the options of ``pyoverlayfs`` do to a mount."""

import os
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.callers import as_someone, outcome
from tests.support.plain import as_plain_user
from tests.support.tree import names
from tests.support.union import PATIENCE, REPOSITORY, Stack, opaque, run, start, whiteout, write

PROGRAM = (sys.executable, "-m", "overlayfs.cli.mountprogram")


def pyoverlayfs(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """One run of the command, without a complaint if it succeeds."""
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*PROGRAM, *words], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert bool(done.returncode) == bool(done.stderr)
    return done


def row(mountpoint: Path) -> tuple[str, str, set[str]]:
    """Source, type and options in /proc/mounts, once the mount answers."""
    mountpoint.stat()
    for line in Path("/proc/mounts").read_text().splitlines():
        source, where, kind, options, *_ = line.split(" ")
        if where == str(mountpoint):
            return source, kind, set(options.split(","))
    raise AssertionError(f"{mountpoint} is not mounted")


def test_large_files_are_read_far_ahead(stack: Stack) -> None:
    """Where /sys can be written, as by root it can."""
    with stack.mounted() as mnt:
        number = mnt.stat().st_dev
        setting = Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb")
        expected = 512 if os.access(setting, os.W_OK) else 128
        deadline = time.monotonic() + PATIENCE
        while int(setting.read_text()) != expected and time.monotonic() < deadline:
            os.listdir(mnt)  # noqa: PTH208  (it is done soon after the mount answers)
        assert int(setting.read_text()) == expected


# -- flags ---------------------------------------------------------------------------------


def probe(mnt: Path) -> dict[str, str]:
    """What somebody gets who tries what the flags forbid."""
    return {
        "suid": as_someone("subprocess.call([sys.argv[1], '-u'])", mnt / "id"),
        "dev": as_someone("print(len(Path(sys.argv[1]).read_bytes()))", mnt / "null"),
        "exec": as_someone("print(subprocess.call([sys.argv[1]]))", mnt / "true"),
        "symfollow": as_someone("print(len(os.listdir(sys.argv[1])))", mnt / "link"),
        "write": outcome(lambda: write(mnt / "file")),
    }  # fmt: skip


FREE = {"suid": "0", "dev": "0", "exec": "0", "symfollow": "0", "write": "done"}


def test_flags_take_effect_and_a_remount_changes_them(open_stack: Stack) -> None:
    stack = open_stack
    shutil.copy("/usr/bin/id", stack.lower / "id")
    (stack.lower / "id").chmod(0o4755)
    shutil.copy("/usr/bin/true", stack.lower / "true")
    os.mknod(stack.lower / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (stack.lower / "null").chmod(0o666)
    (stack.lower / "dir").mkdir()
    (stack.lower / "link").symlink_to("dir")
    with stack.mounted("nosuid,nodev,nosymfollow,noatime,sync,dirsync") as mnt:
        assert {"nosuid", "nodev", "nosymfollow", "noatime", "sync", "dirsync"} <= row(mnt)[2]
        assert probe(mnt) == FREE | {"suid": "1000", "dev": "EACCES", "symfollow": "ELOOP"}
        for options, shut in (
            ("remount", {}),
            ("remount,ro,noexec", {"suid": "EACCES", "exec": "EACCES", "write": "EROFS"}),
            ("rw,remount,suid,nodev", {"dev": "EACCES"}),
            # as mount(8) repeats an fstab line
            (f"remount,ro,lowerdir={stack.lower},upperdir=/u,workdir=/w", {"write": "EROFS"}),
        ):
            assert pyoverlayfs("-o", options, "source", mnt).returncode == 0
            assert probe(mnt) == FREE | shut, options
        assert pyoverlayfs(mnt, "-o", "remount,rw").returncode == 0
        with (mnt / "file").open("w"):
            done = pyoverlayfs(mnt, "-o", "remount,ro")
            assert (done.returncode, done.stderr) == (
                32,
                f"pyoverlayfs: {mnt}: Device or resource busy\n",
            )
        assert probe(mnt) == FREE
    done = pyoverlayfs(stack.mountpoint, "-o", "remount,ro")
    assert (done.returncode, "Traceback" in done.stderr) == (32, False)


def test_a_remount_of_a_mount_without_an_upper_directory_writes_nothing(stack: Stack) -> None:
    with stack.mounted(read_only=True) as mnt:
        assert "ro" in row(mnt)[2]
        assert pyoverlayfs("-o", "remount,rw", mnt).returncode == 0
        assert outcome((mnt / "file").touch) == "EROFS"


def test_a_mount_that_is_read_only_shows_the_upper_directory(stack: Stack) -> None:
    """And needs no work directory, and leaves the upper one to others."""
    write(stack.lower / "file", "old")
    write(stack.lower / "gone")
    write(stack.lower / "dir/old")
    write(stack.upper / "file", "new")
    whiteout(stack.upper / "gone")
    opaque(stack.upper / "dir")
    only = [f"lowerdir={stack.lower}", f"upperdir={stack.upper}", "ro"]
    other = stack.base / "other"
    other.mkdir()
    with stack.mounted() as mnt:
        daemon = start([*PROGRAM, "-f", "-o", ",".join(only), str(other)], other, stack.base)
        try:
            assert (names(mnt), names(mnt / "dir")) == (["dir", "file"], [])
            assert (names(other), names(other / "dir")) == (["dir", "file"], [])
            assert (other / "file").read_text() == "new"
            for act in ((other / "file").unlink, (other / "new").touch, (other / "dir").rmdir):
                assert outcome(act) == "EROFS"
            assert "ro" in row(other)[2]
            assert os.statvfs(other).f_bavail == 0
        finally:
            daemon.unmount()


# -- names ---------------------------------------------------------------------------------

STRANGE = ["a:b", "c,d", "e\\f", "g h", "i\nj", 'k"l', "m=n", "tïn", "\\040", "o\tp"]


def escaped(path: Path, marks: str = ",\\") -> str:
    return "".join(f"\\{char}" if char in marks else char for char in str(path))


def test_directories_with_strange_names(stack: Stack) -> None:
    """All of them in one mount, at a mount point with such a name, from a source with one."""
    base = stack.base / "".join(STRANGE)
    base.mkdir()
    lowers = [base / name for name in STRANGE]
    for lower in lowers:
        write(lower / f"in {lower.name}", lower.name)
    upper, work, mnt = (base / f"{name}{''.join(STRANGE)}" for name in ("upper", "work", "mnt"))
    for folder in (upper, work, mnt):
        folder.mkdir()
    options = ",,".join(
        [
            "lowerdir=" + ":".join(escaped(lower, ":,\\") for lower in lowers),
            f"upperdir={escaped(upper)}",
            f"workdir={escaped(work)}",
        ]
    )
    assert pyoverlayfs("-o", options, "a source, strange\\ü", mnt).returncode == 0
    try:
        assert names(mnt) == sorted(f"in {name}" for name in STRANGE)
        (mnt / "new").touch()
        (mnt / "in a:b").unlink()
    finally:
        run("umount", mnt)
    assert names(upper) == ["in a:b", "new"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["MNT"], ("pyoverlayfs", "fuse.pyoverlayfs")),
        (["source", "MNT"], ("source", "fuse.pyoverlayfs")),
        (["a source, strange\\", "MNT"], ("a\\040source_\\040strange_", "fuse.pyoverlayfs")),
        (["-o", "fsname=name,subtype=kind", "source", "MNT"], ("name", "fuse.kind")),
        (["-o", r"fsname=a\,b,subtype=c\,d", "MNT"], ("a_b", "fuse.c_d")),
    ],
)
def test_source_and_type_in_the_table_of_mounts(
    stack: Stack, words: list[str], expected: tuple[str, str]
) -> None:
    line = [str(stack.mountpoint) if word == "MNT" else word for word in words]
    assert pyoverlayfs("-o", f"lowerdir={stack.lower}", *line).returncode == 0
    shown = row(stack.mountpoint)
    run("umount", stack.mountpoint)
    assert shown[:2] == expected
    assert {"ro", "allow_other", "default_permissions"} <= shown[2]


def test_directories_are_found_from_where_the_command_runs(stack: Stack) -> None:
    """As podman does, by symbolic links in its own directory."""
    write(stack.lower / "file", "text")
    (stack.base / "link").symlink_to(stack.lower.name)
    options = "lowerdir=link:./lower2,upperdir=upper,workdir=work,"
    done = subprocess.run(
        [*PROGRAM, "-o", options, "mnt"],
        cwd=stack.base,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0
    try:
        (stack.mountpoint / "file").rename(stack.mountpoint / "moved")
    finally:
        run("umount", stack.mountpoint)
    assert (stack.upper / "moved").read_text() == "text"


# -- what is shown -------------------------------------------------------------------------


def test_numbers_of_32_bits_and_directories_with_one_link(stack: Stack) -> None:
    """All that numbers are for works as with the long ones, but that they last."""
    for number in range(3):
        write(stack.lower / f"dir/{number}/file")
    os.link(stack.lower / "dir/1/file", stack.lower / "dir/2/also")
    os.link(stack.lower / "dir/1/file", stack.lower / "dir/unmet")
    for _ in range(2):
        with stack.mounted("static_nlink,ino32_t") as mnt:
            (mnt / "dir/new").mkdir(exist_ok=True)
            one, two = mnt / "dir/1/file", mnt / "dir/2/also"
            numbers = {path: path.lstat().st_ino for path in mnt.rglob("*")}
            assert len(numbers) == 10
            assert len(set(numbers.values())) == 8
            assert max(numbers.values()) < 1 << 32
            folders = [path for path in mnt.rglob("*") if path.is_dir()]
            assert [path.stat().st_nlink for path in folders] == [1] * 5
            with two.open() as reader, one.open("a") as writer:
                writer.write("text")
                writer.flush()
                assert reader.read().endswith("text")
            assert (one.samefile(two), one.stat().st_nlink) == (True, 3)
            for path in numbers:
                os.utime(path)
            Path("/proc/sys/vm/drop_caches").write_text("2")
            assert {path: path.lstat().st_ino for path in mnt.rglob("*")} == numbers
    assert (stack.upper / "dir/unmet").read_text() == "texttext"
    assert os.listdir(stack.work / "index") == []  # noqa: PTH208 - only names


def test_a_name_that_is_not_met_with_numbers_of_32_bits(stack: Stack) -> None:
    write(stack.lower / "one/file", "old")
    (stack.lower / "other").mkdir()
    os.link(stack.lower / "one/file", stack.lower / "other/file")
    with stack.mounted("ino32_t") as mnt:
        write(mnt / "one/file", "new")
    with stack.mounted("ino32_t") as mnt:
        assert (mnt / "other/file").read_text() == "new"
        assert (mnt / "other/file").samefile(mnt / "one/file")


def test_without_access_lists(stack: Stack) -> None:
    (stack.lower / "dir").mkdir()
    run("setfacl", "-d", "-m", "u:5:r", stack.lower / "dir")
    run("setfacl", "-m", "u:5:rwx", stack.lower / "dir")
    with stack.mounted("noacl") as mnt:
        for name in ("system.posix_acl_access", "system.posix_acl_default"):
            value = os.getxattr(stack.lower / "dir", name)
            assert name not in os.listxattr(mnt / "dir")
            assert outcome(lambda name=name: os.getxattr(mnt / "dir", name)) == "ENOTSUP"
            assert outcome(lambda n=name, v=value: os.setxattr(mnt / "dir", n, v)) == "ENOTSUP"
        os.setxattr(mnt / "dir", "user.other", b"1")
        assert os.listxattr(mnt / "dir") == ["user.other"]
    # Those of a lower file are not lost by its copy.
    assert "user:5:rwx" in run("getfacl", "-n", stack.upper / "dir")


def test_without_extended_attributes(stack: Stack) -> None:
    os.setxattr(write(stack.lower / "file"), "user.note", b"1")
    with stack.mounted("noxattrs=1") as mnt:
        for path in (mnt / "file", write(mnt / "new")):
            assert outcome(lambda path=path: os.setxattr(path, "user.a", b"1")) == "ENOTSUP"
            assert outcome(lambda path=path: os.getxattr(path, "user.note")) == "ENOTSUP"
            assert outcome(lambda path=path: os.removexattr(path, "user.note")) == "ENOTSUP"
            assert outcome(lambda path=path: os.listxattr(path)) == "ENOTSUP"
        (mnt / "file").chmod(0o600)
    assert os.getxattr(stack.upper / "file", "user.note") == b"1"


@pytest.mark.parametrize(("timeout", "asked"), [("0", 20), ("1000", 1)])
def test_the_kernel_asks_for_a_name_again_after_the_timeout(
    stack: Stack, timeout: str, asked: int
) -> None:
    write(stack.lower / "file")
    requests = stack.base / "requests"
    command = stack.command(f"timeout={timeout}", "debug")
    shell = ["sh", "-c", 'exec 2>"$0" "$@"', str(requests), *command]
    daemon = start(shell, stack.mountpoint, stack.base)
    for _ in range(20):
        (stack.mountpoint / "file").stat()
    run("umount", stack.mountpoint)
    assert daemon.wait() == 0
    assert sum("LOOKUP" in line for line in requests.read_text().splitlines()) == asked


# -- for whom ------------------------------------------------------------------------------


def test_a_plain_users_mount_for_others(stack: Stack) -> None:
    """As fuse.conf allows: the kernel checks owners and modes then, his own as well."""
    write(stack.lower / "open", "text")
    write(stack.base / "fuse.conf", "user_allow_other\n")
    for name in ("pid", "done"):
        os.mkfifo(stack.base / name, 0o666)
        (stack.base / name).chmod(0o666)
    script = """
        with mounted("allow_other"):
            (mnt / "mine").write_text("text")
            print(outcome(lambda: os.chown(mnt / "mine", 0, 0)))
            (base / "pid").write_text(str(os.getpid()))
            (base / "done").read_text()
    """
    prepare = f'mount --bind "{stack.base}/fuse.conf" /etc/fuse.conf'
    with ThreadPoolExecutor() as pool:
        user = pool.submit(as_plain_user, stack, script, prepare=prepare)
        pid = (stack.base / "pid").read_text()
        try:
            # Others have no business there, root included, without the option.
            there = Path(f"/proc/{pid}/root{stack.mountpoint}")
            seen = {path.name: path.read_text() for path in there.iterdir()}
        finally:
            (stack.base / "done").write_text("")
        assert user.result() == "EPERM"
    assert seen == {"open": "text", "mine": "text"}

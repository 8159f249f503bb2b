"""Each thing that a machine may lack is told from what is as it should be, on decoys."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from overlayfs.doctor import machine
from overlayfs.doctor.finding import Finding, State
from overlayfs.doctor.person import Person

ROOT = Person(0, "root", mighty=True)
ROOT_INSIDE = Person(0, "root", mighty=False)
JANE = Person(1000, "jane", mighty=False)


def check(finding: Finding, state: State, said: str, fix: str = "") -> None:
    """It is so, with these words in it, and with a way out unless all is well."""
    assert finding.state is state, finding
    assert said in finding.said
    assert fix in finding.fix
    assert bool(finding.fix) is (state is not State.OK)


def test_the_device_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "fuse"
    check(machine.device(path), State.FAIL, f"{path} is not there", "modprobe fuse")
    path.touch()
    check(machine.device(path), State.OK, f"{path} can be opened")
    path.unlink()
    path.mkdir()
    check(machine.device(path), State.FAIL, "Is a directory")


def test_a_device_of_no_driver_is_no_device(needs_root: None, tmp_path: Path) -> None:
    path = tmp_path / "fuse"
    os.mknod(path, 0o020666, os.makedev(10, 255))
    check(machine.device(path), State.FAIL, "No such device", "modprobe fuse")


@pytest.mark.parametrize(
    ("pyfuse3", "libfuse", "state", "said"),
    [
        ("3.5.0", "3.14.0", State.OK, "pyfuse3 3.5.0, libfuse 3.14.0"),
        (None, "3.14.0", State.FAIL, "pyfuse3 is not installed"),
        ("3.5.0", None, State.FAIL, "libfuse 3 is not there"),
    ],
)
def test_libraries(pyfuse3: str | None, libfuse: str | None, state: State, said: str) -> None:
    check(machine.libraries(pyfuse3, libfuse), state, said)


def test_fusermount_is_for_plain_users(needs_root: None, tmp_path: Path) -> None:
    path = str(tmp_path)
    check(machine.fusermount(JANE, path), State.FAIL, "not on the path", "apt install fuse3")
    for person in (ROOT, ROOT_INSIDE):
        check(machine.fusermount(person, path), State.OK, "root does not need it")
    program = tmp_path / "fusermount3"
    program.touch(mode=0o755)
    check(machine.fusermount(JANE, path), State.FAIL, "not the rights of root", "chmod u+s")
    check(machine.fusermount(ROOT, path), State.OK, str(program))
    program.chmod(0o4755)
    check(machine.fusermount(JANE, path), State.OK, str(program))
    os.chown(program, 1000, 1000)
    program.chmod(0o4755)
    check(machine.fusermount(JANE, path), State.FAIL, "not the rights of root", "chown root")


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        (None, State.WARN, "is not there, so --allow-other is refused"),
        ("", State.WARN, "not set in"),
        ("# user_allow_other\n", State.WARN, "not set in"),
        ("mount_max = 1000\nuser_allow_other # for all\n", State.OK, "set in"),
        ("user_allow_others\n", State.WARN, "not set in"),
    ],
)
def test_others_in_a_mount(tmp_path: Path, text: str | None, state: State, said: str) -> None:
    path = tmp_path / "fuse.conf"
    if text is not None:
        path.write_text(text)
    found = machine.allow_other(JANE, path)
    check(found, state, said, f"echo user_allow_other >> {path}" if state is State.WARN else "")
    check(machine.allow_other(ROOT, path), State.OK, "root does not need it")


@pytest.mark.parametrize(
    ("settings", "said", "fix"),
    [
        ({}, "", ""),
        ({"kernel/unprivileged_userns_clone": "1", "user/max_user_namespaces": "95000"}, "", ""),
        (
            {"kernel/unprivileged_userns_clone": "0"},
            "kernel.unprivileged_userns_clone is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            {"user/max_user_namespaces": "0"},
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        ({"kernel/apparmor_restrict_unprivileged_userns": "0"}, "", ""),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "AppArmor profile",
        ),
    ],
)
def test_user_namespaces(tmp_path: Path, settings: dict[str, str], said: str, fix: str) -> None:
    for name, value in settings.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{value}\n")
    if said:
        check(machine.user_namespaces(JANE, tmp_path), State.WARN, said, fix)
        check(machine.user_namespaces(ROOT, tmp_path), State.OK, "root does not need it")
    else:
        check(machine.user_namespaces(JANE, tmp_path), State.OK, "allowed")


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A path with the two programs that write maps of ids."""
    for name in ("newuidmap", "newgidmap"):
        (tmp_path / name).touch(mode=0o755)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("uids", "gids", "state", "said"),
    [
        ("jane:100000:65536", "jane:100000:65536", State.OK, "65536 in"),
        ("1000:100000:65536", "jane:1:60000\njane:100000:5536", State.OK, "65536 in"),
        ("joe:100000:65536", "jane:100000:65536", State.WARN, "subuid: no ids for jane"),
        ("jane:100000:65536", "", State.WARN, "subgid: no ids for jane"),
        ("jane:100000:1000", "jane:100000:65536", State.WARN, "subuid: 1000 ids for jane"),
        ("jane:x:y\njane\n::", "jane:1:2:3", State.WARN, "subuid: no ids for jane"),
        (None, None, State.WARN, "subuid: no ids for jane"),
    ],
)
def test_subordinate_ids(
    tmp_path: Path, tools: str, uids: str | None, gids: str | None, state: State, said: str
) -> None:
    files = tmp_path / "subuid", tmp_path / "subgid"
    for path, text in zip(files, (uids, gids), strict=True):
        if text is not None:
            path.write_text(f"# ids\n{text}\n")
    found = machine.id_ranges(JANE, *files, tools)
    check(found, state, said, "usermod --add-subuids" if state is State.WARN else "")
    check(machine.id_ranges(ROOT, *files, tools), State.OK, "root does not need it")


def test_subordinate_ids_want_their_programs(tmp_path: Path, tools: str) -> None:
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("jane:100000:65536\n")
    files = tmp_path / "subuid", tmp_path / "subgid"
    (tmp_path / "newgidmap").unlink()
    check(machine.id_ranges(JANE, *files, tools), State.WARN, "newgidmap: not on", "apt install")


def test_the_clock(tmp_path: Path) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
    check(machine.clock(tmp_path, now), State.OK, "2025-01-01 00:00:00 UTC")
    check(machine.clock(tmp_path, 0), State.WARN, "before this software", "timedatectl")
    index = tmp_path / "index.json"
    index.touch()
    os.utime(index, (now, now + 30))
    check(machine.clock(tmp_path, now), State.OK, "2025-01-01")
    os.utime(index, (now, now + 3600))
    check(machine.clock(tmp_path, now), State.WARN, "before the store's index.json", "timedatectl")

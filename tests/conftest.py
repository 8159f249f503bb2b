"""What all tests share: capabilities found by trying, and no skipping where CI must test all."""

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support.images import debian_root

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: what should have run did not."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def needs_root() -> None:
    """The test makes devices, owners and mounts."""
    if os.geteuid() != 0:
        pytest.skip("this needs root")


@pytest.fixture(scope="session")
def needs_fuse() -> None:
    """The test mounts a FUSE file system."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        pytest.skip(f"/dev/fuse cannot be opened: {exc}")


@pytest.fixture(scope="session")
def needs_kernel_overlay(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The test asks the kernel's overlayfs for its opinion."""
    base = tmp_path_factory.mktemp("kernel-overlay")
    for name in ("a", "b", "merged"):
        (base / name).mkdir()
    merged = base / "merged"
    tried = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={base}/a:{base}/b", merged],
        capture_output=True,
        text=True,
    )
    if tried.returncode != 0:
        pytest.skip(f"the kernel's overlayfs cannot be mounted: {tried.stderr.strip()}")
    subprocess.run(["umount", merged], check=True)


@pytest.fixture(scope="session")
def debian_archive(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of a minimal root by debootstrap."""
    return debian_root(tmp_path_factory.mktemp("debootstrap"))


def mounts_below(folder: Path) -> list[Path]:
    """The mount points below *folder*, innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        escaped = line.split(b" ")[4]
        path = Path(os.fsdecode(escaped.decode("unicode_escape").encode("latin-1")))
        if path.is_relative_to(folder):
            found.append(path)
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


@pytest.fixture(scope="session", autouse=True)
def no_mount_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A failing test may leave a mount behind; the next run must be able to delete its folder."""
    yield
    for mount in mounts_below(tmp_path_factory.getbasetemp()):
        subprocess.run(["umount", "--lazy", mount], check=True)

"""Round after round, each peer in turn, so that what else the machine does hits all alike."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from scripts.lib.bench.peers import Peer
from scripts.lib.bench.results import Mode, Results
from scripts.lib.bench.rows import Scene, Settings
from scripts.lib.bench.session import Failed, Session, mounted, on_one_core


@dataclass(slots=True)
class Rounds:
    """What is to be run, and where: *place* is for the caller to remove when all is done.

    Not in between: on ext4 freeing many inodes slows down for minutes who makes files next.
    """

    settings: Settings
    peers: Sequence[Peer]
    modes: Sequence[Mode]
    rows: frozenset[str]
    rounds: int
    place: Path
    client: Path
    say: Callable[[str], object]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, scenes: Iterable[Scene], results: Results) -> None:
        """Adds what is measured to *results* as it comes."""
        # An earlier run may have been killed.
        shutil.rmtree(self.place, ignore_errors=True)
        for group in _groups([scene for scene in scenes if self._wanted(scene)]):
            for number, scene in itertools.product(range(self.rounds), group):
                self.say(f"{', '.join(self._wanted(scene))}: round {number + 1} of {self.rounds}")
                # Whatever was written before is on the disk by now, and no disturbance.
                os.sync()
                # Nobody is always the first, whose way is made by the one before.
                turned = number % len(self.peers)
                for mode in (mode for mode in self.modes if mode in scene.modes):
                    for peer in (*self.peers[turned:], *self.peers[:turned]):
                        if peer.has_daemon or not scene.daemons_only:
                            self._play(scene, mode, peer, results)

    def _wanted(self, scene: Scene) -> list[str]:
        return [row.name for row in scene.rows if row.name in self.rows]

    def _play(self, scene: Scene, mode: Mode, peer: Peer, results: Results) -> None:
        wanted = self._wanted(scene)
        if all(results.failed(row, mode, peer.name) for row in wanted):
            return
        if scene.writes:
            os.sync()
        place = self.place / str(next(self._numbers))
        measured: set[str] = set()
        try:
            with on_one_core(wanted=mode is Mode.ONE_CORE):
                if scene.prepare:
                    with self._mounted(scene, peer, place) as session:
                        scene.prepare(session, self.settings)
                with self._mounted(scene, peer, place) as session:
                    for sample in scene.play(session, self.settings):
                        measured.add(sample.row)
                        if sample.row in wanted:
                            results.add(sample, mode, peer.name)
                        if measured.issuperset(wanted):
                            break
        except Failed as exc:
            self.say(f"{peer.name}, {mode}: {exc}")
            for row in wanted:
                if row not in measured:
                    results.fail(row, mode, peer.name, str(exc))

    def _mounted(self, scene: Scene, peer: Peer, place: Path) -> AbstractContextManager[Session]:
        workload = self.settings.workload
        layers = workload.layers if scene.stack is None else workload.stack(scene.stack)
        return mounted(peer, layers, scene.lowers(), place, self.client)


def _groups(scenes: Sequence[Scene]) -> Iterator[list[Scene]]:
    """What is compared with each other in a round: the depths are, and the peers anyway."""
    yield from ([scene] for scene in scenes if scene.stack is None)
    yield [scene for scene in scenes if scene.stack is not None]

"""Runs on MicroPython: a board of world.py that keeps a shadow model as cycle.py and sync.py do."""

from array import array

from device.files import Files
from device.shadow import Shadow
from world import OFFERS, PROBE, ROOT, Board, Cloud, artifact, policy, wanted

STRANGE = array("i", (9, 2, 3))  # no golden vector: what a model does with it no self-test has seen


class Wishes(Cloud):
    """A cloud that may want a shadow as well; `shadow` is the name of an artifact or None."""

    def __init__(self, version=100, model=None, shadow=None):
        super().__init__()
        self.version = version
        self.want = wanted(model) if model else None
        self.serve = artifact(model) if model else None
        self.shadow = shadow
        self.fetched = []
        self.shadow_fetched = []

    def wish_shadow(self, name):
        self.version += 1
        self.shadow = name


class BesideBoard(Board):
    """`ran` are the sha8 of the shadows that scored, `said` their scores; `blamed`: the last wake died of one."""

    def __init__(self, chip, rules=None):
        super().__init__(chip, rules)
        self.ran = []
        self.said = []
        self.blamed = False
        self.shadow = None

    def boot(self):
        super().boot()
        self.shadow = Shadow(Files, ROOT, policy(**self.rules), self.updater.places, self._send)
        self.shadow.start(self.blamed)
        self.blamed = False

    def wake(self, cloud, clean=True, pieces=1000, probe=PROBE):
        """A whole wake: boot, one score of each model, a session, sleep."""
        self.boot()
        if self.shadow.step(cloud.now_s):
            self.slept = True
            return
        if self.model:
            self.model.score(PROBE)
        self.beside(probe)
        self.session(cloud, pieces)
        self.shadow.end_wake()
        self.sleep(clean)

    def beside(self, probe=PROBE):
        """The shadow scores, as in shadow.compare()."""
        model = None if self.shadow.rests else self.shadow.load(True)
        if model is None:
            return
        self.ran.append(model.sha8)
        try:
            self.said.append(model.score(probe))
        except Exception as e:
            self.shadow.give_up(e)
        self.shadow.unload()

    def crash(self):
        """A wake that dies while the shadow scores."""
        self.boot()
        if self.shadow.model and not self.shadow.rests:
            self.ran.append(self.shadow.model.sha8)
            self.blamed = True

    def session(self, cloud, pieces=1000):
        if cloud.reachable:
            self.shadow.on_want(cloud.version, wanted(cloud.shadow) if cloud.shadow else None)
        super().session(cloud, pieces)
        if cloud.reachable:
            for _ in range(pieces):
                fetch = self.shadow.next_fetch()
                if fetch is None:
                    break
                data = artifact(cloud.shadow)
                _, offset, length = fetch
                cloud.shadow_fetched.append(offset)
                piece, total = data[offset : offset + length], len(data)
                if cloud.spoil:
                    piece, total = cloud.spoil(offset, piece, total)
                self.shadow.on_chunk(fetch[0], offset, memoryview(piece), total, cloud.now_s)
        self.shadow.end_session(cloud.reachable)


def pointer_files():
    """The bytes of both files of the pointer."""
    found = []
    for number in (0, 1):
        try:
            with open(ROOT + "/models/pointer.%d" % number, "rb") as f:
                found.append(f.read())
        except OSError:
            found.append(None)
    return found


def size_of(name):
    return OFFERS[name]["size"]

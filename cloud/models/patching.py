"""Makes patches: what turns the artifact a board runs into the one it shall run, or makes that out of nothing. Pure.

contract/patch.py says what the bytes mean and is what a board applies them with; each patch is tried with it here
before it is given out. Nothing of this needs trust: a board checks what comes out like any download.
"""

import io
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import detools

from cloud.models.range_encoder import Encoder
from contract import artifact, patch, patch_forest, table, wire
from contract.patch_forest import CLASS_BITS, DEPTHS, GROUPS, Layout
from contract.range_coder import FRESH

METHOD_NAMES = {patch.SEQUENCE: "sequence", patch.FOREST: "forest"}
DEFLATE = "deflate"
# zlib keeps 262 bytes of its window for itself: of 2 ** 9 it looks back at most 250, which a window of 2 ** 8 holds.
_ZLIB_WINDOW_BITS = artifact.DEFLATE_WINDOW_BITS + 1


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that was tried."""

    data: bytes
    method: str


def make(base: bytes, target: bytes) -> Patch | None:
    """The shortest patch from one artifact to another, or None when none is shorter than nine tenths of the target."""
    found = [one for one in (_sequence(base, target), _forest(base, target)) if one is not None]
    best = min(found, key=lambda one: len(one.data))
    return best if _is_shorter(best.data, target) else None


def deflate(target: bytes) -> Patch | None:
    """An artifact for boards that run nothing a patch could start from; None when that spares no piece of a download.

    A piece is what a board pays for: one question, one answer, one write. What it inflates is written besides.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -_ZLIB_WINDOW_BITS)
    data = packer.compress(target) + packer.flush()
    if not _is_shorter(data, target) or _pieces(data) == _pieces(target) or inflate(data) != target:
        return None
    return Patch(data, DEFLATE)


def inflate(data: bytes) -> bytes:
    """What a board makes of it, which looks back artifact.DEFLATE_WINDOW_BITS at most; raises zlib.error, EOFError."""
    inflater = zlib.decompressobj(-artifact.DEFLATE_WINDOW_BITS)
    made = bytearray()
    for byte in data:
        piece = inflater.decompress(bytes((byte,)), 1)  # one by one: zlib looks back at all that one call gives
        while piece:
            made += piece
            piece = inflater.decompress(inflater.unconsumed_tail, 1)
    if not inflater.eof:
        raise EOFError
    return bytes(made)


def _is_shorter(data: bytes, target: bytes) -> bool:
    return 10 * len(data) < 9 * len(target)


def _pieces(data: bytes) -> int:
    return -(-len(data) // wire.MAX_CHUNK_BYTES)


def apply(base: bytes, data: bytes) -> bytes:
    """What a board makes of a patch; raises patch.PatchError, EOFError."""
    made = bytearray()

    def forest(stream: Any, of: Base, write: Callable[[memoryview], None], contexts: "array[int]") -> None:
        patch_forest.apply(stream, of, write, contexts, io.BytesIO(), io.BytesIO())

    def write(view: memoryview | bytes) -> None:
        made.extend(view)

    patch.apply(io.BytesIO(data), Base(base), write, forest)
    return bytes(made)


class Base:
    """An artifact as the applier reads it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.payload_at = artifact.parse_header(data).payload_at

    def read_at(self, offset: int, buffer: Any) -> None:
        piece = self._data[offset : offset + len(buffer)]
        if len(piece) < len(buffer):
            raise patch.PatchError("behind the base")
        buffer[:] = piece


def difference(base: bytes, target: bytes) -> bytes:
    """A sequential patch of detools, range coded."""
    plain = io.BytesIO()
    detools.create_patch(  # pyright: ignore[reportUnknownMemberType]
        io.BytesIO(base), io.BytesIO(target), plain, compression="none", patch_type="sequential"
    )
    source = io.BytesIO(plain.getvalue()[1:])
    out, contexts = Encoder(), array("H", [FRESH] * patch.CONTEXTS)

    def number(at: int, value: int) -> None:
        bits = (value + 1).bit_length() - 1
        out.tree(contexts, at, patch.NUMBER_BITS, bits)
        out.even(bits, value + 1 - (1 << bits))

    left = _unpacked(source)
    number(patch.SIZE_AT, left)
    _unpacked(source)  # no data format
    while left:
        added = source.read(_unpacked(source))
        number(patch.ADD_AT, len(added))
        history = 0
        for byte in added:
            out.bit(contexts, patch.CHANGED_AT + history, int(byte != 0))
            history = (history << 1 | int(byte != 0)) & 7
            if byte:
                out.tree(contexts, patch.BYTES_AT, 8, byte)
        inserted = source.read(_unpacked(source))
        number(patch.INSERT_AT, len(inserted))
        for byte in inserted:
            out.tree(contexts, patch.BYTES_AT, 8, byte)
        left -= len(added) + len(inserted)
        if left:
            number(patch.MOVE_AT, _zigzag(_unpacked(source)))
    return out.finish()


def _unpacked(source: io.BytesIO) -> int:
    """A number as detools packs it: 6 bits and a sign in the first byte, 7 in each further one, lowest first."""
    byte = source.read(1)[0]
    value, negative, shift = byte & 0x3F, byte & 0x40, 6
    while byte & 0x80:
        byte = source.read(1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
    return -value if negative else value


def _sequence(base: bytes, target: bytes) -> Patch | None:
    packed = difference(base, target)
    if len(packed) > 0xFFFF:
        return None
    data = struct.pack(patch.HEADER, patch.MAGIC, patch.SEQUENCE, len(packed)) + packed
    return _tried(base, target, Patch(data, METHOD_NAMES[patch.SEQUENCE]))


def _forest(base: bytes, target: bytes) -> Patch | None:
    at = artifact.parse_header(base).payload_at, artifact.parse_header(target).payload_at
    payload = forest(base[at[0] :], target[at[1] :])
    packed = difference(base[: at[0]], target[: at[1]])
    if payload is None or len(packed) > 0xFFFF:
        return None
    data = struct.pack(patch.HEADER, patch.MAGIC, patch.FOREST, len(packed)) + packed + payload
    return _tried(base, target, Patch(data, METHOD_NAMES[patch.FOREST]))


def _tried(base: bytes, target: bytes, made: Patch) -> Patch | None:
    try:
        return made if apply(base, made.data) == target else None
    except (patch.PatchError, EOFError):
        return None


def forest(base: bytes, target: bytes) -> bytes | None:
    """The patch between two blobs of forests; None when one is none, or holds trees too large for a board to decode."""
    try:
        old, new = table.Forest(base), table.Forest(target)
        old.check()
        new.check()
    except table.TableError:
        return None
    if old.n_features != new.n_features:
        return None
    out = bytearray(_header_change(base, target)) + _value_changes(base, old, target, new)
    out += _bias_changes(base, old, target, new)
    wanted = [target[start:end] for start, end in new.spans()]
    runs = _runs([base[start:end] for start, end in old.spans()], wanted)
    out += _number(len(runs))
    fresh: list[bytes] = []
    at = 0
    for count, start in runs:
        if start < 0:
            out += _number(2 * count + 1)
            fresh += wanted[at : at + count]
        else:
            out += _number(2 * count) + _number(start)
        at += count
    if fresh:
        largest = max(len(tree) for tree in fresh)
        if patch_forest.ram_bytes(new.n_features, largest) > patch_forest.MAX_RAM_BYTES:
            return None
        out += _number(largest) + Shrinker(new.n_features, new.values).shrink(fresh)
    return bytes(out)


def _header_change(base: bytes, target: bytes) -> bytes:
    places = [place for place in range(table.FOREST_BYTES) if base[place] != target[place]]
    mask = sum(1 << place for place in places)
    return mask.to_bytes(6, "little") + bytes(target[place] for place in places)


def _value_changes(base: bytes, old: table.Forest, target: bytes, new: table.Forest) -> bytes:
    def value(blob: bytes, index: int) -> bytes:
        at = table.FOREST_BYTES + 8 * index
        return blob[at : at + 8]

    changed = [i for i in range(new.values) if i >= old.values or value(base, i) != value(target, i)]
    out = bytearray(_number(len(changed)))
    following = 0
    for index in changed:
        out += _number(index - following) + value(target, index)
        following = index + 1
    return bytes(out)


def _bias_changes(base: bytes, old: table.Forest, target: bytes, new: table.Forest) -> bytes:
    before = struct.unpack_from(f"<{old.n_features}i", base, old.bias_at)
    after = struct.unpack_from(f"<{new.n_features}i", target, new.bias_at)
    changed = [feature for feature in range(new.n_features) if before[feature] != after[feature]]
    out = bytearray(_number(len(changed)))
    for feature in changed:
        out += _number(feature) + _number(_zigzag(after[feature] - before[feature]))
    return bytes(out)


def _nodes(tree: bytes) -> Iterator[tuple[int, int]]:
    """(feature, bound) of the inner nodes and (-1, index of the value) of the leaves of a tree, in preorder."""
    at = 2
    while at < len(tree):
        low, high = tree[at], tree[at + 1]
        if high:
            yield high - 1, struct.unpack_from("<H", tree, at + 2)[0]
            at += 4
        elif low >= table.WIDE:
            yield low - table.WIDE, struct.unpack_from("<i", tree, at + 2)[0]
            at += 8
        elif low == table.FAR_LEAF:
            yield -1, struct.unpack_from("<H", tree, at + 2)[0]
            at += 4
        else:
            yield -1, low
            at += 2


def _runs(kept: Sequence[bytes], wanted: Sequence[bytes]) -> list[tuple[int, int]]:
    """(count, index in `kept`, or -1 for new ones) of `wanted`, in order."""
    where = {tree: index for index, tree in reversed(list(enumerate(kept)))}
    runs: list[tuple[int, int]] = []
    for tree in wanted:
        count, start = runs[-1] if runs else (0, -2)
        follows = start + count
        if start >= 0 and follows < len(kept) and kept[follows] == tree:
            runs[-1] = (count + 1, start)
        elif tree in where:
            runs.append((1, where[tree]))
        elif start == -1:
            runs[-1] = (count + 1, -1)
        else:
            runs.append((1, -1))
    return runs


class Shrinker:
    """The other half of patch_forest.Grower: tells trees node by node."""

    def __init__(self, n_features: int, values: int) -> None:
        self._layout = layout = Layout(n_features, values)
        self._contexts = array("H", [FRESH] * layout.count)
        self._bounds = [0] * n_features
        self._recent = [0] * (2 * DEPTHS)
        self._out = Encoder()

    def shrink(self, trees: Sequence[bytes]) -> bytes:
        """All trees, range coded."""
        for tree in trees:
            open_nodes: list[bool] = []  # True while the right child is being told
            for feature, what in _nodes(tree):
                depth = len(open_nodes)
                self._out.bit(self._contexts, self._layout.leaf_at + min(depth, DEPTHS - 1), int(feature < 0))
                if feature >= 0:
                    self._out.tree(self._contexts, self._layout.feature_at, self._layout.feature_bits, feature)
                    self._bound(feature, what)
                    open_nodes.append(False)
                    continue
                self._leaf(depth, what)
                while open_nodes and open_nodes[-1]:
                    open_nodes.pop()
                if open_nodes:
                    open_nodes[-1] = True
        return self._out.finish()

    def _leaf(self, depth: int, value: int) -> None:
        layout, out = self._layout, self._out
        last = 2 * min(depth, DEPTHS - 1)
        other = value != self._recent[last]
        out.bit(self._contexts, layout.again_at + last, int(other))
        if not other:
            return
        news = value != self._recent[last + 1]
        out.bit(self._contexts, layout.again_at + last + 1, int(news))
        if news:
            rest = layout.value_bits - layout.value_tree_bits
            out.tree(self._contexts, layout.value_at, layout.value_tree_bits, value >> rest)
            out.even(rest, value & ((1 << rest) - 1))
        self._recent[last + 1] = self._recent[last]
        self._recent[last] = value

    def _bound(self, feature: int, bound: int) -> None:
        folded = _zigzag(bound - self._bounds[feature]) + 1
        bits = folded.bit_length() - 1
        self._out.tree(self._contexts, self._layout.class_at + ((feature % GROUPS) << CLASS_BITS), CLASS_BITS, bits)
        self._out.even(bits, folded & ((1 << bits) - 1))
        self._bounds[feature] = bound


def _zigzag(value: int) -> int:
    return -2 * value - 1 if value < 0 else 2 * value


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

"""What is deflated for boards that run no base: worth a piece of the download, and within what a board keeps."""

import contextlib
import random
import zlib

import pytest

from cloud.models import patching
from contract import artifact, patch, wire
from tests.support.artifacts import make, new_key

_NOISE = random.Random(5)
_KEY = new_key()


def _artifact(noise_bytes: int, even_bytes: int) -> bytes:
    """One whose payload deflates to little more than its noise."""
    return make(_KEY, "packed", "1.0.0", 1, payload=_NOISE.randbytes(noise_bytes) + b"even" * (even_bytes // 4))


def test_an_artifact_is_deflated_and_inflates_to_itself():
    target = _artifact(5000, 6000)
    made = patching.deflate(target)
    assert made is not None
    assert made.method == "deflate"
    assert len(made.data) <= 2 * wire.MAX_CHUNK_BYTES < len(target)
    assert patching.inflate(made.data) == target
    assert zlib.decompress(made.data, -15) == target


def test_nothing_is_deflated_that_spares_no_piece_of_a_download():
    assert patching.deflate(_artifact(1000, 2000)) is None, "one piece as it is"
    assert patching.deflate(_artifact(12_000, 0)) is None, "nothing to deflate"
    large = _artifact(80_000, 5_000)
    assert len(zlib.compress(large)) + wire.MAX_CHUNK_BYTES < len(large)
    assert patching.deflate(large) is None, "a piece of twenty"


def test_what_ends_early_or_is_no_deflate_stream_is_refused():
    made = patching.deflate(_artifact(5000, 6000))
    assert made is not None
    with pytest.raises(EOFError):
        patching.inflate(made.data[:-4])
    with pytest.raises(zlib.error):
        patching.inflate(b"\x07" + made.data)  # a block of the kind that is none


def test_what_looks_back_further_than_a_board_keeps_is_refused():
    window = 1 << artifact.DEFLATE_WINDOW_BITS
    once = _NOISE.randbytes(window + 40)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    with pytest.raises(zlib.error, match="too far back"):
        patching.inflate(packer.compress(once * 2) + packer.flush())


@pytest.mark.timeout(60)  # a cut once stood for nothing for ever
def test_a_patch_cut_anywhere_ends():
    base = make(_KEY, "cut", "1.0.0", 1, payload=_NOISE.randbytes(600))
    target = make(_KEY, "cut", "1.0.1", 2, payload=_NOISE.randbytes(100) + base[-500:])
    made = patching.make(base, target)
    assert made is not None
    assert patching.apply(base, made.data) == target
    for length in range(0, len(made.data), 3):
        with contextlib.suppress(patch.PatchError, EOFError):
            assert len(patching.apply(base, made.data[:length])) <= len(target)

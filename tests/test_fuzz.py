"""Random graphs agree between graph interpreter, loop interpreter and native code.

What runs by default is a sample. `SYMGRAD_FUZZ=2000 pytest tests/test_fuzz.py` runs 2,000 graphs of
each of the first two generators of tests/fuzz_graphs.py, and fewer of the slower ones;
`python tests/fuzzing.py 1 --seed N` runs one graph again.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence

import pytest
from fuzz_graphs import IMAGES_FROM, LARGE_FROM, ODD_FROM, SCANS_FROM, WIDE_FROM
from fuzz_images import SMALL_EVERY
from fuzz_scan import check_gradients
from fuzzing import check, check_compiled
from harness import targets

COUNT = int(os.environ.get("SYMGRAD_FUZZ", "45"))
CHUNK = 15
FIRST = (0, WIDE_FROM, LARGE_FROM, ODD_FROM, IMAGES_FROM, SCANS_FROM)

# Seeds that once showed a fault.
DENSE = [1, 17, 19, 20, 33, 95, 146, 168, 284, 317, 348, 467, 768, 1514, 1742]
WIDE = [10000, 10198, 10686, 10893, 14328]
ODD = [30003, 30020, 30041, 30044, 30066, 30113]
IMAGES = [40234, 43019, 44186]


def chunks(first: int, count: int) -> list[range]:
    end = first + count
    return [range(a, min(a + CHUNK, end)) for a in range(first, end, CHUNK)]


def name(seeds: range) -> str:
    return f"{seeds.start}..{seeds.stop - 1}"


def check_all(seeds: Sequence[int], on: Sequence[str] = ("native",), loops: bool = True) -> None:
    """Every failure of a chunk, not just the first."""
    failed: dict[int, str] = {}
    for seed in seeds:
        try:
            check(seed, on, loops)
        except Exception:  # noqa: BLE001 - every kind of failure is a finding
            failed[seed] = traceback.format_exc(limit=-2)
    text = "\n".join(f"seed {seed}: {error}" for seed, error in failed.items())
    assert not failed, f"{len(failed)} of {len(seeds)} graphs failed: {[*failed]}\n{text}"


@pytest.mark.parametrize("seeds", chunks(0, COUNT), ids=name)
def test_dense_networks(seeds: range) -> None:
    check_all(seeds)


@pytest.mark.parametrize("seeds", chunks(WIDE_FROM, COUNT), ids=name)
def test_everything_else(seeds: range) -> None:
    check_all(seeds)


@pytest.mark.parametrize("seeds", chunks(ODD_FROM, COUNT // 2), ids=name)
def test_what_is_rare(seeds: range) -> None:
    check_all(seeds)


@pytest.mark.parametrize("seeds", chunks(IMAGES_FROM, COUNT * 2 // 3), ids=name)
def test_networks_of_images(seeds: range) -> None:
    check_all([s for s in seeds if s % SMALL_EVERY == 0])
    check_all([s for s in seeds if s % SMALL_EVERY], loops=False)


@pytest.mark.parametrize("seeds", chunks(SCANS_FROM, COUNT // 2), ids=name)
def test_loops(seeds: range) -> None:
    check_all(seeds, loops=False)


@pytest.mark.parametrize("seed", range(SCANS_FROM, SCANS_FROM + COUNT))
def test_gradients_through_loops(seed: int) -> None:
    check_gradients(seed)


@pytest.mark.parametrize("seeds", chunks(LARGE_FROM, COUNT // 3), ids=name)
def test_large_sizes(seeds: range) -> None:
    check_all(seeds, loops=False)  # the loop interpreter would take minutes


@pytest.mark.parametrize("first", [f + 600 for f in FIRST])
def test_through_the_compiler(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    for seed in range(first, first + CHUNK):
        check_compiled(seed)


@pytest.mark.parametrize("seed", DENSE + WIDE + ODD + IMAGES)
def test_what_failed_once(seed: int) -> None:
    check(seed)


@pytest.mark.parametrize("target", targets()[1:])
@pytest.mark.parametrize("first", [f + 300 for f in FIRST])
def test_narrower_vectors(target: str, first: int) -> None:
    check_all(range(first, first + 8), [target], loops=False)

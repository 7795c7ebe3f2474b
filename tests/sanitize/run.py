r"""Feeds corrupt bytes to the kernels, built with AddressSanitizer: what `make sanitize` runs.

    DVIDCORE_SANITIZE=1 python setup.py build_py --build-lib LIB build_ext --build-lib LIB --build-temp TEMP
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so.6)" PYTHONMALLOC=malloc \
        ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=LIB python run.py [--seconds 30] [--seed 0] [--only blocks]

(libstdc++ is loaded early too, for AddressSanitizer to find what throws exceptions. Python's own allocator would hide
where its objects end, and Python leaks on purpose.)

Every target takes bytes and calls kernels with them; it may raise ValueError (or OverflowError, MemoryError), and
nothing else. AddressSanitizer ends the process at the first byte read or written out of bounds; any other exception
is printed with the input and ends it too. A module beside this one whose name begins with ``targets_`` adds targets:

    TARGETS: list[Target]   what is fuzzed (see target.py)
"""

from __future__ import annotations

import argparse
import importlib
import random
import struct
import sys
import time
import traceback
from pathlib import Path

from target import Target

ALLOWED = (ValueError, OverflowError, MemoryError)
WORDS = (0, 1, 2, 3, 7, 8, 127, 128, 129, 255, 256, 511, 512, 513, 2**16 - 1, 2**16, 2**29, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A seed with bits flipped, words replaced, and parts cut, repeated, moved or inserted."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1) if rng.random() < 0.6 else rng.randrange(min(len(out), 64) + 1)
        kind = rng.randrange(8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at : at + rng.choice((1, 2, 4, 8, 64, 512))] = b""
        elif kind == 4:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
        elif kind == 5:
            out += out[at : at + rng.choice((2, 4, 64, 512))]
        elif kind == 6 and len(out) >= 4:
            struct.pack_into("<I", out, min(at & ~3, len(out) - 4), rng.choice(WORDS))
        elif kind == 7 and len(out) >= 2:
            struct.pack_into("<H", out, min(at & ~1, len(out) - 2), rng.choice(WORDS) & 0xFFFF)
    return bytes(out)


def inputs(target: Target, rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(400))
    seed = rng.choice(target.seeds)
    if kind < 0.1:
        return seed[: rng.randrange(len(seed) + 1)]
    if kind < 0.12:
        return seed
    return mutated(seed, rng)[: target.grow]


def load(only: str | None) -> list[Target]:
    targets: list[Target] = []
    for path in sorted(Path(__file__).parent.glob("targets_*.py")):
        if only is None or path.stem == f"targets_{only}":
            targets += importlib.import_module(path.stem).TARGETS
    return targets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="how long to run")
    parser.add_argument("--seed", type=int, default=None, help="of the random numbers; the time by default")
    parser.add_argument("--only", help="one module of targets, without 'targets_'")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    rng = random.Random(seed)
    targets = load(options.only)
    if not targets:
        print("no targets", file=sys.stderr)
        return 2
    for target in targets:
        for data in target.seeds:
            target.call(data)  # a seed that is refused would leave most of the kernel unseen
    print(f"{len(targets)} targets for {options.seconds:g} s, --seed {seed}", flush=True)
    calls = refused = 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        target = rng.choice(targets)
        data = inputs(target, rng)
        calls += 1
        try:
            target.call(data)
        except ALLOWED:
            refused += 1
        except BaseException:
            traceback.print_exc()
            print(f"target {target.name}, input {data.hex()}", file=sys.stderr)
            return 1
    print(f"{calls} calls, {refused} refused, nothing out of bounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())

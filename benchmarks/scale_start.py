"""A new process over a store with many mappings: its start, its first look-up, its memory. Called by ``scale.py``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

start, cpu = time.perf_counter(), time.process_time()

from dvidcore.api.app import create_app  # noqa: E402
from dvidcore.api.start import opened_server  # noqa: E402
from dvidcore.config import from_folder  # noqa: E402
from scale import client, peak_mb  # noqa: E402

folder, root = Path(sys.argv[1]), sys.argv[2]
with opened_server(from_folder(folder)) as server:
    ask = client(create_app(server))
    ask("GET", f"/api/node/{root}/seg/info")
    opened = time.perf_counter() - start
    before = peak_mb()
    found = ask("GET", f"/api/node/{root}/seg/mapping?nolookup=true", [2**28, 2**28 + 1])
    assert min(found) >= 10**12, found
    print(f"first answer {opened:.2f} s, first look-up of a mapping {time.perf_counter() - start - opened:.2f} s more")
    print(
        f"CPU {time.process_time() - cpu:.2f} s in all; peak memory {before} MB before the look-up, {peak_mb()} MB after"
    )

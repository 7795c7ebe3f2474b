"""Mutations of labels by two processes over one store, which share nothing but the store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from apiclient import Client
from dvidcore.repos import Database
from dvidcore.storage import open_engine


def opened(folder: str) -> Database:
    return Database.open({"main": open_engine("lmdb", folder)})


def test_the_log_is_in_order_of_completion_whichever_process_completes(tmp_path: Path) -> None:
    """Each has mutation ids of its own, so that those of the later mutation may be smaller."""
    folder = str(tmp_path)
    with opened(folder) as database:
        client = Client(database)
        path = client.instance(client.repo(), "seg", "labelmap", BlockSize="16,16,16")
        volume = np.arange(1, 4097, dtype=np.uint64) // 64 + 1
        assert client.post(f"{path}/raw/0_1_2/16_16_16/0_0_0", volume.tobytes()).status == 200
        merges = [[1, body] for body in range(2, 26)]
        other = subprocess.Popen(
            [sys.executable, __file__, folder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdin is not None
        assert other.stdout is not None
        with other:
            for k, labels in enumerate(merges):
                if k % 5 in (1, 2, 4):
                    print(json.dumps(labels), file=other.stdin, flush=True)
                    assert other.stdout.readline() == "200\n"
                else:
                    assert client.post(f"{path}/merge", labels).status == 200
            other.stdin.close()
        records = client.get(f"{path}/mutations").json()
        assert [[record["Target"], *record["Labels"]] for record in records] == merges
        ids = [record["MutationID"] for record in records]
        assert len(set(ids)) == len(ids)
        assert ids != sorted(ids)


def merge_what_is_asked(folder: str, path: str) -> None:
    with opened(folder) as database:
        client = Client(database)
        for line in sys.stdin:
            print(client.post(f"{path}/merge", json.loads(line)).status, flush=True)


if __name__ == "__main__":
    merge_what_is_asked(*sys.argv[1:])

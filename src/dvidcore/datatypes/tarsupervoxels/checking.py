"""The check of a tarsupervoxels instance: every row is a file that can be asked for and read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore import codecs
from dvidcore.datatypes.tarsupervoxels.files import name_of
from dvidcore.errors import StoreError
from dvidcore.storage.keys import VERSION_BYTES, instance_range, version_of

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination


def check(exam: Examination) -> None:
    """Reports files of all extensions that do not unpack, and rows under keys that no file has."""
    for key, value in exam.rows(*instance_range(exam.data.record.id), "files"):
        prefix_key, version = key[:-VERSION_BYTES], version_of(key)
        if name_of(prefix_key) is None:
            exam.found("key", f"row {key.hex()}", "there", "the extension and the supervoxel of a file")
        elif version:  # readers look under 0
            exam.found("key", exam.data.row_name(prefix_key), f"stored for version {version}", "for all versions")
        try:
            codecs.unpack(value)
        except StoreError as e:
            exam.found("file", exam.data.row_name(prefix_key), e, "a file that unpacks")

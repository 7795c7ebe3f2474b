"""Repos, their versions and data instances, and what is persisted about them."""

from dvidcore.repos.blobs import blob_key, blob_reference, get_blob, put_blob
from dvidcore.repos.core import Assignment, DatabaseOptions, OneStore
from dvidcore.repos.database import Database
from dvidcore.repos.records import InstanceRecord
from dvidcore.repos.repo import Repo

__all__ = [
    "Assignment",
    "Database",
    "DatabaseOptions",
    "InstanceRecord",
    "OneStore",
    "Repo",
    "blob_key",
    "blob_reference",
    "get_blob",
    "put_blob",
]

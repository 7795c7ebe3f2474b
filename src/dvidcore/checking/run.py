"""The whole check: every store, repo and instance, once, or until nothing is left to repair."""

from __future__ import annotations

from dataclasses import dataclass

from dvidcore.checking.metadata import check_store
from dvidcore.datatypes import following
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.checks import Examination, Finding, Progress, Report
from dvidcore.datatypes.registry import Instances
from dvidcore.errors import DvidError, StoreError
from dvidcore.repos import Database, InstanceRecord, Repo

MOST_ROUNDS = 64
"""Looks at an instance that is repaired: each mends at least the versions that are highest up."""


@dataclass(slots=True)
class Outcome:
    """What a check found."""

    serious: int = 0
    notes: int = 0
    left: int = 0
    """Of the serious ones, those that are still there."""

    @property
    def clean(self) -> bool:
        return not self.left


def check(
    database: Database,
    report: Report = lambda finding: None,
    *,
    progress: Progress = lambda what, rows: None,
    strict: bool = False,
    repair: bool = False,
    instance: str = "",
) -> Outcome:
    """Looks at everything in a database, reports each disagreement, and repairs what can be recomputed if that is wanted.

    Nothing else may write meanwhile. What instances were to follow in other stores, and have not yet, they follow first:
    until then they disagree for no fault. ``strict`` takes notes for disagreements; ``instance`` limits the check to the
    instances of a name. ``progress`` is told what is looked at and how many rows more.
    """
    outcome = Outcome()

    def tell(finding: Finding) -> None:
        if not finding.serious:
            outcome.notes += 1
        else:
            outcome.serious += 1
            outcome.left += not finding.repaired
        report(finding)

    database.wait_for_deletions()  # else the rows of what was deleted would be anybody's
    if not instance:
        for name in database.stores:
            check_store(database, name, tell, repair=repair)
    instances = Instances(database)
    for repo in list(database.repos.values()):
        for data in instances.in_order(repo):
            _catch_up(data, tell)
        for record in list(repo.instances.values()):
            if instance in ("", record.name):
                _check_instance(instances, repo, record, outcome, tell, progress=progress, strict=strict, repair=repair)
    return outcome


def _catch_up(data: DataType, tell: Report) -> None:
    try:
        following.catch_up(data)
    except DvidError as e:
        what = "what it has yet to follow of an instance in another store"
        tell(Finding(data.repo.root, "", data.record.name, "following", what, str(e), "carried out"))


def _check_instance(
    instances: Instances,
    repo: Repo,
    record: InstanceRecord,
    outcome: Outcome,
    tell: Report,
    *,
    progress: Progress,
    strict: bool,
    repair: bool,
) -> None:
    """Looks once and, while something is repaired, again: what is mended may show what it hid."""
    data = instances.of(repo, record)
    left, exam, told = outcome.left, None, set[Finding]()

    def once(finding: Finding) -> None:
        """What cannot be repaired is found each time."""
        if finding in told:
            outcome.left += finding.serious
            return
        if repair and not finding.repaired:
            told.add(finding)
        tell(finding)

    for _ in range(MOST_ROUNDS):
        outcome.left = left
        with data.engine.snapshot() as snapshot:
            exam = Examination(
                data,
                snapshot,
                once,
                progress=lambda what, rows: progress(f"{record.name}: {what}", rows),
                strict=strict,
                repair=repair,
            )
            try:
                data.check(exam)
            except StoreError as e:
                exam.found("instance", "its rows", e, "rows that can be read")
                return
        if not exam.repaired:
            return
    outcome.left += exam.repaired if exam is not None else 0

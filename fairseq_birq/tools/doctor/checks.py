"""What a check found: one line, and whether the run would start with it."""

from dataclasses import dataclass
from typing import List

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Check:
    status: str  # OK, WARNING or PROBLEM
    subject: str  # what was looked at, in a word or two
    text: str  # what was found, and what to do about it

    def line(self) -> str:
        return f"{self.status:<8} {self.subject:<12} {' '.join(self.text.split())}"


def ok(subject, text) -> Check:
    return Check(OK, subject, text)


def warning(subject, text) -> Check:
    return Check(WARNING, subject, text)


def problem(subject, text) -> Check:
    return Check(PROBLEM, subject, text)


def would_start(checks: List[Check]) -> bool:
    return all(check.status != PROBLEM for check in checks)


def summary(subject: str, checks: List[Check]) -> str:
    problems, warnings = (sum(check.status == status for check in checks) for status in (PROBLEM, WARNING))
    counted = f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    return f"{subject} {'would' if would_start(checks) else 'would not'} start: {counted}"

"""What a run of one of our tasks knows of itself: the one sign by which every patch tells our runs from other ones."""

from typing import Optional

from fairseq_birq.patches.bad_updates import BadUpdates
from fairseq_birq.patches.preemption import LeaveRequest


class RunState:
    """Every task of this package has one as `task.run`; it is empty until training begins.

    Attributes:
        bad_updates: counts the updates that are skipped; None outside training.
        leave_request: whether a cluster asked the run to end; None outside training.
    """

    in_progress: Optional["RunState"] = None  # of the run that began last in this process; None where it is not of our tasks

    def __init__(self):
        self.bad_updates: Optional[BadUpdates] = None
        self.leave_request: Optional[LeaveRequest] = None

    @property
    def is_training(self) -> bool:
        return self.bad_updates is not None

    @property
    def skips_update(self) -> bool:
        """Whether the update that is being made is a bad one."""
        return self.bad_updates is not None and self.bad_updates.skipping

    def begin(self, allowed_bad_updates: int, save_dir: str, process: int) -> None:
        """Training begins: count bad updates, and listen to the cluster."""
        self.bad_updates = BadUpdates(allowed_bad_updates, save_dir, process)
        self.leave_request = LeaveRequest()
        self.leave_request.listen()


def run_of(task) -> Optional[RunState]:
    """The state of a task of this package; None for every other task of fairseq's, which no patch touches."""
    run = getattr(task, "run", None)
    return run if isinstance(run, RunState) else None

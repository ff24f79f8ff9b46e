"""Leaving when a cluster asks: SIGTERM or SIGUSR1 end a run after the current update, with a checkpoint of it.

A signal reaches one process, or some, at different updates. So each one adds it to its logging output, which fairseq
sums over processes at every update anyway, and all leave after the same update.
"""

import functools
import logging
import os
import signal
import threading

from fairseq import checkpoint_utils

from fairseq_birq.distributed import wait_for_all

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
EXIT_STATUS = os.EX_TEMPFAIL  # 75, "try again": start the same command again to go on
LOG_KEY = "asked_to_leave"


class LeaveRequest:
    """Whether this process was asked to leave, and whether all processes know it."""

    def __init__(self):
        self.asked = False
        self.agreed = False

    def listen(self) -> None:
        """Take the signals, unless somebody else (submitit, say) handles them already."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            theirs = signal.getsignal(number)
            if theirs == signal.SIG_DFL or isinstance(getattr(theirs, "__self__", None), LeaveRequest):
                signal.signal(number, self._note)

    def forget(self) -> None:
        """Training is over: the signals do what they did."""
        for number in SIGNALS:
            if getattr(signal.getsignal(number), "__self__", None) is self:
                signal.signal(number, signal.SIG_DFL)

    def _note(self, number, frame) -> None:
        self.asked = True

    def add_to(self, logging_output: dict) -> None:
        """Tell the other processes, with what fairseq sums over all of them."""
        logging_output[LOG_KEY] = int(self.asked)

    def read(self, logging_outputs) -> None:
        """Learn from the summed logging outputs of an update whether any process was asked."""
        self.agreed = self.agreed or any(float(output.get(LOG_KEY, 0)) > 0 for output in logging_outputs)


def leaving(validate_and_save):
    """fairseq's `validate_and_save`, which its command calls after every update: there our runs leave when asked."""

    @functools.wraps(validate_and_save)
    def leave_or_go_on(cfg, trainer, task, epoch_itr, *args, **kwargs):
        request = getattr(getattr(task, "run", None), "leave_request", None)
        if not isinstance(request, LeaveRequest):
            return validate_and_save(cfg, trainer, task, epoch_itr, *args, **kwargs)
        if request.agreed:
            leave(cfg, trainer, epoch_itr)
        result = validate_and_save(cfg, trainer, task, epoch_itr, *args, **kwargs)
        if result[1]:
            request.forget()
        return result

    return leave_or_go_on


def leave(cfg, trainer, epoch_itr) -> None:
    """Save a checkpoint, without a validation first, and end the process with status 75.

    Raises:
        SystemExit: always.
    """
    updates = trainer.get_num_updates()
    logger.warning(f"asked to leave: saving a checkpoint after update {updates} and ending with status {EXIT_STATUS}")
    checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
    wait_for_all()  # the one that saves may be killed when another has ended
    raise SystemExit(EXIT_STATUS)

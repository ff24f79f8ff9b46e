"""What a process that reads audio does besides reading."""

import multiprocessing
import os
import signal
import threading


def obey_the_training_process_alone() -> None:
    """In a worker process: outlive the signals by which a cluster asks the whole job to leave.

    The training process still needs batches until its update is done, and dies with the first worker that is killed.
    Its own SIGTERM, by which it ends its workers, ends this one.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"
    training_process = parent.pid

    def wait():
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != training_process:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()

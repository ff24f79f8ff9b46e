"""What a user can mend is one line and exit status 2, as fairseq2 does with its own errors."""

from fairseq2.logging import log
from fairseq2.recipe import register_cli_error

from fairseq_birq.errors import UserError


def register(container) -> None:
    register_cli_error(container, UserError, _say)


def _say(error: UserError) -> int:
    log.error("{}", str(error))
    return 2

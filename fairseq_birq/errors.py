"""The error that means "the user can fix this": its text names the file or key and what to do next."""

import functools
import logging

logger = logging.getLogger(__name__)


class UserError(ValueError):
    """A mistake in a file, a config key or a command line; never a bug of this package."""


def reports_user_errors(function):
    """Decorate an entry point that fairseq calls: a `UserError` becomes one log line and exit status 2.

    fairseq and hydra would print a traceback around it, in which the sentence that helps is lost.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except UserError as error:
            logger.error(str(error))
            raise SystemExit(2) from None

    return wrapper

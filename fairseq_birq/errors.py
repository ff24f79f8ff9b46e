"""The error that means "the user can fix this": its text names the file or key and what to do next."""

import functools
import logging

logger = logging.getLogger(__name__)


class UserError(ValueError):
    """A mistake in a file, a config key or a command line; never a bug of this package."""

    def __str__(self):
        """Bytes of file names that are not UTF-8 are shown as `\\udce9`, so that a log can always write them."""
        return super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")


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


class RefusesOtherArchitectures:
    """Mix-in of models: a checkpoint that does not fit is a `UserError` that shows the differences.

    fairseq would hide them behind "please ensure that the architectures match".
    """

    @reports_user_errors
    def load_state_dict(self, state_dict, strict=True, *args, **kwargs):
        try:
            return super().load_state_dict(state_dict, strict, *args, **kwargs)
        except RuntimeError as error:
            raise UserError(
                f"the checkpoint's weights do not fit this configuration. Use the `model` settings of the run that "
                f"wrote it, or start in a new directory; fine-tuning and further pre-training take an encoder by "
                f"`model.pretrained_path`. The differences: {error}"
            ) from None

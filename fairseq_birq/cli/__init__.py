"""Console scripts: arguments in, one library call, readable errors out."""

import functools
import logging
import sys

from fairseq_birq.errors import UserError

# fairseq asks for tensorboardX in an import that none of these commands needs.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)


def says_what_is_wrong(main):
    """A command in which what a user can mend is one line, without a traceback, and exit status 2."""

    @functools.wraps(main)
    def command(argv=None) -> int:
        try:
            return main(argv)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return command

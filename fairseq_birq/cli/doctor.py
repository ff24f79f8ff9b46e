"""birq-doctor [CONFIG] [overrides...]: whether a run of fairseq-hydra-train would start, and how it is started."""

import argparse
import logging
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.doctor.config import find_yaml
from fairseq_birq.tools.doctor.examination import examine


@says_what_is_wrong
def main(argv=None) -> int:
    """Exit status 0: the run would start; 1: it would not; 2: there is no such configuration."""
    options = parser().parse_intermixed_args(argv)
    logging.disable(logging.WARNING)  # fairseq's and hydra's
    try:
        given = options.config_dir or options.config_name or options.arguments
        launch = find_yaml(options.config_dir, options.config_name, options.arguments) if given else None
        return 0 if examine(launch, num_rows=options.rows, steps=not options.no_steps) else 1
    finally:
        logging.disable(logging.NOTSET)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "birq-doctor", description="Checks a run before it starts. Without a configuration, the installation alone"
    )
    parser.add_argument("--config-dir", "-cd", help="as for fairseq-hydra-train")
    parser.add_argument("--config-name", "-cn", help="as for fairseq-hydra-train")
    parser.add_argument("--rows", type=int, default=200, help="random rows of each manifest that are read")
    parser.add_argument("--no-steps", action="store_true", help="no model, no memory: seconds instead of half a minute")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="overrides; or first the path of a YAML")
    return parser


if __name__ == "__main__":
    sys.exit(main())

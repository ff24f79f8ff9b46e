"""Keep the curves of pre-training runs as a reference that `birq-report` draws in grey behind new ones.

    python experiments/reference_curves.py birq --title BiRQ --about "75 minutes of Mboshi, examples/birq/mboshi_small.yaml, \\
        two CPU cores" runs/birq/seed1 runs/birq/seed2

Writes fairseq_birq/tools/report/reference_curves/NAME.json. The runs may differ by their seed only.
"""

import argparse
import sys

from fairseq_birq.errors import UserError
from fairseq_birq.tools.report import reference
from fairseq_birq.tools.report.run import read_run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the file")
    parser.add_argument("runs", nargs="+", help="checkpoint.save_dir of each")
    parser.add_argument("--title", required=True, help="of the method")
    parser.add_argument("--about", required=True, help="corpus, recipe, machine")
    args = parser.parse_args()
    path = reference.FOLDER / f"{args.name}.json"
    try:
        reference.write(path, args.title, args.about, [read_run(run) for run in args.runs])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

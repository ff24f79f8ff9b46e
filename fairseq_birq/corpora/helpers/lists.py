"""The split lists of corpora, text files of the folder `manifests/` at the top of the repository; a wheel has a copy."""

from pathlib import Path
from typing import Dict, List

from fairseq_birq.errors import UserError

IN_CHECKOUT = Path(__file__).resolve().parents[3] / "manifests"
IN_WHEEL = Path(__file__).resolve().parents[1] / "lists"


def read_list(name: str) -> List[str]:
    """Lines of the list `name`, as ami/dev.txt.

    Raises:
        UserError: neither the repository nor the installed package has it.
    """
    for folder in (IN_CHECKOUT, IN_WHEEL):
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8").splitlines()
    raise UserError(f"{IN_CHECKOUT / name}: no such list; use a whole clone of the repository, or install the package anew")


def read_rows(name: str) -> List[Dict[str, str]]:
    """Rows of a list with tabs whose first line names the columns."""
    header, *lines = read_list(name)
    return [dict(zip(header.split("\t"), line.split("\t"))) for line in lines]

"""The files of this package that a model consists of, for a folder that is loaded without the package."""

import re
from pathlib import Path
from typing import Dict, Iterable, List

import fairseq_birq

_PACKAGE = Path(fairseq_birq.__file__).parent
_IMPORT = re.compile(r"^(\s*)from fairseq_birq\.([\w.]+) import", re.M)
_FOR_TYPES_ALONE = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n)+", re.M)
_ROOTS = "tools.export.remote_code."


def bundled(roots: Iterable[str]) -> Dict[str, str]:
    """File name -> text of the modules `roots` and of all that they import of this package, side by side in one folder.

    roots: names without `fairseq_birq.`; a file keeps its name below `remote_code`, and elsewhere is called by its whole
    path (`modules/attention.py`: `modules_attention.py`)
    """
    files: Dict[str, str] = {}
    left: List[str] = list(roots)
    while left:
        module = left.pop()
        if f"{_flat(module)}.py" in files:
            continue
        text = _FOR_TYPES_ALONE.sub("", (_PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        left.extend(found[2] for found in _IMPORT.finditer(text))
        files[f"{_flat(module)}.py"] = _IMPORT.sub(lambda found: f"{found[1]}from .{_flat(found[2])} import", text)
    return files


def _flat(module: str) -> str:
    return module[len(_ROOTS) :] if module.startswith(_ROOTS) else module.replace(".", "_")

"""What is installed: Python, torch, fairseq and its hydra, and optional libraries."""

import importlib
import sys
from importlib import metadata
from typing import List, Optional

from fairseq_birq.tools.doctor.checks import Check, ok, problem, warning

PYTHONS = {"fairseq-fixed": [(3, 11), (3, 12)], "fairseq": [(3, 9), (3, 10)]}
HYDRAS = {"fairseq-fixed": ("1.3.", "2.3."), "fairseq": ("1.0.", "2.0.")}


def check_environment() -> List[Check]:
    return [check_python(), check_torch(), *check_fairseq(), check_apex()]


def version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def fairseq_package() -> Optional[str]:
    """Which of the two packages with the import name `fairseq` is installed."""
    return next((name for name in PYTHONS if version(name)), None)


def check_python() -> Check:
    here, name = sys.version_info[:2], "{}.{}.{}".format(*sys.version_info[:3])
    tested = [one for pythons in PYTHONS.values() for one in pythons]
    return ok("python", name) if here in tested else warning("python", f"{name} is not tested; 3.9 to 3.12 are")


def check_torch() -> Check:
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}, but it sees no GPU" if torch.version.cuda else "a CPU build"
        kind = warning if torch.version.cuda else ok
        return kind("torch", f"{torch.__version__}, {built}; {torch.get_num_threads()} threads")
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    named = ", ".join(f"{gpu.name} with {gpu.total_memory / (1 << 30):.0f} GiB" for gpu in gpus)
    return ok("torch", f"{torch.__version__}, CUDA {torch.version.cuda}: {named}")


def check_fairseq() -> List[Check]:
    """The variant of fairseq, whether it is the one for this Python, and the hydra and omegaconf that it is tested with."""
    name = fairseq_package()
    if name is None:
        return [warning("fairseq", "not from a package of PyPI; tested are fairseq-fixed 0.12.3.1 and fairseq 0.12.2")]
    text, here = f"{name} {version(name)}", sys.version_info[:2]
    fits = here in PYTHONS[name]
    wanted = next((other for other, pythons in PYTHONS.items() if here in pythons), None)
    first = ok("fairseq", text) if fits else warning("fairseq", f"{text}; tested with this Python: {wanted or 'none'}")
    versions = [version("hydra-core"), version("omegaconf")]
    text = "hydra {}, omegaconf {}".format(*versions)
    if all(have and have.startswith(want) for have, want in zip(versions, HYDRAS[name])):
        return [first, ok("hydra", text)]
    return [first, warning("hydra", f"{text}; {name} is tested with {HYDRAS[name][0]}x and {HYDRAS[name][1]}x")]


def check_apex() -> Check:
    found = _imports("apex")
    return ok("apex", "installed: fairseq uses its fused Adam on GPUs" if found else "not installed, and not needed")


def check_decoding(task_cfg) -> List[Check]:
    """flashlight-text and its KenLM; needed where the task decodes with a lexicon."""
    modules = {"flashlight": "flashlight.lib.text.decoder", "kenlm": "flashlight.lib.text.decoder.kenlm"}
    needed = getattr(task_cfg, "decoder", None) == "lexicon"
    checks = []
    for name, module in modules.items():
        if _imports(module):
            checks.append(ok(name, f"installed ({version('flashlight-text') or 'own build'})"))
        else:
            text = "not installed; decoding with a lexicon needs it: pip install 'fairseq_birq[decode]'"
            checks.append((problem if needed else ok)(name, text))
    return checks


def _imports(module):
    try:
        importlib.import_module(module)
    except Exception:  # apex and kenlm fail in many ways where they were built for another torch
        return False
    return True

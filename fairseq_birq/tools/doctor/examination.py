"""All checks of a run in their order, cheap ones first."""

from typing import List, Optional

from fairseq_birq.tools.doctor.checks import Check, summary, would_start
from fairseq_birq.tools.doctor.config import Launch, check_config
from fairseq_birq.tools.doctor.data import check_data
from fairseq_birq.tools.doctor.environment import check_decoding, check_environment
from fairseq_birq.tools.doctor.folders import check_folders
from fairseq_birq.tools.doctor.launch import check_processes, commands
from fairseq_birq.tools.doctor.memory import check_dry_run, dry_run
from fairseq_birq.tools.doctor.settings import check_settings
from fairseq_birq.tools.doctor.stages import check_stages


def examine(launch: Optional[Launch], num_rows: int = 200, steps: bool = True, write=print) -> bool:
    """Write every check as a line as soon as it is known, then the commands that start the run.

    Args:
        launch: None for the installation alone.
        num_rows: random rows that are read of each manifest.
        steps: False: no dry run.

    Returns:
        Whether the run would start.
    """
    checks: List[Check] = []

    def note(found):
        checks.extend(found)
        for check in found:
            write(check.line())

    note(check_environment())
    cfg = None
    if launch is not None:
        cfg, found = check_config(launch)
        note(found)
    if cfg is not None:
        _examine_run(cfg, note, num_rows, steps)
        for when, command in commands(cfg, launch):
            write(f"\n{when}\n    {command}")
    write(f"\n{summary('a run' if launch is None else launch.path.name, checks)}")
    return would_start(checks)


def _examine_run(cfg, note, num_rows, steps):
    folders, data = check_folders(cfg), check_data(cfg, num_rows)
    note(folders + [check_processes(cfg)] + check_settings(cfg) + check_stages(cfg) + check_decoding(cfg.task))
    note(data)
    if steps and all(check.subject != "user_dir" for check in folders):
        said = {check.text for check in data}
        note([check for check in check_dry_run(cfg, dry_run(cfg)) if check.text not in said])

"""All checks of a run in their order, cheap ones first."""

from typing import Iterator, List, Optional

from fairseq_birq.doctor.config import Launch, check_config
from fairseq_birq.doctor.data import check_data
from fairseq_birq.doctor.environment import check_decoding, check_environment
from fairseq_birq.doctor.folders import check_folders
from fairseq_birq.doctor.launch import check_processes, commands
from fairseq_birq.doctor.memory import check_dry_run, dry_run
from fairseq_birq.doctor.report import Check, summary, would_start


def examine(launch: Optional[Launch], num_rows: int = 200, steps: bool = True) -> Iterator[List[Check]]:
    """Checks, in groups that appear as they are done; those of the environment alone where there is no `launch`."""
    yield check_environment()
    if launch is None:
        return
    cfg, checks = check_config(launch)
    yield checks
    if cfg is None:
        return
    folders = check_folders(cfg)
    yield folders + [check_processes(cfg)] + check_decoding(cfg.task)
    data = check_data(cfg, num_rows)
    yield data
    if steps and would_start([check for check in folders if check.subject == "user_dir"]):
        said = {check.text for check in data}
        yield [check for check in check_dry_run(cfg, dry_run(cfg)) if check.text not in said]
    yield [Check("run", *line.split(": ", 1)) for line in commands(cfg, launch)]


def report(launch: Optional[Launch], write=print, **settings) -> bool:
    """Write every check as a line, as soon as it is known, then the commands; True if the run would start."""
    checks: List[Check] = []
    for group in examine(launch, **settings):
        checks += group
        for check in group:
            write(check.line())
    write(summary(checks))
    return would_start(checks)

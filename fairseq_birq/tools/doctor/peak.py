"""The peak memory of this process (Linux)."""

from pathlib import Path


def reset_peak() -> int:
    """Set the peak back to the present size (proc(5), clear_refs) and return that size in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def peak_bytes() -> int:
    return status_bytes("VmHWM")


def status_bytes(key: str) -> int:
    """A line of /proc/self/status in bytes. Raises RuntimeError where there is none."""
    path = Path("/proc/self/status")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{path} has no {key}: memory is measured on Linux only")

"""The Markdown table of what `benchmarks/gpu.py` found."""


def table(results: dict) -> str:
    """A row per figure that is compared, under the device's name; what failed is said in its row."""
    lines = [f"# {results['device']}, commit {results['commit'] or 'unknown'}", ""]
    if results["tiny"]:
        lines += ["**A try of the check with small sizes: the figures mean nothing.**", ""]
    if "stopped" in results:
        lines += [f"**Stopped {results['stopped']}**; what was found until then:", ""]
    for stage, found in results["stages"].items():
        seconds = results["seconds"].get(stage)
        lines += [f"## {stage}" + ("" if seconds is None else f" ({seconds:.0f} s)"), ""]
        if all(isinstance(value, dict) for value in found.values()):
            lines += rows(found)
        else:
            lines += [f"- {name}: {shown(value)}" for name, value in found.items()]
        lines.append("")
    return "\n".join(lines)


def rows(found: dict) -> list:
    """One row per key, one column per figure that any of them has."""
    columns = list(dict.fromkeys(name for value in found.values() for name in value))
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name, value in found.items():
        lines.append(f"| {name} | " + " | ".join(shown(value.get(column, "")) for column in columns) + " |")
    return lines


def shown(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(one) for one in value)
    return str(value).replace("|", "/").replace("\n", " ")

"""Commands that print audio, as Kaldi's wav.scp has them: run once, and kept as files. Only for commands that are trusted."""

import hashlib
import io
import re
import subprocess
from pathlib import Path
from typing import Dict

import soundfile

from fairseq_birq.corpora.helpers.collection import Collection
from fairseq_birq.data.files import written_whole
from fairseq_birq.progress import progress


def materialise(commands: Dict[str, str], folder: Path, collection: Collection) -> Dict[str, str]:
    """Run shell commands and write what each prints as `<name>-<hash of the command>.wav`; what is there is not made again.

    commands: name -> command
    collection: counts those that fail

    Returns:
        name -> absolute path of its file
    """
    files = {}
    for name, command in progress(commands.items(), title="run", unit="commands") if commands else ():
        digest = hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        path = folder.absolute() / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:100]}-{digest}.wav"
        reason = None if path.is_file() else _run(command, path)
        if reason is None:
            files[name] = str(path)
        else:
            collection.leave_out("command without audio", f"{name}: {command} ({reason})")
    return files


def _run(command, path):
    """Write the command's output to `path`; the reason if that fails."""
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        message = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"exit status {done.returncode}" + (f", {message[-1]}" if message else "")
    try:
        with soundfile.SoundFile(io.BytesIO(done.stdout)) as file:
            rate, subtype, wave = file.samplerate, file.subtype, file.read(always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        return f"no audio: {error}"
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = subtype if subtype in soundfile.available_subtypes("WAV") else "FLOAT"
    with written_whole(path) as file:
        soundfile.write(file, wave, rate, format="WAV", subtype=subtype)
    return None

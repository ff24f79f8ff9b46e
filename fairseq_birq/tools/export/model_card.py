"""The model card of an exported folder: how to load it, its settings, its data and its licence."""

from pathlib import Path
from typing import List

from fairseq_birq import __version__
from fairseq_birq.data.transcripts import are_subwords
from fairseq_birq.settings import to_dict

_NOT_SHOWN = ("pretrained_path", "initialized_from", "target_encoder_path", "path")  # files of whoever trained

LICENCE = """\
MIT License

Copyright (c) 2026 fairseq_birq authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

_NO_DATA = "**To fill in:** which speech this is, its language, hours and licences."
_NO_LICENCE = (
    "**to fill in**, here and as `license:` at the top. The licences of the data, and of a model that training began with, "
    "bind it."
)

_LOAD = """\
```python
import torch
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained(FOLDER)
model = AutoModel.from_pretrained(FOLDER{trust}).eval()
inputs = extractor(waves, sampling_rate={rate}, padding=True, return_tensors="pt")  # waves: list of (S,) floats in [-1, 1]
with torch.no_grad():
    hidden = model(**inputs, output_hidden_states=True).hidden_states  # each (B, T, {dim})
```
"""
_TRANSCRIBE = """\
```python
from transformers import pipeline

recognise = pipeline("automatic-speech-recognition", model=FOLDER{trust})
recognise(wave)["text"]  # wave: (S,) float in [-1, 1] at {rate} Hz, or the name of an audio file where ffmpeg is installed
```

`AutoModelForCTC` and `AutoProcessor` load the same folder{code_too}.
"""
_BACK = """
`fairseq_birq.load_encoder(FOLDER)` and `model.pretrained_path=FOLDER` read it back. The model hears {rate} Hz mono.
"""


def model_card(cfg, checkpoint: dict, symbols=None, data: str = "", licence: str = "") -> str:
    """Markdown with the header of Hugging Face's cards.

    Args:
        cfg: the checkpoint's model settings.
        checkpoint: its whole content.
        symbols: of a fine-tuned model; else empty or None.
        data, licence: what is known of the training data and of the weights' licence; empty: the card says what to fill in.
    """
    conformer, subwords = cfg.encoder.name == "conformer", are_subwords(symbols or ())
    task = "automatic-speech-recognition" if symbols else "feature-extraction"
    tags = ["speech", cfg.encoder.name, "ctc" if symbols else "self-supervised"]
    values = dict(
        rate=cfg.frontend.sample_rate,
        dim=cfg.encoder.dim,
        trust=", trust_remote_code=True" if conformer or subwords else "",
        code_too=", both with `trust_remote_code=True`" if subwords else "",
    )
    parts = [
        f"---\nlibrary_name: transformers\npipeline_tag: {task}\ntags: [{', '.join(tags)}]\nlicense: {licence or 'other'}\n---\n",
        f"# {_title(cfg, symbols)}\n",
        f"Written by `birq-export --to huggingface` of fairseq_birq {__version__}.\n",
        "## Use\n",
        (_TRANSCRIBE if symbols else _LOAD).format(**values) + (_BACK.format(**values) if conformer else ""),
        "## Data\n",
        "\n".join([*_trained(checkpoint), f"- {data or _NO_DATA}"]) + "\n",
        "## Licence\n",
        _licence(conformer or subwords, licence),
        "## Settings\n",
        "| setting | value |\n| --- | --- |\n" + "\n".join(f"| `{key}` | {value} |" for key, value in _settings(cfg)) + "\n",
    ]
    return "\n".join(parts)


def _title(cfg, symbols) -> str:
    kind = "log-Mel Conformer" if cfg.encoder.name == "conformer" else "waveform Transformer"
    what = f"speech recogniser (CTC over {len(symbols)} symbols)" if symbols else "speech encoder"
    return f"A {kind} as {what}: {cfg.encoder.num_layers} layers of {cfg.encoder.dim}"


def _trained(checkpoint) -> List[str]:
    """What the checkpoint knows of its data; of folders the names alone."""
    settings, found = checkpoint.get("cfg") or {}, []
    task = settings.get("task") if isinstance(settings.get("task"), dict) else {}
    folders = [Path(folder).name for folder in str(task.get("data") or "").split(":") if folder]
    corpora = list(task.get("corpora") or {})
    if corpora:
        found.append(f"- A mixture of the corpora {', '.join(corpora)}.")
    elif folders:
        found.append(f"- Manifests in {', '.join(f'`{folder}`' for folder in folders)}.")
    history = checkpoint.get("optimizer_history") or [{}]
    if history[-1].get("num_updates"):
        found.append(f"- {history[-1]['num_updates']} updates.")
    return found


def _licence(has_code: bool, licence: str) -> str:
    code = "The code in this folder is fairseq_birq's, under the MIT licence (`LICENSE`). " if has_code else ""
    return f"{code}The licence of the weights: {licence or _NO_LICENCE}\n"


def _settings(cfg):
    """(dotted key, value) of every setting that names no file."""
    stack = [("", to_dict(cfg))]
    while stack:
        prefix, values = stack.pop()
        inner = []
        for key, value in values.items():
            if isinstance(value, dict):
                inner.append((f"{prefix}{key}.", value))
            elif key not in _NOT_SHOWN:
                yield f"{prefix}{key}", value
        stack.extend(reversed(inner))

"""For Hugging Face's transformers: the log-Mel Conformer with its code, or the waveform Transformer as a `HubertModel`.

`AutoModel` and `AutoFeatureExtractor` load the folder; of a fine-tuned checkpoint also `AutoModelForCTC`, `AutoProcessor` and
`pipeline("automatic-speech-recognition")`. transformers is not needed here, and the folder needs neither fairseq nor this
package. transformers has no layers like the Conformer's: it runs ours, which lie in the folder (`trust_remote_code=True`).
"""

import json
from pathlib import Path
from typing import Dict, List, Optional

from fairseq_birq import __version__
from fairseq_birq.data.transcripts import are_subwords
from fairseq_birq.errors import UserError
from fairseq_birq.exported import renamed_symbols
from fairseq_birq.settings import to_dict
from fairseq_birq.tools.export.bundle import bundled
from fairseq_birq.tools.export.hubert import hubert_config, hubert_tensors
from fairseq_birq.tools.export.model_card import LICENCE, model_card
from fairseq_birq.tools.export.safetensors import described, save_tensors

_CODE = "tools.export.remote_code."
_CLASSES = {
    "AutoConfig": "configuration_birq.BirqConfig",
    "AutoModel": "modeling_birq.BirqModel",
    "AutoModelForCTC": "modeling_birq.BirqForCTC",
}
_NUM_SPECIAL = 4  # fairseq's own symbols, before letters or units
_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def write_huggingface(encoder, cfg, out, checkpoint, data: str = "", licence: str = "") -> None:
    """`config.json`, `preprocessor_config.json`, `model.safetensors` and the model card in the folder `out`.

    A Conformer's folder also holds its code; that of a fine-tuned checkpoint the output layer and the tokenizer, whose code is
    there for subword units (transformers has a tokenizer of letters).

    Args:
        encoder: a `SpeechEncoder`.
        cfg: the checkpoint's model settings.
        checkpoint: its whole content.
        data, licence: what the model card says of the training data, and of the licence of the weights.

    Raises:
        UserError: no such encoder can be written, or a fine-tuned checkpoint has no letters that a tokenizer is made of.
    """
    out, is_conformer = Path(out), _is_conformer(cfg)
    symbols = letters_of(checkpoint)
    scores = unit_scores_of(checkpoint, symbols)
    if symbols and not is_conformer and cfg.upsample != 1:
        raise UserError(f"a waveform Transformer with `model.upsample: {cfg.upsample}` is no HubertForCTC, which has 1")
    if is_conformer:
        tensors = {f"speech_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        config, base, head = _conformer_config(cfg), "birq", "output"
        _write_code(out, "modeling_birq")
    else:
        tensors, config, base, head = hubert_tensors(encoder, cfg), hubert_config(encoder, cfg), "hubert", "lm_head"
    if symbols:
        tensors = {f"{base}.{name}": tensor for name, tensor in tensors.items()}
        tensors.update({f"{head}.{name}": checkpoint["model"][f"output.{name}"] for name in ("weight", "bias")})
        config.update(_ctc_config(cfg, config, symbols))
        _write_tokenizer(out, symbols, scores)
    save_tensors(out / "model.safetensors", tensors, {"format": "pt"})
    _write_json(out / "config.json", config)
    _write_json(out / "preprocessor_config.json", _preprocessor(cfg, not is_conformer, symbols))
    (out / "README.md").write_text(model_card(cfg, checkpoint, symbols, data, licence), encoding="utf-8")


def _is_conformer(cfg) -> bool:
    """Else a waveform Transformer. Raises UserError where it is neither."""
    kind = (cfg.frontend.name, cfg.encoder.name)
    if kind not in (("logmel", "conformer"), ("waveform", "transformer")):
        raise UserError(
            "`--to huggingface` is for a log-Mel Conformer (`model.frontend.name: logmel`, `model.encoder.name: conformer`) or a "
            f"waveform Transformer, but {described(cfg)}"
        )
    return kind[1] == "conformer"


def letters_of(checkpoint) -> List[str]:
    """The symbols of a fine-tuned checkpoint; none of a pre-trained one. Raises UserError where it holds none that fit."""
    if "output.weight" not in checkpoint["model"]:
        return []
    symbols = (checkpoint.get("task_state") or {}).get("symbols")
    if not symbols:
        raise UserError(
            "this fine-tuned checkpoint holds no letters, of which the tokenizer is made: it was trained before checkpoints held "
            "them. Train an update more with this version"
        )
    return list(symbols)


def unit_scores_of(checkpoint, symbols) -> Optional[Dict[str, float]]:
    """{subword unit: log-probability}, by which a tokenizer spells; None for letters. Raises UserError where they are missing."""
    if not are_subwords(symbols):
        return None
    scores, units = checkpoint["task_state"].get("unit_scores"), symbols[_NUM_SPECIAL:]
    if not scores or len(scores) != len(units):
        raise UserError(
            "this checkpoint holds no probabilities of its subword units, by which the tokenizer spells: put the `.vocab` of "
            "their model beside the dictionary (`birq-subwords` writes it) and train an update more"
        )
    return dict(zip(units, map(float, scores)))


def _write_code(out, module: str) -> None:
    files = bundled([f"{_CODE}{module}"])
    others = "".join(f"    from .{Path(name).stem} import __name__\n" for name in sorted(files) if name != f"{module}.py")
    if others:
        files[f"{module}.py"] += (
            f"\n\nif False:  # transformers 4 takes along the files that are named here, and no others\n{others}"
        )
    for name, text in files.items():
        (out / name).write_text(f"# Of fairseq_birq {__version__}; see LICENSE.\n{text}", encoding="utf-8")
    (out / "LICENSE").write_text(LICENCE, encoding="utf-8")


def _conformer_config(cfg) -> dict:
    settings = {part: to_dict(getattr(cfg, part)) for part in ("frontend", "encoder")}
    return dict(architectures=["BirqModel"], model_type="birq", auto_map=_CLASSES, **settings, torch_dtype="float32")


def _ctc_config(cfg, config, symbols) -> dict:
    """What an output layer adds to the configuration of either encoder."""
    upsample = {"upsample": cfg.upsample} if cfg.encoder.name == "conformer" else {}
    return dict(
        architectures=[config["architectures"][0].replace("Model", "ForCTC")],
        vocab_size=len(symbols),
        final_dropout=cfg.dropout,
        pad_token_id=0,  # the blank
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        **upsample,
    )


def _preprocessor(cfg, normalise: bool, symbols) -> dict:
    """Padded waveforms. The log-Mel features of the Conformer are computed and normalised in the model."""
    processor = {"processor_class": "Wav2Vec2Processor"} if symbols else {}
    return dict(
        feature_extractor_type="Wav2Vec2FeatureExtractor",
        feature_size=1,
        sampling_rate=cfg.frontend.sample_rate,
        do_normalize=normalise,
        padding_side="right",
        padding_value=0.0,
        return_attention_mask=True,
        **processor,
    )


def _write_tokenizer(out, symbols, scores) -> None:
    """Of letters, or, with the scores of its units, of subwords."""
    _write_json(out / "vocab.json", {symbol: index for index, symbol in enumerate(renamed_symbols(symbols))})
    _write_json(out / "special_tokens_map.json", _TOKENS)
    kind = dict(tokenizer_class="Wav2Vec2CTCTokenizer", processor_class="Wav2Vec2Processor", do_lower_case=False)
    if scores is None:
        own = {"word_delimiter_token": "|"}
    else:
        _write_code(out, "tokenization_birq")
        kind.update(
            tokenizer_class="BirqSubwordTokenizer", auto_map={"AutoTokenizer": ["tokenization_birq.BirqSubwordTokenizer", None]}
        )
        own = {"unit_scores": scores}
    _write_json(out / "tokenizer_config.json", {**kind, **_TOKENS, **own})


def _write_json(path, content) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""A fine-tuned checkpoint as what it is for: waveforms in, log-probabilities of letters or subword units out."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.checkpoint import load_checkpoint, load_speech_encoder_state
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.data.transcripts import read_symbols
from fairseq_birq.decoding import DECODERS, lexicon_decoder
from fairseq_birq.decoding.base import Decoder
from fairseq_birq.errors import UserError


@dataclass
class Recogniser:
    """A `BirqCtcModel` in eval mode on a device, and what its outputs mean."""

    model: nn.Module
    symbols: List[str]
    device: str

    @property
    def sample_rate(self) -> int:
        return self.model.speech_encoder.frontend.sample_rate

    @property
    def frame_seconds(self) -> float:
        """Time from one CTC frame to the next."""
        return self.model.speech_encoder.frontend.step_samples / self.sample_rate / self.model.upsample

    @torch.no_grad()
    def log_probs(self, waves: Sequence[np.ndarray]) -> Tuple[Tensor, Tensor]:
        """Waveforms (S,) float at `sample_rate` -> (B, T, V) float32 natural log-probabilities, and (B,) valid frames."""
        lengths = torch.tensor([len(wave) for wave in waves])
        waveform = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(wave).double() for wave in waves], batch_first=True)
        padding_mask = torch.arange(waveform.shape[1]) >= lengths[:, None]
        output = self.model(waveform.to(self.device), padding_mask.to(self.device))
        return output.logits.float().log_softmax(-1), (~output.padding_mask).sum(1)

    def decoder(self, **of_lexicon) -> Decoder:
        """Greedy, or with `lexicon` and the other arguments of its decoder."""
        if not of_lexicon.get("lexicon"):
            return DECODERS["greedy"](0, forbidden=(1, 2, 3))
        return lexicon_decoder(self.symbols, 0, **of_lexicon)


def load_recogniser(checkpoint, dictionary=None, device: Optional[str] = None) -> Recogniser:
    """The model and the letters of a fine-tuned checkpoint.

    dictionary: a `dict.ltr.txt`, for a checkpoint that holds no letters
    device: "cpu", "cuda", ...; by default the GPU if there is one

    Raises:
        UserError: the checkpoint is unreadable, of another model, or without letters; or there is no such device.
    """
    cfg, encoder_state = load_speech_encoder_state(checkpoint)
    content = load_checkpoint(checkpoint)
    weights = {key: value for key, value in content["model"].items() if key.startswith("output.")}
    if not weights:
        raise UserError(
            f"checkpoint {checkpoint} is of a pre-trained model, which knows no letters: fine-tune it first (examples/finetune)"
        )
    symbols = _letters(content, checkpoint, dictionary)
    upsample = int(cfg.upsample)
    if weights["output.weight"].shape[0] != upsample * len(symbols):
        raise UserError(
            f"checkpoint {checkpoint} has scores of {weights['output.weight'].shape[0] // upsample} symbols, but the dictionary "
            f"has {len(symbols)}: give the `dict.ltr.txt` of its training data"
        )
    model = BirqCtcModel(build_speech_encoder(cfg.frontend, cfg.encoder), len(symbols), upsample=upsample)
    weights.update({f"speech_encoder.{key}": value for key, value in encoder_state.items()})
    try:
        nn.Module.load_state_dict(model, weights)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return Recogniser(model.eval().to(device), symbols, device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"checkpoint {checkpoint} cannot be used on {device or 'any device'}: {error}") from None


def _letters(content, checkpoint, dictionary) -> List[str]:
    symbols = (content.get("task_state") or {}).get("symbols")
    if dictionary is not None:
        given = read_symbols(dictionary)
        if symbols is not None and list(symbols) != given:
            raise UserError(
                f"{dictionary}: has other letters than checkpoint {checkpoint}; leave it out, the checkpoint's are used"
            )
        return given
    if symbols is None:
        raise UserError(f"checkpoint {checkpoint} holds no letters: give the `dict.ltr.txt` of its training data as --dictionary")
    return list(symbols)

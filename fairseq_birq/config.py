"""Every setting of the package, as plain dataclasses. Builders turn them into plain keyword arguments.

Those of a frontend, an encoder or a target source are in its own file; the registries join them. No
`from __future__ import annotations` or `X | None` where a config class is defined: omegaconf 2.0.6 refuses them.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional

from fairseq_birq.disturbance import DisturbanceConfig
from fairseq_birq.encoders import EncoderConfig
from fairseq_birq.frontends import FrontendConfig
from fairseq_birq.settings import MISSING, nested, setting
from fairseq_birq.targets import TargetsConfig

COMPILE_LAYERS = "torch.compile the encoder's layers in training: minutes at the start, then fewer kernels (conformer)"


@dataclass
class MaskConfig:
    span_ms: float = setting(400.0, "length of a masked span")
    start_prob: float = setting(0.01, "probability that a 10 ms frame starts a span (BEST-RQ, section 3)")
    fill: str = setting("noise", "what stands in a masked frame: noise", ["noise", "learned"])
    noise_std: float = setting(0.1, "standard deviation of the noise filler")


@dataclass
class ChunksConfig:
    """What attention sees in training, drawn for every update; needs a causal encoder. SpeechBrain's defaults."""

    prob: float = setting(0.0, "share of the updates that are computed in chunks; 0 = off: always the whole utterance")
    min_ms: float = setting(320.0, "the shortest chunk, a multiple of the encoder frame")
    max_ms: float = setting(1280.0, "the longest chunk")
    left_prob: float = setting(0.75, "share of those updates in which only some chunks before its own are seen, else all")
    min_left: int = setting(2, "so many chunks at least")
    max_left: int = setting(32, "and at most")


@dataclass
class QuantizerConfig:
    codebook_size: int = setting(8192, "V")
    codebook_dim: int = setting(16, "D")
    num_codebooks: int = setting(1, "N")
    seed: int = setting(1, "seed of the fixed projections and codebooks")


@dataclass
class BirqConfig:
    """Model `birq`: one encoder, any mix of target sources."""

    seed: int = setting(1, "seed of masks, filler noise, disturbances and chunks, with the update and the utterance's id")
    pretrained_path: Optional[str] = setting(
        None, "checkpoint of model birq to start from: its encoder, and heads of equal codes"
    )
    frontend: FrontendConfig = nested(FrontendConfig)
    encoder: EncoderConfig = nested(EncoderConfig)
    mask: MaskConfig = nested(MaskConfig)
    disturbance: DisturbanceConfig = nested(DisturbanceConfig)
    chunks: ChunksConfig = nested(ChunksConfig)
    quantizer: QuantizerConfig = nested(QuantizerConfig)
    targets: TargetsConfig = nested(TargetsConfig)
    target_encoder_path: Optional[str] = setting(
        None, "checkpoint of birq or birq_ctc whose encoder is the first snapshot: training begins with stage 1"
    )
    masked_views: int = setting(1, "differently masked copies of a batch that share its unmasked pass")
    block_mb: float = setting(
        0.0, "byte budget for scores and logits that are alive at once, in MiB; 0 = by device: 16 on a CPU, 1024 elsewhere"
    )
    compile_layers: bool = setting(False, COMPILE_LAYERS)


@dataclass
class BirqCriterionConfig:
    """Criterion `birq`: the weighted sum of the target sources' losses, and an alarm for codes that collapse."""

    weights: Dict[str, float] = setting(dict, "weight per target source by name; 1 where a source is not named")
    warmup_updates: Dict[str, int] = setting(dict, "updates over which a source's weight grows from 0, by name")
    start_updates: Dict[str, int] = setting(dict, "updates before which a source's weight is 0, by name")
    log_grad_every: int = setting(0, "log each source's gradient norm on the encoder every so many updates; 0 = never")
    collapse_min_perplexity: float = setting(0.0, "alarm while a source's code perplexity is below this; 0 = off")
    collapse_patience: int = setting(500, "consecutive updates below the bound before the alarm")
    collapse_action: str = setting("warn", "what the alarm does", ["warn", "stop"])


@dataclass
class StageScheduleConfig:
    """Learning-rate schedule `birq_stages`: warm-up and polynomial decay from `optimization.lr`, once per stage."""

    target_updates: List[int] = setting(list, "as in model.targets.snapshot: the schedule begins anew at each")
    restart_schedule: bool = setting(True, "false: one schedule for all stages")
    warmup_updates: int = setting(0, "updates of linear growth, in every stage")
    total_num_update: int = setting(MISSING, "update at which the last stage ends")
    stage_updates: List[int] = setting(
        list, "updates until the end of the decay: one for all stages, or one per stage; empty: a stage's own"
    )
    end_learning_rate: float = setting(0.0, "learning rate after the decay")
    power: float = setting(1.0, "of the decay; 1 = linear")


@dataclass
class BirqCtcConfig:
    """Model `birq_ctc`: a (pre-trained) encoder and one linear layer over letters."""

    pretrained_path: Optional[str] = setting(None, "checkpoint of model birq; its frontend and encoder settings are taken over")
    seed: int = setting(1, "seed of masks, disturbances and chunks, with the update and the utterance's id")
    frontend: FrontendConfig = nested(FrontendConfig)
    encoder: EncoderConfig = nested(EncoderConfig)
    mask: MaskConfig = nested(MaskConfig)
    disturbance: DisturbanceConfig = nested(DisturbanceConfig)
    chunks: ChunksConfig = nested(ChunksConfig)
    apply_mask: bool = setting(True, "mask features while training, as augmentation")
    compile_layers: bool = setting(False, COMPILE_LAYERS)
    freeze_encoder_updates: int = setting(0, "updates in which only the output layer learns")
    upsample: int = setting(1, "CTC outputs per encoder frame; 2 where 25 Hz is too few frames for letters")
    dropout: float = setting(0.1, "before the output layer")
    initialized_from: Optional[str] = setting(None, "filled in by training: the pre-trained checkpoint that was loaded")


@dataclass
class BirqCtcCriterionConfig:
    """Criterion `birq_ctc`."""

    sentence_avg: bool = setting(False, "average the gradient over utterances; else over letters")


@dataclass
class TrainingRunConfig:
    """What both tasks know of a run that is stopped, or goes wrong."""

    resume: str = setting(
        "auto",
        "auto: go on from the newest checkpoint of checkpoint.save_dir or start anew; must: stop where there is none; "
        "changed: go on although settings that decide what is learned are not those of the checkpoint",
        ["auto", "must", "changed"],
    )
    max_bad_updates: int = setting(
        100, "updates of a start that may be skipped because loss or gradient is not finite; the next one stops the run"
    )


@dataclass
class AsrTaskConfig(TrainingRunConfig):
    """Task `birq_asr`: speech in, letters out."""

    data: str = setting(MISSING, "folder with <split>.tsv, <split>.<labels> and dict.<labels>.txt")
    labels: str = setting("ltr", "suffix of the transcripts and of the dictionary")
    sample_rate: int = setting(16000, "Hz; other audio is resampled. In decoding the checkpoint's is used")
    min_seconds: float = setting(0.1, "shorter utterances are left out, with one counted line")
    on_bad_audio: str = setting("skip", "what an unreadable file does", ["skip", "error"])
    bad_audio_budget: float = setting(0.01, "share of the rows that may be bad before it is an error")
    speeds: List[float] = setting(
        lambda: [1.0], "of training utterances; one is drawn for each in every epoch, as 0.9, 1.0 and 1.1; [1.0] = as recorded"
    )
    decoder: str = setting(
        "auto", "best letter per frame, or words of a lexicon; auto: lexicon where one is given", ["auto", "greedy", "lexicon"]
    )
    lexicon: Optional[str] = setting(None, "lines of word<TAB>l e t t e r s | (lexicon decoder)")
    kenlm: Optional[str] = setting(None, "n-gram model over words, .arpa or KenLM's binary (lexicon decoder)")
    word_score: float = setting(0.0, "added per word (lexicon decoder)")
    sil_weight: float = setting(0.0, "added per frame of the word boundary (lexicon decoder)")
    beam_size_token: int = setting(0, "letters tried per frame, best first; 0 = all (lexicon decoder)")
    beam_threshold: float = setting(50.0, "hypotheses this far behind the best one are dropped (lexicon decoder)")


@dataclass
class PretrainingTaskConfig(TrainingRunConfig):
    """Task `birq_pretraining`: speech without labels."""

    data: str = setting(MISSING, "folder with <split>.tsv; several, separated by colons: one for each epoch in turn")
    corpora: Dict[str, str] = setting(
        dict, "{name: folder with <split>.tsv}, below `data` unless absolute: train on a mixture of them"
    )
    sampling_alpha: float = setting(0.5, "a corpus' share of the mixture is its hours to this power; 1 = every utterance once")
    sample_rate: int = setting(16000, "Hz; other audio is resampled")
    max_seconds: Optional[float] = setting(15.6, "longer utterances are cut to this, elsewhere in every epoch; null = never")
    min_seconds: float = setting(0.5, "shorter utterances are left out, with one counted line")
    on_bad_audio: str = setting("skip", "what an unreadable file does", ["skip", "error"])
    bad_audio_budget: float = setting(0.01, "share of the rows that may be bad before it is an error, per process")
    speeds: List[float] = setting(
        lambda: [1.0], "of training utterances; one is drawn for each in every epoch, as 0.9, 1.0 and 1.1; [1.0] = as recorded"
    )
    crop_seed: int = setting(1, "seed of where long utterances are cut, of speeds, and of what the mixture of `corpora` takes")
    crop_step_samples: Optional[int] = setting(
        None, "cuts begin at multiples of this; null = of the labels' frame step with label_file targets, else anywhere"
    )
    frame_labels: Optional[str] = setting(
        None, "labels of label_file targets: folder with one folder per split; null = `model.targets.label_file.path`"
    )
    probe_every: int = setting(0, "fit a phone probe in the first validation after so many updates; 0 = never")
    probe_alignment: Optional[str] = setting(
        None, "FOLDER/<split>.phn: table of utt_index, start_s, end_s and phone for the rows of FOLDER/<split>.tsv"
    )
    probe_utterances: int = setting(32, "rows of that manifest that the probe uses: three of four to fit, one to test")
    probe_iterations: int = setting(30, "of the probe's L-BFGS, per layer")

"""Every setting of the package, as leaf dataclasses. Builders turn them into plain keyword arguments.

No torch here, and no `from __future__ import annotations` or `X | None`: omegaconf 2.0.6 refuses them.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import MISSING


def _help(default, text):
    return field(default=default, metadata={"help": text})


def _nested(config_class):
    return field(default_factory=config_class)


@dataclass
class FrontendConfig(FairseqDataclass):
    name: ChoiceEnum(["logmel", "waveform"]) = _help("logmel", "log-Mel + 2 strided convolutions, or wav2vec 2.0's CNN")
    sample_rate: int = _help(16000, "Hz; the dataset resamples to it")
    num_mels: int = _help(80, "Mel bins")
    window_ms: float = _help(25.0, "analysis window")
    hop_ms: float = _help(10.0, "step between feature frames")
    feature_norm: ChoiceEnum(["utterance", "none"]) = _help(
        "utterance", "zero mean and unit variance per Mel bin over the utterance's own frames"
    )
    subsampling: ChoiceEnum(["conv1d", "conv2d"]) = _help("conv1d", "kind of the two stride-2 convolutions (logmel)")
    waveform_dim: int = _help(512, "channels of the CNN (waveform)")
    waveform_kernels: List[int] = field(default_factory=lambda: [10, 3, 3, 3, 3, 2, 2])
    waveform_strides: List[int] = field(default_factory=lambda: [5, 2, 2, 2, 2, 2, 2])
    dropout: float = _help(0.0, "dropout on what enters the first encoder layer")


@dataclass
class EncoderConfig(FairseqDataclass):
    name: ChoiceEnum(["conformer", "transformer"]) = _help("conformer", "ours, or wav2vec 2.0's from fairseq")
    num_layers: int = _help(12, "K")
    dim: int = _help(512, "d, width of every layer")
    ffn_dim: int = _help(2048, "width inside the feed-forward modules")
    num_heads: int = _help(8, "attention heads; must divide dim")
    conv_kernel: int = _help(31, "depthwise convolution, encoder frames (conformer); odd")
    conv_norm: ChoiceEnum(["layer", "batch"]) = _help("layer", "normalisation inside the convolution module (conformer)")
    positions: ChoiceEnum(["rotary", "relative"]) = _help("rotary", "position information in attention (conformer)")
    attention_window: int = _help(0, "frames that attention sees to each side; 0 = all (conformer)")
    dropout: float = _help(0.1, "after every module")
    attention_dropout: float = _help(0.1, "on attention weights")
    activation_dropout: float = _help(0.0, "inside the feed-forward modules")
    layer_dropout: float = _help(0.0, "probability to skip a layer in training")
    checkpoint_activations: bool = _help(False, "recompute activations in backward: less memory, more time")


@dataclass
class MaskConfig(FairseqDataclass):
    span_ms: float = _help(400.0, "length of a masked span")
    start_prob: float = _help(0.01, "probability that a 10 ms frame starts a span (BEST-RQ, section 3)")
    fill: ChoiceEnum(["noise", "learned"]) = _help("noise", "what stands in a masked frame")
    noise_std: float = _help(0.1, "standard deviation of the noise filler")


@dataclass
class QuantizerConfig(FairseqDataclass):
    codebook_size: int = _help(8192, "V")
    codebook_dim: int = _help(16, "D")
    num_codebooks: int = _help(1, "N")
    seed: int = _help(1, "seed of the fixed projections and codebooks")


@dataclass
class RawInputConfig(FairseqDataclass):
    """BEST-RQ's hard codes of the unmasked input."""

    quantizer_norm: ChoiceEnum(["utterance", "utterance+frame", "frame", "none"]) = _help(
        "utterance+frame",
        "normalisation of the quantizer's input: per Mel bin over the utterance, per stacked frame, both or none",
    )


@dataclass
class OwnLayerConfig(FairseqDataclass):
    """BiRQ's soft codes of the encoder's own layers on unmasked input."""

    layers: List[int] = field(default_factory=list, metadata={"help": "k: the layers, counted from 1"})
    normalisation: ChoiceEnum(["layer", "standardize", "standardize+layer", "whiten"]) = _help(
        "standardize+layer", "normalisation of hidden states before the projection"
    )
    statistics_momentum: float = _help(0.01, "share of a new batch in the running statistics of the normalisation")
    score_scale: float = _help(20.0, "factor on -||c - z||^2 before the Gumbel-softmax")
    temperature: float = _help(0.5, "tau of the Gumbel-softmax")
    straight_through: bool = _help(False, "the sampled code as label with the distribution's gradient; else the distribution")
    target_grad_scale: float = _help(
        1.0, "factor on the gradient through the labels, the reward's too: 1 = the paper, 0 = detached"
    )
    target_dropout: bool = _help(False, "dropout in the unmasked pass")
    diversity_weight: float = _help(0.0, "reward for varied labels, as a factor beside F; not in the paper")
    shared_codebook: bool = _help(True, "the anchor's codebook; else one of its own")
    shared_head: bool = _help(True, "the anchor's prediction head; else one of its own")
    seed: int = _help(2, "seed of the projections, and of a codebook of its own")


@dataclass
class SnapshotConfig(FairseqDataclass):
    """Latent-RQ's hard codes of a frozen copy of the encoder; its N codebooks are shared out over the layers."""

    layers: List[int] = field(
        default_factory=list,
        metadata={"help": "counted from 1; 0 = what enters the first layer. Latent-RQ's numbers are one smaller"},
    )
    target_updates: List[int] = field(
        default_factory=list, metadata={"help": "updates at which the encoder is copied and a stage begins"}
    )
    normalisation: ChoiceEnum(["layer", "standardize", "standardize+layer", "whiten"]) = _help(
        "standardize+layer", "normalisation of hidden states before the projection"
    )
    statistics_batches: int = _help(1, "batches after a copy that set the statistics of the normalisation")
    reset_heads: bool = _help(True, "new prediction heads for these codes with every copy")
    reset_optimizer: bool = _help(True, "clear the optimizer's state with every copy")
    seed: int = _help(3, "seed of the projections and codebooks")


@dataclass
class MovingAverageConfig(FairseqDataclass):
    """Hard codes of a moving average of the encoder; its N codebooks are shared out over the layers."""

    layers: List[int] = field(default_factory=list, metadata={"help": "counted from 1; 0 = what enters the first layer"})
    normalisation: ChoiceEnum(["layer", "standardize", "standardize+layer", "whiten"]) = _help(
        "standardize+layer", "normalisation of hidden states before the projection"
    )
    statistics_momentum: float = _help(0.01, "share of a new batch in the running statistics of the normalisation")
    decay_start: float = _help(0.999, "share of the old average that an update keeps, in the beginning")
    decay_end: float = _help(0.9999, "the same in the end")
    decay_warmup_updates: int = _help(30000, "updates from the one to the other")
    seed: int = _help(4, "seed of the projections and codebooks")


@dataclass
class LabelFileConfig(FairseqDataclass):
    """Hard codes that an earlier model gave to the whole corpus; V and N are the quantizer's."""

    path: Optional[str] = _help(None, "folder with one folder of labels per split, by the split's name; see birq-labels")


@dataclass
class TargetsConfig(FairseqDataclass):
    use: List[str] = field(default_factory=lambda: ["raw_input"], metadata={"help": "the target sources in use, by name"})
    raw_input: RawInputConfig = _nested(RawInputConfig)
    own_layer: OwnLayerConfig = _nested(OwnLayerConfig)
    snapshot: SnapshotConfig = _nested(SnapshotConfig)
    moving_average: MovingAverageConfig = _nested(MovingAverageConfig)
    label_file: LabelFileConfig = _nested(LabelFileConfig)


@dataclass
class BirqConfig(FairseqDataclass):
    """Model `birq`: one encoder, any mix of target sources."""

    seed: int = _help(1, "seed of masks and filler noise, with the update and the utterance's id")
    pretrained_path: Optional[str] = _help(None, "checkpoint of model birq to start from: its encoder, and heads of equal codes")
    frontend: FrontendConfig = _nested(FrontendConfig)
    encoder: EncoderConfig = _nested(EncoderConfig)
    mask: MaskConfig = _nested(MaskConfig)
    quantizer: QuantizerConfig = _nested(QuantizerConfig)
    targets: TargetsConfig = _nested(TargetsConfig)
    target_encoder_path: Optional[str] = _help(
        None, "checkpoint of birq or birq_ctc whose encoder is the first snapshot: training begins with stage 1"
    )
    masked_views: int = _help(1, "differently masked copies of a batch that share its unmasked pass")
    block_mb: float = _help(16.0, "byte budget for scores and logits that are alive at once, in MiB")


@dataclass
class BirqCriterionConfig(FairseqDataclass):
    """Criterion `birq`: the weighted sum of the target sources' losses, and an alarm for codes that collapse."""

    weights: Dict[str, float] = field(
        default_factory=dict, metadata={"help": "weight per target source by name; 1 where a source is not named"}
    )
    warmup_updates: Dict[str, int] = field(
        default_factory=dict, metadata={"help": "updates over which a source's weight grows from 0, by name"}
    )
    start_updates: Dict[str, int] = field(
        default_factory=dict, metadata={"help": "updates before which a source's weight is 0, by name"}
    )
    log_grad_every: int = _help(0, "log each source's gradient norm on the encoder every so many updates; 0 = never")
    collapse_min_perplexity: float = _help(0.0, "alarm while a source's code perplexity is below this; 0 = off")
    collapse_patience: int = _help(500, "consecutive updates below the bound before the alarm")
    collapse_action: ChoiceEnum(["warn", "stop"]) = _help("warn", "what the alarm does")


@dataclass
class StageScheduleConfig(FairseqDataclass):
    """Learning-rate schedule `birq_stages`: warm-up and polynomial decay from `optimization.lr`, once per stage."""

    target_updates: List[int] = field(
        default_factory=list, metadata={"help": "as in model.targets.snapshot: the schedule begins anew at each"}
    )
    restart_schedule: bool = _help(True, "false: one schedule for all stages")
    warmup_updates: int = _help(0, "updates of linear growth, in every stage")
    total_num_update: int = _help(MISSING, "update at which the last stage ends")
    stage_updates: List[int] = field(
        default_factory=list,
        metadata={"help": "updates until the end of the decay: one for all stages, or one per stage; empty: a stage's own"},
    )
    end_learning_rate: float = _help(0.0, "learning rate after the decay")
    power: float = _help(1.0, "of the decay; 1 = linear")


@dataclass
class BirqCtcConfig(FairseqDataclass):
    """Model `birq_ctc`: a (pre-trained) encoder and one linear layer over letters."""

    pretrained_path: Optional[str] = _help(None, "checkpoint of model birq; its frontend and encoder settings are taken over")
    seed: int = _help(1, "seed of the masks, with the update and the utterance's id")
    frontend: FrontendConfig = _nested(FrontendConfig)
    encoder: EncoderConfig = _nested(EncoderConfig)
    mask: MaskConfig = _nested(MaskConfig)
    apply_mask: bool = _help(True, "mask features while training, as augmentation")
    freeze_encoder_updates: int = _help(0, "updates in which only the output layer learns")
    upsample: int = _help(1, "CTC outputs per encoder frame; 2 where 25 Hz is too few frames for letters")
    dropout: float = _help(0.1, "before the output layer")
    initialized_from: Optional[str] = _help(None, "filled in by training: the pre-trained checkpoint that was loaded")


@dataclass
class BirqCtcCriterionConfig(FairseqDataclass):
    """Criterion `birq_ctc`."""

    sentence_avg: bool = _help(False, "average the gradient over utterances; else over letters")


@dataclass
class TrainingRunConfig(FairseqDataclass):
    """What both tasks know of a run that is stopped, or goes wrong."""

    resume: ChoiceEnum(["auto", "must"]) = _help(
        "auto", "auto: go on from the newest checkpoint of checkpoint.save_dir or start anew; must: stop where there is none"
    )
    max_bad_updates: int = _help(
        100, "updates of a start that may be skipped because loss or gradient is not finite; the next one stops the run"
    )


@dataclass
class AsrTaskConfig(TrainingRunConfig):
    """Task `birq_asr`: speech in, letters out."""

    data: str = _help(MISSING, "folder with <split>.tsv, <split>.<labels> and dict.<labels>.txt")
    labels: str = _help("ltr", "suffix of the label files and of the dictionary")
    sample_rate: int = _help(16000, "Hz; other audio is resampled. In decoding the checkpoint's is used")
    min_seconds: float = _help(0.1, "shorter utterances are left out, with one counted line")
    on_bad_audio: ChoiceEnum(["skip", "error"]) = _help("skip", "what an unreadable file does")
    bad_audio_budget: float = _help(0.01, "share of the rows that may be bad before it is an error")
    decoder: ChoiceEnum(["greedy", "lexicon"]) = _help("greedy", "best letter per frame, or words of a lexicon")
    lexicon: Optional[str] = _help(None, "lines of word<TAB>l e t t e r s | (lexicon decoder)")
    kenlm: Optional[str] = _help(None, "n-gram model over words, .arpa or KenLM's binary (lexicon decoder)")
    word_score: float = _help(0.0, "added per word (lexicon decoder)")
    sil_weight: float = _help(0.0, "added per frame of the word boundary (lexicon decoder)")
    beam_size_token: int = _help(0, "letters tried per frame, best first; 0 = all (lexicon decoder)")
    beam_threshold: float = _help(50.0, "hypotheses this far behind the best one are dropped (lexicon decoder)")


@dataclass
class PretrainingTaskConfig(TrainingRunConfig):
    """Task `birq_pretraining`: speech without labels."""

    data: str = _help(MISSING, "folder with <split>.tsv; several, separated by colons: one for each epoch in turn")
    corpora: Dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "{name: folder with <split>.tsv}, below `data` unless absolute: train on a mixture of them"},
    )
    sampling_alpha: float = _help(0.5, "a corpus' share of the mixture is its hours to this power; 1 = every utterance once")
    sample_rate: int = _help(16000, "Hz; other audio is resampled")
    max_seconds: Optional[float] = _help(15.6, "longer utterances are cut to this, elsewhere in every epoch; null = never")
    min_seconds: float = _help(0.5, "shorter utterances are left out, with one counted line")
    on_bad_audio: ChoiceEnum(["skip", "error"]) = _help("skip", "what an unreadable file does")
    bad_audio_budget: float = _help(0.01, "share of the rows that may be bad before it is an error, per process")
    crop_seed: int = _help(1, "seed of where long utterances are cut, and of what the mixture of `corpora` takes")
    crop_step_samples: Optional[int] = _help(
        None, "cuts begin at multiples of this; null = of the labels' frame step with label_file targets, else anywhere"
    )
    probe_every: int = _help(0, "fit a phone probe in the first validation after so many updates; 0 = never")
    probe_alignment: Optional[str] = _help(
        None, "FOLDER/<split>.phn: table of utt_index, start_s, end_s and phone for the rows of FOLDER/<split>.tsv"
    )
    probe_utterances: int = _help(32, "rows of that manifest that the probe uses: three of four to fit, one to test")
    probe_iterations: int = _help(30, "of the probe's L-BFGS, per layer")

"""Every fixture of the tests is made here: audio of sines and noise, manifests, tiny configs."""

from pathlib import Path

import numpy as np
import soundfile


def tone(seconds, sample_rate=16000, seed=0):
    """A few drifting sines and a little noise, (S,) float32 in [-0.5, 0.5]; differs by seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    pitches = rng.uniform(100, 3000, size=(3, 1)) * (1 + 0.3 * np.sin(rng.uniform(1, 8, size=(3, 1)) * time))
    wave = np.sin(2 * np.pi * np.cumsum(pitches, axis=1) / sample_rate).mean(0) * 0.4
    return (wave + 0.01 * rng.standard_normal(time.size)).astype(np.float32)


def write_audio(path, wave, sample_rate=16000):
    """Write `wave` ((S,) or (S, channels)) and return its path; the suffix names the format."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), wave, sample_rate)
    return path


def write_manifest(folder, split="train", seconds=(1.0, 1.5, 2.0), texts=None, sample_rate=16000):
    """A folder with one flac per entry of `seconds`, `<split>.tsv` and, with `texts`, `.wrd`/`.ltr`/`dict.ltr.txt`."""
    folder = Path(folder)
    rows = [str(folder.resolve())]
    for index, duration in enumerate(seconds):
        wave = tone(duration, sample_rate, seed=index)
        path = write_audio(folder / split / f"{index:04d}.flac", wave, sample_rate)
        rows.append(f"{path.relative_to(folder)}\t{wave.size}")
    (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    if texts is not None:
        letters = [" ".join(text.replace(" ", "|")) + " |" for text in texts]
        (folder / f"{split}.wrd").write_text("\n".join(texts) + "\n")
        (folder / f"{split}.ltr").write_text("\n".join(letters) + "\n")
        symbols = sorted({symbol for line in letters for symbol in line.split()})
        (folder / "dict.ltr.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    return folder


def truncate(path, keep=0.5):
    """Cut an audio file short, as a broken copy would be."""
    path = Path(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def write_nan_audio(path, seconds=1.0, sample_rate=16000):
    """A float wav whose middle sample is NaN."""
    wave = tone(seconds, sample_rate)
    wave[wave.size // 2] = np.nan
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), wave, sample_rate, subtype="FLOAT")
    return Path(path)


FAULTS = ("corrupt", "truncated", "empty", "nan", "other_length", "missing")


def write_faulty_corpus(folder, files, bad, split="train", seconds=0.6, seed=0):
    """`files` short wavs with a manifest, of which `bad` break afterwards, in turn each way of `FAULTS`.

    Returns:
        {path as the manifest writes it: fault} of the broken ones.
    """
    folder, rng = Path(folder), np.random.default_rng(seed)
    wave = tone(seconds + 1)
    count = int(seconds * 16000)
    names = [f"{split}/{index:05d}.wav" for index in range(files)]
    for name in names:
        start = int(rng.integers(len(wave) - count))
        write_audio(folder / name, wave[start : start + count])
    (folder / f"{split}.tsv").write_text(".\n" + "".join(f"{name}\t{count}\n" for name in names))
    planted = {names[row]: FAULTS[turn % len(FAULTS)] for turn, row in enumerate(rng.permutation(files)[:bad])}
    for name, fault in planted.items():
        break_audio(folder / name, fault, rng)
    return planted


def break_audio(path, fault, rng):
    """Replace a wav of 16 kHz by one with a fault."""
    size = path.stat().st_size
    if fault == "corrupt":
        path.write_bytes(rng.bytes(size))
    elif fault == "truncated":
        truncate(path, keep=rng.uniform(0.01, 0.99))
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "nan":
        write_nan_audio(path, (size - 44) / 2 / 16000)
    elif fault == "other_length":
        write_audio(path, tone(rng.uniform(0.1, 0.5)))
    else:
        path.unlink()


TINY_FRONTEND = {"name": "logmel", "num_mels": 80, "subsampling": "conv1d"}
TINY_ENCODER = {"num_layers": 2, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 5}


def tiny_config(config_class, encoder=None, **settings):
    """A structured config of model `birq` or `birq_ctc` with a very small encoder."""
    from omegaconf import OmegaConf

    small = {"frontend": TINY_FRONTEND, "encoder": {**TINY_ENCODER, **(encoder or {})}}
    return OmegaConf.merge(OmegaConf.structured(config_class), small, settings)


def write_birq_checkpoint(path, settings=None, train=None, **encoder):
    """A checkpoint of a tiny random model `birq`, as fairseq writes it; returns the model, that `train` was called with."""
    import torch
    from omegaconf import OmegaConf

    from fairseq_birq.config import BirqConfig
    from fairseq_birq.model import BirqModel

    settings = OmegaConf.merge({"quantizer": {"codebook_size": 16, "codebook_dim": 4}}, settings or {})
    cfg = tiny_config(BirqConfig, encoder=encoder, **settings)
    model = BirqModel.build_model(cfg)
    if train is not None:
        train(model)
    content = {**OmegaConf.to_container(cfg, enum_to_str=True), "_name": "birq"}
    torch.save({"cfg": {"model": content}, "model": model.state_dict()}, str(path))
    return model


def waveform_batch(*seconds, sample_rate=16000):
    """Padded tones: (B, S) float waveform, (B, S) bool padding_mask and (B,) ids."""
    import torch

    waves = [torch.from_numpy(tone(duration, sample_rate, seed)) for seed, duration in enumerate(seconds)]
    lengths = torch.tensor([len(wave) for wave in waves])
    waveform = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    padding_mask = torch.arange(waveform.shape[1])[None, :] >= lengths[:, None]
    return waveform, padding_mask, torch.arange(len(waves))


def write_labels(folder, manifest, num_shards=1, num_codebooks=2, codebook_size=64, seed=0, **info):
    """Random labels of a manifest (path of a `.tsv`) for the log-Mel frontend at 16 kHz; one (T, N) array per row."""
    from fairseq_birq.data import label_store
    from fairseq_birq.data.manifest import read_manifest

    manifest, rng = read_manifest(manifest), np.random.default_rng(seed)
    settings = dict(num_codebooks=num_codebooks, codebook_size=codebook_size, num_shards=num_shards, fingerprint=f"seed {seed}")
    settings.update(sample_rate=16000, first_frame_samples=880, frame_step_samples=640, source={"name": "raw_input"})
    settings.update(manifest_sha256=manifest.fingerprint(), num_utterances=len(manifest), command="birq-labels A B C", **info)
    info = label_store.LabelInfo(**settings)
    lengths = [info.grid.frames(count) for count in manifest.num_samples.tolist()]
    codes = [rng.integers(codebook_size, size=(length, num_codebooks)) for length in lengths]
    label_store.begin(folder, info)
    for shard in range(num_shards):
        rows = label_store.shard_rows(len(codes), shard, num_shards)
        label_store.write_shard(folder, info, shard, [codes[row] for row in rows])
    return codes


def looks_drawn(path, least_bytes=5000):
    """Whether a PNG opens and shows something: more than a few bytes, and pixels that differ."""
    from matplotlib.image import imread

    pixels = imread(str(path))[..., :3]
    return Path(path).stat().st_size > least_bytes and min(pixels.shape[:2]) > 100 and float(pixels.std()) > 0.02


def write_two_sounds(folder, split="train", utterances=6, seconds=2.4):
    """A corpus that alternates a low buzz `a` and high hiss `b` every 0.4 s, with its alignment `<split>.phn`."""
    folder, table = Path(folder), ["utt_index\tpath\tstart_s\tend_s\tphone"]
    rows, length = [str(folder.resolve())], int(0.4 * 16000)
    for index in range(utterances):
        rng = np.random.default_rng(index)
        noise = rng.standard_normal((round(seconds / 0.4), length))
        time = np.arange(length) / 16000
        sounds = [0.3 * np.sin(2 * np.pi * 200 * time) + 0.001 * noise[0], 0.1 * np.diff(noise[0], prepend=0.0)]
        kinds = [(index + place) % 2 for place in range(len(noise))]
        wave = np.concatenate([sounds[kind] for kind in kinds]).astype(np.float32)
        path = write_audio(folder / split / f"{index:04d}.flac", wave)
        rows.append(f"{path.relative_to(folder)}\t{wave.size}")
        for place, kind in enumerate(kinds):
            table.append(f"{index}\t{path.name}\t{0.4 * place:.1f}\t{0.4 * (place + 1):.1f}\t{'ab'[kind]}")
    (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    (folder / f"{split}.phn").write_text("\n".join(table) + "\n")
    return folder

"""k-means labels as HuBERT's (arXiv 2106.07447): of MFCC, or of a layer of an encoder.

    python experiments/kmeans_labels.py /data/mboshi runs/labels/mfcc pretrain dev --clusters 100
    python experiments/kmeans_labels.py /data/mboshi runs/labels/layer2 pretrain dev --clusters 100 --encoder CHECKPOINT --layer 2

MFCC: 13 cepstra, first and second differences, mean and variance normalised per utterance, the mean of the four 10 ms
frames of an encoder frame. Minibatch k-means of scikit-learn on all frames of the first split.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
from ladder_labels import GRID, write
from sklearn.cluster import MiniBatchKMeans

from fairseq_birq.data.manifest import read_manifest

FRAMES_PER_LABEL = 4  # of 10 ms


def mfcc(samples):
    """samples: (S,) float in [-1, 1] at 16 kHz -> (S // 160 - 1 or so, 39) float32"""
    import kaldi_native_fbank as knf

    options = knf.MfccOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = GRID.sample_rate
    options.num_ceps, options.mel_opts.num_bins = 13, 23
    computer = knf.OnlineMfcc(options)
    computer.accept_waveform(GRID.sample_rate, (samples * 32768).tolist())
    computer.input_finished()
    static = np.stack([computer.get_frame(t) for t in range(computer.num_frames_ready)])
    first = differences(static)
    found = np.concatenate([static, first, differences(first)], axis=1)
    return ((found - found.mean(0)) / found.std(0).clip(1e-5)).astype(np.float32)


def differences(x):
    """Regression over two frames on either side, as HTK's. x: (F, D)"""
    padded = np.pad(x, ((2, 2), (0, 0)), mode="edge")
    return (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10


def pooled(x, count):
    """The mean of every four frames; the last is repeated where there are too few. x: (F, D) -> (count, D)"""
    short = max(0, FRAMES_PER_LABEL * count - len(x))
    x = np.pad(x, ((0, short), (0, 0)), mode="edge")[: FRAMES_PER_LABEL * count]
    return x.reshape(count, FRAMES_PER_LABEL, -1).mean(1)


def mfcc_frames(data, split):
    """[(frames, 39) float per utterance]"""
    manifest, found = read_manifest(data / f"{split}.tsv"), []
    for row, samples in enumerate(manifest.num_samples.tolist()):
        audio, _ = soundfile.read(manifest.audio_path(row), dtype="float32")
        found.append(pooled(mfcc(audio), GRID.frames(samples)))
    return found


def layer_frames(checkpoint, layer, data, split):
    """[(frames, d) float per utterance], standardised over nothing: k-means sees the layer as it is."""
    from measures import hidden_states

    return [states[layer] for states in hidden_states(checkpoint, data / f"{split}.tsv")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("splits", nargs="+", help="the first one is clustered")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--encoder", type=Path, help="a checkpoint; MFCC without one")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    source = {"kmeans_of": f"layer {args.layer}" if args.encoder else "mfcc", "clusters": args.clusters, "seed": args.seed}
    clustering = None
    for split in args.splits:
        of = (args.encoder, args.layer, args.data, split)
        frames = layer_frames(*of) if args.encoder else mfcc_frames(args.data, split)
        if clustering is None:
            clustering = MiniBatchKMeans(args.clusters, batch_size=10000, n_init=5, max_iter=150, random_state=args.seed)
            clustering.fit(np.concatenate(frames))
        codes = [clustering.predict(utterance).astype(np.int64) for utterance in frames]
        write(args.out / split, read_manifest(args.data / f"{split}.tsv"), codes, args.clusters, source)


if __name__ == "__main__":
    main()

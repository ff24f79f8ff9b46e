"""What the labels and layers of a pre-trained checkpoint say about phones, on Mboshi: used by quality.py and regimes.py."""

import torch

from fairseq_birq.data.frame_labels import LabelStore
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.frames import collect, phones_of
from fairseq_birq.measures.label_quality import phone_measures
from fairseq_birq.measures.linear_probe import linear_accuracy
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.code_health import perplexity


def code_quality(codes, phones, num_codes):
    """PNMI, PNMI of shuffled phones, and perplexity, on frames that carry a phone."""
    known = phones >= 0
    found = phone_measures(codes[known], phones[known], num_codes)
    histograms = torch.stack([torch.bincount(column, minlength=num_codes) for column in codes[known].t()])
    return {"pnmi": found["pnmi"], "chance": found["pnmi_shuffled"], "perplexity": float(perplexity(histograms).mean())}


def stored_codes(folder):
    """(M, N) int64: the labels of all frames of a split, as `birq-labels` wrote them."""
    store = LabelStore(folder)
    parts = [store.codes(row, 0, store.num_frames(row)) for row in range(store.info.num_utterances)]
    return torch.cat([torch.from_numpy(part) for part in parts])


def measure(checkpoint, data):
    """Code quality of every active target source (dev: dev.limsi.phn; train: train.phn) and probe accuracy of every layer."""
    model = BirqModel.from_checkpoint(checkpoint)
    frontend, layers = model.speech_encoder.frontend, range(1, model.speech_encoder.encoder.num_layers + 1)
    computed = [name for name, source in model.targets.items() if source.active and name != "label_file"]
    dev_codes, dev_hidden = collect(model, data / "dev.tsv", computed, layers)
    train_codes, train_hidden = collect(model, data / "train.tsv", computed, layers)
    if "label_file" in model.targets:
        (folder,) = model.targets["label_file"].paths
        dev_codes["label_file"], train_codes["label_file"] = stored_codes(folder / "dev"), stored_codes(folder / "train")
    num_codes, ids = next(iter(model.heads.values())).weight.shape[1], {}
    limsi = phones_of(frontend, data / "dev.tsv", read_alignment(data / "dev.limsi.phn"), {})
    train_phones, dev_phones = (
        phones_of(frontend, data / f"{split}.tsv", read_alignment(data / f"{split}.phn"), ids) for split in ("train", "dev")
    )
    parts = {"dev": (dev_codes, limsi), "train": (train_codes, train_phones)}
    results = {
        name: {split: code_quality(codes[name], labels, num_codes) for split, (codes, labels) in parts.items()}
        for name in dev_codes
    }
    results["probe"] = [
        round(100 * linear_accuracy(train_hidden[layer], train_phones, dev_hidden[layer], dev_phones), 2) for layer in layers
    ]
    return results

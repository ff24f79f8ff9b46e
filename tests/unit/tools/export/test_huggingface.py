"""transformers computes what our Conformer does, without fairseq, this package or a network, and fine-tunes it."""

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fairseq_birq.checkpoint import load_checkpoint, load_encoder
from fairseq_birq.data.transcripts import from_subwords
from fairseq_birq.errors import UserError
from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.relabel.label_sources import LayerCodes, SourceCodes
from fairseq_birq.tools.relabel.labelling import make
from fairseq_birq.tools.transcribe.recogniser import load_recogniser
from fairseq_birq.tools.transcribe.words import words_of
from tests.fixtures import in_transformers
from tests.fixtures.audio import waveform_batch
from tests.fixtures.checkpoints import CTC_SYMBOLS, write_birq_checkpoint, write_ctc_checkpoint
from tests.fixtures.manifests import write_manifest

SECONDS = (1.5, 1.1, 0.8)
UNITS = {"▁": -3.0, "a": -2.0, "b": -2.5, "c": -3.5, "d": -4.0, "▁b": -2.2, "ad": -2.4, "▁cab": -3.0, "ab": -2.3, "▁ca": -9.0}
UNIT_SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", *UNITS]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(folder, pre-trained model, fine-tuned model, what transformers made of the exported ones)."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    folder = tmp_path_factory.mktemp("huggingface")
    encoder = write_birq_checkpoint(folder / "birq.pt", positions="relative", attention_window=3).eval()
    model = write_ctc_checkpoint(folder / "ctc.pt", upsample=2)
    content = torch.load(folder / "ctc.pt", weights_only=True)
    content["model"]["output.bias"].view(2, -1)[:, 1:4] = -100.0  # special symbols, which our decoders never write
    model.load_state_dict(content["model"])
    torch.save(content, folder / "ctc.pt")
    write_subwords_checkpoint(folder / "subwords.pt")
    export(folder / "subwords.pt", folder / "subwords", "huggingface")
    export(folder / "birq.pt", folder / "encoder", "huggingface")
    export(folder / "ctc.pt", folder / "recogniser", "huggingface")
    torch.save(waveform_batch(*SECONDS)[:2], folder / "batch.pt")
    code = Path(in_transformers.__file__)
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(code), str(folder)], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder, encoder, model, torch.load(folder / "found.pt", weights_only=True)


def write_subwords_checkpoint(path):
    """Special symbols, which our decoders never write, are unlikely in it, for transformers would write them."""
    write_ctc_checkpoint(path, UNIT_SYMBOLS)
    content = torch.load(path, weights_only=True)
    content["model"]["output.bias"][1:4] = -100.0
    content["task_state"]["unit_scores"] = list(UNITS.values())
    torch.save(content, path)


def test_hidden_states_of_all_layers(found):
    _, model, _, theirs = found
    with torch.no_grad():
        ours = model.speech_encoder(*waveform_batch(*SECONDS)[:2])
    valid, layers = ~ours.padding_mask, [ours.subsampled, *ours.layers]
    assert theirs["encoder_report"] == 0 and len(theirs["hidden"]) == len(layers) == 3
    assert not valid.all() and torch.equal(theirs["last"], theirs["hidden"][-1])
    for mine, other in zip(layers, theirs["hidden"]):
        assert mine[valid].abs().max() > 0.1 and torch.allclose(mine[valid], other[valid], atol=1e-5)


def test_scores_and_texts(found):
    folder, _, model, theirs = found
    waveform, padding_mask, _ = waveform_batch(*SECONDS)
    with torch.no_grad():
        ours = model(waveform, padding_mask)
    valid = ~ours.padding_mask
    assert theirs["ctc_report"] == 0 and torch.allclose(ours.logits[valid], theirs["logits"][valid], atol=1e-5)
    assert theirs["tokens"] == [CTC_SYMBOLS.index(letter) for letter in "ab|cd"]
    best = [logits[keep].argmax(-1).unique_consecutive().tolist() for logits, keep in zip(ours.logits, valid)]
    texts = ["".join(CTC_SYMBOLS[index] for index in row if index).replace("|", " ").strip() for row in best]
    assert len(set(texts)) == 3 and [" ".join(text.split()) for text in theirs["texts"]] == [" ".join(x.split()) for x in texts]
    assert theirs["times"][0][0] >= 0 and SECONDS[0] - 0.2 < theirs["times"][-1][1] <= SECONDS[0]


def test_a_pretrained_encoder_has_no_letters_until_it_is_given_some(found):
    theirs = found[3]
    assert "a pre-trained encoder, which knows no letters" in theirs["encoder_as_ctc"]
    width, spread, same = theirs["new_head"]
    assert width == 7 and 0.01 < spread < 1 and same


def test_trainer_trains_all_weights_and_the_way_back(found):
    folder, _, _, theirs = found
    if "losses" not in theirs:
        pytest.skip("accelerate, which Trainer needs, is not installed")
    assert len(theirs["losses"]) == 2 and all(0 < loss < 1000 for loss in theirs["losses"])
    assert theirs["unchanged"] == [] and theirs["saved"]
    again = load_recogniser(folder / "tuned_recogniser", device="cpu")
    assert again.symbols == CTC_SYMBOLS
    ours = {name.replace("birq.", "", 1): value for name, value in theirs["tuned"].items()}
    assert all(torch.equal(value, ours[name]) for name, value in again.model.state_dict().items())


def test_subword_units(found, tmp_path):
    folder, theirs = found[0], found[3]["subwords"]
    merged = [[unit for unit, _ in itertools.groupby(row) if unit] for row in theirs["best"]]
    texts = [from_subwords(UNIT_SYMBOLS[unit] for unit in row) for row in merged]
    assert theirs["batch"] == texts and max(map(len, texts)) > 3
    recogniser = load_recogniser(folder / "subwords", device="cpu")
    waves = [wave[~padding].numpy() for wave, padding in zip(*torch.load(folder / "batch.pt", weights_only=True))]
    ours = [
        words_of(nbest[0], UNIT_SYMBOLS, recogniser.frame_seconds, 0.0, 9.0)
        for nbest in recogniser.decoder()(*recogniser.log_probs(waves))
    ]
    assert theirs["texts"] == [" ".join(word.text for word in words) for words in ours]
    assert [word for word, _, _ in theirs["words"]] == [word.text for word in ours[0]] and len(ours[0]) > 2
    for (_, start, end), word in zip(theirs["words"], ours[0]):
        assert (start, end) == pytest.approx((word.start_s, word.end_s), abs=0.011)
    assert "".join(part for part, _, _ in theirs["parts"]).split() == theirs["texts"][0].split()
    assert theirs["spelt"] == ["▁cab", "▁b", "ad", "▁", "c", "ad", "▁", "x", "c", "ab"]  # and not "▁ca d", the longest units
    assert theirs["units"] == [unit if unit in UNITS else "<unk>" for unit in theirs["spelt"]]
    assert theirs["again"] == "bad bad cab" and theirs["size"] == len(UNIT_SYMBOLS)
    if "losses" in theirs:
        assert len(theirs["losses"]) == 2 and theirs["unchanged"] == [] and theirs["saved"]
        state = load_checkpoint(folder / "tuned_subwords")["task_state"]
        assert state == {"symbols": UNIT_SYMBOLS, "unit_scores": list(UNITS.values())}


def test_labels_of_the_folder_are_those_of_the_checkpoint(tmp_path):
    write_birq_checkpoint(tmp_path / "birq.pt")
    export(tmp_path / "birq.pt", tmp_path / "folder", "huggingface")
    manifest = write_manifest(tmp_path / "audio", "train", (1.0, 1.5)) / "train.tsv"
    for name in ("birq.pt", "folder"):
        make(tmp_path / name, manifest, tmp_path / f"of_{name}", LayerCodes(2), device="cpu")
    ours, theirs = (np.load(tmp_path / f"of_{name}" / "codes-0-of-1.npy") for name in ("birq.pt", "folder"))
    assert len(set(ours.flatten().tolist())) > 10 and np.array_equal(ours, theirs)
    with pytest.raises(UserError, match="folder is an encoder without its targets, as exports are"):
        make(tmp_path / "folder", manifest, tmp_path / "source", SourceCodes("raw_input"), device="cpu")
    with pytest.raises(UserError, match="audio: is a folder; make manifests of its audio with `birq-manifest"):
        make(tmp_path / "folder", tmp_path / "audio", tmp_path / "of_audio", LayerCodes(2), device="cpu")


def test_the_folder_holds_the_one_model_there_is(tmp_path):
    """Every file is a file of the package, but for its first line and its imports, and all that it imports is there."""
    write_birq_checkpoint(tmp_path / "birq.pt")
    files = export(tmp_path / "birq.pt", tmp_path / "out", "huggingface")
    code = {path.stem: path.read_text() for path in (tmp_path / "out").glob("*.py")}
    assert {"modeling_birq", "configuration_birq", "encoders_conformer", "modules_attention"} <= set(code)
    assert not any("import fairseq" in text or "from fairseq" in text for text in code.values())
    imported = {line.split()[1] for text in code.values() for line in text.splitlines() if line.lstrip().startswith("from .")}
    assert {name.lstrip(".") for name in imported} <= set(code) and "vocab.json" not in files
    package = Path(in_transformers.__file__).parents[2] / "fairseq_birq"
    original = (package / "encoders" / "conformer.py").read_text().splitlines()
    copied = code["encoders_conformer"].splitlines()[1:]
    assert [line for line in copied if " import " not in line] == [line for line in original if " import " not in line]


def test_the_model_card(tmp_path):
    model = write_ctc_checkpoint(tmp_path / "ctc.pt")
    content = torch.load(tmp_path / "ctc.pt", weights_only=True)
    content["cfg"]["task"] = {"data": "/home/someone/mboshi"}
    content["cfg"]["model"]["initialized_from"] = "/home/someone/birq.pt"
    torch.save({**content, "optimizer_history": [{"num_updates": 300}]}, tmp_path / "ctc.pt")
    export(tmp_path / "ctc.pt", tmp_path / "plain", "huggingface")
    card = (tmp_path / "plain" / "README.md").read_text()
    for text in ("license: other", "Manifests in `mboshi`.", "300 updates", "CTC over 9 symbols", "| `encoder.dim` | 16 |"):
        assert text in card
    assert card.count("o fill in**") + card.count("o fill in:**") == 2 and "someone" not in card
    export(tmp_path / "ctc.pt", tmp_path / "told", "huggingface", data="Mboshi, 4 h.", licence="cc-by-4.0")
    card = (tmp_path / "told" / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "- Mboshi, 4 h." in card and "fill in" not in card
    root = Path(in_transformers.__file__).parents[2]
    assert (tmp_path / "told" / "LICENSE").read_text() == (root / "LICENSE").read_text()
    again = load_encoder(tmp_path / "told").state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.speech_encoder.state_dict().items())


@pytest.mark.parametrize(
    "symbols, said",
    [(["<s>", "<pad>", "</s>", "<unk>", "\u2581the", "a"], "holds no probabilities of its subword"), (None, "holds no letters")],
)
def test_a_vocabulary_without_a_tokenizer_is_one_sentence(symbols, said, tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    content = torch.load(tmp_path / "ctc.pt", weights_only=True)
    torch.save({**content, "task_state": {"symbols": symbols}}, tmp_path / "ctc.pt")
    with pytest.raises(UserError, match=said):
        export(tmp_path / "ctc.pt", tmp_path / "out", "huggingface")
    assert [path.name for path in tmp_path.iterdir()] == ["ctc.pt"]


def test_an_encoder_that_is_neither_kind_is_one_sentence(tmp_path):
    write_birq_checkpoint(tmp_path / "birq.pt", {"frontend": {"name": "waveform", "waveform_dim": 24}})
    with pytest.raises(UserError, match="this checkpoint has waveform and conformer"):
        export(tmp_path / "birq.pt", tmp_path / "out", "huggingface")

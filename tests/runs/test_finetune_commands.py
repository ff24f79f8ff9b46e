"""Fine-tuning and decoding through fairseq's own command lines."""

import re

import editdistance
import pytest
import torch

from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.commands import command, generate
from tests.fixtures.manifests import write_manifest

TEXTS = ["a cab", "bad dad", "a bad cab", "dad"]
ARPA = """\\data\\
ngram 1=6
ngram 2=1

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.3
-1.0\t</s>\t0
-0.7\ta\t-0.2
-0.9\tcab\t0
-0.5\tdad\t0

\\2-grams:
-0.1\ta cab

\\end\\
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, repository):
    """A folder with `data` and, fine-tuned from a checkpoint that is gone since, `model/checkpoint_best.pt`."""
    folder = tmp_path_factory.mktemp("finetune")
    for split in ("train", "valid", "test"):
        write_manifest(folder / "data", split, seconds=(1.0, 1.5, 2.0, 2.5), texts=TEXTS)
    write_birq_checkpoint(folder / "pretrained.pt", num_layers=3)
    log = train(repository, folder, f"model.pretrained_path={folder}/pretrained.pt")
    (folder / "pretrained.pt").unlink()
    (folder / "log.txt").write_text(log)
    return folder


def train(repository, folder, *overrides, status=0):
    return command(
        "fairseq-hydra-train",
        *("--config-dir", repository / "examples" / "finetune", "--config-name", "debug"),
        f"common.user_dir={repository / 'fairseq_birq'}",
        f"task.data={folder / 'data'}",
        f"checkpoint.save_dir={folder / 'model'}",
        f"hydra.run.dir={folder / 'hydra'}",
        *overrides,
        status=status,
    )


def printed(output, kind):
    """{utterance: texts} of fairseq-generate's T- or D- lines, best first."""
    texts = {}
    for line in output.splitlines():
        match = re.match(rf"{kind}-(\d+)\t(.*)", line)
        if match:
            texts.setdefault(int(match.group(1)), []).append(match.group(2).split("\t")[-1])
    return texts


def word_error_rate(output):
    guesses = printed(output, "D")
    pairs = [(text[0].split(), guesses[row][0].split()) for row, text in printed(output, "T").items()]
    return 100.0 * sum(editdistance.eval(*pair) for pair in pairs) / sum(len(truth) for truth, _ in pairs)


def test_fine_tuning_logs_wer_and_picks_the_best_by_it(run):
    log = (run / "log.txt").read_text()
    rates = [float(rate) for rate in re.findall(r'"valid_wer": "([\d.]+)"', log)]
    best = [float(rate) for rate in re.findall(r'"valid_best_wer": "([\d.]+)"', log)]
    assert len(rates) == 5 and best[-1] == min(rates)
    assert '"valid_cer"' in log and '"train_too_long_targets"' in log


def test_the_checkpoint_holds_an_encoder_and_an_output_layer_alone(run):
    checkpoint = torch.load(str(run / "model" / "checkpoint_best.pt"), map_location="cpu", weights_only=True)
    assert {name.split(".")[0] for name in checkpoint["model"]} == {"speech_encoder", "output"}
    settings = checkpoint["cfg"]["model"]
    assert settings["encoder"]["num_layers"] == 3 and settings["pretrained_path"] is None
    assert settings["initialized_from"].endswith("pretrained.pt")


def test_greedy_decoding_after_the_pretrained_file_is_gone(run, repository):
    output = generate(repository, run)
    assert {row: texts[0] for row, texts in printed(output, "T").items()} == dict(enumerate(TEXTS))
    assert len(re.findall(r"^H-\d+\t", output, re.M)) == len(TEXTS)
    rate = float(re.search(r"Generate test with beam=\d+: WER: ([\d.]+)", output).group(1))
    assert rate == pytest.approx(word_error_rate(output), abs=0.01)
    logged = re.search(r"WER: ([\d.]+) % of 8 words, CER: ([\d.]+) % of 24 characters", output)
    assert float(logged.group(1)) == pytest.approx(rate, abs=0.01)


def test_the_last_line_is_of_words_without_post_process_letter_too(run, repository):
    output = generate(repository, run, post_process=())
    last = float(re.search(r"Generate test with beam=\d+: WER: ([\d.]+)", output).group(1))
    assert last == pytest.approx(float(re.search(r"WER: ([\d.]+) % of 8 words", output).group(1)), abs=0.01)
    assert {row: texts[0] for row, texts in printed(output, "T").items()} == dict(enumerate(TEXTS))


def test_audio_without_transcripts_and_dictionary(run, repository):
    write_manifest(run / "audio", "test", seconds=(1.0, 1.5))
    output = generate(repository, run, data="audio")
    assert len(printed(output, "D")) == 2 and not printed(output, "T")
    assert "decoded without scoring" in output and "WER" not in output
    assert output.count("Traceback") == 0


def test_lexicon_decoding_with_a_language_model_and_nbest(run, repository):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    (run / "lexicon.txt").write_text("a\ta |\ncab\tc a b |\ndad\td a d |\n")
    (run / "lm.arpa").write_text(ARPA)
    files = ("--lexicon", run / "lexicon.txt", "--kenlm", run / "lm.arpa")
    weights = ("--lm-weight", 2, "--word-score", 4, "--beam", 50, "--nbest", 3)
    output = generate(repository, run, *files, *weights)
    guesses = printed(output, "D")
    assert all(len(texts) == 3 for texts in guesses.values()) and len(guesses) == len(TEXTS)
    words = {word for texts in guesses.values() for text in texts for word in text.split()}
    assert words and words <= {"a", "cab", "dad"}
    rate = float(re.search(r"Generate test with beam=50: WER: ([\d.]+)", output).group(1))
    assert rate == pytest.approx(word_error_rate(output), abs=0.01)


def test_mistakes_end_with_one_line_and_exit_status_2(run, repository):
    output = generate(repository, run, "--nbest", 3, status=2)
    assert "--nbest 3 would have no effect" in output and "Traceback" not in output
    output = generate(repository, run, "--decoder", "lexicon", "--lexicon", run / "nowhere.txt", status=2)
    assert "nowhere.txt does not exist" in output and "Traceback" not in output
    output = train(repository, run, f"model.pretrained_path={run}/pretrained.pt", f"hydra.run.dir={run}/2", status=2)
    assert "pretrained.pt does not exist" in output and "Traceback" not in output


UNITS = {"a": "▁a", "cab": "▁c ab", "bad": "▁b ad", "dad": "▁d ad"}


def test_subword_units_in_training_decoding_and_with_a_lexicon(run, repository, tmp_path):
    """As `birq-subwords` writes them, but written by hand: SentencePiece need not be there."""
    data, names = run / "data", sorted({unit for spelt in UNITS.values() for unit in spelt.split()})
    for split in ("train", "valid", "test"):
        lines = [" ".join(UNITS[word] for word in text.split()) for text in TEXTS]
        (data / f"{split}.spm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (data / "dict.spm.txt").write_text("".join(f"{unit} 1\n" for unit in names), encoding="utf-8")
    (data / "lexicon.spm.txt").write_text("".join(f"{word}\t{spelt}\n" for word, spelt in UNITS.items()), encoding="utf-8")
    (tmp_path / "data").symlink_to(data)
    log = train(repository, tmp_path, "task.labels=spm", "model.upsample=1")
    rates = [float(rate) for rate in re.findall(r'"valid_wer": "([\d.]+)"', log)]
    assert len(rates) == 5 and re.search(r'"valid_best_wer": "([\d.]+)"', log)
    checkpoint = torch.load(str(tmp_path / "model" / "checkpoint_best.pt"), map_location="cpu", weights_only=True)
    assert checkpoint["task_state"]["symbols"][4:] == names and len(checkpoint["model"]["output.bias"]) == 4 + len(names)

    options = ("--labels", "spm", "--lexicon", data / "lexicon.spm.txt", "--word-score", 4, "--beam", 50, "--nbest", 3)
    output = generate(repository, tmp_path, *options, post_process=("--post-process", "sentencepiece"))
    assert {row: texts[0] for row, texts in printed(output, "T").items()} == dict(enumerate(TEXTS))
    guesses = printed(output, "D")
    assert len(guesses) == len(TEXTS) and all(len(texts) == 3 for texts in guesses.values())
    words = {word for texts in guesses.values() for text in texts for word in text.split()}
    assert words and words <= set(UNITS)
    rate = float(re.search(r"Generate test with beam=50: WER: ([\d.]+)", output).group(1))
    assert rate == pytest.approx(word_error_rate(output), abs=0.01)

import logging
from types import SimpleNamespace

import pytest
import torch
from fairseq.data.data_utils import post_process
from fairseq.dataclass.configs import GenerationConfig
from omegaconf import OmegaConf

from fairseq_birq.config import AsrTaskConfig, BirqCtcConfig, BirqCtcCriterionConfig
from fairseq_birq.decoding import DECODERS
from fairseq_birq.doors.asr_task import AsrTask
from fairseq_birq.doors.configs import as_fairseq
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

TEXTS = ["a cab", "bad dad", "a bad cab"]


@pytest.fixture
def folder(tmp_path):
    return write_manifest(tmp_path / "data", "train", seconds=(1.0, 1.5, 2.0), texts=TEXTS)


def make_task(folder, **settings):
    return AsrTask.setup_task(OmegaConf.merge(OmegaConf.structured(AsrTaskConfig), {"data": str(folder), **settings}))


def stops_with(caplog, message, function, *args, **kwargs):
    with pytest.raises(SystemExit) as stop:
        function(*args, **kwargs)
    assert stop.value.code == 2 and message in caplog.text, caplog.text


def test_targets_are_the_letters_of_the_transcripts(folder):
    task = make_task(folder)
    task.load_dataset("train")
    dataset = task.dataset("train")
    batch = dataset.collater([dataset[index] for index in range(3)])
    texts = [task.text(row[:length]) for row, length in zip(batch["target"], batch["target_lengths"])]
    assert texts == TEXTS
    assert batch["target"].dtype == torch.long and (batch["target"][0, 6:] == task.dictionary.pad()).all()


def test_text_is_what_fairseq_s_post_process_letter_makes(folder):
    task = make_task(folder)
    tokens = task.dictionary.encode_line("| b a d | | d a |", append_eos=False, add_if_not_exist=False)
    assert task.text(tokens) == "bad da"
    assert task.text(tokens).split() == post_process("| b a d | | d a |", "letter").split()


@pytest.mark.parametrize("option", [None, "letter"])
def test_fairseq_prints_words_with_and_without_post_process_letter(folder, option):
    tokens = make_task(folder).dictionary.encode_line("| b a d | | d a |", append_eos=False, add_if_not_exist=False)
    assert make_task(folder).dictionary.string(tokens, option) == "bad da"


def test_post_processing_that_does_not_fit_letters(folder, caplog):
    stops_with(caplog, "`--post-process sentencepiece`", make_task(folder).dictionary.string, torch.tensor([4]), "sentencepiece")


def test_a_letter_that_the_dictionary_lacks(folder, caplog):
    (folder / "train.ltr").write_text("a |\nb a d |\na x |\n")
    stops_with(caplog, "train.ltr, line 3: the dictionary lacks the letter 'x';", make_task(folder).load_dataset, "train")
    (folder / "train.ltr").write_text("a |\nb A d |\na |\n")
    stops_with(caplog, "line 2: the dictionary lacks the letter 'A', but has 'a'", make_task(folder).load_dataset, "train")


def test_a_label_file_with_another_number_of_lines(folder, caplog):
    (folder / "train.ltr").write_text("a |\nb a d |\n")
    stops_with(caplog, "train.ltr: has 2 lines", make_task(folder).load_dataset, "train")


def test_a_missing_label_file(folder, caplog):
    (folder / "train.ltr").unlink()
    stops_with(caplog, "train.ltr: no such file", make_task(folder).load_dataset, "train")


@pytest.mark.parametrize("content, message", [("", "has no letters"), ("ab\n", "symbol count")])
def test_a_bad_dictionary(folder, caplog, content, message):
    (folder / "dict.ltr.txt").write_text(content)
    stops_with(caplog, message, make_task, folder)


def ctc_config():
    return tiny_config(BirqCtcConfig, _name="birq_ctc")


def test_training_without_a_dictionary(folder, caplog):
    (folder / "dict.ltr.txt").unlink()
    stops_with(caplog, "no such dictionary", make_task(folder).build_model, ctc_config())


def test_decoding_an_old_checkpoint_without_letters_needs_the_dictionary_of_the_folder(folder, caplog):
    letters = make_task(folder).symbols
    (folder / "dict.ltr.txt").rename(folder / "kept.txt")
    task = make_task(folder)
    task.load_state_dict({})
    stops_with(caplog, "no such dictionary", task.build_model, ctc_config(), from_checkpoint=True)
    (folder / "kept.txt").rename(folder / "dict.ltr.txt")
    task = make_task(folder)
    task.load_state_dict({})
    task.build_model(ctc_config(), from_checkpoint=True)
    assert task.symbols == letters


def test_training_with_a_checkpoint_of_another_dictionary(folder, caplog):
    task = make_task(folder)
    task.build_criterion(OmegaConf.structured(as_fairseq(BirqCtcCriterionConfig)(_name="birq_ctc")))
    task.load_state_dict(task.state_dict())
    stops_with(caplog, "another dictionary than", task.load_state_dict, {"symbols": task.symbols[::-1]})


@pytest.mark.parametrize("has_dictionary", [True, False])
def test_decoding_takes_the_letters_of_the_checkpoint(folder, has_dictionary):
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "|", "d", "c", "b", "a", "z"]
    if not has_dictionary:
        (folder / "dict.ltr.txt").unlink()
    task = make_task(folder)
    held = task.target_dictionary  # as fairseq-generate does, before it reads the checkpoint
    task.load_state_dict({"symbols": symbols})
    model = task.build_model(ctc_config(), from_checkpoint=True)
    assert held is task.target_dictionary and held.symbols == symbols and model.output.out_features == len(symbols)
    task.load_dataset("train")
    assert [task.text(row) for row in task.dataset("train").letters] == TEXTS
    task.load_state_dict({"symbols": symbols})


def test_training_compiles_layers_and_decoding_does_not(folder):
    cfg = tiny_config(BirqCtcConfig, _name="birq_ctc", compile_layers=True)
    task = make_task(folder)
    assert task.build_model(cfg).speech_encoder.encoder.compiles
    assert not task.build_model(cfg, from_checkpoint=True).speech_encoder.encoder.compiles


def test_models_of_different_letters_are_not_averaged(folder, caplog):
    task = make_task(folder)
    task.load_state_dict(task.state_dict())
    stops_with(caplog, "cannot be averaged", task.load_state_dict, {"symbols": task.symbols[::-1]})


def test_letters_that_the_checkpoint_lacks_count_as_errors(folder, caplog):
    task = make_task(folder)
    task.load_state_dict({"symbols": ["<s>", "<pad>", "</s>", "<unk>", "|", "a", "b", "d"]})
    model = task.build_model(ctc_config(), from_checkpoint=True)
    task.load_dataset("train")
    assert "'c' (2 times)" in caplog.text and model.output.out_features == 8
    assert [task.text(row) for row in task.dataset("train").letters] == TEXTS


def test_audio_without_transcripts_is_decoded_and_not_scored(folder, caplog):
    (folder / "train.ltr").unlink()
    task = make_task(folder)
    model = task.build_model(ctc_config(), from_checkpoint=True).eval()
    task.load_dataset("train")
    sample = task.dataset("train").collater([task.dataset("train")[index] for index in range(3)])
    task.batches_left = 1
    with caplog.at_level(logging.INFO):
        found = task.inference_step(task.build_generator([model], given()), [model], sample)
    assert len(found) == 3 and sample["target"] is None
    assert "decoded without scoring" in caplog.text and "WER" not in caplog.text


def test_transcripts_without_a_word_give_no_error_rate(folder, caplog):
    (folder / "train.ltr").write_text("\n\n\n")
    task = make_task(folder)
    model = task.build_model(ctc_config(), from_checkpoint=True).eval()
    task.load_dataset("train")
    sample = task.dataset("train").collater([task.dataset("train")[index] for index in range(3)])
    task.batches_left = 1
    with caplog.at_level(logging.INFO):
        task.inference_step(task.build_generator([model], given()), [model], sample)
    assert "decoded without scoring" in caplog.text and "inf" not in caplog.text


def test_validation_needs_transcripts(folder, caplog):
    (folder / "train.ltr").unlink()
    task = make_task(folder)
    task.build_model(ctc_config(), from_checkpoint=True)  # as fairseq-validate does
    task.build_criterion(OmegaConf.structured(as_fairseq(BirqCtcCriterionConfig)(_name="birq_ctc")))
    stops_with(caplog, "train.ltr: no such file", task.load_dataset, "train")


def given(**options):
    """fairseq-generate's options as it parses them."""
    return OmegaConf.merge(OmegaConf.structured(GenerationConfig), options)


@pytest.mark.parametrize(
    "settings, options, said",
    [
        ({}, {"nbest": 3}, "--nbest 3"),
        ({}, {"beam": 50}, "--beam 50"),
        ({}, {"lm_weight": 2.0}, "--lm-weight 2.0"),
        ({"kenlm": "x.arpa"}, {}, "--kenlm x.arpa"),
        ({"word_score": -1.0}, {}, "--word-score -1.0"),
        ({"sil_weight": 0.5}, {}, "--sil-weight 0.5"),
        ({"beam_size_token": 5}, {}, "--beam-size-token 5"),
        ({"beam_threshold": 10.0}, {}, "--beam-threshold 10.0"),
        ({"decoder": "greedy", "lexicon": "x.txt"}, {}, "leave out `--decoder greedy`"),
        ({"lexicon": "x.txt"}, {"lm_weight": 2.0}, "--lm-weight weighs a language model"),
        ({}, {"lenpen": 0.5}, "--lenpen: CTC decoding has no such thing"),
        ({}, {"sampling": True, "temperature": 2.0}, "--sampling, --temperature"),
    ],
)
def test_no_decoding_option_is_ignored(folder, caplog, settings, options, said):
    stops_with(caplog, said, make_task(folder, **settings).build_generator, [], given(**options))


def test_a_lexicon_alone_chooses_its_decoder(folder):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    (folder / "lexicon.txt").write_text("bad\tb a d |\n")
    generator = make_task(folder, lexicon=str(folder / "lexicon.txt")).build_generator([], given())
    assert isinstance(generator.decoder, DECODERS["lexicon"])
    assert isinstance(make_task(folder).build_generator([], given()).decoder, DECODERS["greedy"])


def test_decoding_options_in_training_are_said_to_have_no_effect(folder, caplog):
    task = make_task(folder, kenlm="x.arpa", lexicon="x.txt")
    task.build_criterion(OmegaConf.structured(as_fairseq(BirqCtcCriterionConfig)(_name="birq_ctc")))
    assert "task.lexicon, task.kenlm: for fairseq-generate alone" in caplog.text


def test_words_that_scoring_adds_to_the_dictionary_change_nothing(folder):
    task = make_task(folder)
    before = list(task.symbols)
    task.dictionary.encode_line("some new words", add_if_not_exist=True)
    assert task.symbols == before and task.state_dict() == {"symbols": before}


@pytest.mark.parametrize("max_tokens, expected", [(12000, 1600000), (20000, 32000), (500000, 500000)])
def test_decoding_skips_nothing_whatever_max_tokens(folder, max_tokens, expected, caplog):
    task = make_task(folder)
    task.load_dataset("train")
    with caplog.at_level(logging.INFO):
        iterator = task.get_batch_iterator(dataset=task.dataset("train"), max_tokens=max_tokens)
    rows = sorted(index for batch in iterator.frozen_batches for index in batch)
    assert rows == [0, 1, 2]
    assert (f"to {expected} samples" in caplog.text) == (expected != max_tokens)


def test_training_keeps_the_limit_that_was_set(folder):
    task = make_task(folder)
    task.load_dataset("train")
    iterator = task.get_batch_iterator(dataset=task.dataset("train"), max_tokens=26000, ignore_invalid_inputs=True)
    assert sorted(index for batch in iterator.frozen_batches for index in batch) == [0, 1]


def test_training_at_another_sample_rate_than_the_model_s(folder, caplog):
    task = make_task(folder, sample_rate=8000)
    cfg = tiny_config(BirqCtcConfig, _name="birq_ctc")
    stops_with(caplog, "`task.sample_rate` is 8000, but the model's frontend wants 16000", task.build_model, cfg)


def test_decoding_takes_the_sample_rate_from_the_checkpoint(folder):
    task = make_task(folder, sample_rate=8000)
    task.build_model(tiny_config(BirqCtcConfig, _name="birq_ctc"), from_checkpoint=True)
    task.load_dataset("train")
    assert task.dataset("train").sample_rate == 16000


def test_the_model_config_keeps_what_the_pretrained_checkpoint_gave(folder, tmp_path):
    write_birq_checkpoint(tmp_path / "pretrained.pt", dim=24)
    cfg = tiny_config(BirqCtcConfig, _name="birq_ctc", pretrained_path=str(tmp_path / "pretrained.pt"))
    plain = OmegaConf.create(OmegaConf.to_container(cfg, enum_to_str=True))
    for saved in (cfg, plain):
        make_task(folder).build_model(saved)
        assert saved.encoder.dim == 24 and saved.pretrained_path is None
        assert saved.initialized_from == str(tmp_path / "pretrained.pt")


def test_several_models_are_averaged_in_probability(folder):
    task = make_task(folder)
    models = [task.build_model(tiny_config(BirqCtcConfig, _name="birq_ctc")).eval() for _ in range(2)]
    task.load_dataset("train")
    sample = task.dataset("train").collater([task.dataset("train")[0]])
    generator = task.build_generator(models, SimpleNamespace(beam=5, nbest=1, lm_weight=0.0))
    seen = []
    generator.decoder = lambda log_probs, lengths: seen.append(log_probs) or [[]]
    with torch.no_grad():
        generator.generate(models, sample)
        expected = sum(m.get_normalized_probs(m(**sample["net_input"]), log_probs=False) for m in models) / 2
    assert torch.allclose(seen[0].exp(), expected, atol=1e-6)


def test_a_language_model_without_weight_is_reported(folder, caplog):
    task = make_task(folder, decoder="lexicon", lexicon="nowhere.txt", kenlm="nowhere.arpa")
    with pytest.raises(SystemExit):
        task.build_generator([], SimpleNamespace(beam=5, nbest=1, lm_weight=0.0))
    assert "no influence: --lm-weight is 0" in caplog.text


def test_lexicon_decoding_without_a_lexicon_says_so(folder, caplog):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    task = make_task(folder, decoder="lexicon")
    stops_with(caplog, "--lexicon", task.build_generator, [], SimpleNamespace(beam=5, nbest=1, lm_weight=0.0))


def test_shards_of_a_decoding_job_share_its_utterances(folder):
    task = make_task(folder)
    task.load_dataset("train")
    shares = []
    for shard in range(2):
        iterator = task.get_batch_iterator(task.dataset("train"), max_sentences=1, num_shards=2, shard_id=shard)
        shares.append([batch["id"].item() for batch in iterator.next_epoch_itr(shuffle=False) if batch])
        task.dataset_to_epoch_iter.clear()  # another process has a task of its own
    assert sorted(sum(shares, [])) == [0, 1, 2] and all(shares)


UNITS = ["▁a ▁c ab", "▁bad ▁d ad", "▁a ▁bad ▁c ab"]


@pytest.fixture
def subwords(folder):
    """The corpus in subword units, as birq-subwords writes them."""
    symbols = sorted({unit for line in UNITS for unit in line.split()})
    (folder / "train.spm").write_text("".join(f"{line}\n" for line in UNITS))
    (folder / "dict.spm.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    (folder / "spm.vocab").write_text("<unk>\t0\n" + "".join(f"{symbol}\t-{row}.5\n" for row, symbol in enumerate(symbols)))
    return folder


@pytest.mark.parametrize("option", [None, "sentencepiece"])
def test_subword_units_are_printed_and_scored_as_words(subwords, option):
    task = make_task(subwords, labels="spm")
    task.load_dataset("train")
    rows = task.dataset("train").letters
    assert [task.text(row) for row in rows] == [task.dictionary.string(row, option) for row in rows] == TEXTS
    assert post_process(UNITS[2], "sentencepiece") == TEXTS[2]


@pytest.mark.parametrize("wrong", ["letter", "subword_nmt"])
def test_post_processing_that_does_not_fit_subword_units(subwords, caplog, wrong):
    said = f"`--post-process {wrong}` does not fit subword units; leave it out, or write `--post-process sentencepiece`"
    stops_with(caplog, said, make_task(subwords, labels="spm").dictionary.string, torch.tensor([4]), wrong)


def test_a_checkpoint_holds_its_subword_units_with_their_scores(subwords):
    task = make_task(subwords, labels="spm")
    assert task.state_dict() == {"symbols": task.symbols, "unit_scores": [-0.5, -1.5, -2.5, -3.5, -4.5, -5.5]}
    (subwords / "spm.vocab").unlink()  # units that another program made
    other = make_task(subwords, labels="spm")
    assert other.state_dict() == {"symbols": task.symbols}
    other.load_state_dict(task.state_dict())
    assert other.state_dict() == task.state_dict()
    assert "unit_scores" not in make_task(subwords).state_dict()


def test_a_model_of_other_subword_units_than_the_dictionary(subwords, caplog):
    (subwords / "spm.vocab").write_text("<unk>\t0\n▁a\t-1\n")
    stops_with(caplog, "spm.vocab has other units than the dictionary beside it (1 and 6)", make_task, subwords, labels="spm")
    (subwords / "spm.vocab").write_text("<unk>\t0\n▁a b\n")
    stops_with(caplog, "spm.vocab, line 2: must be `unit<TAB>score`", make_task, subwords, labels="spm")


def test_transcripts_in_other_units_than_the_checkpoint_s(subwords, caplog):
    letters, units = make_task(subwords).state_dict(), make_task(subwords, labels="spm").state_dict()
    task = make_task(subwords)
    task.load_state_dict(units)
    task.build_model(ctc_config(), from_checkpoint=True)
    stops_with(caplog, "train.ltr has letters, but the checkpoint writes subword units: name", task.load_dataset, "train")
    task = make_task(subwords, labels="spm")
    task.load_state_dict(letters)
    task.build_model(ctc_config(), from_checkpoint=True)
    stops_with(caplog, "train.spm has subword units, but the checkpoint writes letters", task.load_dataset, "train")


def test_a_character_without_a_unit(subwords, caplog):
    (subwords / "train.spm").write_text("▁a\n▁c x\n▁a\n")
    task = make_task(subwords, labels="spm")
    stops_with(caplog, "train.spm, line 2: the dictionary lacks the letter 'x'", task.load_dataset, "train")
    task.build_model(ctc_config(), from_checkpoint=True)
    task.load_dataset("train")
    assert "'x' (1 times); each of them counts as an error" in caplog.text
    assert task.text(task.dataset("train").letters[1]) == "cx"

"""The upstream keeps s3prl's contract, and runs in s3prl itself where that is installed."""

import importlib.util
import re
import sys

import pytest
import torch

from fairseq_birq.tools.export.folder import export


@pytest.fixture
def upstream(conformer, tmp_path):
    """The exported folder, imported as a package of another name."""
    folder = tmp_path / "birq_upstream"
    assert export(conformer[0], folder, "s3prl") == ["__init__.py", "expert.py", "hubconf.py", "model.safetensors"]
    place = dict(submodule_search_locations=[str(folder)])
    spec = importlib.util.spec_from_file_location("birq_upstream", folder / "__init__.py", **place)
    sys.modules["birq_upstream"] = importlib.util.module_from_spec(spec)
    yield importlib.import_module("birq_upstream.hubconf").fairseq_birq(str(folder / "model.safetensors"))
    for name in [name for name in sys.modules if name.startswith("birq_upstream")]:
        del sys.modules[name]


def test_lists_of_waveforms_give_lists_of_hidden_states(upstream, conformer, batch):
    waveform, padding_mask = batch
    with torch.no_grad():
        found = upstream([wave[~padding] for wave, padding in zip(waveform, padding_mask)])["hidden_states"]
        expected = conformer[1].speech_encoder(waveform, padding_mask)
    assert len(found) == 1 + len(expected.layers) and upstream.get_downsample_rates() == 640
    valid = ~expected.padding_mask
    assert torch.allclose(found[-1][valid], expected.last[valid], atol=1e-5)


def test_it_imports_neither_fairseq_nor_torchaudio(upstream):
    text = open(sys.modules[type(upstream).__module__].__file__).read()
    assert re.findall(r"^ *(?:from|import) (\w+)", text, re.M) == ["torch", "torch", "fairseq_birq"]


def test_the_table_of_its_tasks_has_what_was_run(repository, tmp_path):
    spec = importlib.util.spec_from_file_location("run_in_s3prl", repository / "examples" / "s3prl" / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    for place, text in {"ours_sid": "accuracy: 0.5", "ours_pr": "per: 0.25", "fbank_sid": "accuracy: 0.125"}.items():
        path = tmp_path / place / run.RESULT
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\nloss: 1.0\n")
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "results.json").write_text('[{"task": "phone", "measure": "accuracy", "test": {"accuracy": 40.25}}]')
    assert run.table(tmp_path, ["ours", "fbank"]) == [
        "| | sid accuracy ↑ | pr per ↓ |",
        "| --- | --- | --- |",
        "| s3prl: ours | 50.0 | 25.0 |",
        "| s3prl: fbank | 12.5 |  |",
        "| birq-probe: ours |  | 40.2 (accuracy) |",
    ]

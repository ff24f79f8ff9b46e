"""The parts of benchmarks that compute something beside what they time."""

import importlib
import importlib.util
import json

import pytest


@pytest.fixture
def benchmark(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # `compiled` sets both when it is imported: they end with the test
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    return importlib.import_module


def test_gradients_in_half_precision_are_those_of_float32_but_for_rounding(repository, benchmark, tmp_path, capsys):
    recipe, found = repository / "examples" / "birq" / "debug.yaml", tmp_path / "found.json"
    benchmark("precision").main([str(recipe), "--utterances", "2", "--seconds", "1.5", "--json", str(found)])
    row = json.loads(found.read_text())[0]
    cosines = {source: {name: one.get("cosine") for name, one in found.items()} for source, found in row["sources"].items()}
    assert set(cosines) == {"all", "raw_input", "own_layer"} and set(cosines["all"]) == {"float32", "rounded", "bf16"}
    assert 0.999 < cosines["raw_input"]["bf16"] < 1 and cosines["raw_input"]["rounded"] > 0.999
    assert cosines["own_layer"]["bf16"] < cosines["raw_input"]["bf16"]
    parts = row["sources"]["all"]["bf16"]["by_part"]
    assert list(parts)[0] == "frontend" and {"layer 1", "layer 2", "heads"} <= set(parts)
    assert "| raw_input | bf16 | " in capsys.readouterr().out


def test_what_compilation_costs_is_told_from_what_compiled_layers_take(benchmark):
    summary = benchmark("compiled").summary
    seconds = {"plain": [2.0, 1.0, 1.0, 1.0, 1.0], "compiled": [12.0, 0.5, 5.0, 0.6, 0.4]}
    found = summary(seconds, [2, 2, 3, 3, 3])
    assert found["compilations"] == 3 and found["last_compilation_at_batch"] == 3 and found["steady_batches"] == 3
    assert found["compilation_seconds"] == pytest.approx(10 + 4) and found["ratio"] == pytest.approx(0.5)
    assert found["pays_after_batches"] == 28
    assert "ratio" not in summary({"plain": [1.0], "compiled": [9.0]}, [1])


def test_batches_are_of_alike_lengths_and_bounded(benchmark, tmp_path):
    compiled = benchmark("compiled")
    (tmp_path / "train.tsv").write_text("/audio\n" + "".join(f"{n}.flac\t{16000 * n}\n" for n in range(21)))
    lengths = compiled.read_lengths(tmp_path / "train.tsv")
    assert lengths == [16000 * n for n in range(1, 16)]  # 0 s and more than 15.6 s are left out
    arguments = compiled.parser().parse_args(["--manifest", "-", "--max-seconds", "20", "--batches", "99"])
    batches = compiled.make_batches(lengths, arguments)
    assert sorted(sum(batches, [])) == lengths
    assert all(len(batch) * max(batch) <= 20 * 16000 for batch in batches)


@pytest.mark.skipif(importlib.util.find_spec("speechbrain") is not None, reason="SpeechBrain is installed")
def test_a_missing_peer_is_said(benchmark):
    with pytest.raises(ImportError, match="speechbrain is not installed"):
        benchmark("peers").speechbrain_step(1, 8, 8, 2)

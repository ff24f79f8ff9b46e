"""From one fairseq to the other and back. That fairseq2 loads what is written is tested in tests/fairseq2."""

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_birq.checkpoint import load, load_checkpoint
from fairseq_birq.cli.export import main
from fairseq_birq.patches import loading
from tests.fixtures.checkpoints import CTC_SYMBOLS, write_birq_checkpoint, write_ctc_checkpoint


@pytest.mark.parametrize("write", [write_birq_checkpoint, write_ctc_checkpoint])
def test_there_and_back_nothing_is_lost(tmp_path, write):
    first, there, back = tmp_path / "checkpoint.pt", tmp_path / "there", tmp_path / "back"
    write(first)
    assert main([str(first), str(there), "--to", "fairseq2"]) == 0
    assert sorted(str(path.relative_to(there)) for path in there.rglob("*.*") if path.is_file()) == [
        "card.yaml",
        "model.yaml",
        "step_0/model/pp_00/tp_00/sdp_00.pt",
    ]
    assert main([str(there), str(back), "--to", "fairseq"]) == 0
    ours, theirs = (load_checkpoint(path) for path in (first, back / "checkpoint.pt"))
    assert ours["model"].keys() == theirs["model"].keys()
    for key, value in ours["model"].items():
        assert torch.equal(value, theirs["model"][key]) if torch.is_tensor(value) else value == theirs["model"][key]
    assert load(first)[0] == load(back / "checkpoint.pt")[0]
    assert theirs["task_state"] == ours.get("task_state", {})
    assert main([str(first), str(there), "--to", "fairseq2"]) == 2  # there already


def test_scores_of_subword_units_travel(tmp_path):
    symbols, scores = ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "no", "=", "1"], [-1.5, -2.0, -1e-07, -3.0]
    write_ctc_checkpoint(tmp_path / "checkpoint.pt", symbols)
    content = load_checkpoint(tmp_path / "checkpoint.pt")
    content["task_state"]["unit_scores"] = scores
    torch.save(content, tmp_path / "checkpoint.pt")
    main([str(tmp_path / "checkpoint.pt"), str(tmp_path / "there"), "--to", "fairseq2"])
    assert load_checkpoint(tmp_path / "there")["task_state"] == {"symbols": symbols, "unit_scores": scores}


@pytest.mark.parametrize("back", ["back/checkpoint.pt", "there"])
def test_fairseq_decodes_with_what_came_back_and_with_a_run_of_fairseq2(tmp_path, back):
    model = write_ctc_checkpoint(tmp_path / "checkpoint.pt")
    main([str(tmp_path / "checkpoint.pt"), str(tmp_path / "there"), "--to", "fairseq2"])
    main([str(tmp_path / "there"), str(tmp_path / "back"), "--to", "fairseq"])
    with loading.plain_values_only():
        models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(tmp_path / back)])
    assert task.symbols == CTC_SYMBOLS
    assert torch.equal(models[0].output.weight, model.output.weight)

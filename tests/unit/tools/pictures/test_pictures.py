"""Pictures of fixed input: what is behind them is known, they open, are not empty, and are the same twice."""

import json

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.measures import similarity
from fairseq_birq.tools.pictures import code_usage, curves, embeddings, layer_weights, utterance
from fairseq_birq.tools.pictures.drawing import picture, short_names
from fairseq_birq.tools.pictures.similarity import draw as draw_similarity
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_two_sounds
from tests.fixtures.pictures import looks_drawn


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Two sounds, and a checkpoint with anchor and enhanced codes."""
    folder = write_two_sounds(tmp_path_factory.mktemp("sounds"))
    write_birq_checkpoint(folder / "c.pt")
    return folder


def test_cka_is_one_up_to_rotation_and_small_for_noise():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    assert similarity.linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1.0)
    assert similarity.linear_cka(x, torch.randn(500, 4, generator=generator)) < 0.05
    assert similarity.linear_cka(x, torch.ones(500, 4)) == 0.0
    y, centre = x**2, torch.eye(500) - 1 / 500
    k, m = (centre @ (z @ z.t()) @ centre for z in (x, y))  # the definition, by kernels
    expected = (k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt()
    assert similarity.linear_cka(x, y) == pytest.approx(float(expected), rel=1e-4)


def test_a_checkpoint_is_like_itself(given, tmp_path):
    found = similarity.cka_of_checkpoints(given / "c.pt", given / "c.pt", given / "train.tsv")
    assert found.shape == (3, 3) and found.diagonal().tolist() == pytest.approx([1.0] * 3)
    draw_similarity(found, tmp_path / "cka.png", ["one", "two"])
    assert looks_drawn(tmp_path / "cka.png")


def test_probabilities_of_phones_are_sorted():
    joint = torch.tensor([[0, 4, 1, 0, 1], [3, 0, 1, 0, 1]])
    found = code_usage.sorted_by_phone(joint, torch.tensor([4, 4, 2, 9, 4]))
    assert found.tolist() == [[1.0, 0.5, 0.25, 0.0], [0.0, 0.5, 0.25, 0.75]]


def test_codes_and_phones_of_a_checkpoint(given, tmp_path):
    histogram, ids, joint = code_usage.codes_and_phones(given / "c.pt", given / "train.tsv", given / "train.phn")
    assert set(ids) == {"a", "b"} and torch.equal(joint.sum(0), histogram) and len(histogram) == 16
    code_usage.draw(histogram, ids, joint, tmp_path / "codes.png")
    assert looks_drawn(tmp_path / "codes.png")
    with pytest.raises(UserError, match=r"no target source 'own_layer'.*raw_input"):
        code_usage.codes_and_phones(given / "c.pt", given / "train.tsv", given / "train.phn", source="own_layer")
    with pytest.raises(UserError, match="--column must be from 0 to 0"):
        code_usage.codes_and_phones(given / "c.pt", given / "train.tsv", given / "train.phn", column=1)


def test_temporal_means():
    means = embeddings._means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2]), 4)
    assert means.tolist() == [[2.0], [0.0], [5.0], [0.0]]


def test_planted_clusters_stay_apart_and_pictures_repeat(tmp_path):
    pytest.importorskip("sklearn")
    generator = torch.Generator().manual_seed(0)
    phones = torch.arange(80) % 4 - 1  # a quarter of the frames has none
    frames = torch.randn(80, 5, generator=generator) * 0.1 + torch.eye(5)[phones + 1] * 3
    points = embeddings._tsne(frames[phones >= 0], 1)
    distances, same = torch.cdist(points, points), phones[phones >= 0][:, None] == phones[phones >= 0]
    nearest = distances.fill_diagonal_(float("inf")).argmin(1)
    assert same[torch.arange(len(nearest)), nearest].double().mean() > 0.95
    arguments = [[embeddings.Space("x", frames)], phones, ["a", "b", "c"], torch.arange(80) // 8, ["s", "t"] * 5]
    for name in ("one", "two"):
        embeddings.draw(*arguments, tmp_path / f"{name}.png", points=6)
    assert looks_drawn(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_spaces_are_the_raw_input_and_layers_of_every_stage(given):
    (given / "d.pt").write_bytes((given / "c.pt").read_bytes())
    found = embeddings.spaces_of([given / "c.pt", given / "d.pt"], given / "train.tsv", range(2), [0, 2])
    assert [space.title for space in found] == ["raw input", "layer 0,\nc", "layer 2,\nc", "layer 0,\nd", "layer 2,\nd"]
    assert all(torch.allclose(space.frames.norm(dim=1), torch.ones(len(space.frames))) for space in found)
    assert torch.equal(found[1].frames, found[3].frames) and not torch.equal(found[1].frames, found[2].frames)


def test_an_utterance_has_its_codes_and_what_changed(given, tmp_path):
    write_birq_checkpoint(tmp_path / "same.pt")
    found = utterance.of_checkpoint(given / "c.pt", given / "train.tsv", 1, given / "train.phn", given / "c.pt")
    assert found.codes["raw_input"].shape == (len(found.mask), 1) and not found.changed["raw_input"].any()
    assert [phone for _, _, phone in found.intervals] == ["b", "a"] * 3 and found.seconds == pytest.approx(2.4)
    found.codes["own_layer"] = torch.arange(len(found.mask))[:, None]
    found.changed["own_layer"] = found.mask[:, None]
    utterance.draw(found, tmp_path / "u.png")
    assert looks_drawn(tmp_path / "u.png", 20000)
    with pytest.raises(UserError, match="--row must be from 0 to 5"):
        utterance.of_checkpoint(given / "c.pt", given / "train.tsv", 6)


def test_layer_weights_come_from_a_file(tmp_path):
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"ASR": [0.1, 0.2, 0.7], "speaker": [0.6, 0.3, 0.1]}))
    layer_weights.draw(layer_weights.read_weights(path), tmp_path / "w.png")
    assert looks_drawn(tmp_path / "w.png")
    for text in ("{", "[1]", '{"a": [1], "b": [1, 2]}', '{"a": []}', '{"a": ["x"]}', '{"a": [NaN]}', "{}"):
        path.write_text(text)
        with pytest.raises(UserError, match="w.json"):
            layer_weights.read_weights(path)


def test_several_runs_in_one_plot():
    logs = {
        "one": {"train_inner": {5: {"loss": 3.0, "perplexity_raw_input": 9.0}}, "valid": {5: {"wer": 40.0}}},
        "two": {"train": {7: {"loss": 2.0, "perplexity_raw_input": 8.0}}},
    }
    panels = {panel.title: [(line.label, line.points) for line in panel.lines] for panel in curves.compared_panels(logs)}
    assert panels["training loss"] == [("one", {5: 3.0}), ("two", {7: 2.0})]
    assert panels["code perplexity"] == [("one: raw_input", {5: 9.0}), ("two: raw_input", {7: 8.0})]
    assert panels["WER on valid"][0] == ("one", {5: 40.0})


def test_checkpoints_of_one_name_are_called_by_their_folders():
    assert short_names(["a/x.pt", "b/y.pt"]) == ["x", "y"]
    assert short_names(["a/x.pt", "b/x.pt"]) == ["a/x", "b/x"]


def test_a_picture_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), picture(tmp_path / "x.png", 5):
        raise RuntimeError
    with pytest.raises(UserError, match="x.gif: a picture is a .png or a .pdf"), picture(tmp_path / "x.gif", 5):
        pass
    assert not list(tmp_path.iterdir())
    with picture(tmp_path / "x.pdf", 5) as figure:
        figure.subplots().plot([1, 2])
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")

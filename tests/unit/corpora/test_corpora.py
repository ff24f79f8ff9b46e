"""What every corpus of the registry keeps, tried on a small tree in its layout."""

import pytest

from fairseq_birq.cli.manifest import main, parser
from fairseq_birq.corpora import CORPORA, make
from fairseq_birq.data.audio import read_header
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.data.manifest import parallel_lines, read_manifest
from tests.fixtures.corpus_trees import TREES

NAMES = sorted(CORPORA)


@pytest.fixture(scope="module", params=NAMES)
def made(request, tmp_path_factory):
    """(name, folder of the manifests, what `make` said)"""
    folder = tmp_path_factory.mktemp(request.param)
    options = TREES[request.param](folder / "corpus")
    return request.param, folder / "out", make(request.param, str(folder / "out"), **options)


def splits(out):
    return {path.stem: read_manifest(path) for path in sorted(out.glob("*.tsv"))}


def rows(manifest):
    return {manifest.name(row) for row in range(len(manifest))}


def files(manifest):
    return {parse_audio_path(manifest.audio_path(row)).file for row in range(len(manifest))}


def test_every_row_names_audio_of_its_length(made):
    _, out, lines = made
    assert len(splits(out)) > 1
    for split, manifest in splits(out).items():
        for row in range(len(manifest)):
            assert read_header(manifest.audio_path(row)).num_samples == manifest.num_samples[row] > 0
        assert any(line.startswith("written") and f"{split}.tsv: {len(manifest)} " in line for line in lines)


def test_no_audio_is_in_two_splits(made):
    name, out, _ = made
    contains = getattr(CORPORA[name], "CONTAINS", {})
    manifests = splits(out)
    for one in manifests:
        for other in set(manifests) - {one}:
            if other in contains.get(one, ()):
                assert rows(manifests[other]) < rows(manifests[one])
            elif one not in contains.get(other, ()):
                assert not files(manifests[one]) & files(manifests[other]), (one, other)


def test_transcripts_run_parallel_and_the_dictionary_has_their_letters(made):
    name, out, _ = made
    texts = sorted(out.glob("*.wrd"))
    assert bool(texts) == (name not in ("audio_folder", "libri_light"))
    for path in texts:
        words = parallel_lines(path, len(read_manifest(path.with_suffix(".tsv"))))
        letters = parallel_lines(path.with_suffix(".ltr"), len(words))
        assert all(words) and [line.replace(" ", "").replace("|", " ").strip() for line in letters] == words
        known = {line.split()[0] for line in (out / "dict.ltr.txt").read_text().splitlines()}
        assert set("".join(letters).replace(" ", "")) <= known or "train" not in path.stem


@pytest.mark.parametrize("name", NAMES)
def test_made_again_it_is_the_same_and_packed_it_holds_the_same(name, tmp_path):
    options = TREES[name](tmp_path / "corpus")
    for out in ("first", "second"):
        make(name, str(tmp_path / out), **options)
    make(name, str(tmp_path / "second"), pack_zip=0.001, **options)
    for path in (path for path in (tmp_path / "first").rglob("*") if path.is_file()):
        assert (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes() == path.read_bytes()
    packed = splits(tmp_path / "second" / "zips")
    for split, manifest in splits(tmp_path / "first").items():
        assert list(packed[split].num_samples) == list(manifest.num_samples)
        assert read_header(packed[split].audio_path(0)).num_samples == manifest.num_samples[0]


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_is_read_and_written(name):
    text = " ".join(parser(name).format_help().split())
    assert "Layout" in text
    assert "Written" in text or name == "audio_folder"
    assert len(CORPORA[name].__doc__.splitlines()[0]) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder_is_one_sentence(name, tmp_path, capsys):
    assert main([name, str(tmp_path / "absent"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "absent" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_broken_audio_is_counted(name, tmp_path):
    options = TREES[name](tmp_path / "corpus")
    broken = sorted(path for path in (tmp_path / "corpus").rglob("*") if path.suffix in (".wav", ".flac"))[0]
    broken.write_bytes(b"RIFF and no more")
    report = "\n".join(make(name, str(tmp_path / "out"), **options))
    assert "left out    1, unusable audio; first: " in report and broken.name in report
    for manifest in splits(tmp_path / "out").values():
        assert str(broken) not in files(manifest)

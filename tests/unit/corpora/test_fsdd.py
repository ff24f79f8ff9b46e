import pytest

from fairseq_birq.corpora import fsdd
from fairseq_birq.corpora.helpers.lists import read_list
from fairseq_birq.data.audio import read, read_header
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.corpus_trees import fsdd as fsdd_tree


def test_files_of_the_lists_with_their_words_speakers_and_samples(tmp_path):
    report = "\n".join(fsdd.make(out=str(tmp_path / "out"), **fsdd_tree(tmp_path / "in")))
    for split in ("train", "dev", "test"):
        manifest = read_manifest(tmp_path / "out" / f"{split}.tsv")
        names = read_list(f"fsdd/{split}.txt")[:2]
        assert [manifest.name(row) for row in range(2)] == [f"{name.split('_')[1]}/{name}.flac" for name in names]
        assert (tmp_path / "out" / f"{split}.spk").read_text().split() == [name.split("_")[1] for name in names]
        assert (tmp_path / "out" / f"{split}.wrd").read_text().split() == [fsdd.DIGITS[int(name[0])] for name in names]
        assert read_header(manifest.audio_path(0)).sample_rate == 8000
        source = tmp_path / "in" / "recordings" / f"{names[0]}.wav"
        assert (read(manifest.audio_path(0), 8000)[0] == read(str(source), 8000)[0]).all()
    assert "left out    894, file of a list that is not there; first: 0_george_17.wav" in report
    words = {fsdd.DIGITS[int(name[0])] for name in read_list("fsdd/train.txt")[:2]}
    assert (tmp_path / "out" / "lexicon.txt").read_text() == "".join(f"{word}\t{' '.join(word)} |\n" for word in sorted(words))


def test_a_folder_that_is_no_clone_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no folder recordings/ in it"):
        fsdd.make(str(tmp_path), str(tmp_path / "out"))

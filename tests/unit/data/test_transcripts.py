from fairseq.data import Dictionary

from fairseq_birq.data.transcripts import to_letters, write_letter_dictionary, write_transcripts


def test_letters_of_a_known_text():
    assert to_letters("a cat") == "a | c a t |"


def test_letters_agree_with_the_data_pack(mboshi):
    words = (mboshi / "dev.wrd").read_text(encoding="utf-8").splitlines()
    assert [to_letters(line) for line in words] == (mboshi / "dev.ltr").read_text(encoding="utf-8").splitlines()


def test_fairseq_reads_the_dictionary(tmp_path):
    texts = ["ab a", "ñ"]
    write_letter_dictionary(tmp_path, texts)
    write_transcripts(tmp_path, "train", texts)
    dictionary = Dictionary.load(str(tmp_path / "dict.ltr.txt"))
    assert dictionary.symbols[dictionary.nspecial :] == ["|", "a", "b", "ñ"]
    line = (tmp_path / "train.ltr").read_text(encoding="utf-8").splitlines()[1]
    assert dictionary.unk() not in dictionary.encode_line(line, append_eos=False, add_if_not_exist=False)

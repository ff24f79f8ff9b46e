"""manifests/: scripts from a public download to what the examples read, run with stand-ins for what needs the network.

The two corpora that a stranger can remake are made from real clones where BIRQ_MBOSHI_CLONE and BIRQ_FSDD_CLONE name them.
"""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairseq_birq.cli.manifest import parser
from fairseq_birq.corpora import CORPORA

STAND_INS = {
    "curl": """out=; url=${!#}
        while [[ $# -gt 1 ]]; do [[ $1 == --output ]] && out=$2; shift; done
        echo "curl $url" >>"$CALLS"
        case $url in
        *.tar | *.tar.gz) mkdir -p "$TMPDIR/x" && tar -cf "$out" -C "$TMPDIR" x ;;
        *.gz) echo text | gzip >"$out" ;;
        *vocab.txt) printf "A\\nIT'S\\n" >"$out" ;;
        *md5sum.txt) for name in {dev,test}-{clean,other} train-{clean-100,clean-360,other-500}; do
            echo "0  $name.tar.gz" >>"$out"; done ;;
        *) echo text >"$out" ;;
        esac""",
    "md5sum": """cat >/dev/null; exit "${DAMAGED:-0}" """,
    "birq-manifest": """echo "birq-manifest $*" >>"$CALLS"
        out=$3
        mkdir -p "$out"
        printf '/r\\nm/m.Headset-0.wav:0:9\\t9\\nm/m.Array1-01.wav:0:9\\t9\\n' >"$out/train.tsv"
        printf 'A B\\nA B\\n' >"$out/train.wrd"; echo 'a b' >"$out/lm.txt" """,
    "python-stand-in": """echo "python ${*##*/manifests/}" >>"$CALLS"
        if [[ $2 == zipfile ]]; then mkdir -p "$5/corpusResources" && touch "$5/corpusResources/meetings.xml"; fi""",
}
SCRIPTS = sorted(path.parent.name for path in (Path(__file__).parents[2] / "manifests").glob("*/prepare.sh"))
MORE = {"libri_light": ["small", "medium"], "yodas": ["de100", "3"]}  # arguments after CORPUS and OUT
DOWNLOADS = {"librispeech": 7 + 3, "libri_light": 2, "ami": 1 + 687 + 169, "yodas": 2 * 3}  # how many files, where it is known
CLONED = {
    "mboshi": ["full_corpus_newsplit/train/a.wav", "full_corpus_newsplit/dev/b.mb.cleaned"],
    "fsdd": ["recordings/a.wav", "README.md"],
}
PAIRS = {"mboshi": "BIRQ_MBOSHI_CLONE", "fsdd": "BIRQ_FSDD_CLONE"}


def load(repository, name):
    """A script of manifests/ as a module."""
    spec = importlib.util.spec_from_file_location(f"manifests_{name}", repository / "manifests" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ngram(repository):
    return load(repository, "ngram")


@pytest.fixture
def check(repository):
    return load(repository, "check")


@pytest.fixture
def stand_ins(tmp_path):
    """Environment in which the stand-ins note their calls in the file $CALLS."""
    (tmp_path / "bin").mkdir()
    for name, script in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)
    (tmp_path / "calls").write_text("")
    paths = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ, PATH=paths, CALLS=str(tmp_path / "calls"), TMPDIR=str(tmp_path), PYTHON="python-stand-in")


def run(repository, name, environment, *arguments):
    script = repository / "manifests" / name / "prepare.sh"
    return subprocess.run([str(script), *map(str, arguments)], env=environment, capture_output=True, text=True)


def calls(environment, program):
    with open(environment["CALLS"]) as file:
        return [line.split()[1:] for line in file if line.startswith(f"{program} ")]


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@x.example"]
    return subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def origin(folder, name):
    """A repository with what a script asks for and what it does not; returns its commit."""
    for path in [*CLONED[name], "full_corpus_newsplit/all/c.wav", "acquire_data/d.py"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


def prepare(repository, name, stand_ins, tmp_path):
    """Run a script to the end."""
    done = run(repository, name, stand_ins, tmp_path / "corpus", tmp_path / "out", *MORE.get(name, []))
    assert done.returncode == 0, done.stderr
    return done


def test_every_corpus_of_the_table_has_a_script_and_every_script_a_row(repository):
    folder = repository / "manifests"
    table = re.findall(r"^\| \[(\w+)\]\((\w+)/prepare\.sh\) \|", (folder / "README.md").read_text(), re.MULTILINE)
    names = sorted(path.parent.name for path in folder.glob("*/prepare.sh"))
    assert sorted(name for name, _ in table) == names == SCRIPTS and all(name == link for name, link in table)
    others = set(CORPORA) - set(names)
    assert others == {"audio_folder", "kaldi", "lhotse"}
    for link in re.findall(r"\]\(([^)]*)\)", (folder / "README.md").read_text()):
        assert (folder / link).exists(), link


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_arguments_a_script_says_how_it_is_called(repository, name, stand_ins):
    done = run(repository, name, stand_ins)
    assert done.returncode == 2 and f"manifests/{name}/prepare.sh" in done.stderr and calls(stand_ins, "birq-manifest") == []
    assert subprocess.run(["bash", "-n", str(repository / "manifests" / name / "prepare.sh")]).returncode == 0


def test_a_missing_tool_is_one_sentence(repository, stand_ins, tmp_path):
    os.remove(tmp_path / "bin" / "birq-manifest")
    shell = {**stand_ins, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = run(repository, "librispeech", shell, tmp_path / "corpus", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == "error: no birq-manifest: run `make env`, then `source .venv/bin/activate`\n"


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in CLONED])
def test_a_script_downloads_once_and_its_calls_parse(repository, name, stand_ins, tmp_path):
    prepare(repository, name, stand_ins, tmp_path)
    urls = [url for (url,) in calls(stand_ins, "curl")]
    assert len(urls) == len(set(urls)) == DOWNLOADS.get(name, len(urls)) and all(url.startswith("https://") for url in urls)
    made = calls(stand_ins, "birq-manifest")
    assert made and all(parser(corpus).parse_args(arguments) for corpus, *arguments in made)
    prepare(repository, name, stand_ins, tmp_path)
    assert len(calls(stand_ins, "curl")) == len(urls) and len(calls(stand_ins, "birq-manifest")) == 2 * len(made)
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".gz", ".tar")] == []


def test_librispeech_has_the_published_words_spelled_and_refuses_a_damaged_archive(repository, stand_ins, tmp_path):
    done = run(repository, "librispeech", {**stand_ins, "DAMAGED": "1"}, tmp_path / "corpus", tmp_path / "out")
    assert done.returncode == 1 and "dev-clean.tar.gz is damaged; remove it" in done.stderr
    prepare(repository, "librispeech", stand_ins, tmp_path)
    assert (tmp_path / "out_100h" / "lexicon.txt").read_text() == "A\tA |\nIT'S\tI T ' S |\n"
    assert (tmp_path / "out_100h" / "4-gram.arpa").read_text() == "text\n"


def test_ami_counts_the_text_of_the_headsets_alone(repository, stand_ins, tmp_path):
    for meetings in (repository / "manifests" / "ami").glob("*.txt"):
        for name in meetings.read_text().split():
            audio = tmp_path / "corpus" / name / "audio"
            audio.mkdir(parents=True)
            for channel in ("Headset-0", "Headset-1", "Headset-2", "Headset-3", "Headset-4", "Array1-01"):
                (audio / f"{name}.{channel}.wav").touch()
    prepare(repository, "ami", stand_ins, tmp_path)
    assert (tmp_path / "out" / "lm.txt").read_text() == "A B\n"
    assert (tmp_path / "out" / "lexicon.txt").read_text() == "A\tA |\nB\tB |\n"
    assert len(calls(stand_ins, "curl")) == 1  # the annotations: audio that is there is left alone
    assert calls(stand_ins, "python")[-1] == ["ngram.py", f"{tmp_path}/out/lm.txt", f"{tmp_path}/out/4-gram.arpa", "--order", "4"]


@pytest.mark.parametrize("name", sorted(CLONED))
def test_a_clone_has_the_files_that_are_needed_and_is_made_once(repository, name, stand_ins, tmp_path):
    commit = origin(tmp_path / "origin", name)
    environment = {**stand_ins, "REPOSITORY": f"file://{tmp_path / 'origin'}", "COMMIT": commit}
    prepare(repository, name, environment, tmp_path)
    files = [path for path in (tmp_path / "corpus").rglob("*") if path.is_file() and ".git" not in path.parts]
    assert sorted(str(path.relative_to(tmp_path / "corpus")) for path in files) == sorted(CLONED[name])
    (tmp_path / "origin").rename(tmp_path / "gone")
    prepare(repository, name, environment, tmp_path)
    made = calls(stand_ins, "birq-manifest")
    assert made == [[name, f"{tmp_path}/corpus", f"{tmp_path}/out"]] * 2 and parser(name).parse_args(made[0][1:])
    assert calls(stand_ins, "python")[-1] == ["check.py", name, f"{tmp_path}/out"]


def test_a_language_model_gives_every_context_probability_one(ngram):
    sentences = [line.split() for line in ["a b a", "a c", "b", "a b c d", "d d a b", "c a b a", "e", "f g", "a g"]]
    tables, backoffs = ngram.estimate(sentences, 3)
    words = [word for (word,) in tables[0]]

    def probability(context, word):
        if (*context, word) in tables[len(context)]:
            return tables[len(context)][(*context, word)]
        return backoffs.get(context, 1.0) * probability(context[1:], word)

    contexts = [(), *((first,) for first in ["<s>", *words]), *itertools.product(["<s>", *words], words)]
    for context in contexts:
        assert sum(probability(context, word) for word in words) == pytest.approx(1)
    assert probability(("a",), "b") > probability(("a",), "e") > 0 and probability((), "<unk>") > 0


def test_a_language_model_has_the_numbers_of_kenlm(repository, mboshi, tmp_path):
    """lm.3gram.arpa of the data pack was made by `lmplz -o 3 --discount_fallback`."""
    command = [sys.executable, repository / "manifests" / "ngram.py", mboshi / "lm.txt", tmp_path / "made.arpa"]
    subprocess.run([*map(str, command), "--order", "3"], check=True)
    made, given = [(folder).read_text().splitlines() for folder in (tmp_path / "made.arpa", mboshi / "lm.3gram.arpa")]
    assert len(made) == len(given) > 40000
    for one, other in zip(made, given):
        fields, others = one.split("\t"), other.split("\t")
        assert len(fields) == len(others) and fields[1:2] == others[1:2]
        if len(fields) > 1:
            numbers = zip([fields[0], *fields[2:]], [others[0], *others[2:]])
            assert all(abs(float(number) - float(wanted)) < 1e-6 for number, wanted in numbers), (one, other)
        else:
            assert one == other


def test_a_text_that_is_no_text_is_one_sentence(repository, tmp_path):
    (tmp_path / "text").write_text("a <s> b\n")
    command = [sys.executable, str(repository / "manifests" / "ngram.py"), str(tmp_path / "text"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path / 'text'}: needs")
    assert not (tmp_path / "out").exists()


def expected(check, corpus):
    lines = (check.HERE / corpus / "sha256.txt").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


@pytest.mark.parametrize("corpus", ["mboshi", "fsdd"])
def test_the_digests_are_those_of_the_data_of_our_tables(check, corpus, request):
    """All but of Mboshi's pool, and of the letters and the lexicon of the digits, which that data does not have."""
    new = {"mboshi": r".*\bpool\..*", "fsdd": r".*\.ltr(\.txt)?|lexicon\.txt"}[corpus]
    wanted = {name: digest for name, digest in expected(check, corpus).items() if not re.fullmatch(new, name)}
    assert len(wanted) == {"mboshi": 32, "fsdd": 12}[corpus]
    results = dict(check.check(request.getfixturevalue(corpus), wanted))
    assert set(results.values()) == {"the same"}, results


def test_another_sample_and_another_letter_are_told(check, tmp_path):
    import numpy as np
    import soundfile

    soundfile.write(str(tmp_path / "a.flac"), np.arange(100, dtype=np.int16), 8000)
    (tmp_path / "x.tsv").write_text(".\na.flac\t100\n")
    (tmp_path / "x.wrd").write_text("one\n")
    assert check.names_in(tmp_path) == ["a.flac", "x.tsv", "x.wrd", "audio of x.tsv"]
    wanted = {name: check.digest(tmp_path, name) for name in ("x.tsv", "x.wrd", "audio of x.tsv")}
    assert set(dict(check.check(tmp_path, wanted)).values()) == {"the same"}
    soundfile.write(str(tmp_path / "a.flac"), np.arange(1, 101, dtype=np.int16), 8000)
    (tmp_path / "x.wrd").write_text("two\n")
    assert dict(check.check(tmp_path, wanted)) == {"x.tsv": "the same", "x.wrd": "different", "audio of x.tsv": "different"}
    (tmp_path / "a.flac").unlink()
    assert dict(check.check(tmp_path, wanted))["audio of x.tsv"] == "missing"


@pytest.mark.slow
@pytest.mark.parametrize("corpus", sorted(PAIRS))
def test_a_clone_becomes_the_data_of_our_tables(repository, corpus, check, tmp_path):
    """Every file, and every sample; the language model within rounding is another test."""
    clone = os.environ.get(PAIRS[corpus])
    if not clone:
        pytest.skip(f"{PAIRS[corpus]} does not name a clone of the public repository")
    CORPORA[corpus].make(folder=clone, out=str(tmp_path))
    results = dict(check.check(tmp_path, expected(check, corpus)))
    assert len(results) == {"mboshi": 38, "fsdd": 17}[corpus] and set(results.values()) == {"the same"}, results

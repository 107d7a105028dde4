"""What is given to the subcommands of convbert, and the line it gets: one row a case."""

import bz2
import gzip
import os
import shutil

from user_dir_tests.end_to_end.bad_input_files import (
    SENTENCE,
    archive,
    arguments,
    cases,
    copy_of,
    edit_json,
    folder_of,
    holds,
    nested,
    none,
    squad,
    vocabulary,
)
from user_dir_tests.end_to_end.bad_inputs import Case

# fmt: off
ENCODE = "--workers 1 --tokenizer {vocab} {bad} {out}"
ENCODE_WITH = "--workers 1 --tokenizer {bad} {text} {out}"
packed = gzip.compress(SENTENCE.encode() * 1000)

COMMAND_LINE = arguments(
    "convbert",
    [
        ("no subcommand", "", "required: SUBCOMMAND"),
        ("an unknown subcommand", "encod a b", "invalid choice: 'encod'"),
        ("an empty subcommand", "''", "invalid choice: ''"),
        ("an unknown option", "encode --fast --tokenizer {vocab} {text} {out}", "--fast"),
        ("encode: no tokenizer", "encode {text} {out}", "required: --tokenizer"),
        ("encode: no OUT", "encode --tokenizer {vocab} {text}", "required: OUT"),
        *(
            (f"encode: --workers {n!r}", f"encode --workers {n!r} {{text}} {{out}}", "--workers: invalid whole number of at least 1")
            for n in ("0", "-1", "two", "1.5", "", "1_0", "٣", "0x10", "1e3", "nan")
        ),
        ("encode: accents both ways", "encode --strip-accents --keep-accents a b", "not allowed with"),
        ("train-vocab: no size", "train-vocab {text} {out}", "required: --vocab-size"),
        ("train-vocab: --vocab-size 5", "train-vocab --vocab-size 5 {text} {out}", "of at least 6"),
        ("train-vocab: --vocab-size x", "train-vocab --vocab-size x {text} {out}", "of at least 6"),
        ("train-vocab: 10^12 pieces", "train-vocab --vocab-size 1000000000000 {text} {out}", "give at most 2,147,483,647"),
        ("train-vocab: a sample of 10^20", "train-vocab --vocab-size 60 --sample-lines 100000000000000000000 {text} {out}", "give at most 2,147,483,647"),
        ("encode: --workers 100000", "encode --workers 100000 --tokenizer {vocab} {text} {out}", "give at most 256"),
        ("train-vocab: coverage 2", "train-vocab --vocab-size 60 --character-coverage 2 a b", "from 0.98 to 1"),
        ("train-vocab: coverage nan", "train-vocab --vocab-size 60 --character-coverage nan a b", "from 0.98 to 1"),
        ("train-vocab: one line", "train-vocab --vocab-size 60 --sample-lines 1 a b", "of at least 101"),
        ("train-vocab: a type", "train-vocab --vocab-size 60 --model-type word a b", "invalid choice: 'word'"),
        ("prepare-glue: no task", "prepare-glue --tokenizer {vocab} {rte} {out}", "required: --glue-task"),
        ("prepare-glue: --labels of an open mark", "prepare-glue --labels '\"a,b' --glue-task own --tokenizer {vocab} {rte} {out}", "separate words with commas"),
        ("prepare-glue: --score-range of words", "prepare-glue --score-range low high --glue-task own --tokenizer {vocab} {rte} {out}", "invalid number value: 'low'"),
        ("prepare-glue: --score-range of one", "prepare-glue --score-range 1 --glue-task own --tokenizer {vocab} {rte} {out}", "score-range"),
        ("prepare-squad: no file", "prepare-squad --tokenizer {vocab} {out}", "required: OUT"),
        ("predict-glue: --batch-size 0", "predict-glue --path {glue_run} --batch-size 0 {glue} {out}", "of at least 1"),
        ("predict-squad: --null-threshold nan", "predict-squad --path {squad_run} --null-threshold nan {squad} {out}", "give a number"),
        ("predict-squad: --null-threshold x", "predict-squad --path {squad_run} --null-threshold x {squad} {out}", "invalid number value: 'x'"),
        ("report: a page of another name", "report {run} {out}", "its name ends in .html"),
        ("report: the name of a record", "report {run} {here}/scores.html", "rename it"),
        ("report: no run", "report {out}.html", "required"),
        ("convert: no --from", "convert --to hf {run} {out}", "required: --from"),
        ("convert: an unknown --from", "convert --from onnx --to hf {run} {out}", "invalid choice: 'onnx'"),
        ("convert: --to tf", "convert --from fairseq --to tf {run} {out}", "invalid choice: 'tf'"),
        ("convert: no position", "convert --from fairseq --to hf --max-positions 0 {run} {out}", "of at least 1"),
        ("convert: 10^12 positions", "convert --from fairseq --to hf --max-positions 1000000000000 {run} {out}", "give at most 1,048,576"),
        ("convert: a head of two words", "convert --from hf --to fairseq --head a.b {hf} {out}", "choose one without dots"),
        ("convert: a head of torch", "convert --from hf --to fairseq --head keys {hf} {out}", "torch has taken this word"),
        ("convert: both networks", "convert --from fairseq --to fairseq --network generator {run} {out}", "goes with --to hf"),
        ("convert: --cased alone", "convert --from fairseq --to hf --cased {run} {out}", "give one, or drop them"),
        ("bench: an unknown part", "bench --parts speed", "speed"),
        ("bench: an unknown size", "bench --archs huge", "huge"),
        ("bench: no part", "bench --parts ''", "parts"),
        ("bench: seven tokens", "bench --length 7", "of at least 8"),
        ("bench: no budget", "bench --budget 0", "budget"),
        ("bench: a budget of nan", "bench --budget nan", "budget"),
        ("bench: a picture of another kind", "bench --quick --picture {out}.gif", "its name ends in .png or .svg"),
        ("bench: an unknown device", "bench --device tpu", "invalid choice: 'tpu'"),
        ("user-dir: an argument", "user-dir here", "unrecognized arguments: here"),
    ],
)

TEXTS = [
    ("a folder", "a folder, where a file is expected", lambda path, world: path.mkdir()),
    ("a link to nothing", "no such file", lambda path, world: path.symlink_to("gone")),
    ("a link to itself", "no such file", lambda path, world: path.symlink_to("bad")),
    ("nothing in it", "no text", holds("")),
    ("blank lines", "no text", holds(" \n\n\t\n")),
    ("nothing but a byte order mark", "no text", holds(b"\xef\xbb\xbf")),
    ("latin-1", "bad:2: not UTF-8 (byte 0xe9 at column 6)", holds(b"the cat\na caf\xe9\n")),
    ("latin-1 after a megabyte", ":42001: not UTF-8", holds(SENTENCE.encode() * 42_000 + b"\xe9\n")),
    ("cut within a letter", "not UTF-8", holds("the cat é".encode()[:-1])),
    ("UTF-16 without a mark", "UTF-16LE without a byte order mark", holds((SENTENCE * 9).encode("utf-16-le"))),
    ("broken UTF-16", "broken UTF-16", holds(b"\xff\xfe\x00\xd8a\x00\n\x00")),
    ("broken UTF-32", "broken UTF-32", holds(b"\xff\xfe\0\0\xff\xff\xff\xff")),
    ("zero bytes", "no text, by its many zero", holds(bytes(4000))),
    ("random bytes", "convert the file first, for example with `iconv", holds(os.urandom(4000))),
    ("a cut gzip", "a corrupt or truncated archive", holds(packed[:-9])),
    ("a gzip with a flipped bit", "a corrupt or truncated archive", holds(packed[:40] + bytes([packed[40] ^ 16]) + packed[41:])),
    ("a gzip of nothing", "no text", holds(gzip.compress(b""))),
    ("a cut bzip2", "a corrupt or truncated archive", holds(bz2.compress(SENTENCE.encode())[:-5])),
    ("a gzip with a bomb of one line", "a line of more than 8 MiB", holds(gzip.compress(b"a" * (1 << 26)))),
    ("a zip", "a zip archive", archive("zip")),
    ("a tar", "a tar archive", archive("tar")),
    ("zstd", "compressed with zstd", holds(b"\x28\xb5\x2f\xfd" + bytes(40))),
    ("a PDF", "a PDF document", holds(b"%PDF-1.7\n")),
    ("a line of 9 MiB", "a line of more than 8 MiB", holds("a" * (9 << 20))),
]

VOCABULARIES = [
    ("no [MASK]", "[MASK]", vocabulary(lambda rows: [row for row in rows if row != "[MASK]"])),
    ("no [UNK]", "[UNK]", vocabulary(lambda rows: [row for row in rows if row != "[UNK]"])),
    ("a row twice", "duplicate lines", vocabulary(lambda rows: [*rows, "cat"])),
    ("a row of two words", "'two words' is empty or holds whitespace, where", vocabulary(lambda rows: [*rows, "two words"])),
    ("nothing in it", "", holds("")),
    ("latin-1", "not UTF-8", holds("[PAD]\ncaf\u00e9\n".encode("latin-1"))),
    ("zero bytes", "", holds(bytes(400))),
    ("an empty folder", "", lambda path, world: path.mkdir()),
    ("nothing there", "no such file", lambda path, world: None),
    ("a device", "", lambda path, world: path.symlink_to("/dev/zero")),
    ("a pipe", "a pipe or a device, where a regular file is", lambda path, world: os.mkfifo(path)),
    ("a broken tokenizer.json", "tokenizer.json", folder_of(tokenizer__json="{")),
    ("a tokenizer.json that is a list", "tokenizer.json", folder_of(tokenizer__json="[1]")),
    ("a tokenizer.json of nothing", "tokenizer.json", folder_of(tokenizer__json="{}")),
    ("a tokenizer.json 10^5 deep", "tokenizer.json", folder_of(tokenizer__json=nested(100_000))),
    ("a tokenizer.json of another model", "tokenizer.json", folder_of(tokenizer__json='{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{"type":"Magic","vocab":{}}}')),
    ("a tokenizer_config.json that is no JSON", "tokenizer_config.json", copy_of("run", lambda folder: (folder / "tokenizer_config.json").write_text("no"))),
    ("a tokenizer_config.json of words", "tokenizer_config.json", copy_of("run", edit_json("tokenizer_config.json", lambda held: held.update(do_lower_case="perhaps")))),
    ("a sentencepiece model of garbage", "sentencepiece.bpe.model", folder_of(sentencepiece__bpe__model=os.urandom(300))),
    ("an empty sentencepiece model", "sentencepiece.bpe.model", folder_of(sentencepiece__bpe__model="")),
]


def of_text(row):
    wrong, told, spoil = row
    return (f"a text: {wrong}", told, spoil)


ENCODING = [
    *cases("convbert encode", ENCODE, map(of_text, TEXTS)),
    *(
        Case("convbert encode", f"a vocabulary: {wrong}", ENCODE_WITH, told, spoil)
        for wrong, told, spoil in VOCABULARIES
    ),
    *cases(
        "convbert encode",
        "",
        [
            ("OUT is the text", "would be overwritten", lambda p, w: shutil.copy(w["text"], p), "--tokenizer {vocab} {bad} {bad}"),
            ("OUT is a link to the text", "would be overwritten", lambda p, w: p.symlink_to(w["text"]), "--tokenizer {vocab} {text} {bad}"),
            ("OUT is a folder", "a folder: give the name", lambda p, w: p.mkdir(), "--tokenizer {vocab} {text} {bad}"),
            ("OUT is a name of the tokenizer", "the name of a file of the tokenizer", holds(""), "--tokenizer {vocab} {text} {here}/dict.txt"),
            ("OUT below a file", "cannot be made", holds(""), "--workers 1 --tokenizer {vocab} {text} {bad}/out"),
            ("OUT is a link to itself", "a link that leads to itself", lambda p, w: p.symlink_to("bad"), "--workers 1 --tokenizer {vocab} {text} {bad}"),
            ("OUT is a device", "a device", lambda p, w: p.symlink_to("/dev/full"), "--workers 1 --tokenizer {vocab} {text} {bad}"),
            ("OUT has a name of 300 letters", "File name too long", lambda p, w: None, "--workers 1 --tokenizer {vocab} {text} {here}/" + "x" * 300),
            ("OUT is an empty name", "give the name of the file to write", lambda p, w: None, "--workers 1 --tokenizer {vocab} {text} ''"),
            ("OUT in /proc", "cannot be", lambda p, w: None, "--workers 1 --tokenizer {vocab} {text} /proc/out"),
            ("OUT beside another tokenizer", "another", lambda p, w: (p.mkdir(), (p / "vocab.txt").write_text("[PAD]\n[UNK]\n")), "--workers 1 --tokenizer {vocab} {text} {bad}/out"),
            ("IN is an empty name", "no such file", lambda p, w: None, "--workers 1 --tokenizer {vocab} '' {out}"),
            ("the tokenizer is an empty name", "holds no tokenizer", lambda p, w: None, "--workers 1 --tokenizer '' {text} {out}"),
            ("the tokenizer is a checkpoint", "convert the file first, for example with `iconv", lambda p, w: None, "--workers 1 --tokenizer {run}/checkpoint_last.pt {text} {out}"),
        ],
    ),
]

TRAIN_VOCAB = [
    *cases("convbert train-vocab", "--vocab-size 60 {bad} {out}", map(of_text, TEXTS)),
    *cases(
        "convbert train-vocab",
        "",
        [
            ("too many pieces", "too large for this text", lambda p, w: None, "--vocab-size 1000000 {text} {out}"),
            ("too few pieces", "too small", lambda p, w: None, "--vocab-size 7 {text} {out}"),
            ("no text", "no such file", lambda p, w: None, "--vocab-size 60 {nowhere} {out}"),
            ("OUT is a file", "a file, where OUT has to be a folder", holds(""), "--vocab-size 60 {text} {bad}"),
            ("OUT has a vocabulary", "there already", folder_of(dict__txt="a 1\n"), "--vocab-size 60 {text} {bad}"),
            ("OUT below a file", "cannot be made", holds(""), "--vocab-size 40 {text} {bad}/out"),
            ("a text of one letter", "--vocab-size 60 is too large for this text", holds("a\n"), "--vocab-size 60 {bad} {out}"),
        ],
    ),
]


def rte(edit):
    def spoil(path, world):
        shutil.copytree(world["rte"], path)
        edit(path)

    return spoil


def in_file(name, change):
    def edit(folder):
        path = folder / name
        lines = path.read_text().splitlines()
        path.write_text("\n".join(change(lines)) + "\n")

    return edit


PREPARE_GLUE = "--glue-task rte --tokenizer {vocab} {bad} {out}"
WNLI = "--glue-task wnli --tokenizer {vocab} {bad} {out}"
OWN = "--glue-task own --text text --labels no,yes --tokenizer {vocab} {bad} {out}"
SCORES = "--glue-task own --text text --score-range 0 5 --tokenizer {vocab} {bad} {out}"
TABLE = "text\tlabel\nthe cat\tno\na dog\tyes\n"
GLUE = [
    *cases(
        "convbert prepare-glue",
        WNLI,
        [
            ("no folder", "no such folder", none),
            ("a file", "no such folder", holds("")),
            ("an empty folder", "", lambda p, w: p.mkdir()),
            ("an unknown task", "--glue-task swag", none, "--glue-task swag --tokenizer {vocab} {rte} {out}"),
            ("a task of two dots", "--glue-task ..", none, "--glue-task .. --tokenizer {vocab} {rte} {out}"),
            ("an empty task", "--glue-task ''", none, "--glue-task '' --tokenizer {vocab} {rte} {out}"),
            ("a label that is none", "train.tsv:2: the label 'maybe'", rte(in_file("train.tsv", lambda rows: [rows[0], rows[1][:-1] + "maybe", *rows[2:]]))),
            ("a row with a cell less", "train.tsv:3", rte(in_file("train.tsv", lambda rows: [*rows[:2], rows[2].rpartition("\t")[0], *rows[3:]]))),
            ("a row with a cell more", "train.tsv:3", rte(in_file("train.tsv", lambda rows: [*rows[:2], rows[2] + "\tmore", *rows[3:]]))),
            ("no column of that name", "sentence2", rte(in_file("train.tsv", lambda rows: [rows[0].replace("sentence2", "second"), *rows[1:]]))),
            ("a column twice", "no column 'sentence2' in its header (index,", rte(in_file("train.tsv", lambda rows: [rows[0].replace("sentence2", "sentence1"), *rows[1:]]))),
            ("a header and no row", "train.tsv", rte(in_file("train.tsv", lambda rows: rows[:1]))),
            ("an empty train.tsv", "train.tsv", rte(lambda f: (f / "train.tsv").write_text(""))),
            ("zero bytes", "train.tsv", rte(lambda f: (f / "train.tsv").write_bytes(bytes(4000)))),
            ("latin-1", "train.tsv:2: not UTF-8", rte(lambda f: (f / "train.tsv").write_bytes(b"index\tsentence1\tsentence2\tlabel\n0\tcaf\xe9\ta\t1\n"))),
            ("commas for tabs", "train.tsv", rte(lambda f: (f / "train.tsv").write_text((f / "train.tsv").read_text().replace("\t", ",")))),
            ("OUT is there", "there already", folder_of(a="b"), "--glue-task wnli --tokenizer {vocab} {rte} {bad}"),
            ("OUT is a file", "there already", holds(""), "--glue-task wnli --tokenizer {vocab} {rte} {bad}"),
            ("OUT is SRC", "there already", none, "--glue-task wnli --tokenizer {vocab} {rte} {rte}"),
            ("OUT below a file", "cannot be", holds(""), "--glue-task wnli --tokenizer {vocab} {rte} {bad}/out"),
            ("no tokenizer", "", none, "--glue-task wnli --tokenizer {nowhere} {rte} {out}"),
            ("own: no --text", "needs --text", folder_of(train__tsv=TABLE), "--glue-task own --labels no,yes --tokenizer {vocab} {bad} {out}"),
            ("own: neither labels nor range", "give the words of the classes (--labels) or a", folder_of(train__tsv=TABLE), "--glue-task own --text text --tokenizer {vocab} {bad} {out}"),
            ("own: labels and range", "give the words of the classes (--labels) or a", folder_of(train__tsv=TABLE), OWN + " --score-range 0 1"),
            ("own: one label", "give two or more different words", folder_of(train__tsv=TABLE), OWN.replace("no,yes", "no")),
            ("own: a label twice", "--labels no,no", folder_of(train__tsv=TABLE), OWN.replace("no,yes", "no,no")),
            ("own: an empty label", "--labels no,", folder_of(train__tsv=TABLE), OWN.replace("no,yes", "no,")),
            ("own: a range upside down", "--score-range 5 0", folder_of(train__tsv=TABLE), SCORES.replace("0 5", "5 0")),
            ("own: a range of nan", "--score-range nan 5", folder_of(train__tsv=TABLE), SCORES.replace("0 5", "nan 5")),
            ("own: an endless range", "--score-range 0 inf", folder_of(train__tsv=TABLE), SCORES.replace("0 5", "0 inf")),
            ("own: an unknown metric", "--metrics bleu", folder_of(train__tsv=TABLE), OWN + " --metrics bleu"),
            ("own: a metric of scores", "--metrics pearson", folder_of(train__tsv=TABLE), OWN + " --metrics pearson"),
            ("own: a column that is not there", "no column 'body' in its header (text, label)", folder_of(train__tsv=TABLE), OWN.replace("--text text", "--text body")),
            ("own: an empty column name", "--text and --text-pair name columns of the text", folder_of(train__tsv=TABLE), OWN.replace("--text text", "--text ''")),
            ("own: the name of an official task", "--glue-task rte", folder_of(train__tsv=TABLE), OWN.replace("task own", "task rte")),
            ("own: a name with a slash", "--glue-task 'a/b'", folder_of(train__tsv=TABLE), OWN.replace("task own", "task a/b")),
            ("own: a name of two lines", "letters, digits, '-' and '_' make a name", folder_of(train__tsv=TABLE), OWN.replace("task own", "task 'a\nb'")),
            ("own: both kinds of files", "holds both .tsv and .csv", folder_of(train__tsv=TABLE, train__csv=TABLE), OWN),
            ("own: a score that is no number", "train.tsv:2", folder_of(train__tsv="text\tlabel\nthe cat\thigh\n"), SCORES),
            ("own: a score beyond the range", "train.tsv:2", folder_of(train__tsv="text\tlabel\nthe cat\t7\n"), SCORES),
            ("own: a score of nan", "train.tsv:2", folder_of(train__tsv="text\tlabel\nthe cat\tnan\n"), SCORES),
            ("own: an open quotation mark", "train.csv:2", folder_of(train__csv='text,label\n"the cat,no\na dog,yes\n'), OWN),
            ("own: a .jsonl that is cut", "train.jsonl:2", folder_of(train__jsonl='{"text": "a", "label": "no"}\n{"text": "b", "la'), OWN),
            ("own: a .jsonl of lists", "train.jsonl:1", folder_of(train__jsonl='["a", "no"]\n'), OWN),
            ("own: a .jsonl 10^5 deep", "train.jsonl:1", folder_of(train__jsonl=nested(100_000)), OWN),
            ("own: a .jsonl of half a character", "train.jsonl:1", folder_of(train__jsonl='{"text": "\\ud800", "label": "no"}\n'), OWN),
            ("own: a .jsonl of a null label", "train.jsonl:1", folder_of(train__jsonl='{"text": "a", "label": null}\n'), OWN),
            ("own: a .jsonl with a text of a number", "train.jsonl:1", folder_of(train__jsonl='{"text": 3, "label": "no"}\n'), OWN),
            ("own: a number of 10^5 digits", "train.jsonl:1", folder_of(train__jsonl='{"text": "a", "label": ' + "9" * 100_000 + "}\n"), SCORES),
        ],
    ),
]

PREPARE_SQUAD = "--workers 1 --tokenizer {vocab} {bad} {out}"
SQUAD = [
    *cases(
        "convbert prepare-squad",
        PREPARE_SQUAD,
        [
            ("no file", "no such file", none),
            ("an empty folder", "", lambda p, w: p.mkdir()),
            ("a folder without .json", "name the files to prepare", folder_of(readme="a")),
            ("two files of one split", "two files of the split train", folder_of(**{"train1__json": "{}", "train2__json": "{}"})),
            ("nothing in it", "", holds("")),
            ("half a file", "fetch or write the file again", lambda p, w: p.write_text(w["json"].read_text()[:500])),
            ("a list", "no file of SQuAD", holds("[1]")),
            ("no data", "", holds("{}")),
            ("data of a number", "no file of SQuAD", holds('{"version": "1.1", "data": 3}')),
            ("data of words", "no file of SQuAD", holds('{"version": "1.1", "data": ["a"]}')),
            ("no document", "no question in it", holds('{"version": "1.1", "data": []}')),
            ("10^5 deep", "no file of SQuAD", holds('{"data": ' + nested(100_000) + "}")),
            ("latin-1", "not UTF-8", holds('{"data": "é"}'.encode("latin-1"))),
            ("a cut gzip", "a corrupt or truncated archive", holds(packed[:-9])),
            ("a device", "", lambda p, w: p.symlink_to("/dev/null")),
            ("an id of a number", "mend it, or pass over what is broken with", squad(id=3)),
            ("no id", "mend it, or pass over what is broken with", squad(id=None)),
            ("an id twice", "question '1'", squad([{"id": "1", "question": "a cat"}] * 2)),
            ("no question", "question '1'", squad(question=None)),
            ("an empty question", "question '1'", squad(question=" ")),
            ("an empty context", "mend it, or pass over what is broken with", squad(context=" ")),
            ("a context of a number", "mend it, or pass over what is broken with", squad(context=3)),
            ("half a character", "question '1'", squad(question="\ud800")),
            ("an answer elsewhere", "question '1'", squad(answers=[{"text": "small", "answer_start": 5}])),
            ("an answer beyond the end", "question '1'", squad(answers=[{"text": "small", "answer_start": 10**30}])),
            ("an answer before the start", "question '1'", squad(answers=[{"text": "small", "answer_start": -1}])),
            ("an answer at a word", "question '1'", squad(answers=[{"text": "small", "answer_start": "4"}])),
            ("an empty answer", "question '1'", squad(answers=[{"text": "", "answer_start": 4}])),
            ("answers of a table", "question '1'", squad(answers={"text": "small"})),
            ("impossible in words", "question '1'", squad(is_impossible="yes")),
            ("impossible with an answer", "question '1'", squad(is_impossible=True)),
            ("OUT is there", "there already", folder_of(a="b"), "--workers 1 --tokenizer {vocab} {json} {bad}"),
            ("OUT below a file", "cannot be", holds(""), "--workers 1 --tokenizer {vocab} {json} {bad}/out"),
            ("no tokenizer", "", none, "--workers 1 --tokenizer {nowhere} {json} {out}"),
        ],
    ),
]

PREDICTING = [
    *cases(
        "convbert predict-glue",
        "--path {bad} {glue} {out}",
        [
            ("no checkpoint", "no such", none),
            ("a folder without a checkpoint", "model.pt or checkpoint_best.pt or", lambda p, w: p.mkdir()),
            ("a text for a checkpoint", "damaged, or no checkpoint (Unsupported operand", holds("weights")),
            ("an empty checkpoint", "copy it again", holds("")),
            ("a pipe for a checkpoint", "no file, where a checkpoint is expected", lambda p, w: os.mkfifo(p)),
            ("a model that is not fine-tuned", "", none, "--path {run}/checkpoint_last.pt {glue} {out}"),
            ("a model of another task", "", none, "--path {squad_run}/checkpoint_last.pt {glue} {out}"),
            ("no data", "", none, "--path {glue_run} {nowhere} {out}"),
            ("the data of another task", "", none, "--path {glue_run} {squad} {out}"),
            ("binarized text for data", "name a folder made by convbert prepare-glue", none, "--path {glue_run} {data} {out}"),
            ("OUT is a file", "a file, where OUT has to be a folder", holds(""), "--path {glue_run} {glue} {bad}"),
            ("OUT below a file", "cannot be", holds(""), "--path {glue_run} {glue} {bad}/out"),
            ("a GPU that is not there", "there is no GPU here", none, "--path {glue_run} --device cuda {glue} {out}"),
            ("an unknown device", "", none, "--path {glue_run} --device tpu {glue} {out}"),
        ],
    ),
    *cases(
        "convbert predict-squad",
        "--path {bad} {squad} {out}",
        [
            ("no checkpoint", "no such", none),
            ("a text for a checkpoint", "damaged, or no checkpoint (Unsupported operand", holds("weights")),
            ("a model that is not fine-tuned", "", none, "--path {run}/checkpoint_last.pt {squad} {out}"),
            ("a model of another task", "", none, "--path {glue_run}/checkpoint_last.pt {squad} {out}"),
            ("no data", "", none, "--path {squad_run} {nowhere} {out}"),
            ("the data of another task", "", none, "--path {squad_run} {glue} {out}"),
            ("a .json of nothing", "fetch or write the file again", holds(""), "--path {squad_run} {bad} {out}"),
            ("a split that is not there", "--split test", none, "--path {squad_run} --split test {squad} {out}"),
            ("an empty split", "name one of it", none, "--path {squad_run} --split '' {squad} {out}"),
            ("a split outside", "--split ../glue", none, "--path {squad_run} --split ../glue {squad} {out}"),
            ("OUT is a file", "a file, where OUT has to be a folder", holds(""), "--path {squad_run} --split train {squad} {bad}"),
            ("a GPU that is not there", "there is no GPU here", none, "--path {squad_run} --device cuda {squad} {out}"),
        ],
    ),
    *cases(
        "convbert report",
        "{bad} {out}.html",
        [
            ("no run", "", none),
            ("a folder without runs", "no scores.json there or below", lambda p, w: p.mkdir()),
            ("a file", "", holds("")),
            ("a broken record", "damaged, or not the scores of a run", folder_of(scores__json="{")),
            ("a record of nothing", "damaged, or not the scores of a run", folder_of(scores__json="{}")),
            ("a record of a list", "damaged, or not the scores of a run", folder_of(scores__json="[]")),
            ("a record 10^5 deep", "damaged, or not the scores of a run", folder_of(scores__json=nested(100_000))),
            ("a record of latin-1", "damaged, or not the scores of a run", folder_of(scores__json='{"a": "é"}'.encode("latin-1"))),
            ("a record of nan", "damaged, or not the scores of a run", copy_of("glue_run", edit_json("scores.json", lambda held: held.update(seed=float("nan"))))),
            ("a page that is a folder", "a folder, where a file is to be written", lambda p, w: p.with_suffix(".html").mkdir(), "{glue_run} {bad}.html"),
            ("a page below a file", "cannot be", holds(""), "{glue_run} {bad}/page.html"),
        ],
    ),
]


def edit_config(**values):
    def spoil(path, world):
        shutil.copytree(world["hf"], path)
        edit_json("config.json", lambda held: held.update(values))(path)

    return spoil


def without(name, file):
    return copy_of(name, lambda folder: (folder / file).unlink())


FROM_HF = "--from hf --to fairseq {bad} {out}"
FROM_FAIRSEQ = "--from fairseq --to hf {bad} {out}"
FROM_TF = "--from tf --to fairseq {bad} {out}"
CONVERT = [
    *cases(
        "convbert convert",
        FROM_HF,
        [
            ("no source", "no such file", none),
            ("hf: a file", "give a folder that transformers wrote", holds("")),
            ("hf: an empty folder", "give a folder that transformers wrote", lambda p, w: p.mkdir()),
            ("hf: a folder of fairseq", "not what --from hf takes", none, "--from hf --to fairseq {run} {out}"),
            ("hf: no config.json", "config.json", without("hf", "config.json")),
            ("hf: no weights", "model.safetensors or pytorch_model.bin is missing", without("hf", "model.safetensors")),
            ("hf: no tokenizer", "holds no tokenizer", copy_of("hf", lambda f: [(f / n).unlink() for n in os.listdir(f) if "token" in n or n == "vocab.txt"])),
            ("hf: another model", "a model_type of 'bert'", edit_config(model_type="bert")),
            ("hf: a model of a number", "a model_type of 3", edit_config(model_type=3)),
            ("hf: no layers", "num_hidden_layers 0", edit_config(num_hidden_layers=0)),
            ("hf: 10^9 layers", "says 1000000000 layers and has only 53 tensors", edit_config(num_hidden_layers=10**9)),
            ("hf: a width of words", "hidden_size 'wide'", edit_config(hidden_size="wide")),
            ("hf: a width below zero", "hidden_size -4", edit_config(hidden_size=-4)),
            ("hf: a width of another model", "does not fit config.json", edit_config(hidden_size=36)),
            ("hf: a width of 10^30", "hidden_size 1000000000000000000000000000000", edit_config(hidden_size=10**30)),
            ("hf: heads that do not divide", "does not fit config.json", edit_config(num_attention_heads=3)),
            ("hf: no heads", "num_attention_heads 0", edit_config(num_attention_heads=0)),
            ("hf: a dropout of 2", "hidden_dropout_prob 2", edit_config(hidden_dropout_prob=2)),
            ("hf: an unknown activation", "hidden_act 'swish'", edit_config(hidden_act="swish")),
            ("hf: a kernel of an even number", "conv_kernel_size 4", edit_config(conv_kernel_size=4)),
            ("hf: a ratio of nothing", "head_ratio 0", edit_config(head_ratio=0)),
            ("hf: another vocabulary", "remove the one that does not belong to the data", copy_of("hf", lambda f: (f / "vocab.txt").write_text((f / "vocab.txt").read_text() + "tree\n"))),
            ("fairseq: a folder of hf", "not what --from fairseq takes", none, "--from fairseq --to hf {hf} {out}"),
            ("fairseq: an empty folder", "model.pt or checkpoint_best.pt or", lambda p, w: p.mkdir(), FROM_FAIRSEQ),
            ("fairseq: a text", "holds no tokenizer", holds("weights"), FROM_FAIRSEQ),
            ("fairseq: no dictionary", "no such file", without("run", "dict.txt"), "--from fairseq --to hf {bad}/checkpoint_last.pt {out}"),
            ("fairseq: an unknown head", "--head topic", none, "--from fairseq --to hf --head topic {run}/checkpoint_last.pt {out}"),
            ("fairseq: no generator", "--network generator", none, "--from fairseq --to hf --network generator {glue_run}/checkpoint_last.pt {out}"),
            ("fairseq: trained longer than there are positions", "--trained-length 4000", none, "--from fairseq --to hf --trained-length 4000 {run}/checkpoint_last.pt {out}"),
            ("fairseq: no vocabulary to map to", "no such file", none, "--from fairseq --to hf --vocab {nowhere} {run}/checkpoint_last.pt {out}"),
            ("fairseq: a vocabulary of another kind", "no row [PAD], [UNK], [CLS], [SEP], [MASK]", holds("a\n"), "--from fairseq --to hf --vocab {bad} {run}/checkpoint_last.pt {out}"),
            ("tf: no checkpoint", "holds no TensorFlow checkpoint, of which one file", lambda p, w: p.mkdir(), FROM_TF),
            ("tf: an index of garbage", "cut short, or no index of a TensorFlow checkpoint", folder_of(**{"model__ckpt__index": os.urandom(400), "model__ckpt__data-00000-of-00001": bytes(40)}), FROM_TF),
            ("tf: an empty index", "cut short, or no index of a TensorFlow checkpoint", folder_of(**{"model__ckpt__index": b"", "model__ckpt__data-00000-of-00001": b""}), FROM_TF),
            ("tf: a folder of fairseq", "not what --from tf takes", none, "--from tf --to fairseq {run} {out}"),
            ("DST is there", "there already", folder_of(a="b"), "--from fairseq --to hf {run}/checkpoint_last.pt {bad}"),
            ("DST is SRC", "there already", none, "--from fairseq --to hf {run} {run}"),
            ("DST below a file", "cannot be made (Not a directory)", holds(""), "--from fairseq --to hf {run}/checkpoint_last.pt {bad}/out"),
        ],
    ),
    Case("convbert bench", "a GPU that is not there", "--quick --device cuda", "GPU"),
    Case("convbert bench", "results below a file", "--quick --json {bad}/bench.json", "cannot be made (Not a directory)", holds("")),
]

CASES = [*COMMAND_LINE, *ENCODING, *TRAIN_VOCAB, *GLUE, *SQUAD, *PREDICTING, *CONVERT]

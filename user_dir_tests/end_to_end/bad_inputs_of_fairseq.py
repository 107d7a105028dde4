"""What is given to fairseq's commands, and the line it gets: one row a case."""

import gzip

from user_dir_tests.end_to_end.bad_input_files import SENTENCE, holds
from user_dir_tests.end_to_end.bad_inputs import WRONG_ARGUMENTS, Case
from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY
from user_dir_tests.end_to_end.glue_runs import GLUE_USUAL
from user_dir_tests.end_to_end.squad_runs import SQUAD_USUAL

# fmt: off
packed = gzip.compress(SENTENCE.encode() * 1000)
PREPROCESS = (
    "--user-dir {plugin} --task replaced_token_detection --only-source --srcdict {pieces}/dict.txt "
    "--trainpref {pieces}/train.txt --destdir {out}"
)


def preprocess(*rows):
    """Options that replace or follow the usual ones."""
    return [
        Case("fairseq-preprocess", wrong, f"{PREPROCESS} {words}", told, *spoil)
        for wrong, words, told, *spoil in rows
    ]


PREPROCESSING = [
    *preprocess(
        ("no text", "--trainpref {nowhere}", "no such file"),
        ("a folder for a text", "--trainpref {here}", "a folder, where a file is expected"),
        ("latin-1", "--trainpref {bad}", "convert the file first, for example with `iconv", holds(b"the cat\ncaf\xe9\n")),
        ("no dictionary", "--srcdict {nowhere}", "no such file"),
        ("a folder for a dictionary", "--srcdict {here}", "a folder, where a file is expected"),
        ("a dictionary of another form", "--srcdict {bad}", "'the cat' is empty or holds whitespace, where", holds("the cat\n")),
        ("a dictionary of latin-1", "--srcdict {bad}", "convert the file first, for example with `iconv", holds(b"caf\xe9 1\n")),
        ("an empty dictionary", "--srcdict {bad}", "empty, where a vocabulary of one piece a line is", holds("")),
        ("a compressed text", "--trainpref {bad}", "unpack it first", holds(packed)),
        ("UTF-16", "--trainpref {bad}", "UTF-16LE without a byte order mark", holds("the cat".encode("utf-16"))),
        ("DESTDIR is a file", "--destdir {bad}", "a file, where a folder is to be", holds("")),
        ("DESTDIR below a file", "--destdir {bad}/data", "cannot be made (Not a directory)", holds("")),
        ("no worker", "--workers 0", "choose a number of at least 1"),
        ("a worker below zero", "--workers -1", "--workers -1"),
        ("an unknown format", "--dataset-impl raw", "--dataset-impl raw"),
        ("source and target", "--source-lang a --target-lang b", "--source-lang and --target-lang go with pairs of"),
    ),
    Case("fairseq-preprocess", "no dictionary at all", "--user-dir {plugin} --task replaced_token_detection --only-source --trainpref {pieces}/train.txt --destdir {out}", "--srcdict is missing"),
    Case("fairseq-preprocess", "no --only-source", "--user-dir {plugin} --task replaced_token_detection --srcdict {pieces}/dict.txt --trainpref {pieces}/train.txt --destdir {out}", "--only-source is missing"),
]

TRAIN = " ".join(("{data}", *TASK, *TINY, *RECIPE, "--save-dir {out} --max-update 1"))
GLUE_TRAIN = " ".join(("{glue}", *GLUE_USUAL, "--save-dir {out} --max-update 1 --glue-task wnli"))
SQUAD_TRAIN = " ".join(("{squad}", *SQUAD_USUAL, "--save-dir {out} --max-update 1"))


def training(usual, *rows):
    """Options that follow the usual ones; a first word without dashes stands for the data."""
    made = []
    for wrong, words, told, *rest in rows:
        line = usual if words.startswith("-") or not words else usual.split(" ", 1)[1]
        made.append(Case("fairseq-train", wrong, f"{line} {words}", told, *rest))
    return made


VALUES = [
    *(("--tokens-per-sample", n, "") for n in ("0", "-5", "1", "41", "4000000000")),
    *(("--budget-minutes", n, "") for n in ("0", "-1", "nan", "inf")),
    *(("--mask-prob", n, "") for n in ("0", "-0.1", "1.5", "nan", "inf")),
    *(("--generator-size", n, "") for n in ("0", "-1", "nan", "inf", "0.8")),
    *(("--encoder-layers", n, "") for n in ("0", "-1")),
    *(("--encoder-embed-dim", n, "") for n in ("0", "-32", "30", "1000000000000")),
    *(("--encoder-attention-heads", n, "") for n in ("0", "-4", "3")),
    *(("--encoder-ffn-embed-dim", n, "") for n in ("0", "-1", "1000000000000")),
    *(("--embedding-dim", n, "") for n in ("0", "-20")),
    *(("--conv-kernel-size", n, "") for n in ("0", "-3", "4", "1000001")),
    *(("--max-positions", n, "") for n in ("0", "-1")),
    *(("--head-ratio", n, "") for n in ("0", "-1")),
    *(("--ffn-groups", n, "") for n in ("0", "-1", "3")),
    *(("--dropout", n, "") for n in ("-0.1", "1.5", "nan")),
    *(("--attention-dropout", n, "") for n in ("-0.1", "1", "nan")),
    *(("--lr", n, "") for n in ("-1", "'[-1]'", "'[]'", "1e999")),
    *(("--warmup-updates", n, "") for n in ("-1",)),
    *(("--weight-decay", n, "") for n in ("nan", "-1")),
    *(("--clip-norm", n, "finite") for n in ("nan", "inf")),
    *(("--adam-betas", n, "") for n in ("'(0.9,)'", "'(2, 3)'", "'(0.9, -1)'", "'[0.9, 0.99, 0.999]'")),
    *(("--adam-eps", n, "") for n in ("nan", "-1")),
    *(("--layer-lr-decay", n, "") for n in ("0", "-1", "nan")),
    *(("--update-freq", n, "at least") for n in ("0", "-1", "'[1, 0]'", "'[]'")),
    *(("--batch-size", n, "") for n in ("0", "-1")),
    *(("--max-tokens", n, "") for n in ("0", "-1", "5")),
    *(("--num-workers", n, "") for n in ("-1",)),
    *(("--seed", n, "") for n in ("-1", "100000000000000000000")),
    *(("--max-update", n, "") for n in ("-1",)),
    *(("--log-interval", n, "") for n in ("0", "-1")),
]

TRAINING = [
    *training(
        TRAIN,
        *((f"{option} {value}", f"{option}={value}", told or "--") for option, value, told in VALUES),
        ("no data", "{nowhere}", "is missing"),
        ("data is a file", "{text}", "name a folder made by fairseq-preprocess"),
        ("data of nothing", "''", "a shard without a name"),
        ("data of an empty shard", "{data}:", "a shard without a name"),
        ("pieces for data", "{pieces}", "fairseq-preprocess"),
        ("data of another task", "{glue}", ""),
        ("SAVE_DIR is a file", "--save-dir {bad}", "choose another folder", holds("")),
        ("SAVE_DIR below a file", "--save-dir {bad}/run", "choose another folder", holds("")),
        ("SAVE_DIR of an empty name", "--save-dir ''", "cannot be written in (No such file or directory)"),
        ("no checkpoint to restore", "--restore-file {nowhere}", "no such file"),
        ("no checkpoint to begin from", "--finetune-from-model {nowhere}", "no such file"),
        ("a text to begin from", "--finetune-from-model {text}", "damaged, or no checkpoint (its pickle is broken"),
        ("a model of transformers to begin from", "--finetune-from-model {hf}/model.safetensors", "damaged, or no checkpoint (Unsupported operand 0)"),
        ("no such split", "--train-subset exam", "make it with fairseq-preprocess, or name another"),
        ("no such held-out split", "--valid-subset exam", "make it with fairseq-preprocess, or name another"),
        ("no held-out split", "--valid-subset ''", "make it with fairseq-preprocess, or name another"),
        ("the criterion of another task", "--criterion glue", "--criterion glue does not go with --task"),
        ("a criterion of fairseq", "--criterion cross_entropy", "--criterion cross_entropy does not go with --task"),
        ("no batch size", "--batch-size 8 --max-tokens 8", "--max-tokens 8"),
        ("a metric that is not there", "--best-checkpoint-metric bleu", "--best-checkpoint-metric bleu"),
        ("two processes without a GPU", "--distributed-world-size 2", "there is none here"),
        ("a file of tensorboard", "--tensorboard-logdir {bad}/log", "cannot be made (Not a directory)", holds("")),
        ("a log below a file", "--log-file {bad}/log", "cannot be made (Not a directory)", holds("")),
        ("bfloat16 of fairseq", "--bf16", "--bf16 on the command line means TPU to fairseq"),
        ("half precision without a GPU", "--fp16", "--fp16 needs a GPU"),
        ("graphs without a GPU", "--cuda-graphs", "--cuda-graphs needs a GPU"),
        ("model parallel", "--model-parallel-size 2", "--model-parallel-size"),
        ("pipelines", "--pipeline-model-parallel", "--pipeline-model-parallel"),
        ("fully sharded", "--ddp-backend fully_sharded", "--ddp-backend fully_sharded"),
        ("other shards than there are", "--num-shards 0", "--num-shards 0"),
    ),
    *training(
        GLUE_TRAIN,
        ("data of another task", "{data}", ""),
        ("glue: no data", "{nowhere}", "name a folder made by convbert prepare-glue"),
        ("glue: another task than the data", "--glue-task rte", "--glue-task rte"),
        ("glue: an unknown task", "--glue-task swag", "--glue-task swag"),
        ("glue: a model of questions", "--finetune-from-model {squad_run}/checkpoint_last.pt --glue-task cola", "--glue-task cola"),
        ("glue: no token", "--tokens-per-sample=0", "--tokens-per-sample 0"),
        ("glue: two tokens", "--tokens-per-sample=2", "--tokens-per-sample 2"),
        ("glue: the metric of another task", "--best-checkpoint-metric mcc", "--best-checkpoint-metric mcc"),
    ),
    *training(
        SQUAD_TRAIN,
        ("squad: no data", "{nowhere}", "name a folder made by convbert prepare-squad"),
        ("squad: data of another task", "{glue}", "name a folder made by convbert prepare-squad"),
        ("squad: a stride of nothing", "--doc-stride=0", "--doc-stride 0"),
        ("squad: no token", "--tokens-per-sample=0", "--tokens-per-sample 0"),
        ("squad: no question", "--max-query-length=0", "--max-query-length 0"),
        ("squad: no answer", "--max-answer-length=0", "--max-answer-length 0"),
        ("squad: no candidate", "--n-best-size=0", "--n-best-size 0"),
        ("squad: a threshold of nan", "--null-threshold=nan", "--null-threshold nan"),
    ),
    *(
        Case("fairseq-train", wrong, words, told, status=WRONG_ARGUMENTS)
        for wrong, words, told in (
            ("an unknown task", "{data} --user-dir {plugin} --task parsing", "invalid choice: 'parsing'"),
            ("an unknown architecture", TRAIN + " --arch convbert_huge", "invalid choice: 'convbert_huge'"),
            ("an unknown option", TRAIN + " --fast", "unrecognized arguments: --fast"),
            ("an option of another task", TRAIN + " --glue-task wnli", "unrecognized arguments: --glue-task"),
            ("a number in words", TRAIN + " --tokens-per-sample many", "invalid int value: 'many'"),
            ("an unknown precision", TRAIN + " --autocast-dtype half", "invalid"),
            ("an unknown convolution", TRAIN + " --conv-type round", "invalid"),
            ("an unknown objective", TRAIN + " --objective gpt", "invalid"),
        )
    ),
]

VALIDATE = "{data} --user-dir {plugin} --task replaced_token_detection --cpu --path {run}/checkpoint_last.pt"
VALIDATING = [
    Case("fairseq-validate", wrong, f"{VALIDATE} {words}", told, *spoil)
    for wrong, words, told, *spoil in (
        ("no checkpoint", "--path {nowhere}", "no such file"),
        ("a folder for a checkpoint", "--path {run}", "no file, where a checkpoint is expected"),
        ("a text for a checkpoint", "--path {text}", "damaged, or no checkpoint (its pickle is broken"),
        ("an empty name", "--path ''", "no file, where a checkpoint is expected"),
        ("two checkpoints", "--path {run}/checkpoint_last.pt:{run}/checkpoint_best.pt", "no such file"),
        ("two checkpoints, of which one is not there", "--path {run}/checkpoint_last.pt:{nowhere}", "no such file"),
        ("a model of another task", "--path {glue_run}/checkpoint_last.pt", "was trained on --task glue, not on"),
        ("no such split", "--valid-subset exam", "make it with fairseq-preprocess, or name another"),
        ("no tokens", "--max-tokens 0", "--max-tokens 0"),
        ("a batch of nothing", "--batch-size=-1", ""),
        ("overrides that are no table", "--model-overrides x", "give a table in Python's words"),
        ("overrides of another model", "--model-overrides \"{{'encoder_layers': 3}}\"", "the checkpoint does not fit --arch convbert_small"),
    )
] + [
    Case("fairseq-validate", "no data", VALIDATE.replace("{data}", "{nowhere}"), "is missing"),
]

HYDRA = (
    "--config-dir {plugin}/config --config-name pretrain_convbert_small common.user_dir={plugin} "
    "task.data={data} checkpoint.save_dir={out} common.cpu=true"
)
HYDRA_TRAINING = [
    *(
        Case("fairseq-hydra-train", wrong, f"{HYDRA} {words}", told)
        for wrong, words, told in (
            ("no data", "task.data={nowhere}", "is missing"),
            ("data that is not said", "~task.data", "task.data is missing"),
            ("a number that does not fit", "task.tokens_per_sample=0", "choose at least 8"),
            ("a kernel of an even number", "model.conv_kernel_size=4", "choose an odd number"),
            ("a rate below zero", "optimization.lr=[-1]", "--lr -1"),
            ("no update in an update", "optimization.update_freq=[0]", "at least 1"),
            ("no checkpoint to begin from", "checkpoint.finetune_from_model={nowhere}", "no such file"),
            ("a save folder below a file", "checkpoint.save_dir={text}/run", "choose another folder"),
        )
    ),
    *(
        Case("fairseq-hydra-train", wrong, words if alone else f"{HYDRA} {words}", told, is_theirs=True)
        for wrong, words, told, *alone in (
            ("an unknown option", "task.fast=true", "Could not override 'task.fast'"),
            ("a number in words", "task.tokens_per_sample=many", "Value 'many'"),
            ("an unknown task", "task=parsing", "Could not override 'task'"),
            ("an unknown size", "model=convbert_huge", "Could not find 'model/convbert_huge'"),
            ("no plugin", "common.user_dir={nowhere}", "FileNotFoundError: {nowhere}"),
            ("no folder of configs", "--config-dir {nowhere} --config-name pretrain_convbert_small", "not found", True),
            ("a word that is no override", "hello", "missing EQUAL"),
            ("a rate of words", "optimization.lr=[x]", "Value 'x'"),
        )
    ),
]

CASES = [*PREPROCESSING, *TRAINING, *VALIDATING, *HYDRA_TRAINING]

"""What goes well for a plain user, and what such a one may not do: one row a case."""

from user_dir_tests.end_to_end.bad_input_files import closed_folder, none, read_only, unreadable
from user_dir_tests.end_to_end.bad_inputs import Case
from user_dir_tests.end_to_end.bad_inputs_of_fairseq import (
    GLUE_TRAIN,
    PREPROCESS,
    SQUAD_TRAIN,
    TRAIN,
    VALIDATE,
)

# fmt: off
ENCODE = "--workers 1 --tokenizer {vocab}"
LABELLED = "--glue-task wnli --tokenizer {vocab}"
DENIED = "cannot be made (Permission denied)"

GOES_WELL = [
    ("fairseq-train", "a read-only data folder", TRAIN.replace("{data}", "{bad}"), read_only("data")),
    ("fairseq-train", "glue: a read-only data folder", GLUE_TRAIN.replace("{glue}", "{bad}"), read_only("glue")),
    ("fairseq-train", "squad: a read-only data folder", SQUAD_TRAIN.replace("{squad}", "{bad}"), read_only("squad")),
    ("fairseq-train", "a read-only start", TRAIN + " --finetune-from-model {bad}/checkpoint_last.pt", read_only("run")),
    ("fairseq-validate", "a read-only checkpoint", VALIDATE.replace("{run}", "{bad}"), read_only("run")),
    ("fairseq-preprocess", "read-only pieces", PREPROCESS.replace("{pieces}", "{bad}"), read_only("pieces")),
    ("convbert encode", "a read-only tokenizer", "--workers 1 --tokenizer {bad} {text} {out}/pieces", read_only("run")),
    ("convbert train-vocab", "no HOME", "--vocab-size 40 {text} {out}", none),
    ("convbert prepare-glue", "read-only tables", LABELLED + " {bad} {out}", read_only("rte")),
    ("convbert prepare-squad", "no HOME", ENCODE + " {json} {out}", none),
    ("convbert predict-glue", "a read-only checkpoint", "--path {bad}/checkpoint_last.pt {glue} {out}", read_only("glue_run")),
    ("convbert predict-squad", "a read-only checkpoint", "--path {bad}/checkpoint_last.pt {squad} {out}", read_only("squad_run")),
    ("convbert convert", "a read-only model", "--from hf --to fairseq {bad} {out}", read_only("hf")),
    ("convbert report", "a read-only run", "{bad} {out}.html", read_only("glue_run")),
    ("python", "a read-only model", "\"print(hub.fill_mask('the [MASK] sees'))\" {bad}", read_only("run")),
]
IS_TOLD = [
    ("fairseq-train", "a save folder that is closed", TRAIN + " --save-dir {bad}", "--save-dir {bad}: cannot be written in (Permission denied): choose another", closed_folder),
    ("fairseq-train", "a save folder in one that is closed", TRAIN + " --save-dir {bad}/run", "cannot be written in (Permission denied)", closed_folder),
    ("fairseq-train", "a run that is read-only", TRAIN + " --save-dir {bad}", "Permission denied", read_only("run")),
    ("fairseq-train", "a log in a folder that is closed", TRAIN + " --log-file {bad}/log", DENIED, closed_folder),
    ("fairseq-train", "curves in a folder that is closed", TRAIN + " --tensorboard-logdir {bad}/curves", DENIED, closed_folder),
    ("fairseq-train", "data that may not be read", TRAIN.replace("{data}", "{bad}"), "{bad}", unreadable("data")),
    ("fairseq-train", "a start that may not be read", TRAIN + " --finetune-from-model {bad}", "{bad}: not to be read (Permission denied)", unreadable("checkpoint")),
    ("fairseq-validate", "a checkpoint that may not be read", VALIDATE + " --path {bad}", "{bad}: not to be read (Permission denied)", unreadable("checkpoint")),
    ("fairseq-preprocess", "a folder that is closed", PREPROCESS + " --destdir {bad}/data", DENIED, closed_folder),
    ("fairseq-preprocess", "a text that may not be read", PREPROCESS + " --trainpref {bad}", "{bad}: Permission denied", unreadable("text")),
    ("convbert encode", "a text that may not be read", ENCODE + " {bad} {out}", "{bad}: Permission denied", unreadable("text")),
    ("convbert encode", "a vocabulary that may not be read", "--workers 1 --tokenizer {bad} {text} {out}", "{bad}: Permission denied", unreadable("vocab")),
    ("convbert encode", "a folder that is closed", ENCODE + " {text} {bad}/pieces", DENIED, closed_folder),
    ("convbert train-vocab", "a folder that is closed", "--vocab-size 40 {text} {bad}", DENIED, closed_folder),
    ("convbert prepare-glue", "tables that may not be read", LABELLED + " {bad} {out}", "Permission denied", unreadable("rte")),
    ("convbert prepare-glue", "a folder that is closed", LABELLED + " {rte} {bad}/out", DENIED, closed_folder),
    ("convbert prepare-squad", "a folder that is closed", ENCODE + " {json} {bad}/out", DENIED, closed_folder),
    ("convbert predict-glue", "a checkpoint that may not be read", "--path {bad} {glue} {out}", "{bad}: not to be read (Permission denied)", unreadable("checkpoint")),
    ("convbert predict-glue", "a folder that is closed", "--path {glue_run} {glue} {bad}/out", DENIED, closed_folder),
    ("convbert predict-squad", "a folder that is closed", "--path {squad_run} {squad} {bad}/out", DENIED, closed_folder),
    ("convbert convert", "a folder that is closed", "--from fairseq --to hf {checkpoint} {bad}/out", DENIED, closed_folder),
    ("convbert convert", "a model that may not be read", "--from fairseq --to hf {bad} {out}", "{bad}", unreadable("run")),
    ("convbert report", "a folder that is closed", "{glue_run} {bad}/page.html", DENIED, closed_folder),
    ("convbert report", "runs that may not be read", "{bad} {out}.html", "{bad}", unreadable("glue_run")),
    ("python", "a model that may not be read", "'' {bad}", "Permission denied", unreadable("run")),
]
CASES = [
    *(Case(command, wrong, words, "", spoil, 0, is_plain_user=True) for command, wrong, words, spoil in GOES_WELL),
    *(Case(command, wrong, words, told, spoil, is_plain_user=True) for command, wrong, words, told, spoil in IS_TOLD),
]

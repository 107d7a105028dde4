"""Checkpoints that would run code, are broken, or say what is not so: one function for each.

A function gets the path of a sound checkpoint and spoils it. Beside it stand words that the
error has to hold.
"""

import argparse
import collections
import io
import math
import os
import pickle
import pickletools
import struct
import subprocess
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

MARK = "code-of-a-checkpoint-ran"
DROP = object()


def payload(path):
    """What the code in a checkpoint would do: leave a file that a test would find."""
    return f"touch '{path.parent / MARK}'"


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def state_of(path):
    return torch.load(path, weights_only=True)


def spoil(change):
    """A function that loads the checkpoint, changes what it holds, and writes it back."""

    def run(path):
        state = state_of(path)
        replacement = change(state, path)
        torch.save(state if replacement is None else replacement, path)

    return run


def with_cfg(section, **values):
    return spoil(lambda state, path: state["cfg"][section].update(values))


def with_entry(way, value):
    """The entry that the way of names and places leads to, replaced; those of ``Drop`` removed."""

    def change(state, path):
        *holders, name = way
        for step in holders:
            state = state[step]
        if value is DROP:
            del state[name]
        else:
            state[name] = value

    return spoil(change)


def records(path):
    with zipfile.ZipFile(path) as archive:
        return {record.filename: archive.read(record) for record in archive.infolist()}


def write_records(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def runs_a_command(state, path):
    state["cfg"]["model"]["encoder_layers"] = Calls(os.system, payload(path))


def runs_a_command_among_the_tensors(state, path):
    state["model"]["encoder.layers.0.attention.query.bias"] = Calls(os.system, payload(path))


def evaluates_text(state, path):
    # In the pickle, whose protocol is 2, stand the names of Python 2: here __builtin__.
    state["extra"] = Calls(eval, f"__import__('os').system({payload(path)!r})")


def starts_a_process(state, path):
    # By the names of Python 2: commands.
    state["extra_state"]["metrics"] = Calls(subprocess.Popen, payload(path), -1, None, None)


def names_a_class_of_torch(state, path):
    state["optimizer_history"].append(Calls(torch.hub.load_state_dict_from_url, "file:///"))


def raw_pickle(path):
    path.write_bytes(pickle.dumps(Calls(os.system, payload(path))))


def old_format(path):
    state = {**state_of(path), "extra": Calls(os.system, payload(path))}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def old_options(state, path):
    state["cfg"]["model"] = argparse.Namespace(arch="convbert_small")


def number_of_numpy(state, path):
    state["extra_state"]["best"] = np.float64(1.5)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def beginning(path):
    path.write_bytes(path.read_bytes()[:10])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("<!DOCTYPE html>\n<title>404: not found</title>\n")


def another_archive(path):
    write_records(path, {"notes.txt": b"no checkpoint"})


def flipped_bit(path):
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    data[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(data)


def packed_zeros(path):
    contents = records(path)
    name = next(name for name in contents if name.endswith("/data/0"))
    contents[name] = bytes(1 << 28)
    write_records(path, contents, zipfile.ZIP_DEFLATED)


def storage_of_no_end(path):
    """The pickle declares 2^31 numbers where the record has a few."""
    contents = records(path)
    name = next(name for name in contents if name.endswith("data.pkl"))
    contents[name] = with_many_numbers(contents[name])
    write_records(path, contents)


def with_many_numbers(data, start=0):
    """What is pickled from there on, the count of its first storage replaced."""
    opcodes = list(pickletools.genops(data[start:]))
    storage = next(i for i, (code, _, _) in enumerate(opcodes) if code.name == "BINPERSID")
    # The last number before it.
    count = next(i for i in range(storage, 0, -1) if opcodes[i][0].name.startswith("BININT"))
    first, end = opcodes[count][2], opcodes[count + 1][2]
    many = pickle.BININT + struct.pack("<i", (1 << 31) - 1)
    return data[: start + first] + many + data[start + end :]


def shape_of_no_end(state, path):
    """A trillion rows in the place of a table, all of them the same few numbers."""
    table = state["model"]["embeddings.tokens.weight"]
    state["model"]["embeddings.tokens.weight"] = table[:1].expand(10**12, table.size(1))


def without_tensors(state, path):
    state["model"] = {}


def without(key):
    def change(state, path):
        del state[key]

    return spoil(change)


def lacks_a_tensor(state, path):
    del state["model"]["encoder.layers.1.attention.output.bias"]


def holds_a_tensor_more(state, path):
    state["model"]["encoder.layers.7.attention.output.bias"] = torch.zeros(32)


def whole_numbers(state, path):
    name = "embeddings.tokens.weight"
    state["model"][name] = state["model"][name].long()


def sparse(state, path):
    name = "embeddings.tokens.weight"
    state["model"][name] = state["model"][name].to_sparse()


def text_for_a_tensor(state, path):
    state["model"]["embeddings.tokens.weight"] = "weights"


def without_numbers(state, path):
    state["model"] = {name: tensor.to("meta") for name, tensor in state["model"].items()}


def single_number(state, path):
    state["model"]["embeddings.tokens.weight"] = torch.tensor(1.0)


def numbers_of(value):
    def change(state, path):
        state["model"]["encoder.layers.1.attention.output.bias"][3] = value

    return spoil(change)


def beyond_float32(state, path):
    state["model"] = {name: tensor.double() for name, tensor in state["model"].items()}
    state["model"]["embeddings.tokens.weight"][3, 2] = 1e300


def laughs(state, path):
    state["cfg"]["laughs"] = laughing()


def lists_in_lists(count, value="ha"):
    for _ in range(count):
        value = [value]
    return value


def bytes_of_no_end(state, path):
    state["extra_state"]["notes"] = Calls(bytearray, 2_500_000_000)


def tensor_without_a_storage(state, path):
    state["extra_state"]["notes"] = Calls(torch.FloatTensor, 600_000_000)


def copied_tables(state, path):
    table = [("a", 1), ("b", 2)]
    state["extra_state"]["notes"] = [Calls(collections.OrderedDict, table) for _ in range(3)]


def steps_of_no_end(path):
    contents = records(path)
    name = next(name for name in contents if name.endswith("data.pkl"))
    end = len(contents[name]) - 1
    contents[name] = contents[name][:end] + b"N" * 1_200_000 + b"."
    write_records(path, contents)


def hashes_for_ever(path):
    """Written as it is pickled: Python itself would not get to its end."""
    contents = records(path)
    name = next(name for name in contents if name.endswith("data.pkl"))
    key = b"K\x01K\x02\x86" + b"".join(
        b"r" + struct.pack("<I", 10**6 + i) + b"j" + struct.pack("<I", 10**6 + i) + b"\x86"
        for i in range(40)
    )
    contents[name] = contents[name][:-1] + key + b"Ns."
    write_records(path, contents)


def storage_beyond_the_file(path):
    """In torch's format of old, where the numbers of a storage are made before they are read."""
    torch.save(state_of(path), path, _use_new_zipfile_serialization=False)
    with open(path, "rb") as file:
        for _ in range(3):
            list(pickletools.genops(file))
        start = file.tell()
    path.write_bytes(with_many_numbers(path.read_bytes(), start))


def one_tensor_many_times(state, path):
    table = state["model"]["embeddings.tokens.weight"]
    state["model"] |= {f"tables.{i}": table[:] for i in range(2000)}


def bites_its_tail(state, path):
    state["cfg"]["model"]["cfg"] = state["cfg"]


def list_of_things(state, path):
    return [1, 2, 3]


def deep(path):
    """Pickled lists in lists, deeper than any stack."""
    path.write_bytes(b"\x80\x02" + b"(l" * 10**6 + b"a" * (10**6 - 1) + b".")


def script(path):
    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    path.write_bytes(buffer.getvalue())


def safetensors(path):
    save_file({"weight": torch.zeros(3)}, path)


REFUSED = "refused, nothing was run: its pickle names "


def with_answers(labels, score_range=None):
    def change(state, path):
        scope = "classification_heads.topic"
        head = {"weight": torch.zeros(2, 32), "bias": torch.zeros(2)}
        state["model"] |= {f"{scope}.output.{name}": tensor for name, tensor in head.items()}
        kept = {"labels": labels, "score_range": score_range, "length": None}
        state["task_state"]["answers"] = {scope: kept}

    return spoil(change)


HOSTILE = {
    "runs_a_command": (spoil(runs_a_command), f"{REFUSED}posix.system"),
    "runs_a_command_among_the_tensors": (
        spoil(runs_a_command_among_the_tensors),
        f"{REFUSED}posix.system",
    ),
    "evaluates_text": (spoil(evaluates_text), f"{REFUSED}__builtin__.eval"),
    "starts_a_process": (spoil(starts_a_process), f"{REFUSED}commands.Popen"),
    "names_a_class_of_torch": (
        spoil(names_a_class_of_torch),
        f"{REFUSED}torch.hub.load_state_dict_from_url",
    ),
    "raw_pickle": (raw_pickle, f"{REFUSED}posix.system"),
    "old_format": (old_format, f"{REFUSED}posix.system"),
    "old_options": (spoil(old_options), f"{REFUSED}argparse.Namespace"),
    "number_of_numpy": (spoil(number_of_numpy), f"{REFUSED}numpy"),
    "bytes_of_no_end": (spoil(bytes_of_no_end), f"{REFUSED}__builtin__.bytearray"),
    "tensor_without_a_storage": (
        spoil(tensor_without_a_storage),
        f"{REFUSED}torch.FloatTensor",
    ),
}
BROKEN = {
    "half": (half, "cut short"),
    "beginning": (beginning, "cut short"),
    "empty": (empty, "empty"),
    "text": (text, "no checkpoint"),
    "another_archive": (another_archive, "no checkpoint"),
    "flipped_bit": (flipped_bit, "does not match its checksum"),
    "packed_zeros": (packed_zeros, "is compressed"),
    "storage_of_no_end": (storage_of_no_end, "damaged"),
    "shape_of_no_end": (spoil(shape_of_no_end), "declares"),
    "without_tensors": (spoil(without_tensors), "no dictionary of tensors"),
    "without_model": (without("model"), "no dictionary of tensors"),
    "without_cfg": (without("cfg"), "cfg is missing"),
    "without_extra_state": (without("extra_state"), "extra_state is missing"),
    "without_history": (without("optimizer_history"), "optimizer_history is missing"),
    "lacks_a_tensor": (
        spoil(lacks_a_tensor),
        "(encoder.layers.1.attention.output.bias is missing)",
    ),
    "holds_a_tensor_more": (
        spoil(holds_a_tensor_more),
        "(encoder.layers.7.attention.output.bias is unknown)",
    ),
    "whole_numbers": (spoil(whole_numbers), "embeddings.tokens.weight is torch.int64"),
    "sparse": (spoil(sparse), "embeddings.tokens.weight"),
    "text_for_a_tensor": (spoil(text_for_a_tensor), "embeddings.tokens.weight is no tensor"),
    "without_numbers": (spoil(without_numbers), "has no numbers in it"),
    **{
        f"holds_{value}": (
            numbers_of(value),
            "encoder.layers.1.attention.output.bias holds NaN, or",
        )
        for value in (float("nan"), float("inf"), float("-inf"))
    },
    "beyond_float32": (
        spoil(beyond_float32),
        "embeddings.tokens.weight holds NaN, or numbers that are infinite in float32",
    ),
    "single_number": (spoil(single_number), "embeddings.tokens.weight is a single number"),
    "of_no_count": (with_cfg("model", encoder_ffn_embed_dim=10**40), "make no model"),
    "laughs": (spoil(laughs), "no plain values"),
    "bites_its_tail": (spoil(bites_its_tail), "no plain values"),
    "list_of_things": (spoil(list_of_things), "list"),
    "deep": (deep, "no checkpoint"),
    "script": (script, "no checkpoint"),
    "deep_options": (with_entry(("cfg", "notes"), lists_in_lists(60)), "no plain values"),
    "options_of_no_end": (
        with_entry(("cfg", "notes"), {str(i): i for i in range(20_000)}),
        "no plain values",
    ),
    "copied_tables": (spoil(copied_tables), "copies dictionaries"),
    "steps_of_no_end": (steps_of_no_end, "more than 1,000,000 steps"),
    "hashes_for_ever": (hashes_for_ever, "odd keys"),
    "storage_beyond_the_file": (storage_beyond_the_file, "and it is too short"),
    "one_tensor_many_times": (
        spoil(one_tensor_many_times),
        "its tensors declare more numbers than they hold",
    ),
    "safetensors": (safetensors, "no checkpoint"),
    "reads_the_environment": (with_cfg("task", data="${oc.env:HOME}"), "no plain values"),
    "of_another_width": (with_cfg("model", encoder_embed_dim=48), "do not fit its own options"),
    "of_many_layers": (with_cfg("model", encoder_layers=10**9), "1000000000 layers"),
    "of_no_end": (with_cfg("model", encoder_ffn_embed_dim=10**12), "do not fit its own options"),
    "of_a_word": (with_cfg("model", encoder_embed_dim="32"), "encoder_embed_dim is '32'"),
    "of_an_unknown_convolution": (with_cfg("model", conv_type="deep"), "conv_type is 'deep'"),
    "of_long_words": (with_cfg("model", encoder_embed_dim="x" * 10**6), "encoder_embed_dim is 'xx"),
    "of_many_digits": (with_cfg("model", encoder_layers=10**600), "says 1000"),
    "of_a_config_by_numbers": (
        with_entry(("extra_state", "transformers_config"), {"id2label": {0: "no"}}),
        "transformers_config",
    ),
    "of_a_config_by_pairs": (
        with_entry(("extra_state", "transformers_config"), {("a", "b"): 1, "c": 2}),
        "transformers_config",
    ),
    "of_a_config_of_tensors": (
        with_entry(("extra_state", "transformers_config"), {"a": torch.zeros(2)}),
        "transformers_config",
    ),
    "of_a_config_of_a_list": (
        with_entry(("extra_state", "transformers_config"), [1]),
        "transformers_config",
    ),
    "of_options_by_pairs": (with_entry(("cfg", "model", ("a", 1)), 1), "no plain values"),
    "tensor_by_number": (with_entry(("model", 10**500), torch.zeros(1)), "names a tensor"),
    "tensor_of_a_long_name": (
        with_entry(("model", "x" * 10**6), torch.zeros(1)),
        "...",
    ),
    "tensor_of_two_lines": (with_entry(("model", "a\nb"), torch.zeros(1)), "'a\\nb' is unknown"),
    "head_of_a_long_name": (
        with_entry(("model", f"classification_heads.{'x' * 10**6}.output.bias"), torch.zeros(2)),
        "at most 100 letters",
    ),
    "state_of_tensors": (
        with_entry(("task_state", "a"), torch.zeros(2)),
        "its task_state is no plain",
    ),
    "answers_of_a_list": (with_entry(("task_state", "answers"), [1]), "its answers are [1]"),
    "answers_twice_the_same": (with_answers(["a", "a"]), "its answers are {'"),
    "answers_of_two_lines": (with_answers(["a", "b\nc"]), "its answers are {'"),
    "answers_of_no_range": (with_answers([], [5.0, math.nan]), "its answers are {'"),
    "an_answer_too_many": (with_answers(["a", "b", "c"]), "head topic has 2 outputs, and the"),
    "of_an_odd_generator": (with_cfg("task", generator_size="all"), "make no model"),
}


def laughing():
    """Thirty lists, each ten times the one before."""
    rung = ["ha"]
    for _ in range(30):
        rung = [rung] * 10
    return rung


def options_by_number(count):
    return {str(number): number for number in range(count)}


def forged_wall(state, path):
    rows = state["extra_state"]["metrics"]["default"]
    index = next(i for i, row in enumerate(rows) if row[1] == "wall")
    rows[index] = (790, "wall", "AverageMeter", {"val": 1, "sum": 1, "count": 1, "round": 0})


def without_wall(state, path):
    rows = state["extra_state"]["metrics"]["default"]
    rows[:] = [row for row in rows if row[1] != "wall"]


def many_meters(state, path):
    metrics = state["extra_state"]["metrics"]
    metrics.update(dict.fromkeys(options_by_number(500), metrics["train"]))


def moments_without_numbers(state, path):
    for moments in state["last_optimizer_state"]["state"].values():
        moments["exp_avg"] = moments["exp_avg"].to("meta")


def moments_of_no_end(state, path):
    moments = state["last_optimizer_state"]["state"][0]
    moments["exp_avg"] = moments["exp_avg"].flatten()[:1].expand(10**12)


def moments_of_another_shape(state, path):
    moments = state["last_optimizer_state"]["state"][0]
    moments["exp_avg"] = moments["exp_avg"][:-1]


def moments_of_words(state, path):
    state["last_optimizer_state"]["state"][0]["exp_avg_sq"] = "small"


def without_a_moment(state, path):
    del state["last_optimizer_state"]["state"][0]["exp_avg_sq"]


def without_a_count(state, path):
    del state["last_optimizer_state"]["state"][0]["step"]


LAST = ("optimizer_history", -1)
ITERATOR = ("extra_state", "train_iterator")
OPTIMIZER = ("last_optimizer_state",)
MOMENTS = (*OPTIMIZER, "state", 0)
METER = ("extra_state", "metrics", "default", 0)
# Of these the model is sound, and a run cannot go on from them.
UNFINISHED = {
    "history_of_nothing": (with_entry(LAST, {}), "optimizer_history[-1].lr_scheduler_state is"),
    "history_of_a_schedule": (with_entry((*LAST, "lr_scheduler_state"), 3), "lr_scheduler_state"),
    "schedule_of_nothing": (
        with_entry((*LAST, "lr_scheduler_state"), {}),
        "lr_scheduler_state.best is missing",
    ),
    "best_of_a_schedule": (
        with_entry((*LAST, "lr_scheduler_state", "best"), "low"),
        "lr_scheduler_state.best is 'low'",
    ),
    "plateau_of_a_number": (
        with_entry((*LAST, "lr_scheduler_state", "plateau"), 3),
        "plateau is 3",
    ),
    "plateau_of_no_rates": (
        with_entry(
            (*LAST, "lr_scheduler_state", "plateau"),
            {"num_bad_epochs": 0, "cooldown_counter": 0, "rates": ["fast"]},
        ),
        "lr_scheduler_state.plateau is of the type dict",
    ),
    "waited_in_words": (
        with_entry(("extra_state", "early_stopping"), {"best": 1.0, "num_runs": "two"}),
        "extra_state.early_stopping is of the type dict",
    ),
    "score_in_words": (with_entry(("extra_state", "val_loss"), "low"), "val_loss is 'low'"),
    "updates_in_words": (with_entry((*LAST, "num_updates"), "two"), "num_updates is 'two'"),
    "updates_below_zero": (with_entry((*LAST, "num_updates"), -2), "num_updates is -2"),
    "no_criterion": (with_entry((*LAST, "criterion_name"), DROP), "criterion_name is missing"),
    "criterion_of_a_number": (with_entry((*LAST, "criterion_name"), 3), "criterion_name is 3"),
    "optimizer_of_a_number": (with_entry((*LAST, "optimizer_name"), 3), "optimizer_name is 3"),
    "old_optimizer": (with_entry((*LAST, "optimizer"), {}), "optimizer_history[-1].optimizer is"),
    "iterator_of_a_list": (with_entry(ITERATOR, [1, 2]), "extra_state.train_iterator is"),
    "iterator_of_nothing": (with_entry(ITERATOR, None), "extra_state.train_iterator is None"),
    "epoch_in_words": (with_entry((*ITERATOR, "epoch"), "one"), "epoch is 'one'"),
    "epoch_of_no_end": (with_entry((*ITERATOR, "epoch"), 10**30), "epoch is 1000"),
    "no_epoch": (with_entry((*ITERATOR, "epoch"), DROP), "train_iterator.epoch is missing"),
    "position_in_words": (
        with_entry((*ITERATOR, "iterations_in_epoch"), "one"),
        "iterations_in_epoch is 'one'",
    ),
    "version_in_words": (with_entry((*ITERATOR, "version"), "two"), "version is 'two'"),
    "best_of_a_list": (with_entry(("extra_state", "best"), [1.0]), "extra_state.best is"),
    "time_in_words": (
        with_entry(("extra_state", "previous_training_time"), "long"),
        "previous_training_time is 'long'",
    ),
    "metrics_of_a_list": (with_entry(("extra_state", "metrics"), [1]), "extra_state.metrics is"),
    "meter_of_a_number": (with_entry(METER, 3), "extra_state.metrics is"),
    "unknown_meter": (with_entry((*METER[:3], 0), (1, "a", "Path", {})), "extra_state.metrics is"),
    "meter_of_a_word": (
        with_entry((*METER[:3], 0), (1, "a", "AverageMeter", dict.fromkeys(["val", "sum"], "a"))),
        "extra_state.metrics is",
    ),
    "meter_of_another_class": (spoil(forged_wall), "extra_state.metrics is"),
    "no_wall": (spoil(without_wall), "extra_state.metrics is"),
    "meters_of_no_end": (spoil(many_meters), "extra_state.metrics is"),
    "task_of_a_list": (
        with_entry(("extra_state", "ReplacedTokenDetectionTask"), [1]),
        "extra_state.ReplacedTokenDetectionTask is",
    ),
    "optimizer_of_a_list": (with_entry(OPTIMIZER, [1]), "last_optimizer_state is of the type list"),
    "groups_of_a_table": (with_entry((*OPTIMIZER, "param_groups"), {}), "param_groups is"),
    "group_of_a_word": (with_entry((*OPTIMIZER, "param_groups", 0), "a"), "param_groups is"),
    "no_groups": (with_entry((*OPTIMIZER, "param_groups"), DROP), "param_groups is missing"),
    "moments_of_a_list": (with_entry((*OPTIMIZER, "state"), [1]), "last_optimizer_state.state is"),
    "moments_of_a_number": (with_entry((*OPTIMIZER, "state", 0), 3), "last_optimizer_state.state"),
    "group_of_lists": (
        with_entry((*OPTIMIZER, "param_groups", 0, "notes"), lists_in_lists(3)),
        "param_groups is",
    ),
    "group_of_many_options": (
        with_entry((*OPTIMIZER, "param_groups", 0), {"params": [], **options_by_number(200)}),
        "param_groups is",
    ),
    "moments_of_lists": (with_entry((*MOMENTS, "exp_avg"), laughing()), "optimizer_state.state is"),
    "moments_of_a_table": (with_entry((*MOMENTS, "a"), {"b": 1}), "last_optimizer_state.state is"),
    "moments_without_numbers": (spoil(moments_without_numbers), "last_optimizer_state.state is"),
    "moments_of_no_end": (spoil(moments_of_no_end), "last_optimizer_state.state is"),
}
# Of these the optimizer alone can tell.
OF_OTHER_MOMENTS = {
    "moments_of_another_shape": (spoil(moments_of_another_shape), "exp_avg"),
    "moments_of_words": (spoil(moments_of_words), "exp_avg_sq"),
    "without_a_moment": (spoil(without_a_moment), "exp_avg_sq"),
    "without_a_count": (spoil(without_a_count), "step"),
}

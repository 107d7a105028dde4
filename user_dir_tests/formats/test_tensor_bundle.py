"""Checkpoints that TensorFlow's own Saver wrote, and damaged and hostile ones."""

import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.formats.tensor_bundle import MOST_INDEX_BYTES, MOST_VARIABLES, open_bundle
from user_dir_tests.formats.bundle_index import (
    NO_HANDLE,
    TABLE_MAGIC,
    block,
    entry,
    field,
    handles_of,
    header,
    sealed,
    table,
    varint,
    with_directory,
)
from user_dir_tests.oracles.tensorflow_saver import Checkpoint, write_checkpoints

pytestmark = pytest.mark.weights

NAME = "model.ckpt-7"
INDEX, DATA = f"{NAME}.index", f"{NAME}.data-00000-of-00001"
# TensorFlow begins a new block of the index after so many bytes.
INDEX_BLOCK_BYTES = 1 << 18


def random_tensor(*shape, dtype=torch.float32, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


READABLE = {
    "electra/embeddings/LayerNorm/beta": random_tensor(5),
    "electra/embeddings/LayerNorm/beta/adam_m": random_tensor(5, seed=2),
    "electra/embeddings/LayerNorm": torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-45]),
    "bfloat16": random_tensor(3, 5, dtype=torch.bfloat16),
    "float16": random_tensor(2, 1, 7, dtype=torch.float16),
    "float64": random_tensor(2, 3, dtype=torch.float64),
    "empty": torch.empty(3, 0, 2),
    "scalar": torch.tensor(0.1),
    "one_number": torch.tensor([[0.2]]),
}
UNREADABLE = {"int32": torch.arange(4, dtype=torch.int32), "global_step": torch.tensor(10**6)}
# Names that share nothing, so that they fill several blocks.
MANY = {
    f"{random.Random(number).randbytes(300).hex()}/kernel": random_tensor(3, seed=number)
    for number in range(450)
}
IN_VERSION_1 = ("float64", "scalar")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders with a checkpoint each, by what is in it."""
    root = tmp_path_factory.mktemp("saved")
    tensors = {**READABLE, **UNREADABLE}
    what = {
        "plain": {"tensors": tensors},
        "sharded": {"tensors": tensors, "shards": 3},
        "many": {"tensors": MANY},
        "partitioned": {"tensors": READABLE, "partitioned": ("float64",)},
        "version_1": {"tensors": {name: READABLE[name] for name in IN_VERSION_1}, "version": 1},
    }
    checkpoints = [Checkpoint(root / name / NAME, **each) for name, each in what.items()]
    write_checkpoints(checkpoints, tmp_path_factory.mktemp("requests"))
    return {name: root / name for name in what}


@pytest.fixture
def plain(saved, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(saved["plain"], tmp_path / "plain")


def bits(tensor):
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(result, expected):
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    assert bits(result) == bits(expected)


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_every_value_is_what_tensorflow_saved(saved, kind):
    bundle = open_bundle(saved[kind] / NAME)
    tensors = {**READABLE, **UNREADABLE}
    assert bundle.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert bundle.dtypes == {name: str(tensor.dtype)[6:] for name, tensor in tensors.items()}
    for name, tensor in READABLE.items():
        assert_same(bundle.read(name), tensor)


def test_values_come_from_every_shard(saved):
    """Else the test above would show nothing of them."""
    shards = [saved["sharded"] / f"{NAME}.data-{number:05d}-of-00003" for number in range(3)]
    assert min(shard.stat().st_size for shard in shards) > 0


def test_an_index_of_several_blocks(saved):
    assert (saved["many"] / INDEX).stat().st_size > INDEX_BLOCK_BYTES
    bundle = open_bundle(saved["many"] / NAME)
    assert bundle.shapes.keys() == MANY.keys()
    for name, tensor in MANY.items():
        assert_same(bundle.read(name), tensor)


def test_values_are_copies(plain):
    bundle = open_bundle(plain / NAME)
    bundle.read("float64").zero_()
    assert_same(bundle.read("float64"), READABLE["float64"])
    values = bundle.read("float16")
    shutil.rmtree(plain)
    assert_same(values, READABLE["float16"])


@pytest.mark.parametrize("path", [NAME, INDEX, ""], ids=["prefix", "index", "folder"])
@pytest.mark.parametrize("kind", [str, Path])
def test_ways_to_name_a_checkpoint(saved, path, kind):
    bundle = open_bundle(kind(saved["plain"] / path))
    assert bundle.prefix == saved["plain"] / NAME
    assert_same(bundle.read("scalar"), READABLE["scalar"])


def add_checkpoint(folder, name):
    for path in (INDEX, DATA):
        shutil.copy(folder / path, folder / path.replace(NAME, name))


@pytest.mark.parametrize("before", ["", "another/machine/", "/another/machine/"])
def test_the_latest_of_several_in_a_folder(plain, before):
    add_checkpoint(plain, "model.ckpt-30")
    (plain / "checkpoint").write_text(
        f'model_checkpoint_path: "{before}{NAME}"\n'
        f'all_model_checkpoint_paths: "{before}model.ckpt-30"\n'
    )
    assert open_bundle(plain).prefix == plain / NAME


@pytest.mark.parametrize("state", [None, 'model_checkpoint_path: "gone"', "\0\xff", ""])
def test_the_only_one_in_a_folder_that_names_none(plain, state):
    (plain / "checkpoint").unlink()
    if state is not None:
        (plain / "checkpoint").write_text(state)
    assert open_bundle(plain).prefix == plain / NAME


def refusal(action, *arguments):
    """The line that the user is told; it names a file."""
    with pytest.raises(UserError) as refused:
        action(*arguments)
    message = str(refused.value)
    assert message.isprintable()
    return message


def test_several_in_a_folder_that_names_none(plain):
    add_checkpoint(plain, "model.ckpt-30")
    (plain / "checkpoint").unlink()
    message = refusal(open_bundle, plain)
    assert message.startswith(f"{plain}: ")
    assert message.endswith(f"model.ckpt-30, {NAME}")


def test_optimizer_slots_are_never_read(plain):
    """Nor anything else but the one variable that is asked for."""
    slot = "electra/embeddings/LayerNorm/beta/adam_m"
    change_bytes(plain / DATA, bits(READABLE[slot]))
    bundle = open_bundle(plain / NAME)
    for name in READABLE.keys() - {slot}:
        assert_same(bundle.read(name), READABLE[name])
    assert slot in refusal(bundle.read, slot)


def change_bytes(path, found):
    data = path.read_bytes()
    assert data.count(found) == 1
    changed = bytes([found[0] ^ 1]) + found[1:]
    path.write_bytes(data.replace(found, changed))


@pytest.mark.parametrize("name", UNREADABLE)
def test_other_numbers_are_refused(saved, name):
    bundle = open_bundle(saved["plain"])
    message = refusal(bundle.read, name)
    assert f"{NAME}: {name} is {bundle.dtypes[name]}" in message


def test_partitioned_variables_are_refused(saved):
    bundle = open_bundle(saved["partitioned"])
    assert bundle.shapes == {name: tuple(tensor.shape) for name, tensor in READABLE.items()}
    assert_same(bundle.read("float16"), READABLE["float16"])
    assert f"{NAME}: float64 is partitioned" in refusal(bundle.read, "float64")


def test_unknown_variables_are_refused(saved):
    assert "no variable other" in refusal(open_bundle(saved["plain"]).read, "other")


def test_version_1_is_refused(saved, tmp_path):
    path = saved["version_1"] / NAME
    assert refusal(open_bundle, path).startswith(f"{path}: a checkpoint of version 1: ")
    renamed = shutil.copy(path, tmp_path / INDEX)
    assert refusal(open_bundle, renamed).startswith(f"{renamed}: damaged, or an index of another")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.h5", b"\x89HDF\r\n\x1a\n and more", "an HDF5 file"),
        ("model.pt", b"PK", "no TensorFlow checkpoint"),
        ("empty", b"", "no TensorFlow checkpoint"),
        (f"{NAME}.meta", b"a graph", "one file of a checkpoint"),
        (DATA, b"values", "one file of a checkpoint"),
        ("cut.index", b"", "cut short, or no index"),
        ("other.index", bytes(100), "cut short, or no index"),
        ("large.index", bytes(MOST_INDEX_BYTES + 1), "larger than the index"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(open_bundle, path).startswith(f"{path}: {message}")


@pytest.mark.parametrize("name", ["missing", "missing/model.ckpt", "x" * 1000])
def test_files_that_do_not_exist_are_refused(tmp_path, name):
    assert refusal(open_bundle, tmp_path / name).startswith(str(tmp_path / name))


def test_folders_without_a_checkpoint_are_refused(tmp_path):
    (tmp_path / INDEX).mkdir()
    assert refusal(open_bundle, tmp_path).startswith(f"{tmp_path}: holds no TensorFlow checkpoint")


def read_all(bundle):
    """The values that can be read, and what is told instead of the others."""
    values, told = {}, {}
    for name in bundle.shapes:
        try:
            values[name] = bundle.read(name)
        except UserError as error:
            told[name] = str(error)
    assert all(message.isprintable() for message in told.values())
    return values, told


def test_a_missing_shard(saved, tmp_path):
    folder = shutil.copytree(saved["sharded"], tmp_path / "sharded")
    missing = folder / f"{NAME}.data-00001-of-00003"
    missing.unlink()
    values, told = read_all(open_bundle(folder))
    for name, tensor in values.items():
        assert_same(tensor, READABLE[name])
    for name in told.keys() - UNREADABLE.keys():
        assert told[name].startswith(f"{missing}: missing, and {name} is in it")
    assert told.keys() > UNREADABLE.keys()
    assert values


def number_of_sound_values(path, expected):
    """How many variables can be read; all of them are what was saved."""
    values, message = {}, ""
    try:
        values, _ = read_all(open_bundle(path))
    except UserError as error:
        message = str(error)
    assert message.isprintable()
    assert {bits(value) for value in values.values()} <= expected
    return len(values)


EXPECTED = {bits(tensor) for tensor in READABLE.values()}


def test_data_cut_short_anywhere(plain):
    data = (plain / DATA).read_bytes()
    counts = []
    for length in range(len(data)):
        (plain / DATA).write_bytes(data[:length])
        counts.append(number_of_sound_values(plain / NAME, EXPECTED))
    assert counts == sorted(counts)
    # All but the last, and it alone was cut short in the end.
    assert counts[-1] == len(READABLE) - 1


def test_data_damaged_anywhere(plain):
    data = (plain / DATA).read_bytes()
    for position in range(len(data)):
        (plain / DATA).write_bytes(flipped(data, position))
        assert number_of_sound_values(plain / NAME, EXPECTED) >= len(READABLE) - 1


def flipped(data, position, bit=None):
    bit = position % 8 if bit is None else bit
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def test_an_index_cut_short_anywhere(plain):
    index = (plain / INDEX).read_bytes()
    for length in range(len(index)):
        (plain / INDEX).write_bytes(index[:length])
        assert number_of_sound_values(plain / NAME, EXPECTED) == 0


def test_an_index_damaged_anywhere(plain):
    index, unnoticed = (plain / INDEX).read_bytes(), 0
    for position in range(len(index)):
        (plain / INDEX).write_bytes(flipped(index, position))
        try:
            bundle = open_bundle(plain)
        except UserError:
            continue
        unnoticed += 1
        for name, tensor in READABLE.items():
            assert_same(bundle.read(name), tensor)
    # The table's own metadata, and the room that is left between the handles and the magic.
    assert unnoticed < 80


VALUES = bits(random_tensor(2, 3))
HEADER = (b"", header())
SOUND = entry(VALUES, shape=(2, 3))


@pytest.fixture
def hostile(tmp_path):
    """Writes the index of a checkpoint whose shard holds six numbers, and gives its prefix."""
    (tmp_path / DATA).write_bytes(VALUES)

    def write(index):
        (tmp_path / INDEX).write_bytes(index)
        return tmp_path / NAME

    return write


def index_of(*rows, **changes):
    return table([block([HEADER, *rows])], **changes)


def test_a_sound_index_of_the_tests_own_writer(hostile):
    """Else what follows would be refused for another reason than is meant."""
    bundle = open_bundle(hostile(table([block([HEADER, (b"a", SOUND)]), block([(b"b", SOUND)])])))
    assert bundle.shapes == {"a": (2, 3), "b": (2, 3)}
    assert bits(bundle.read("b")) == VALUES


def test_fields_that_are_unknown_or_come_twice(hostile):
    """As protobuf has it: the last one counts, and what another version adds is passed over."""
    eight_bytes, four_bytes = varint(90 << 3 | 1) + b"\xff" * 8, varint(91 << 3 | 5) + b"\xff" * 4
    unknown = eight_bytes + four_bytes + field(92, b"x")
    other_size = entry(VALUES, shape=(2, 3), size=7)
    size = field(5, len(VALUES))
    bundle = open_bundle(hostile(index_of((b"a", other_size + unknown + size))))
    assert bits(bundle.read("a")) == VALUES


def test_a_disk_that_fails(saved, monkeypatch):
    bundle = open_bundle(saved["plain"])

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", fail)
    message = refusal(bundle.read, "float64")
    assert message == f"{saved['plain'] / DATA}: Input/output error"


def test_an_index_with_checksums_that_match_its_damage(hostile):
    content = block([HEADER, (b"a", SOUND), (b"b", entry(VALUES[:8], dtype=2))])
    directory = block([(b"c", handle) for handle in handles_of([content])])
    indexes = [table([damaged]) for damaged in every_flip(content)]
    indexes += [with_directory(sealed(content), damaged) for damaged in every_flip(directory)]
    expected = {VALUES, VALUES[:8], b""}
    began = time.monotonic()
    counts = [number_of_sound_values(hostile(index), expected) for index in indexes]
    # Some of it is harmless: other names, other offsets for the binary search.
    assert counts.count(2) > 0
    assert counts.count(0) > counts.count(2)
    assert time.monotonic() - began < 60


def every_flip(data):
    return [flipped(data, position, bit) for position in range(len(data)) for bit in range(8)]


TOO_LONG = b"\x80" * 10 + b"\0"
LONG_NAMES = [(b"n" * length, SOUND) for length in range(1, 1200)]
NUMBERED = [(f"{number:06d}".encode(), b"") for number in range(MOST_VARIABLES)]
CONTENT = block([HEADER, (b"a", SOUND)])
HOSTILE = {
    "big endian": (table([block([(b"", header(endianness=1))])]), "big-endian machine"),
    "later version": (table([block([(b"", header(oldest_reader=2))])]), "later version"),
    "compressed": (index_of(compression=1), "compressed"),
    "no header": (table([block([(b"a", SOUND)])]), "no header"),
    "no rows": (table([]), "no header"),
    "header of another kind": (table([block([(b"", field(1, b"x"))])]), "another kind"),
    "no varint": (index_of((b"a", TOO_LONG)), "number is too long"),
    "unknown wire type": (index_of((b"a", varint(4 << 3 | 4))), "another kind"),
    "field beyond its message": (index_of((b"a", b"\x12\x7f")), "beyond its place"),
    "names out of order": (index_of((b"b", SOUND), (b"a", SOUND)), "not in order"),
    "name twice": (index_of((b"a", SOUND), (b"a", SOUND)), "not in order"),
    "name without text": (index_of((b"\xff", SOUND)), "not text"),
    "name of two lines": (index_of((b"a\nb", SOUND)), "not text"),
    "endless names": (index_of(*LONG_NAMES), "name of a variable is impossible"),
    "shared without a name before": (
        table([b"\x05\x01\x01ab" + bytes(4)]),
        "name of a variable is impossible",
    ),
    "countless variables": (index_of(*NUMBERED), "more than 50,000 variables"),
    "negative dimension": (index_of((b"a", entry(shape=(2, -3)))), "shape"),
    "huge shape": (index_of((b"a", entry(shape=(2**40, 2**40)))), "shape"),
    "huge and empty shape": (index_of((b"a", entry(shape=(0, 2**62)))), "shape"),
    "countless dimensions": (index_of((b"a", entry(shape=(1,) * 255))), "shape"),
    "block twice": (table([CONTENT], handles=[*handles_of([CONTENT])] * 2), "blocks overlap"),
    "block in a block": (
        table([CONTENT, CONTENT], handles=[*handles_of([CONTENT, CONTENT])][::-1]),
        "blocks overlap",
    ),
    "block beyond the end": (table([CONTENT], handles=[varint(0) + varint(2**63)]), "beyond"),
    "block without rows or offsets": (table([b"", b""]), "too short"),
    "more offsets than bytes": (table([b"\xff" * 4]), "too short"),
    "directory of itself": (
        with_directory(b"", block([(b"a", varint(0) + varint(14))])),
        "no header",
    ),
    "footer without handles": (b"\x80" * 40 + TABLE_MAGIC, "number is too long"),
    "directory beyond the end": (
        (NO_HANDLE + b"\xff\x7f\xff\x7f").ljust(40, b"\0") + TABLE_MAGIC,
        "beyond its end",
    ),
}


@pytest.mark.parametrize(("index", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_indexes(hostile, tmp_path, index, message):
    began = time.monotonic()
    told = refusal(open_bundle, hostile(index))
    assert told.startswith(f"{tmp_path / INDEX}: ")
    assert message in told
    assert time.monotonic() - began < 10


HOSTILE_ENTRIES = {
    "size of another shape": (entry(VALUES, shape=(2, 4)), "damaged"),
    "size of another dtype": (entry(VALUES, dtype=2, shape=(2, 3)), "damaged"),
    "numbers nowhere": (entry(shape=(2**40,), size=2**42), "cut short"),
    "size alone": (entry(shape=(2, 3), size=2**62), "damaged"),
    "beyond the end": (entry(VALUES, shape=(2, 3), offset=1), "cut short"),
    "far beyond the end": (entry(VALUES, shape=(2, 3), offset=2**63 - 1), "cut short"),
    "before the beginning": (entry(VALUES, shape=(2, 3), offset=-1), "cut short"),
    "no such shard": (entry(VALUES, shape=(2, 3), shard=1), "damaged"),
    "negative shard": (entry(VALUES, shape=(2, 3), shard=-1), "damaged"),
    "other bytes": (entry(VALUES[::-1], shape=(2, 3)), "damaged"),
    "no dtype": (entry(VALUES, dtype=0, shape=(2, 3)), "of dtype number 0"),
    "unknown dtype": (entry(VALUES, dtype=77, shape=(2, 3)), "of dtype number 77"),
    "text": (entry(VALUES, dtype=7), "string"),
}


@pytest.mark.parametrize(
    ("hostile_entry", "message"), HOSTILE_ENTRIES.values(), ids=HOSTILE_ENTRIES.keys()
)
def test_hostile_entries(hostile, tmp_path, monkeypatch, hostile_entry, message):
    bundle = open_bundle(hostile(index_of((b"a", hostile_entry), (b"b", SOUND))))
    largest = []
    make_empty = torch.empty

    def counted(count, **options):
        largest.append(count)
        return make_empty(count, **options)

    monkeypatch.setattr(torch, "empty", counted)
    told = refusal(bundle.read, "a")
    assert told.startswith(f"{tmp_path / NAME}")
    assert message in told
    assert max(largest, default=0) <= len(VALUES)
    assert bits(bundle.read("b")) == VALUES

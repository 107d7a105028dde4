"""Where a converted model may be written."""

import resource

import pytest

from convbert_plugin import ConvBertModel
from user_dir_tests.oracles.transformers_models import save_folder, toy_model

pytestmark = pytest.mark.weights


@pytest.fixture
def source(tmp_path):
    return save_folder(toy_model("ConvBertModel"), tmp_path / "source")


@pytest.mark.parametrize("kind", ["a file", "a folder that holds something", "a link to one"])
def test_what_is_there_stays(convert_fails, source, tmp_path, kind):
    destination = tmp_path / "there"
    if kind == "a file":
        destination.write_text("mine")
    else:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").write_text("mine")
        destination.symlink_to("full")
    if kind == "a folder that holds something":
        destination = tmp_path / "full"
    line = convert_fails("hf", "fairseq", source, destination)
    assert str(destination.resolve()) in line
    assert "choose another folder" in line
    assert (destination if destination.is_file() else destination / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", ["an empty folder", "a link to one", "a link to nothing"])
def test_what_is_empty_is_taken(convert, source, tmp_path, kind):
    destination = tmp_path / "there"
    if kind != "a link to nothing":
        (tmp_path / "empty").mkdir()
    if kind != "an empty folder":
        destination.symlink_to("empty")
    else:
        destination = tmp_path / "empty"
    folder, _ = convert("hf", "fairseq", source, destination)
    assert ConvBertModel.from_pretrained(folder)
    assert (tmp_path / "there").is_symlink() == (kind != "an empty folder")
    assert not list(tmp_path.glob(".*"))


def test_a_link_to_itself(convert_fails, source, tmp_path):
    (tmp_path / "there").symlink_to("there")
    line = convert_fails("hf", "fairseq", source, tmp_path / "there")
    assert f"{tmp_path / 'there'}: a link that leads to itself" in line


@pytest.mark.parametrize("name", [".", "", "../empty"])
def test_the_current_folder_is_not_replaced(convert_fails, source, tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    line = convert_fails("hf", "fairseq", source, name)
    assert line.startswith(f"{tmp_path / 'empty'}: ")
    assert "name a folder in it" in line


def test_a_place_where_no_folder_can_be_made(convert_fails, source, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = convert_fails("hf", "fairseq", source, tmp_path / "file" / "there")
    assert line.startswith(f"{tmp_path / 'file' / 'there'}: cannot be made (Not a directory)")


@pytest.mark.parametrize("target", ["hf", "fairseq"])
def test_a_disk_without_room(convert_fails, source, tmp_path, target):
    size = (source / "model.safetensors").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        line = convert_fails("hf", target, source, tmp_path / "there")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert line.startswith(f"{tmp_path / 'there'}: cannot be written (File too large): make room")

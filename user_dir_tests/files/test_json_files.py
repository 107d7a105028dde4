import io
import json
import math

import pytest

from convbert_plugin.files.json_files import write_json_rows


def written(items):
    file = io.BytesIO()
    write_json_rows(file, items)
    return file.getvalue()


def test_rows_make_one_object():
    content = {"a": "é👍\n\u2028", 'quo"te': [{"text": "", "probability": 0.1}], "z": -2.75}
    lines = written(iter(content.items())).decode("ascii").split("\n")
    assert (lines[0], lines[-2:]) == ("{", ["}", ""])
    assert len(lines) == len(content) + 3
    assert json.loads("\n".join(lines)) == content
    assert json.loads(written([])) == {}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_to_json_is_not_written(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        written([("a", 1.0), ("b", [number])])

"""The rate of every parameter of a fine-tuned model of twelve layers, written out by hand."""

from fnmatch import fnmatchcase

import pytest

from convbert_plugin.optim.convbert_adamw import ConvBertAdamWConfig, parameter_groups
from user_dir_tests.models.building import empty_model

pytestmark = pytest.mark.glue

# Intended: 0.8 for the layer below the head, and once more for each one further down.
INTENDED = {
    "classification_heads.mrpc.*": 1.0,
    "encoder.layers.11.*": 0.8,
    "encoder.layers.10.*": 0.64,
    "encoder.layers.9.*": 0.512,
    "encoder.layers.8.*": 0.4096,
    "encoder.layers.7.*": 0.32768,
    "encoder.layers.6.*": 0.262144,
    "encoder.layers.5.*": 0.2097152,
    "encoder.layers.4.*": 0.16777216,
    "encoder.layers.3.*": 0.134217728,
    "encoder.layers.2.*": 0.1073741824,
    "encoder.layers.1.*": 0.08589934592,
    "encoder.layers.0.*": 0.068719476736,
    "encoder.embedding_projection.*": 0.0549755813888,
    "embeddings.*": 0.0549755813888,
}
# Released: a place for a pooler that is not there keeps all but the head one step further down.
RELEASED = {
    "classification_heads.mrpc.*": 1.0,
    "encoder.layers.11.*": 0.64,
    "encoder.layers.10.*": 0.512,
    "encoder.layers.9.*": 0.4096,
    "encoder.layers.8.*": 0.32768,
    "encoder.layers.7.*": 0.262144,
    "encoder.layers.6.*": 0.2097152,
    "encoder.layers.5.*": 0.16777216,
    "encoder.layers.4.*": 0.134217728,
    "encoder.layers.3.*": 0.1073741824,
    "encoder.layers.2.*": 0.08589934592,
    "encoder.layers.1.*": 0.068719476736,
    "encoder.layers.0.*": 0.0549755813888,
    "encoder.embedding_projection.*": 0.04398046511104,
    "embeddings.*": 0.04398046511104,
}


@pytest.mark.parametrize("kind", ["released", "transformers"])
@pytest.mark.parametrize(("is_released", "table"), [(False, INTENDED), (True, RELEASED)])
def test_every_parameter_has_the_rate_of_the_table(is_released, table, kind):
    model = empty_model("convbert_small", 97)
    model.register_classification_head("mrpc", 2, kind)
    config = ConvBertAdamWConfig(layer_lr_decay=0.8, released_layer_lr_decay=is_released)
    factors = {
        id(parameter): group["lr_factor"]
        for group in parameter_groups(model.parameters(), config)
        for parameter in group["params"]
    }
    used = set()
    for name, parameter in model.named_parameters():
        patterns = [pattern for pattern in table if fnmatchcase(name, pattern)]
        assert len(patterns) == 1, name
        assert factors[id(parameter)] == pytest.approx(table[patterns[0]], rel=1e-12), name
        used.update(patterns)
    assert used == set(table)

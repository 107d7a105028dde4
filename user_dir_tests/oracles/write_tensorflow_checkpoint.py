"""Writes checkpoints with TensorFlow's own Saver; for the Python of .venv/tensorflow.

TensorFlow takes seconds to import, so one process does all that is asked: each line of its input
is the path of a JSON list of what user_dir_tests/oracles/tensorflow_saver.py describes, and is
answered with a line of JSON: the error, or nothing.
"""

import json
import os
import sys
import traceback

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import ml_dtypes
import numpy as np
import tensorflow.compat.v1 as tf


def write_checkpoint(prefix, values, shards, partitioned, version):
    """One checkpoint from a graph whose variables take turns on as many devices as shards."""
    with tf.Graph().as_default():
        feeds = {}
        for number, (name, array) in enumerate(values.items()):
            dtype = tf.as_dtype(array.dtype)
            with tf.device(f"/cpu:{number % shards}"):
                if name in partitioned:
                    in_two = tf.fixed_size_partitioner(2)
                    tf.get_variable(name, array.shape, dtype, partitioner=in_two)
                else:
                    value = tf.placeholder(dtype, array.shape)
                    tf.Variable(value, name=name)
                    feeds[value] = array
        # Placeholders because a graph that holds the values themselves may have 2 GB at most.
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": shards})) as session:
            session.run(tf.global_variables_initializer(), feeds)
            saver = tf.train.Saver(sharded=shards > 1, write_version=version)
            saver.save(session, prefix, write_meta_graph=False)


def arrays_of(path, bfloat16):
    # numpy's files have no bfloat16: it comes as its bits.
    with np.load(path) as arrays:
        return {
            name: arrays[name].view(ml_dtypes.bfloat16) if name in bfloat16 else arrays[name]
            for name in arrays
        }


def write_all(path):
    with open(path, encoding="utf-8") as file:
        for request in json.load(file):
            values = arrays_of(request.pop("arrays"), request.pop("bfloat16"))
            write_checkpoint(values=values, **request)


if __name__ == "__main__":
    for line in sys.stdin:
        error = ""
        try:
            write_all(line.removesuffix("\n"))
        except Exception:
            error = traceback.format_exc()
        print(json.dumps(error), flush=True)

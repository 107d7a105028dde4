"""What --task builds. Registers the tasks, and the losses, optimizer and schedule they go with.

From here on fairseq writes checkpoints whole, loads no others, and tells how its workers end.
"""

from convbert_plugin import criterions, optim  # noqa: F401

# fairseq imports what stands in this folder only where it imports the plugin itself (--user-dir),
# not for a Python program that did so before.
from convbert_plugin.tasks import glue, replaced_token_detection, squad  # noqa: F401
from convbert_plugin.training.checkpoint_files import make_whole
from convbert_plugin.training.curves import keep_curves
from convbert_plugin.training.preprocessing_options import look_before_preprocessing
from convbert_plugin.training.several_workers import tell_of_workers

make_whole()
keep_curves()
tell_of_workers()
look_before_preprocessing()

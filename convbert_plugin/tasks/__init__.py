"""What --task builds. Registers the losses, the optimizer and the schedule that go with it."""

from convbert_plugin import criterions, optim  # noqa: F401

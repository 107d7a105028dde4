"""What reports know of tasks by their names: the order, and words for sets beside the usual one."""

from convbert_plugin.data.glue.glue_tasks import SECOND_VALID, TASKS, VALID

ORDER = tuple(TASKS)
USUAL_SET = VALID
SET_WORDS = {("mnli", SECOND_VALID): "mismatched"}


def task_order(name: str) -> tuple[int, str]:
    """A key to sort by: the known tasks first, in their order, then others by name."""
    return (ORDER.index(name), "") if name in ORDER else (len(ORDER), name)


def name_of_set(task: str, subset: str) -> str:
    """The task, and the set where it is not the usual one."""
    if subset == USUAL_SET:
        return task
    return f"{task} ({SET_WORDS.get((task, subset), subset)})"

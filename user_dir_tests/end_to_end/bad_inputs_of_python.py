"""What is given to the scripts of examples/ and to a model in Python, and the line it gets."""

from user_dir_tests.end_to_end.bad_input_files import holds, none
from user_dir_tests.end_to_end.bad_inputs import Case

# fmt: off
EXAMPLES = [
    Case("examples", f"{words.split()[0]}: {wrong}", words, told, *rest)
    for wrong, words, told, *rest in (
        ("no checkpoint", "glue/finetune.py --glue {rte} --tasks rte --seeds 1 --out {out} --checkpoint {nowhere}", "no such file"),
        ("a folder for a checkpoint", "glue/finetune.py --glue {rte} --tasks rte --seeds 1 --out {out} --checkpoint {run}", "no such file"),
        ("a text for a checkpoint", "glue/finetune.py --glue {rte} --tasks rte --seeds 1 --out {out} --checkpoint {text}", "damaged, or no checkpoint (its pickle is broken"),
        ("an unknown task", "glue/finetune.py --glue {rte} --tasks swag --seeds 1 --out {out} --checkpoint {run}/checkpoint_last.pt", "choose one of"),
        ("a task without a training set", "glue/finetune.py --glue {rte} --tasks ax --seeds 1 --out {out} --checkpoint {run}/checkpoint_last.pt", "no training set"),
        ("a folder without tasks", "glue/finetune.py --glue {rte} --tasks rte --seeds 1 --out {out} --checkpoint {run}/checkpoint_last.pt", "no folder of rte"),
        ("no folder of tasks", "glue/finetune.py --glue {nowhere} --tasks rte --seeds 1 --out {out} --checkpoint {run}/checkpoint_last.pt", "no folder of rte"),
        ("a seed in words", "glue/finetune.py --glue {rte} --tasks rte --seeds one --out {out} --checkpoint {run}/checkpoint_last.pt", "seeds", none, 2),
        ("no jobs", "glue/finetune.py --jobs 0 --glue {rte} --tasks rte --seeds 1 --out {out} --checkpoint {run}/checkpoint_last.pt", "no folder of rte in it"),
        ("no file", "squad/finetune.py --squad {nowhere} --seeds 1 --out {out} --checkpoint {run}/checkpoint_last.pt", "no such file or folder"),
        ("no checkpoint", "squad/finetune.py --squad {json} --seeds 1 --out {out} --checkpoint {nowhere}", "no such file"),
        ("OUT below a file", "squad/finetune.py --squad {json} --seeds 1 --out {bad}/out --checkpoint {run}/checkpoint_last.pt", "cannot be made (Not a directory)", holds("")),
        ("no text", "ablations/run.py --grids a --seeds 1 --train {nowhere} --valid {text} --tokenizer {vocab} --out {out}", "no such file"),
        ("no tokenizer", "ablations/run.py --grids a --seeds 1 --train {text} --valid {text} --tokenizer {nowhere} --out {out}", "no such file"),
        ("OUT below a file", "ablations/run.py --grids a --seeds 1 --train {text} --valid {text} --tokenizer {vocab} --out {bad}/out", "cannot be made (Not a directory)", holds("")),
        ("an unknown scale", "ablations/run.py --grids a --scale huge --seeds 1 --train {text} --valid {text} --tokenizer {vocab} --out {out}", "--scale", none, 2),
        ("nothing", "pretraining/pretrain.sh", "usage: bash", none, 2),
        ("nothing", "gpu/prepare.sh", "usage: bash", none, 2),
        ("no text", "pretraining/pretrain.sh {nowhere} {text} {vocab} {out}", ""),
        ("no vocabulary", "pretraining/pretrain.sh {text} {text} {nowhere} {out}", "no such file or folder"),
        ("OUT below a file", "pretraining/pretrain.sh {text} {text} {vocab} {bad}/out", "cannot be made (Not a directory)", holds("")),
        ("OUT is SRC", "gpu/prepare.sh {text} {text} {vocab} {text}", "a file, where a folder is to be"),
        ("no text", "gpu/prepare.sh {nowhere} {text} {vocab} {out}", ""),
        ("no arguments", "made_from.py", ""),
        ("no data", "unigram_cross_entropy.py {nowhere}", "no such file"),
        ("no arguments", "unigram_cross_entropy.py", ""),
        ("no arguments", "quickstart/collect_text.py", ""),
        ("OUT below a file", "quickstart/collect_text.py {bad}/out", "cannot be made (Not a directory)", holds("")),
        ("no arguments", "quickstart/detect.py", ""),
        ("no run", "quickstart/detect.py {nowhere}", ""),
        ("no run", "pretraining/results.py {nowhere}", ""),
    )
]

HUB = [
    Case("python", wrong, f'"{code}" {{{place}}}', told, spoil)
    for wrong, code, place, told, *rest in (
        ("from_pretrained: nothing there", "", "nowhere", "no such folder"),
        ("from_pretrained: a file", "", "text", "name its folder"),
        ("from_pretrained: an empty folder", "", "here", "is missing"),
        ("from_pretrained: a folder of transformers", "", "hf", "a folder of transformers"),
        ("encode: a number", "hub.encode(3)", "run", "give a text"),
        ("encode: bytes", "hub.encode(b'the cat')", "run", "give a text"),
        ("encode: None", "hub.encode(None)", "run", "give a text"),
        ("encode: half a character", "hub.encode('\\ud800')", "run", ""),
        ("encode: a list", "hub.encode(['the cat'])", "run", "give a text, not ['the cat']"),
        ("decode: a list", "hub.decode([1, 2])", "run", "give the ids [T] of one text"),
        ("decode: ids that are not there", "hub.decode(torch.tensor([10**6]))", "run", "1000000 among them, where this model has ids 0 to"),
        ("decode: fractions", "hub.decode(torch.tensor([0.5]))", "run", "give whole numbers (torch.long), not"),
        ("decode: ids below zero", "hub.decode(torch.tensor([-1]))", "run", "-1 among them, where this model has ids 0 to 34"),
        ("features: no token", "hub.extract_features(torch.zeros(0, dtype=torch.long))", "run", "give a tensor of ids, [T] or [B, T], with at"),
        ("features: a text", "hub.extract_features('the cat')", "run", "give a tensor of ids, [T] or [B, T], with at"),
        ("features: a list", "hub.extract_features([1, 2])", "run", "give a tensor of ids, [T] or [B, T], with at"),
        ("features: fractions", "hub.extract_features(torch.ones(4))", "run", "give whole numbers (torch.long), not"),
        ("features: three dimensions", "hub.extract_features(torch.ones(1, 1, 4).long())", "run", "give a tensor of ids, [T] or [B, T], with at"),
        ("features: ids beyond the vocabulary", "hub.extract_features(torch.tensor([10**6]))", "run", "1000000 among them, where this model has ids 0 to"),
        ("features: ids below zero", "hub.extract_features(torch.tensor([-3]))", "run", "-3 among them, where this model has ids 0 to 34"),
        ("features: more tokens than positions", "hub.extract_features(torch.ones(400).long())", "run", "a sequence of 400 tokens is longer than the"),
        ("features: segments of another length", "hub.extract_features(torch.ones(4).long(), torch.zeros(3).long())", "run", "give one for each token, in the shape of the"),
        ("features: segments of no kind", "hub.extract_features(torch.ones(4).long(), torch.full((4,), 9))", "run", "9 among them, where this model has ids 0 to 1"),
        ("fill_mask: no mask", "hub.fill_mask('the cat')", "run", "write [MASK] once"),
        ("fill_mask: two masks", "hub.fill_mask('[MASK] [MASK]')", "run", "write [MASK] once"),
        ("fill_mask: no guess", "hub.fill_mask('the [MASK]', topk=0)", "run", "choose a whole number"),
        ("fill_mask: too many guesses", "hub.fill_mask('the [MASK]', topk=10**6)", "run", "choose a whole number"),
        ("fill_mask: a number", "hub.fill_mask(3)", "run", "give a text, not 3"),
        ("fill_mask: no generator", "hub.fill_mask('the [MASK]')", "glue_run", "neither a generator"),
        ("predict: no head", "hub.predict('topic', hub.encode('a cat'))", "run", "no classification head"),
        ("predict: a head of a number", "hub.predict(3, hub.encode('a cat'))", "glue_run", "no classification head"),
        ("labels: no head", "hub.labels('topic')", "glue_run", "no classification head"),
        ("answer: no head", "hub.answer('the cat', 'a cat')", "run", "no question-answering head"),
        ("answer: no context", "hub.answer('the cat', '')", "squad_run", "no text in it"),
        ("answer: a number", "hub.answer(3, 'a cat')", "squad_run", "give a text"),
        ("answer: a threshold in words", "hub.answer('the cat', 'a cat', null_threshold='low')", "squad_run", "give a number"),
        ("head: a name of two words", "hub.register_classification_head('a.b', 2)", "run", "a classification head cannot be called 'a.b'"),
        ("head: no class", "hub.register_classification_head('topic', 0)", "run", "a classification head of 0 classes"),
        ("head: 10^12 classes", "hub.register_classification_head('topic', 10**12)", "run", "a classification head of 1000000000000 classes"),
        ("head: classes in words", "hub.register_classification_head('topic', 'two')", "run", "a classification head of 'two' classes"),
        ("head: an unknown kind", "hub.register_classification_head('topic', 2, kind='deep')", "run", "classification head of kind 'deep'"),
        ("replaced: a fine-tuned model", "hub.detect_replaced(hub.encode('a cat'))", "glue_run", "not pretrained by"),
    )
    for spoil in [*rest, none][:1]
]

CASES = [*EXAMPLES, *HUB]

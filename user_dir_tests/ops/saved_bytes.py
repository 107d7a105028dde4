"""How much memory waits for a backward pass."""

import torch


def saved_bytes(function, *inputs) -> int:
    """Bytes of the tensors that are kept, without those that are inputs or the output."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = function(*inputs)
    tensors = [tensor for tensor in (*inputs, output) if torch.is_tensor(tensor)]
    others = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    return sum(size for pointer, size in kept.items() if pointer not in others)

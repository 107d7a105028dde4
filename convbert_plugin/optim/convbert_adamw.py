"""``--optimizer convbert_adamw``: Adam with decoupled weight decay and layer-wise rates.

Source: model/optimization.py:17-180 of the released code.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Callable, Iterable, List, NamedTuple, Optional, Union

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw

from convbert_plugin.errors import UserError

OPTIMIZER_NAME = "convbert_adamw"

FUSED_DEVICES = frozenset({"cpu", "cuda"})
"""Device types for which every torch of the supported range has a fused AdamW."""

UPDATES_WITHOUT_BIAS = 2.0**30
"""A count of past updates at which both bias corrections, 1 - beta ** count, round to exactly 1.

It is also so large that adding 1 leaves it as it is in float32. It serves every beta below
1 - 4e-8.
"""


@dataclass
class ConvBertAdamWConfig(FairseqDataclass):
    """The defaults are the released update; its layer-wise rate is 0.8 in fine-tuning only."""

    adam_betas: List[float] = field(
        default_factory=lambda: [0.9, 0.999],
        metadata={"help": "decay rates of the moving averages of gradient and squared gradient"},
    )
    adam_eps: float = field(
        default=1e-6, metadata={"help": "added to the root of the second moving average"}
    )
    weight_decay: float = field(
        default=0.01,
        metadata={"help": "decoupled weight decay; biases and LayerNorm are never decayed"},
    )
    bias_correction: bool = field(
        default=False,
        metadata={"help": "correct the moving averages for their start at zero (usual AdamW)"},
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={"help": "factor of the learning rate for each layer further from the head"},
    )
    released_layer_lr_decay: bool = field(
        default=False,
        metadata={
            "help": "apply --layer-lr-decay once more below the head, as the released code does"
        },
    )
    lr: List[float] = II("optimization.lr")


def layer_rate_factor(
    depth: int, max_depth: int, layer_lr_decay: float, released: bool = False
) -> float:
    """Return the factor of the learning rate for parameters at ``depth``.

    ``depth`` is 0 for the embeddings and their projection, i + 1 for encoder layer i, and
    ``max_depth`` = layers + 1 for heads. With decay 0.8 and 12 layers (``max_depth`` 13):

    ================  =====  =============  =============
    parameters        depth  intended       released
    ================  =====  =============  =============
    embeddings            0  0.8 ** 13      0.8 ** 14
    encoder layer 0       1  0.8 ** 12      0.8 ** 13
    encoder layer 11     12  0.8 ** 1       0.8 ** 2
    heads                13  1              1
    ================  =====  =============  =============

    Source: model/optimization.py:168-180 of the released code, which puts the heads at depth
    layers + 2: a place for a pooler that it does not have.
    """
    distance = max_depth - depth
    if released and distance > 0:
        distance += 1
    return layer_lr_decay**distance


def clip_scale(norm: Tensor, max_norm: float) -> Tensor:
    """Return the factor that brings gradients of global ``norm`` [] down to ``max_norm``.

    Exactly 1 where the norm is small enough, and NaN where it is not finite.
    Source: ``tf.clip_by_global_norm``.
    """
    not_finite_becomes_nan = norm - norm
    return max_norm / norm.clamp(min=max_norm) + not_finite_becomes_nan


def global_norm(gradients: List[Tensor]) -> Tensor:
    """Return the 2-norm [] of all the gradients as one vector, on the first one's device."""
    return get_total_norm([_to_sum_accurately(gradient) for gradient in gradients])


def _to_sum_accurately(gradient: Tensor) -> Tensor:
    if gradient.dtype in (torch.float16, torch.bfloat16):
        gradient = gradient.float()
    # The CPU sums the squares of a whole tensor in a few float32 lanes: 0.1 % off for an embedding
    # of 23 million numbers. By rows it is as fast and right to 1e-7.
    if gradient.device.type == "cpu" and gradient.dim() > 1:
        gradient = torch.linalg.vector_norm(gradient, dim=-1)
    return gradient


def _tag(parameter: Parameter) -> dict:
    return (getattr(parameter, "optim_overrides", None) or {}).get(OPTIMIZER_NAME) or {}


def parameter_groups(parameters: Iterable[Parameter], config: ConvBertAdamWConfig) -> List[dict]:
    """Return torch's parameter groups, one a (factor of the rate, decayed or not).

    A parameter says where it stands by its attribute ``optim_overrides``, the one that fairseq's
    fp32 copies keep: ``{"convbert_adamw": {"depth": int, "max_depth": int, "decay": bool}}``.
    Without that, its factor is 1, and it is decayed if it has two dimensions or more.
    """
    decay, is_released = config.layer_lr_decay, config.released_layer_lr_decay
    groups = defaultdict(list)
    for parameter in parameters:
        tag = _tag(parameter)
        factor = 1.0
        if tag:
            factor = layer_rate_factor(tag["depth"], tag["max_depth"], decay, is_released)
        groups[factor, tag.get("decay", parameter.dim() > 1)].append(parameter)
    return [
        {
            "params": members,
            "lr_factor": factor,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (factor, decayed), members in groups.items()
    ]


def _are_flattened(parameters: List[Parameter]) -> bool:
    # Only fairseq's fp32 copies have a gradient before the first backward pass, and only the
    # flattened ones have neither a tag nor a shape.
    return bool(parameters) and all(
        parameter.dim() == 1 and parameter.grad is not None and not _tag(parameter)
        for parameter in parameters
    )


def _check(parameters: List[Parameter], config: ConvBertAdamWConfig) -> None:
    requirements = (
        (
            not _are_flattened(parameters),
            "convbert_adamw cannot tell biases and layers apart in flattened parameters: "
            "add --fp16-no-flatten-grads (hydra: common.fp16_no_flatten_grads=true)",
        ),
        (
            len(config.adam_betas) == 2 and all(0 <= beta < 1 for beta in config.adam_betas),
            "--adam-betas takes two numbers from 0 to below 1, like '(0.9, 0.999)'",
        ),
        (config.adam_eps >= 0, "--adam-eps must not be negative"),
        (config.weight_decay >= 0, "--weight-decay must not be negative"),
        (config.layer_lr_decay > 0, "--layer-lr-decay must be positive (1.0 turns it off)"),
    )
    for holds, message in requirements:
        if not holds:
            raise UserError(message)


def _start_without_bias_correction(optimizer: torch.optim.Optimizer) -> None:
    """Give parameters that are updated for the first time a state whose corrections are 1."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            # Asked this way round, since looking up a missing state creates an empty one.
            if parameter.grad is None or parameter in optimizer.state:
                continue
            state = optimizer.state[parameter]
            # torch keeps the count beside the parameter for its fused kernel only.
            device = parameter.device if group["fused"] else "cpu"
            state["step"] = torch.full((), UPDATES_WITHOUT_BIAS, device=device, dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def _check_moments(saved: dict, parameters: List[Parameter]) -> None:
    # torch takes whatever stands there, and the fused update reads beyond the end of what is short.
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        state = saved["state"].get(number)
        if state is None:
            continue
        shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        for name, shape in shapes.items():
            value = state.get(name)
            if not torch.is_tensor(value) or value.shape != shape:
                raise UserError(
                    f"the checkpoint's optimizer state does not fit: {name} of parameter {number} "
                    f"is no tensor of the shape {tuple(shape)}: use another checkpoint, or add "
                    "--reset-optimizer"
                )


class _Moments(NamedTuple):
    """What the update of a group reads and writes beside the gradients, in the order of torch's."""

    parameters: List[Tensor]
    averages: List[Tensor]
    averages_of_squares: List[Tensor]
    counts: List[Tensor]


def _gradients_of(parameters: Iterable[Tensor]) -> List[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _update(group: dict, moments: _Moments) -> None:
    """What the step of torch's AdamW does for a group of which every parameter has a gradient."""
    beta1, beta2 = group["betas"]
    adamw(
        moments.parameters,
        _gradients_of(moments.parameters),
        moments.averages,
        moments.averages_of_squares,
        [],
        moments.counts,
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )


def _moments(optimizer: torch.optim.Optimizer) -> Optional[List[_Moments]]:
    """The moments of every group, None where a parameter has none yet, or no fused update."""
    found = []
    for group in optimizer.param_groups:
        if not group["fused"] or any(p not in optimizer.state for p in group["params"]):
            return None
        states = [optimizer.state[parameter] for parameter in group["params"]]
        columns = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        found.append(_Moments(group["params"], *columns))
    return found


@register_optimizer(OPTIMIZER_NAME, dataclass=ConvBertAdamWConfig)
class ConvBertAdamW(FairseqOptimizer):
    """Adam with decoupled weight decay, by default without bias correction.

    ::

        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient ** 2
        parameter -= lr * factor * (m / (sqrt(v) + eps) + weight_decay * parameter)

    It is torch's AdamW (fused on CPU and CUDA) with a count of updates at which the corrections
    have vanished, and a rate for each layer (see ``layer_rate_factor``). As by default in fairseq,
    it supports neither memory-efficient fp16, whose squared gradients would vanish, nor flat
    parameters, which have neither layers nor biases.
    Source: model/optimization.py:101-120 of the released code.
    """

    # fairseq's AMPOptimizer unscales the gradients of the torch optimizer and then hands this
    # object to GradScaler.step, which does not recognise it and would divide by the scale again.
    # This makes it pass ``found_inf`` instead.
    _step_supports_amp_scaling = True

    def __init__(self, cfg: ConvBertAdamWConfig, params: Iterable[Parameter]):
        super().__init__(cfg)
        parameters = list(params)
        _check(parameters, cfg)
        fused = all(
            parameter.device.type in FUSED_DEVICES and parameter.is_floating_point()
            for parameter in parameters
        )
        # None, and not False, lets torch take its foreach update where there is no fused one.
        self._optimizer = torch.optim.AdamW(
            parameter_groups(parameters, cfg), fused=fused or None, **self.optimizer_config
        )
        # What is the same at every update is looked up once: such loops over hundreds of parameters
        # take longer than a GPU needs for the update.
        self._all_parameters = list(super().params)
        self._moments: Optional[List[_Moments]] = None
        self.set_lr(cfg.lr[0])

    @property
    def params(self) -> List[Parameter]:
        """All parameters, group by group."""
        return self._all_parameters

    @property
    def optimizer_config(self) -> dict:
        """Keyword arguments of the torch optimizer."""
        return {
            "lr": self.cfg.lr[0],
            "betas": tuple(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    def get_lr(self) -> float:
        """Return the base rate, which is that of the heads."""
        # Of the groups, which a schedule of torch's sets by itself.
        group = max(self.param_groups, key=lambda group: group["lr_factor"])
        return group["lr"] / group["lr_factor"]

    def set_lr(self, lr: float) -> None:
        """Set the base rate; every group gets it times its own factor."""
        for group in self.param_groups:
            group["lr"] = lr * group["lr_factor"]

    def clip_grad_norm(
        self, max_norm: float, aggregate_norm_fn: Optional[Callable[[Tensor], Tensor]] = None
    ) -> Tensor:
        """Scale all gradients so that their joint 2-norm is at most ``max_norm``.

        Returns the norm [] before that, without waiting for the device. ``max_norm`` 0 only
        measures. ``aggregate_norm_fn`` joins the norms of workers that hold shards.
        Source: ``tf.clip_by_global_norm``, model/optimization.py:49 of the released code.
        """
        with torch.no_grad():
            norm = global_norm(_gradients_of(self.params))
        if aggregate_norm_fn is not None:
            norm = aggregate_norm_fn(norm)
        if max_norm > 0:
            self.multiply_grads(clip_scale(norm, max_norm))
        return norm

    def multiply_grads(self, c: Union[float, Tensor]) -> None:
        """Multiply all gradients by a number, which may be on their device."""
        if gradients := _gradients_of(self.params):
            with torch.no_grad():
                torch._foreach_mul_(gradients, c)

    def zero_grad(self) -> None:
        """Let go of all gradients."""
        for parameter in self.params:
            parameter.grad = None

    def step(
        self,
        closure: Optional[Callable[[], object]] = None,
        scale: float = 1.0,
        groups: Optional[list] = None,
    ) -> None:
        """Update every parameter that has a gradient."""
        if closure is not None:
            closure()
        if getattr(self, "found_inf", 0):
            return
        if self._moments is None or len(_gradients_of(self.params)) < len(self.params):
            if not self.cfg.bias_correction:
                _start_without_bias_correction(self._optimizer)
            super().step(None, scale, groups)
            self._moments = _moments(self._optimizer)
            return
        if scale != 1:
            self.multiply_grads(1 / scale)
        with torch.no_grad():
            for group, moments in zip(self.param_groups, self._moments, strict=True):
                _update(group, moments)

    def load_state_dict(self, state_dict: dict, optimizer_overrides: Optional[dict] = None) -> None:
        """Load the moving averages; rates, decay and the rest stay as configured now.

        Raises UserError if the parameters were grouped in another way, or had other shapes.
        """
        saved_sizes = [len(group["params"]) for group in state_dict["param_groups"]]
        if saved_sizes != [len(group["params"]) for group in self.param_groups]:
            raise UserError(
                "the checkpoint's optimizer state belongs to other parameters or another "
                "--layer-lr-decay: use those, or add --reset-optimizer"
            )
        _check_moments(state_dict, list(self.params))
        overrides = dict(optimizer_overrides or {})
        base_lr = overrides.pop("lr", self.get_lr())
        # Given to torch with the state, so that it also puts the counts where this device needs
        # them.
        configured = [
            {**saved, **group, **overrides, "params": saved["params"]}
            for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=True)
        ]
        self.optimizer.load_state_dict({**state_dict, "param_groups": configured})
        self._moments = None
        if not self.cfg.bias_correction:
            for state in self.optimizer.state.values():
                state["step"] = torch.full_like(state["step"], UPDATES_WITHOUT_BIAS)
        self.set_lr(base_lr)

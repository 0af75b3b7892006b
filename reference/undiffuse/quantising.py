"""Weights of eight bits: what torch can do on a CPU, and how much of a network it reaches.

Dynamic quantisation keeps weights as int8 and rounds what comes in to int8 at each call, by its own
range, so that nothing has to be measured beforehand. ``torch.ao.quantization`` does this for linear
layers. For convolutions, of which a U-Net consists, its tables name no dynamic layer; one exists in
``torch.ao.nn.quantized.dynamic`` and torch itself warns of its accuracy. Both are deprecated in
favour of torchao, which has no convolutions on CPUs. ``dynamic_int8`` makes either, so that it can
be measured what is gained.
"""

from __future__ import annotations

import copy
import io
import warnings

import torch
from torch import nn


def dynamic_int8(model: nn.Module, convs: bool = False) -> nn.Module:
    """A copy of ``model``, in evaluation mode, whose linear layers have dynamic int8 weights.

    convs: convolutions without groups too, by the layer that torch advises against. The copy runs
    on CPUs, without gradients; layers are replaced where they stand. Raises ValueError for a model
    that has nothing to replace.
    """
    from torch.ao.nn.quantized import dynamic
    from torch.ao.quantization import default_dynamic_qconfig

    kinds: dict[type, type] = {nn.Linear: dynamic.Linear}
    if convs:
        kinds |= {nn.Conv1d: dynamic.Conv1d, nn.Conv2d: dynamic.Conv2d}
    made = copy.deepcopy(model).eval().to("cpu", memory_format=torch.contiguous_format)
    replaced = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation, and the accuracy that is measured here
        for parent in list(made.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) not in kinds or getattr(layer, "groups", 1) != 1:
                    continue
                layer.qconfig = default_dynamic_qconfig
                setattr(parent, name, _int8(kinds[type(layer)], layer))
                replaced += 1
    if not replaced:
        raise ValueError("the model has no layer that can be quantised")
    return made


def _int8(kind: type, layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return kind.from_float(layer)
    same = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    made = kind(layer.in_channels, layer.out_channels, layer.kernel_size, **same)
    weight = layer.weight.detach().float()
    scale = weight.flatten(1).abs().amax(1).clamp(min=1e-12) / 127  # one a channel
    zero = torch.zeros(len(scale), dtype=torch.int64)
    eight = torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)
    made.set_weight_bias(eight, None if layer.bias is None else layer.bias.detach().float())
    return made


def file_bytes(model: nn.Module) -> int:
    """Bytes of the weights as ``torch.save`` writes them."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(model.state_dict(), out)
    return out.tell()

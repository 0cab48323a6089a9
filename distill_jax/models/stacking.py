"""Between layers as `layers_<n>` (T5X's tree) and one stacked `layers` (what `nn.scan` uses)."""

import re
from typing import Any

import numpy as np
from flax import traverse_util

_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+)/(.+)$")
_STACKED = re.compile(r"^(encoder|decoder)/layers/(.+)$")


def stack_layers(params: Any) -> Any:
    """`encoder/layers_0/x` … `encoder/layers_<n-1>/x` [...] -> `encoder/layers/x` [n, ...]."""
    stacked, groups = {}, {}
    for name, array in traverse_util.flatten_dict(params, sep="/").items():
        match = _LAYER.match(name)
        if match:
            stack, index, rest = match.groups()
            groups.setdefault(f"{stack}/layers/{rest}", {})[int(index)] = array
        else:
            stacked[name] = array
    for name, arrays in groups.items():
        stacked[name] = np.stack([arrays[index] for index in range(len(arrays))])
    return traverse_util.unflatten_dict(stacked, sep="/")


def unstack_layers(params: Any) -> Any:
    """`encoder/layers/x` [n, ...] -> `encoder/layers_0/x` … `encoder/layers_<n-1>/x` [...]."""
    unstacked = {}
    for name, array in traverse_util.flatten_dict(params, sep="/").items():
        match = _STACKED.match(name)
        if match:
            stack, rest = match.groups()
            for index in range(array.shape[0]):
                unstacked[f"{stack}/layers_{index}/{rest}"] = array[index]
        else:
            unstacked[name] = array
    return traverse_util.unflatten_dict(unstacked, sep="/")

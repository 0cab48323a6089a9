"""Reads a partitioned HLO module: the matrix products and collectives of a device, loops multiplied out."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\w*\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")
_CALLED = re.compile(r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Operations allowed between an all-reduce and the slice of its result that a device keeps.
_PASSES_ON = ("convert", "copy", "transpose", "reshape", "bitcast")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation, run `count` times a step on an array of `size` bytes in all, among each group.

    `groups` are the numbers of all devices, by group.
    """

    kind: str
    size: int
    groups: Sequence[Sequence[int]]
    count: int

    @property
    def group(self) -> int:
        """Devices in one group."""
        return len(self.groups[0])

    @property
    def moved(self) -> float:
        """Bytes that a device sends in a step, by the ring algorithms."""
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return self.size * factor * self.count


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    op: str
    rest: str

    @property
    def operands(self) -> list[str]:
        return _NAME.findall(self.rest.split("), ")[0])


def _dims(text: str) -> list[int]:
    return [int(dim) for dim in text.split(",") if dim]


def _elements(shape: str) -> int:
    return sum(math.prod(_dims(dims)) for _, dims in _ARRAY.findall(shape))


def _bytes(shape: str) -> int:
    total = 0
    for dtype, dims in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
        total += bits * math.prod(_dims(dims)) // 8
    return total


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Computations by name, and the name of the entry."""
    computations: dict[str, list[_Instruction]] = {}
    entry, body = "", None
    for line in text.splitlines():
        if not line.startswith(" "):
            match = _COMPUTATION.match(line)
            if match and "=" not in line.split("(")[0]:
                body = computations.setdefault(match[2], [])
                entry = match[2] if match[1] else entry
        elif body is not None and (match := _INSTRUCTION.match(line)):
            body.append(_Instruction(*match.groups()))
    if not entry:
        raise ValueError("no entry computation: not an HLO module")
    return computations, entry


def _trip_count(while_: _Instruction, computations: Mapping[str, list[_Instruction]]) -> int:
    """Iterations of a loop: XLA's own count, else the constant that its condition compares with."""
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', while_.rest)
    if known:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", while_.rest)[1]
    constants = [int(i.rest.split(")")[0]) for i in computations[condition] if i.op == "constant"]
    if len(constants) != 1:
        raise ValueError(f"loop {while_.name}: its condition compares with {len(constants)} constants")
    return constants[0]


def _executed(text: str) -> Iterator[tuple[list[_Instruction], int]]:
    """Each computation of a module, and how often it runs in a step; not reductions' element functions."""
    computations, entry = _parse(text)
    counts: dict[str, int] = collections.Counter()

    def visit(name: str, times: int) -> None:
        counts[name] += times
        for instruction in computations[name]:
            if instruction.op == "while":
                body = re.search(r"body=%?([\w.\-]+)", instruction.rest)[1]
                visit(body, times * _trip_count(instruction, computations))
            elif instruction.op in ("call", "conditional", "fusion"):
                for called in _CALLED.findall(instruction.rest):
                    visit(called, times)
                branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
                for called in _NAME.findall(branches[1]) if branches else ():
                    visit(called, times)

    visit(entry, 1)
    return ((computations[name], count) for name, count in counts.items())


def _groups(rest: str, devices: int) -> np.ndarray:
    """The groups of devices of a collective, int [groups, size], from any of XLA's notations."""
    if match := re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)+)\}", rest):
        return _explicit(match[1])
    if match := re.search(r"replica_groups=(\[[\d,]+\]<=\S+?)(?:, |$)", rest):
        return _iota(match[1])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}", rest):
        return _mesh_groups(*match.groups())
    if match := re.search(r"replica_groups=\{((?:\{[\d,]+\},?)+)\}", rest):
        return _explicit(match[1])
    return np.arange(devices)[None]


def _explicit(text: str) -> np.ndarray:
    """`{0,1},{2,3}`."""
    return np.array([_dims(group) for group in re.findall(r"\{([\d,]+)\}", text)])


def _iota(text: str) -> np.ndarray:
    """`[4,2]<=[2,4]T(1,0)`: the numbers from 0 in the second shape, transposed, as groups."""
    shape, _, numbers = text.partition("<=")
    return _numbers(numbers or shape).reshape(_dims(shape.strip("[]")))


def _numbers(text: str) -> np.ndarray:
    """`[2,4]T(1,0)`: the numbers from 0 in a shape, transposed, flat."""
    dims, order = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()
    numbers = np.arange(math.prod(_dims(dims))).reshape(_dims(dims))
    return numbers.transpose(_dims(order) if order else None).ravel()


def _mesh_groups(mesh: str, device_ids: str | None, axes: str) -> np.ndarray:
    """Groups along axes of a named mesh, or along a part `'a':(before)size` of one."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    shape, grouped = [], []
    found = _AXIS.findall(axes)
    parts = {name: (int(before or 1), int(size or sizes[name])) for name, before, size in found}
    if len(parts) < len(found):
        raise ValueError(f"replica_groups of two parts of one axis: {axes}")
    for name, size in sizes.items():
        before, own = parts.get(name, (size, 1))
        grouped.append(len(shape) + 1)
        shape += [before, own, size // (before * own)]
    devices = _numbers(device_ids) if device_ids else np.arange(math.prod(shape))
    devices = np.moveaxis(devices.reshape(shape), grouped, range(-len(grouped), 0))
    return devices.reshape(-1, math.prod(shape[axis] for axis in grouped))


def _slices(whole: _Instruction, users: Mapping[str, list[_Instruction]]) -> int:
    """Into how many slices an array is cut, of which a device uses one; 1 if it is used whole."""
    parts = []
    for user in users.get(whole.name, ()):
        if user.op == "dynamic-slice":
            parts.append(_elements(whole.shape) // _elements(user.shape))
        else:
            parts.append(_slices(user, users) if user.op in _PASSES_ON else 1)
    return min(parts, default=1)


def collectives(text: str, devices: int) -> list[Collective]:
    """The collective operations of a step in a module partitioned for `devices`, each with its count."""
    found: dict[tuple, int] = collections.Counter()

    def add(kind: str, size: int, groups: np.ndarray, count: int) -> None:
        if groups.shape[1] > 1:
            found[kind, size, tuple(map(tuple, groups.tolist()))] += count

    for instructions, count in _executed(text):
        users = collections.defaultdict(list)
        for instruction in instructions:
            for operand in instruction.operands:
                users[operand].append(instruction)
        for instruction in instructions:
            kind = instruction.op.removesuffix("-start")
            if kind not in KINDS:
                continue
            groups, size = _groups(instruction.rest, devices), _bytes(instruction.shape)
            if kind == "reduce-scatter":
                size *= groups.shape[1]
            if kind == "all-reduce":
                # TPU and GPU make a reduce-scatter of the part that a device keeps: among neighbours, since
                # `fsdp`, over which a gradient is sharded, stands behind `data` in the mesh.
                parts = math.gcd(_slices(instruction, users), groups.shape[1])
                groups = np.sort(groups, axis=1).reshape(len(groups), -1, parts)
                add("reduce-scatter", size, groups.reshape(-1, parts), count)
                groups, size = groups.swapaxes(1, 2).reshape(-1, groups.shape[1]), size // parts
            add(kind, size, groups, count)
    return [Collective(*key, count) for key, count in found.items()]


def by_kind(operations: Iterable[Collective]) -> dict[str, float]:
    """Bytes that a device sends in a step, by kind."""
    total = dict.fromkeys(KINDS, 0.0)
    for operation in operations:
        total[operation.kind] += operation.moved
    return total


def matmul_flops(text: str) -> dict[str, float]:
    """Operations of the matrix products of a step on one device by operand type: 2 for a multiply and add."""
    total: dict[str, float] = collections.Counter()
    for instructions, count in _executed(text):
        shapes = {instruction.name: instruction.shape for instruction in instructions}
        for instruction in (each for each in instructions if each.op == "dot"):
            dtype, dims = _ARRAY.search(shapes[instruction.operands[0]]).groups()
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)[1]
            depth = math.prod(_dims(dims)[dim] for dim in _dims(contracted))
            total[dtype] += 2.0 * depth * math.prod(_dims(_ARRAY.search(instruction.shape)[2])) * count
    return dict(total)

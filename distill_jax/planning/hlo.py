"""Reads a partitioned HLO module: the work and the communication of one device, loops counted out."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\w*\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# What may stand between an all-reduce and the slice of it that a device keeps.
_PASSES_ON = ("convert", "copy", "transpose", "reshape", "bitcast")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation: `size` bytes of its whole array, among `group` devices, `count` times a step."""

    kind: str
    size: int
    group: int
    count: int

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


def _bytes(shape: str) -> int:
    total = 0
    for dtype, dims in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
        total += bits * math.prod(_dims(dims)) // 8
    return total


def _dims(text: str) -> list[int]:
    return [int(dim) for dim in text.split(",") if dim]


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
    """How often a loop runs: what XLA knows, else the number that its condition compares with."""
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', while_.rest)
    if known:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", while_.rest)[1]
    constants = [int(i.rest.split(")")[0]) for i in computations[condition] if i.op == "constant"]
    if len(constants) != 1:
        raise ValueError(f"loop {while_.name}: its condition compares with {len(constants)} constants")
    return constants[0]


def _counts(computations: Mapping[str, list[_Instruction]], entry: str) -> dict[str, int]:
    """How often each computation runs in a step; those applied to elements are left out."""
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
    return counts


def _group_size(rest: str, devices: int) -> int:
    """Devices in one group of `replica_groups`, in any of XLA's three notations."""
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
        return int(match[2])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(.*?\))? \{([^}]*)\}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
        size = 1
        for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2]):
            size *= int(part) if part else sizes[name]
        return size
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(match[1].split(","))
    return devices


def _slices(whole: _Instruction, users: Mapping[str, list[_Instruction]]) -> int:
    """Into how many parts an array is cut, of which a device keeps one; 1 if it is used whole."""
    parts = []
    for user in users.get(whole.name, ()):
        if user.op == "dynamic-slice":
            parts.append(_elements(whole.shape) // _elements(user.shape))
        else:
            parts.append(_slices(user, users) if user.op in _PASSES_ON else 1)
    return min(parts, default=1)


def _elements(shape: str) -> int:
    return sum(math.prod(_dims(dims)) for _, dims in _ARRAY.findall(shape))


def collectives(text: str, devices: int) -> list[Collective]:
    """The collective operations of a step, each with the times it runs.

    Args:
      text: an HLO module after partitioning.
      devices: that it is partitioned for.
    """
    computations, entry = _parse(text)
    found: dict[tuple[str, int, int], int] = collections.Counter()
    for name, count in _counts(computations, entry).items():
        users = collections.defaultdict(list)
        for instruction in computations[name]:
            for operand in instruction.operands:
                users[operand].append(instruction)
        for instruction in computations[name]:
            kind = instruction.op.removesuffix("-start")
            if kind not in KINDS:
                continue
            group = _group_size(instruction.rest, devices)
            size = _bytes(instruction.shape)
            if kind == "reduce-scatter":
                size *= group
            if kind == "all-reduce":
                # What of it a device keeps: TPU and GPU make a reduce-scatter of that.
                parts = math.gcd(_slices(instruction, users), group)
                if parts > 1:
                    found["reduce-scatter", size, parts] += count
                    size, group = size // parts, group // parts
            if group > 1:
                found[kind, size, group] += count
    return [Collective(*key, count) for key, count in found.items()]


def by_kind(operations: Iterable[Collective]) -> dict[str, float]:
    """Bytes that a device sends in a step, by kind."""
    total = dict.fromkeys(KINDS, 0.0)
    for operation in operations:
        total[operation.kind] += operation.moved
    return total


def matmul_flops(text: str) -> float:
    """Operations of all matrix products of a step on one device: 2 for each multiply and add."""
    computations, entry = _parse(text)
    total = 0.0
    for name, count in _counts(computations, entry).items():
        shapes = {instruction.name: instruction.shape for instruction in computations[name]}
        for instruction in computations[name]:
            if instruction.op != "dot":
                continue
            lhs = _dims(_ARRAY.search(shapes[instruction.operands[0]])[2])
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)[1]
            depth = math.prod(lhs[dim] for dim in _dims(contracted))
            total += 2.0 * depth * math.prod(_dims(_ARRAY.search(instruction.shape)[2])) * count
    return total

"""The reader of HLO, on a module small enough to reckon by hand and on real ones."""

import pytest

from distill_jax.planning import hlo

MODULE = """HloModule m, entry_computation_layout={()->f32[]}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %p = (s32[], bf16[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %a = bf16[8,4]{1,0} get-tuple-element(%p), index=1
  %whole = bf16[32,4]{1,0} all-gather(%a), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %k = bf16[4,16]{1,0} constant({...})
  %d = bf16[32,16]{1,0} dot(%whole, %k), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %r = f32[64]{0} all-reduce(%f), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %c = f32[64]{0} copy(%r)
  %s = f32[32]{0} dynamic-slice(%c, %i), dynamic_slice_sizes={32}
  ROOT %t = (s32[], bf16[8,4]{1,0}) tuple(%i, %a)
}

%condition (p: (s32[], bf16[8,4])) -> pred[] {
  %p = (s32[], bf16[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: bf16[8,4]) -> f32[] {
  %a = bf16[8,4]{1,0} parameter(0)
  %t = (s32[], bf16[8,4]{1,0}) tuple(%a, %a)
  %w = (s32[], bf16[8,4]{1,0}) while(%t), condition=%condition, body=%body
  %g = f32[100]{0} all-reduce(%f), replica_groups=mesh['a'=2,'b'=4], device_ids=([8]) {'b'}, to_apply=%add
  %h = f32[10]{0} collective-permute(%g), source_target_pairs={{0,1}}
  ROOT %z = f32[] constant(0)
}
"""


def test_by_hand():
    found = {(c.kind, c.size, c.group, c.count) for c in hlo.collectives(MODULE, 8)}
    assert found == {
        ("all-gather", 32 * 4 * 2, 4, 5),
        ("reduce-scatter", 256, 2, 5),  # all-reduced, then sliced in two
        ("all-reduce", 400, 4, 1),
        ("collective-permute", 40, 2, 1),
    }
    assert hlo.by_kind(hlo.collectives(MODULE, 8)) == {
        "all-gather": 5 * 256 * 3 / 4,
        "reduce-scatter": 5 * 256 / 2,
        "all-reduce": 400 * 2 * 3 / 4,
        "collective-permute": 40.0,
        "all-to-all": 0.0,
    }
    assert hlo.matmul_flops(MODULE) == {"bf16": 5 * 2 * 32 * 16 * 4}


@pytest.mark.parametrize(
    ("notation", "groups"),
    [
        ("[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("{{0,1},{2,3},{4,5},{6,7}}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("{}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ],
)
def test_the_groups_of_every_notation(notation, groups):
    module = MODULE.replace("mesh['a'=2,'b'=4], device_ids=([8]) {'b'}", notation)
    (found,) = [c.groups for c in hlo.collectives(module, 8) if c.size == 400]
    assert [list(group) for group in found] == groups


def test_what_a_device_keeps_of_an_all_reduce_is_reduced_among_neighbours():
    module = MODULE.replace("replica_groups={{0,1},{2,3},{4,5},{6,7}}", "replica_groups=[1,8]<=[8]")
    found = {c.kind: c for c in hlo.collectives(module, 8) if c.count == 5 and c.kind != "all-gather"}
    assert (
        found["reduce-scatter"].groups == ((0, 1), (2, 3), (4, 5), (6, 7))
        and found["reduce-scatter"].size == 256
    )
    assert found["all-reduce"].groups == ((0, 2, 4, 6), (1, 3, 5, 7)) and found["all-reduce"].size == 128


def test_a_loop_of_unknown_length_is_refused():
    unknown = MODULE.replace("%n = s32[] constant(5)", "%n = s32[] get-tuple-element(%p), index=0")
    with pytest.raises(ValueError, match="compares with 0 constants"):
        hlo.collectives(unknown, 8)


def test_what_is_no_module_is_refused():
    with pytest.raises(ValueError, match="not an HLO module"):
        hlo.collectives("nothing", 8)

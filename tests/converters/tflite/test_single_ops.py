"""Every builtin operator that LiteRT's CPU kernels run, in a model of its own, against LiteRT; those of strings and bits:
``test_strings_and_bits.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.importers.tflite import import_tflite
from deploykit.converters.importers.tflite.call import HANDLERS
from deploykit.converters.ir.tflite_schema import BUILTINS, TYPES
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import LiteRtRunner, difference
from tests.support.peers import need
from tests.support.tflite_ops import Case, model

need("ai_edge_litert")


def f32(r: np.random.Generator, *shape: int) -> np.ndarray:
    return r.standard_normal(shape).astype(np.float32)


def i32(*v: Any) -> np.ndarray:
    return np.array(v if len(v) != 1 or not isinstance(v[0], list) else v[0], np.int32)


def whole(r: np.random.Generator, low: int, high: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
    return r.integers(low, high, shape).astype(dtype)


def cases(seed: int) -> list[Case]:
    """All cases; sizes and options vary with the seed."""
    r = np.random.default_rng(seed)
    n, h, w, c = 1 + seed % 2, 7 + seed, 6 + 2 * seed, 3 + seed
    x4, x2 = f32(r, n, h, w, c), f32(r, 4, 5)
    out: list[Case] = []

    def add(op: str, inputs: list[Any], kind: str = "", fixed: tuple[int, ...] = (), **k: Any) -> None:
        meta = {m: k.pop(m) for m in ("outputs", "version", "loose", "name") if m in k}
        out.append(Case(op, inputs, fixed, kind, k, **meta))

    # convolution
    for act in range(2 if seed else 4):
        for pad in (0, 1):
            geo = dict(padding=pad, stride_w=1 + act % 2, stride_h=1 + seed % 2, fused_activation_function=act)
            add("CONV_2D", [x4, f32(r, 4, 3, 3, c), f32(r, 4)], "Conv2DOptions", (1, 2), name=f"{act}{pad}", **geo)
            mult = dict(depth_multiplier=2)
            add(
                "DEPTHWISE_CONV_2D",
                [x4, f32(r, 1, 3, 3, 2 * c), f32(r, 2 * c)],
                "DepthwiseConv2DOptions",
                (1, 2),
                name=f"{act}{pad}",
                **geo,
                **mult,
            )
    dil = dict(padding=0, stride_w=1, stride_h=1, dilation_w_factor=2, dilation_h_factor=2)
    add("CONV_2D", [x4, f32(r, 4, 3, 3, c), f32(r, 4)], "Conv2DOptions", (1, 2), name="dilated", **dil)
    add(
        "CONV_2D",
        [f32(r, 1, 6, 6, 4), f32(r, 6, 3, 3, 2), f32(r, 6)],
        "Conv2DOptions",
        (1, 2),
        name="groups",
        padding=0,
        stride_w=1,
        stride_h=1,
        version=6,
    )
    for pad in (0, 1):
        o = [1, h * 2, w * 2, 4] if pad == 0 else [1, (h - 1) * 2 + 3, (w - 1) * 2 + 3, 4]
        add(
            "TRANSPOSE_CONV",
            [i32(o), f32(r, 4, 3, 3, c), x4[:1]],
            "TransposeConvOptions",
            (0, 1),
            name=f"{pad}",
            padding=pad,
            stride_w=2,
            stride_h=2,
        )
        add(
            "TRANSPOSE_CONV",
            [i32(o), f32(r, 4, 3, 3, c), x4[:1], f32(r, 4)],
            "TransposeConvOptions",
            (0, 1, 3),
            name=f"bias{pad}",
            version=3,
            padding=pad,
            stride_w=2,
            stride_h=2,
        )
    cube = f32(r, 1, 5, 6, 4, 2)
    for pad in (0, 1):
        geo3 = dict(
            padding=pad,
            stride_d=1,
            stride_h=2,
            stride_w=1,
            dilation_d_factor=1,
            dilation_h_factor=1,
            dilation_w_factor=1,
        )
        add("CONV_3D", [cube, f32(r, 2, 3, 2, 2, 3), f32(r, 3)], "Conv3DOptions", (1, 2), name=f"{pad}", **geo3)
    add(
        "CONV_3D_TRANSPOSE",
        [i32(1, 10, 12, 8, 3), f32(r, 2, 2, 2, 3, 2), cube],
        "Conv3DOptions",
        (0, 1),
        padding=0,
        stride_d=2,
        stride_h=2,
        stride_w=2,
    )
    for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
        for pad in (0, 1):
            add(
                op,
                [x4],
                "Pool2DOptions",
                name=f"{pad}",
                padding=pad,
                stride_w=2,
                stride_h=1,
                filter_width=2,
                filter_height=3,
                fused_activation_function=seed % 2,
            )
    # dense
    add(
        "FULLY_CONNECTED",
        [x2, f32(r, 6, 5), f32(r, 6)],
        "FullyConnectedOptions",
        (1, 2),
        fused_activation_function=seed,
    )
    add("FULLY_CONNECTED", [f32(r, 2, 3, 5), f32(r, 6, 5), None], "FullyConnectedOptions", (1,), name="flat", version=6)
    add(
        "FULLY_CONNECTED",
        [f32(r, 2, 3, 5), f32(r, 6, 5), f32(r, 6)],
        "FullyConnectedOptions",
        (1, 2),
        name="keep",
        keep_num_dims=True,
        version=6,
    )
    for ax, ay in ((False, False), (True, False), (False, True)):
        a, b = f32(r, 2, 3, 4), f32(r, 2, 4, 5)
        add(
            "BATCH_MATMUL",
            [a.transpose(0, 2, 1) if ax else a, b.transpose(0, 2, 1) if ay else b],
            "BatchMatMulOptions",
            name=f"{ax}{ay}",
            adj_x=ax,
            adj_y=ay,
        )
    add("BATCH_MATMUL", [f32(r, 3, 1, 2, 4), f32(r, 2, 4, 5)], "BatchMatMulOptions", name="broadcast")
    # unary
    for op in ("ABS", "CEIL", "FLOOR", "ROUND", "NEG", "EXP", "SIN", "COS", "TANH", "LOGISTIC", "SQUARE", "RELU", "RELU6",
               "RELU_N1_TO_1", "RELU_0_TO_1", "ELU", "HARD_SWISH", "SIGN"):  # fmt: skip
        add(op, [x2 * 3], loose=1e-5)
    for op in ("LOG", "SQRT", "RSQRT"):
        add(op, [np.abs(x2) + 0.1], loose=1e-5)
    for op in ("ABS", "NEG", "SIGN"):
        add(op, [whole(r, -9, 9, 3, 4)], outputs=("int32",), name="int32")
    add("LEAKY_RELU", [x2], "LeakyReluOptions", alpha=0.2)
    add("GELU", [x2 * 2], "GeluOptions", approximate=bool(seed), loose=1e-5)
    add("PRELU", [x4, f32(r, 1, 1, c)], fixed=(1,))
    add("SOFTMAX", [x4], "SoftmaxOptions", beta=1.0 + seed, loose=1e-5)
    add("LOG_SOFTMAX", [x2], "LogSoftmaxOptions", loose=1e-5)
    add("L2_NORMALIZATION", [x4], "L2NormOptions")
    add(
        "LOCAL_RESPONSE_NORMALIZATION",
        [x4],
        "LocalResponseNormalizationOptions",
        radius=1,
        bias=1.5,
        alpha=0.3,
        beta=0.5,
        loose=1e-5,
    )
    add("LOGICAL_NOT", [x2 > 0], "LogicalNotOptions", outputs=("bool",))
    add("ZEROS_LIKE", [x2], "ZerosLikeOptions")
    # binary
    for op, kind in (("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions"), ("DIV", "DivOptions")):
        add(op, [x4, f32(r, 1, 1, c) + 3], kind, fused_activation_function=(0, 1, 3)[(seed + len(op)) % 3])
        add(op, [whole(r, -99, 99, 3, 4), whole(r, 1, 9, 4)], kind, outputs=("int32",), name="int32")
    two = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum", "SQUARED_DIFFERENCE": "SquaredDifference"}
    for op, kind in {**two, "FLOOR_DIV": "FloorDiv", "FLOOR_MOD": "FloorMod"}.items():
        add(op, [x2 * 5, f32(r, 4, 1) + 4], f"{kind}Options")
    add("POW", [np.abs(x2) + 0.1, f32(r, 4, 5)], "PowOptions", loose=1e-5)
    add("ATAN2", [x2, f32(r, 4, 5)], "ATan2Options", loose=1e-5)
    for op in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
        kind = op.title().replace("_", "") + "Options"
        add(op, [np.round(x2), np.round(f32(r, 5))], kind, outputs=("bool",))
    for op, kind in (("LOGICAL_AND", "LogicalAndOptions"), ("LOGICAL_OR", "LogicalOrOptions")):
        add(op, [x2 > 0, f32(r, 4, 5) > 0], kind, outputs=("bool",))
    add("BITWISE_XOR", [whole(r, -99, 99, 3), whole(r, -99, 99, 3)], "BitwiseXorOptions", outputs=("int32",))
    add("RIGHT_SHIFT", [whole(r, -99, 99, 3), whole(r, 0, 5, 3)], "RightShiftOptions", outputs=("int32",))
    add("ADD_N", [x2, x2 * 2, x2 - 1], "AddNOptions")
    add("SELECT", [f32(r, 4) > 0, x2, x2 * 2], "SelectOptions")
    add("SELECT", [x2 > 0, x2, x2 * 2], "SelectOptions", name="full")
    add("SELECT_V2", [f32(r, 4, 1) > 0, x2, f32(r, 5)], "SelectV2Options")
    # reductions
    for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        add(op, [x4, i32(1, 2)], "ReducerOptions", (1,), keep_dims=bool(seed), loose=1e-5)
        add(op, [x4, i32([-1])], "ReducerOptions", (1,), keep_dims=not seed, name="last", loose=1e-5)
    for op in ("REDUCE_ANY", "REDUCE_ALL"):
        add(op, [x4 > 0.5, i32([1])], "ReducerOptions", (1,), outputs=("bool",), keep_dims=bool(seed))
    for op in ("ARG_MAX", "ARG_MIN"):
        add(
            op,
            [x4, i32(1 + seed)],
            op.title().replace("_", "") + "Options",
            (1,),
            outputs=("int64" if seed else "int32",),
            output_type=4 if seed else 2,
        )
    add("CUMSUM", [x4, i32(2)], "CumsumOptions", (1,), exclusive=bool(seed), reverse=not seed, loose=1e-5)
    # shapes
    add("RESHAPE", [x4, i32(n, -1, c)], "ReshapeOptions", (1,))
    add("RESHAPE", [x2], "ReshapeOptions", new_shape=[2, 10], name="options")
    add("SQUEEZE", [f32(r, 1, 3, 1, 2)], "SqueezeOptions", squeeze_dims=[0] if seed else [])
    add("EXPAND_DIMS", [x2, i32(-1 if seed else 1)], "ExpandDimsOptions", (1,))
    add("TRANSPOSE", [x4, i32(0, 3, 1, 2)], "TransposeOptions", (1,))
    add(
        "CONCATENATION",
        [x4, x4 * 2, f32(r, n, h, w, 2)],
        "ConcatenationOptions",
        axis=-1 if seed else 3,
    )
    add("PACK", [x2, x2 * 2], "PackOptions", values_count=2, axis=seed)
    add("UNPACK", [f32(r, 3, 2, 4)], "UnpackOptions", outputs=("float32",) * 3, num=3, axis=0)
    add("SPLIT", [i32(1), f32(r, 2, 6)], "SplitOptions", (0,), outputs=("float32",) * 3, num_splits=3)
    add(
        "SPLIT_V",
        [f32(r, 2, 7), i32(2, -1, 1), i32(1)],
        "SplitVOptions",
        (1, 2),
        outputs=("float32",) * 3,
        num_splits=3,
    )
    add("SLICE", [x4, i32(0, 1, 2, 0), i32(-1, 3, -1, 2)], "SliceOptions", (1, 2))
    add("SLICE", [x4, i32(0, 1, 2, 0), i32(-1, 3, -1, 2)], "SliceOptions", name="dynamic")
    for k, (b, e, s, masks) in enumerate([
        ([0, 1, 0, 0], [0, -1, 0, 0], [1, 2, 1, 1], dict(begin_mask=13, end_mask=13)),
        ([0, -1, 5, 0], [1, 0, 1, 9], [1, 1, -1, 2], dict(shrink_axis_mask=2)),
        ([0, 0, 1], [0, 0, 3], [1, 1, 1], dict(ellipsis_mask=1, new_axis_mask=2)),
        ([0, 0, 0, 0], [1, 3, 2, 2], [1, 1, 1, 1], dict(shrink_axis_mask=1)),
        ([0, 5, 0, 0], [1, 0, 2, 2], [1, -2, 1, 1], dict(end_mask=2)),
    ]):  # fmt: skip
        add(
            "STRIDED_SLICE",
            [x4, i32(b), i32(e), i32(s)],
            "StridedSliceOptions",
            (1, 2, 3),
            name=f"{k}",
            version=4,
            **masks,
        )
    add("STRIDED_SLICE", [x2, i32(1, 0), i32(3, 4), i32(1, 2)], "StridedSliceOptions", (3,), name="dynamic")
    add("PAD", [x4, i32([[0, 0], [1, 2], [0, 1], [0, 0]])], "PadOptions", (1,))
    add("PADV2", [x4, i32([[0, 0], [1, 2], [0, 1], [1, 0]]), np.float32(7)], "PadV2Options", (1, 2))
    for mode in (0, 1):
        add("MIRROR_PAD", [x2, i32([[1, 2], [2, 1]])], "MirrorPadOptions", (1,), mode=mode, name=f"{mode}")
    add("TILE", [x2, i32(2, 3)], "TileOptions", (1,))
    add("BROADCAST_TO", [f32(r, 1, 5), i32(3, 4, 5)], "BroadcastToOptions", (1,), version=2)
    add("BROADCAST_ARGS", [i32(3, 1, 5), i32(4, 5)], outputs=("int32",))
    add("SHAPE", [x4], "ShapeOptions", outputs=("int32",), out_type=2)
    add("RANK", [x4], "RankOptions", outputs=("int32",))
    add("FILL", [i32(2, 3), np.float32(1.5)], "FillOptions", (0,))
    add("RANGE", [np.int32(2), np.int32(11), np.int32(3)], "RangeOptions", outputs=("int32",))
    add("RANGE", [np.float32(0), np.float32(2), np.float32(0.5)], "RangeOptions", name="float")
    add("REVERSE_V2", [x4, i32([1 + seed])], "ReverseV2Options", (1,))
    add("REVERSE_SEQUENCE", [f32(r, 3, 4, 2), i32(1, 4, 2)], "ReverseSequenceOptions", (1,), seq_dim=1, batch_dim=0)
    for op in ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"):
        add(op, [f32(r, 1, 4, 6, 8)], op.title().replace("_", "").replace("To", "To") + "Options", block_size=2)
    add("SPACE_TO_BATCH_ND", [f32(r, 1, 5, 6, 2), i32(2, 3), i32([[1, 0], [0, 0]])], "SpaceToBatchNDOptions", (1, 2))
    add("BATCH_TO_SPACE_ND", [f32(r, 6, 3, 2, 2), i32(2, 3), i32([[1, 0], [0, 2]])], "BatchToSpaceNDOptions", (1, 2))
    add("MATRIX_DIAG", [f32(r, 2, 3)], "MatrixDiagOptions")
    add("MATRIX_SET_DIAG", [f32(r, 2, 3, 4), f32(r, 2, 3)], "MatrixSetDiagOptions")
    # index
    at = whole(r, 0, 4, 2, 3)
    add("GATHER", [x2, at], "GatherOptions", axis=0)
    add("GATHER", [f32(r, 3, 4, 5), whole(r, 0, 5, 6)], "GatherOptions", axis=-1, name="last")
    add(
        "GATHER",
        [f32(r, 2, 4, 5), whole(r, 0, 4, 2, 3)],
        "GatherOptions",
        axis=1,
        batch_dims=1,
        name="batch",
        version=5,
    )
    add(
        "GATHER",
        [f32(r, 2, 3, 5, 2), whole(r, 0, 5, 2, 4)],
        "GatherOptions",
        axis=2,
        batch_dims=1,
        name="between",
        version=5,
    )
    add("GATHER_ND", [f32(r, 4, 5, 2), whole(r, 0, 4, 3, 2)], "GatherNdOptions")
    add("SCATTER_ND", [i32([[1], [3], [1]]), f32(r, 3, 2), i32(5, 2)], "ScatterNdOptions", (2,))
    add(
        "SPARSE_TO_DENSE", [i32([[0, 1], [2, 3]]), i32(3, 4), f32(r, 2), np.float32(-1)], "SparseToDenseOptions", (1, 3)
    )
    add("EMBEDDING_LOOKUP", [whole(r, 0, 4, 6), x2])
    add("ONE_HOT", [i32([0, 2, -1, 7]), i32(4), np.float32(2), np.float32(-1)], "OneHotOptions", (1, 2, 3), axis=-1)
    add("TOPK_V2", [x2, i32(3)], "TopKV2Options", (1,), outputs=("float32", "int32"))
    add("WHERE", [x2 > 0], "WhereOptions", outputs=("int64",))
    add("UNIQUE", [whole(r, 0, 4, 9)], "UniqueOptions", outputs=("int32", "int32"), idx_out_type=2)
    add("DYNAMIC_UPDATE_SLICE", [x2, f32(r, 2, 2), i32(3, 1)], "DynamicUpdateSliceOptions")
    add("SEGMENT_SUM", [f32(r, 5, 2), i32(0, 0, 1, 2, 2)], "SegmentSumOptions")
    for k in ("SUM", "PROD", "MAX", "MIN"):
        add(
            f"UNSORTED_SEGMENT_{k}",
            [f32(r, 5, 2), i32(2, 0, 1, -1, 2), i32(3)],
            f"UnsortedSegment{k.title()}Options",
            (2,),
        )
    add("BUCKETIZE", [x2], "BucketizeOptions", outputs=("int32",), boundaries=[-1.0, 0.0, 0.5])
    boxes = np.sort(r.random((8, 2, 2)), 1).reshape(8, 4).astype(np.float32)
    scores = r.random(8).astype(np.float32)
    nms = [boxes, scores, np.int32(5), np.float32(0.4), np.float32(0.2)]
    add("NON_MAX_SUPPRESSION_V4", nms, "NonMaxSuppressionV4Options", (2, 3, 4), outputs=("int32", "int32"))
    add(
        "NON_MAX_SUPPRESSION_V5",
        [*nms, np.float32(0)],
        "NonMaxSuppressionV5Options",
        (2, 3, 4, 5),
        outputs=("int32", "float32", "int32"),
    )
    many = np.concatenate([r.random((40, 2)), r.random((40, 2)) * 1.2], 1).astype(np.float32)
    for sigma, most, above in ((0.5, 12, 0.3), (0.1, 40, 0.05), (2.0, 50, 0.9)):
        soft = [
            many,
            r.random(40).astype(np.float32),
            np.int32(most),
            np.float32(0.8),
            np.float32(above),
            np.float32(sigma),
        ]
        kinds = ("int32", "float32", "int32")
        name = f"soft{sigma}"
        add("NON_MAX_SUPPRESSION_V5", soft, "NonMaxSuppressionV5Options", (2, 3, 4, 5), outputs=kinds, name=name)
    # images, casts
    for kind in ("BILINEAR", "NEAREST_NEIGHBOR"):
        name = kind.title().replace("_", "")
        for k, flags in enumerate((dict(), dict(align_corners=True), dict(half_pixel_centers=True))):
            add(
                f"RESIZE_{kind}",
                [x4, i32(h * 2 - 3, w + 4)],
                f"Resize{name}Options",
                (1,),
                name=f"{k}",
                version=3,
                loose=1e-5,
                **flags,
            )
    add("CAST", [x2 * 9], "CastOptions", outputs=("int32",), in_data_type=0, out_data_type=2)
    add(
        "CAST", [whole(r, -9, 9, 3)], "CastOptions", outputs=("float32",), in_data_type=2, out_data_type=0, name="float"
    )
    add("BITCAST", [x2], "BitcastOptions", outputs=("int32",))
    add("FAKE_QUANT", [x2], "FakeQuantOptions", min=-1.1, max=0.9, num_bits=8)
    # recurrent: three runs, state carried
    i_, hid, steps = 3, 4 + seed, 5
    seq = f32(r, 2, steps, i_)
    lstm = dict(fused_activation_function=4, time_major=False, cell_clip=0.0, proj_clip=0.0)
    for name, coupled, peep in (("", False, False), ("coupled", True, False), ("peephole", False, True)):
        ws = [f32(r, hid, i_) * 0.5 for _ in range(4)] + [f32(r, hid, hid) * 0.5 for _ in range(4)]
        ps = [f32(r, hid) * 0.5 if peep else None for _ in range(3)]
        bs = [f32(r, hid) * 0.5 for _ in range(4)]
        zero = np.zeros((2, hid), np.float32)
        ins: list[Any] = [seq, *ws, *ps, *bs, None, None, zero, zero, None, None, None, None]
        if coupled:
            ins[1] = ins[5] = ins[12] = None
        fixed = tuple(range(1, 16))
        kind = "UnidirectionalSequenceLSTMOptions"
        out.append(
            Case("UNIDIRECTIONAL_SEQUENCE_LSTM", ins, fixed, kind, lstm, variables=(18, 19), name=name, loose=1e-5)
        )
        if not coupled and not peep:
            both = [
                seq,
                *ws,
                None,
                None,
                None,
                *bs,
                None,
                None,
                *[w * 0.7 for w in ws],
                None,
                None,
                None,
                *bs,
                None,
                None,
            ]
            both += [zero, zero, zero, zero] + [None] * 9
            for merge in (False, True):
                outputs = ("float32",) if merge else ("float32", "float32")
                fields = {**lstm, "merge_outputs": merge}
                args = (
                    "BIDIRECTIONAL_SEQUENCE_LSTM",
                    both,
                    tuple(range(1, 35)),
                    "BidirectionalSequenceLSTMOptions",
                    fields,
                    outputs,
                )
                out.append(Case(*args, variables=(35, 36, 37, 38), name="merged" if merge else "", loose=1e-5))
    zero = np.zeros((2, hid), np.float32)
    cell = [f32(r, hid, i_) * 0.5, f32(r, hid, hid) * 0.5, f32(r, hid)]
    rnn = dict(fused_activation_function=4 if seed else 1)
    out.append(Case("RNN", [seq[:, 0], *cell, zero], (1, 2, 3), "RNNOptions", rnn, variables=(4,)))
    out.append(
        Case("UNIDIRECTIONAL_SEQUENCE_RNN", [seq, *cell, zero], (1, 2, 3), "SequenceRNNOptions", rnn, variables=(4,))
    )
    two = [seq, *cell, zero, *[w * 0.8 for w in cell], zero, None, None, None]
    out.append(
        Case(
            "BIDIRECTIONAL_SEQUENCE_RNN",
            two,
            (1, 2, 3, 5, 6, 7),
            "BidirectionalSequenceRNNOptions",
            rnn,
            ("float32", "float32"),
            variables=(4, 8),
        )
    )
    svdf = [seq[:, 0], f32(r, 6, i_), f32(r, 6, 4), f32(r, 3), np.zeros((2, 24), np.float32)]
    out.append(Case("SVDF", svdf, (1, 2, 3), "SVDFOptions", dict(rank=2, fused_activation_function=1), variables=(4,)))
    prev = [f32(r, 2, i_), f32(r, 2, hid), f32(r, 4 * hid, i_ + hid) * 0.5, f32(r, 4 * hid), f32(r, 2, hid)]
    out.append(
        Case(
            "LSTM",
            prev,
            (2, 3),
            "LSTMOptions",
            dict(kernel_type=1, fused_activation_function=4),
            ("float32",) * 4,
            version=2,
            loose=1e-5,
        )
    )
    add("DILATE", [f32(r, 3, 4), i32(2, 3), np.float32(-1)], "DilateOptions", (1, 2))
    # StableHLO
    for op in ("ADD", "MULTIPLY", "MAXIMUM", "MINIMUM"):
        add(f"STABLEHLO_{op}", [x2, f32(r, 4, 5)])
    add("STABLEHLO_AND", [whole(r, 0, 99, 4, 5), whole(r, 0, 99, 4, 5)], outputs=("int32",))
    add("STABLEHLO_AND", [x2 > 0, f32(r, 4, 5) > 0], outputs=("bool",), name="bool")
    shifts = [whole(r, 0, 99, 4, 5), whole(r, 0, 9, 4, 5)]
    add("STABLEHLO_SHIFT_LEFT", shifts, "StablehloShiftLeftOptions", outputs=("int32",))
    pads = {"plain": ([1, 0], [2, 3], [0, 0]), "inner": ([0, 1], [1, 0], [2, 1]), "cut": ([-1, 2], [1, -2], [1, 0])}
    for name, (low, high, inner) in pads.items():
        edges = dict(edge_padding_low=low, edge_padding_high=high, interior_padding=inner)
        add("STABLEHLO_PAD", [x2, np.float32(-1.5)], "StablehloPadOptions", name=name, **edges)
    for k in (1, 2, 3, 4):
        how = [np.array(v, np.int64) for v in ([2, 1, 3], [1, 1, 2], [1, 1, 1 + seed])]
        start = np.float32({1: 0.5, 2: 2, 3: 9, 4: -9}[k])
        add(
            "REDUCE_WINDOW",
            [f32(r, 5, 3, 9), start, *how],
            "ReduceWindowOptions",
            (2, 3, 4),
            name=f"{k}",
            reduce_function=k,
        )
    # lookups
    keys = np.array([-3, 2, 5, 70], np.int32)
    for table in (f32(r, 4, 3), f32(r, 4)):
        wanted = np.array([5, 3, -3, 70, 71], np.int32)
        add("HASHTABLE_LOOKUP", [wanted, keys, table], outputs=("float32", "uint8"), name=f"{table.ndim}")
    at = np.array([[0, 0], [0, 3], [2, 1], [2, 2], [2, 3]], np.int32)
    for k in range(3):
        ids, weights = whole(r, 0, 6, 5), r.random(5).astype(np.float32) + 0.1
        sparse = [ids, at, i32(3, 4), weights, f32(r, 6, 2, 3)]
        add("EMBEDDING_LOOKUP_SPARSE", sparse, "EmbeddingLookupSparseOptions", (2,), name=f"{k}", combiner=k)
    out.append(detection(r))
    return out


def detection(r: np.random.Generator) -> Case:
    """Boxes around anchors, three classes and a background column."""
    from flatbuffers import flexbuffers

    n = 20
    anchors = np.concatenate([r.random((n, 2)), r.random((n, 2)) * 0.3 + 0.1], 1).astype(np.float32)
    scores = r.random((1, n, 4)).astype(np.float32)
    options = dict(max_detections=6, max_classes_per_detection=1, num_classes=3, detections_per_class=100)
    options |= dict(use_regular_nms=False, nms_score_threshold=0.3, nms_iou_threshold=0.4)
    options |= dict(y_scale=10.0, x_scale=10.0, h_scale=5.0, w_scale=5.0)
    b = flexbuffers.Builder()
    b.MapFromElements(options)
    data = bytes(b.Finish())
    ins = [f32(r, 1, n, 4), scores, anchors]
    return Case("CUSTOM:TFLite_Detection_PostProcess", ins, (2,), outputs=("float32",) * 4, custom=data, loose=1e-5)


ALL = [(s, i, c) for s in (0, 1) for i, c in enumerate(cases(s))]


@pytest.mark.parametrize(("seed", "number"), [(s, i) for s, i, _ in ALL], ids=[f"{c.id}-{s}" for s, _, c in ALL])
def test_agrees_with_litert(seed: int, number: int) -> None:
    case = cases(seed)[number]
    data = model(case)
    feeds = case.feeds()
    theirs = LiteRtRunner(data, 1, optimize=False)
    ours = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph))
    if case.name == "merged":  # LiteRT's own merged form differs from run to run
        case.fields = {**case.fields, "merge_outputs": False}
        case.outputs = ("float32", "float32")
        theirs = LiteRtRunner(model(case), 1, optimize=False)
    for _ in range(3 if case.variables else 1):
        want, got = theirs.run(feeds), ours.run(feeds)
        if case.name == "merged":
            want = {"y0": np.concatenate([want["y0"], want["y1"]], -1)}
        assert list(got) == list(want)
        for k, w in want.items():
            g = got[k]
            assert (g.dtype, g.shape) == (w.dtype, w.shape)
            error, scale = difference(w, g)
            assert error <= (case.loose * max(scale, 1e-3) if w.dtype.kind == "f" else 0), f"{k}: {error} of {scale}"


# builtin operators without a handler, and why
MISSING = {
    "PLACEHOLDER_FOR_GREATER_OP_CODES": "no operator",
    "DELEGATE": "no operator",
    "CUSTOM": "no operator",
    "CONCAT_EMBEDDINGS": "LiteRT has no kernel",
}
# those of the StableHLO set that LiteRT has kernels for; the others are names in the schema
STABLEHLO = (
    "ADD AND CASE COMPOSITE GATHER MAXIMUM MINIMUM MULTIPLY PAD REDUCE_WINDOW RNG_BIT_GENERATOR SCATTER SHIFT_LEFT"
).split()


def test_every_builtin_has_a_handler_or_a_reason() -> None:
    assert import_tflite
    known = [op for op in BUILTINS if not op.startswith("STABLEHLO_")] + [f"STABLEHLO_{k}" for k in STABLEHLO]
    missing = [op for op in known if op not in HANDLERS and op not in MISSING]
    assert not missing, missing


def test_the_rest_of_stablehlo_has_no_kernel() -> None:
    x = np.ones((2, 3), np.float32)
    for op in (op for op in BUILTINS if op.startswith("STABLEHLO_") and op[10:] not in STABLEHLO):
        with pytest.raises(Exception, match="Didn't find op"):
            LiteRtRunner(model(Case(op, [x, x], (0, 1))), 1, optimize=False)


def test_what_is_missing_is_said() -> None:
    assert not set(MISSING) & set(HANDLERS)


def test_tables_and_skip_grams_are_of_strings_in_litert() -> None:
    """What strings go into: tables have them on one side, n-grams on both."""
    from ai_edge_litert.interpreter import Interpreter

    def taken(case: Case) -> bool:
        try:
            Interpreter(model_content=model(case)).allocate_tensors()
        except RuntimeError as e:
            assert "STRING" in str(e).upper()
            return False
        return True

    kinds = ("float32", "int32", "uint8", "int64", "string", "bool", "int8", "float64")
    types = {k: TYPES.index(k.upper()) for k in kinds}
    tables = {
        (k, v)
        for k in kinds
        for v in kinds
        if taken(
            Case(
                "HASHTABLE",
                [],
                kind="HashtableOptions",
                fields={"table_id": 1, "key_dtype": types[k], "value_dtype": types[v]},
                outputs=("resource",),
            )
        )
    }
    assert tables == {("int64", "string"), ("string", "int64")}
    for kind in ("float32", "int32", "uint8", "int64"):
        fields = {"ngram_size": 2, "max_skip_size": 1, "include_all_ngrams": True}
        case = Case("SKIP_GRAM", [np.ones(3, kind)], kind="SkipGramOptions", fields=fields, outputs=("string",))
        assert not taken(case)

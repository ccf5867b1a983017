"""Bad files are refused with the reason; weights are views of the mapped file; problems come all at once."""

from __future__ import annotations

import gzip

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.converters.importers.onnx import import_onnx
from deploykit.converters.importers.onnx.reader import read_model, unpack
from deploykit.dtypes import BY_NAME
from deploykit.errors import DeploykitError, FormatError, InputError, ShapeError, UnsupportedError


def model(nodes, inputs, outputs, weights=(), opset=17, **kw):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **kw)


def tensor(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


@pytest.fixture
def big():
    """A model whose only weight is too large to be copied, x + w."""
    w = np.arange(4096, dtype=np.float32)
    node = helper.make_node("Add", ["x", "w"], ["y"], name="plus")
    return model([node], [tensor("x", [4096])], [tensor("y", [4096])], [numpy_helper.from_array(w, "w")])


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        (b"  <html lang=en>", "HTML page"),
        (gzip.compress(b"abc", mtime=0), "gzip"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "TFLite"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b'{"a": 1}', "text"),
        (bytes(100), "zero bytes"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "not an ONNX model"),
        (b"\x08\x07", "holds no graph"),
    ],
)
def test_foreign_files_are_named(tmp_path, data, word):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=word) as e:
        import_onnx(path)
    assert "m.onnx" in str(e.value)


def test_missing_file():
    with pytest.raises(FormatError, match="cannot read"):
        import_onnx("/nonexistent/m.onnx")


def test_every_truncation_is_an_error(big):
    data = big.SerializeToString()
    for n in [1, 2, 5, 20, 100, 5000, len(data) // 2, len(data) - 1]:
        with pytest.raises(FormatError):
            import_onnx(data[:n])
    with pytest.raises(FormatError, match=f"truncated: it ends at byte {len(data) // 2}"):
        import_onnx(data[: len(data) // 2])


def test_flipped_bytes_never_escape_our_errors(big):
    data = bytearray(big.SerializeToString())
    rng = np.random.default_rng(0)
    for _ in range(300):
        i = int(rng.integers(0, 200))
        damaged = bytearray(data)
        damaged[i] ^= 1 << int(rng.integers(0, 8))
        try:
            import_onnx(bytes(damaged))
        except DeploykitError:
            pass


def test_large_weights_stay_in_the_mapped_file(tmp_path, big):
    path = tmp_path / "m.onnx"
    onnx.save(big, path)
    parsed, weights = read_model(path)
    assert parsed.ByteSize() < 1000
    w = weights.array(parsed.graph.initializer[0])
    assert np.shares_memory(w, weights.data) and not w.flags.writeable
    np.testing.assert_array_equal(w, np.arange(4096, dtype=np.float32))


def test_large_constants_of_nodes_stay_in_the_file(tmp_path):
    value = numpy_helper.from_array(np.arange(8192, dtype=np.int64).reshape(64, 128), "value")
    m = model([helper.make_node("Constant", [], ["y"], value=value)], [], [tensor("y", [64, 128], TensorProto.INT64)])
    onnx.save(m, tmp_path / "m.onnx")
    parsed, weights = read_model(tmp_path / "m.onnx")
    t = parsed.graph.node[0].attribute[0].t
    assert np.shares_memory(weights.array(t), weights.data)
    np.testing.assert_array_equal(weights.array(t), numpy_helper.to_array(value))


def test_external_data(tmp_path, big):
    onnx.save(big, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    g = import_onnx(tmp_path / "m.onnx")
    (w,) = g.constants()
    np.testing.assert_array_equal(w.data, np.arange(4096, dtype=np.float32))
    (tmp_path / "m.bin").write_bytes(b"short")
    with pytest.raises(FormatError, match="has only 5"):
        import_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.bin").unlink()
    with pytest.raises(FormatError, match="'m.bin', which cannot be read"):
        import_onnx(tmp_path / "m.onnx")
    with pytest.raises(FormatError, match="given as bytes"):
        import_onnx((tmp_path / "m.onnx").read_bytes())


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", ""])
def test_external_data_stays_in_the_folder(tmp_path, big, location):
    (tmp_path / "secret").write_bytes(bytes(4096 * 4))
    (tmp_path / "sub").mkdir()
    w = big.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    w.external_data.add(key="location", value=location)
    (tmp_path / "sub" / "m.onnx").write_bytes(big.SerializeToString())
    with pytest.raises(FormatError, match="refused"):
        import_onnx(tmp_path / "sub" / "m.onnx")


def test_a_link_out_of_the_folder_is_refused(tmp_path, big):
    (tmp_path / "secret").write_bytes(bytes(4096 * 4))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w").symlink_to(tmp_path / "secret")
    w = big.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    w.external_data.add(key="location", value="w")
    (tmp_path / "sub" / "m.onnx").write_bytes(big.SerializeToString())
    with pytest.raises(FormatError, match="refused"):
        import_onnx(tmp_path / "sub" / "m.onnx")


def test_weight_of_wrong_size(big):
    big.graph.initializer[0].raw_data = bytes(10)
    with pytest.raises(FormatError, match="'w' of 4096 float32 needs 16384 bytes; the file gives 10"):
        import_onnx(big)


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2", "float4_e2m1fn"])
def test_unpack_agrees_with_onnx(name):
    dtype = BY_NAME[name]
    values = np.arange(1 << dtype.bits, dtype=np.uint8)
    values = (values ^ (1 << dtype.bits - 1)).astype(np.int16) - (1 << dtype.bits - 1) if dtype.kind == "i" else values
    want = values.astype(np.uint8).view(dtype.np) if dtype.kind == "f" else values.astype(dtype.np)
    want = want[:-1]  # an odd count leaves half a byte
    t = numpy_helper.from_array(want, "w")
    got = unpack(np.frombuffer(t.raw_data, np.uint8), len(want), dtype)
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))


def test_all_problems_come_at_once():
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["a"], name="first"),
        helper.make_node("Fancy", ["x"], ["b"], name="second", domain="com.example"),
        helper.make_node("Fancy", ["b"], ["c"], name="third", domain="com.example"),
        helper.make_node("Nonsense", ["c"], ["y"], name="fourth"),
    ]
    m = model(nodes, [tensor("x", [2])], [tensor("y", [2])])
    m.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedError) as e:
        import_onnx(m)
    assert len(e.value.problems) == 3
    text = str(e.value)
    assert "3 problems" in text and "com.example::Fancy" in text and "2 nodes 'second', 'third'" in text
    assert "'first'" in text and "opset 17 has no such op" in text


def test_unsupported_ops_inside_bodies_are_found():
    body = helper.make_graph(
        [helper.make_node("Fancy", ["x"], ["y1"], name="hidden", domain="com.example")], "b", [], [tensor("y1", [2])]
    )
    m = model(
        [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body, name="branch")],
        [tensor("c", [], TensorProto.BOOL), tensor("x", [2])],
        [tensor("y", [2])],
    )
    with pytest.raises(UnsupportedError, match="does not import an operator set of domain 'com.example'") as e:
        import_onnx(m)
    assert "'hidden'" in str(e.value)


def test_versions():
    node = helper.make_node("Relu", ["x"], ["y"])
    old = helper.make_node("Concat", ["x", "x"], ["y"])  # the axis was 1 when not given
    assert import_onnx(model([old], [tensor("x", [2, 3])], [tensor("y", [2, 6])], opset=3)).outputs[0].shape == (2, 6)
    m = model([old], [tensor("x", [2, 3])], [tensor("y", [2, 3])], opset=3)
    m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))  # onnx converts old models of one domain only
    with pytest.raises(UnsupportedError, match="Concat: its form of opset 3 is not supported; the oldest understood"):
        import_onnx(m)
    m = model([node], [tensor("x", [2])], [tensor("y", [2])])
    m.opset_import[0].version = 1000
    with pytest.raises(UnsupportedError, match="Upgrade it"):
        import_onnx(m)
    del m.opset_import[:]
    with pytest.raises(FormatError, match="which opset"):
        import_onnx(m)


def test_undefined_values_and_outputs():
    node = helper.make_node("Relu", ["nowhere"], ["y"], name="r")
    with pytest.raises(FormatError, match="node 'r' .Relu. reads 'nowhere'"):
        import_onnx(model([node], [tensor("x", [2])], [tensor("y", [2])]))
    node = helper.make_node("Relu", ["x"], ["y"], name="r")
    with pytest.raises(FormatError, match="computes its output 'z'"):
        import_onnx(model([node], [tensor("x", [2])], [tensor("z", [2])]))


def test_shape_errors_name_the_node():
    node = helper.make_node("Add", ["x", "z"], ["y"], name="plus")
    with pytest.raises(ShapeError, match="plus"):
        import_onnx(model([node], [tensor("x", [2]), tensor("z", [3])], [tensor("y", [2])]))


def test_input_shapes():
    node = helper.make_node("Relu", ["x"], ["y"])
    m = model([node], [tensor("x", ["n", 3])], [tensor("y", None)])
    g = import_onnx(m, input_shapes={"x": ["batch", 3]})
    assert str(g.inputs[0].shape[0]) == "batch" and g.outputs[0].shape == g.inputs[0].shape
    assert import_onnx(m, input_shapes={"x": [5, 3]}).outputs[0].shape == (5, 3)
    with pytest.raises(InputError, match="no input 'z'; it has 'x'"):
        import_onnx(m, input_shapes={"z": [1]})
    with pytest.raises(InputError, match="'x' has 2 dims; got 3"):
        import_onnx(m, input_shapes={"x": [1, 2, 3]})

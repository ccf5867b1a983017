"""The Swift class of a model, over its C header."""

from __future__ import annotations

import json

from deploykit import bindings
from deploykit.bindings import Interface
from deploykit.bundle import header, java

_SWIFT = {
    "float32": "Float", "float64": "Double", "float16": "UInt16", "bfloat16": "UInt16", "bool": "UInt8",
    **{f"{u}int{b}": f"{'U' if u else ''}Int{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip


def generate(m: Interface) -> str:
    """The text of ``<Class>.swift``."""
    cls, n, (args, dims) = java.class_name(m), m.name, java.arguments(m)
    ids, outs = header.names(m)
    field = {s: bindings.identifier(f"dim_{s}", set(ids)) for s in dims}
    sign = ", ".join(
        [f"{a}: [{_SWIFT[s.dtype]}]" for a, s in zip(args, m.inputs, strict=True)]
        + [f"{d}: Int64" for d in dims.values()]
    )
    fields = [
        line
        for o, s in zip(outs, m.outputs, strict=True)
        for line in (
            f"        /// {bindings.comment(s)}",
            f"        public let {o}: [{_SWIFT[s.dtype]}]",
            f"        public let {o}Shape: [Int64]",
        )
    ]
    body = ["        var inputs = " + f"{n}_inputs()"]
    body += [f"        inputs.{field[s]} = {d}" for s, d in dims.items()]
    for a, i, s in zip(args, ids, m.inputs, strict=True):
        size = " * ".join(f"({bindings.expression(d, lambda x: dims[x])})" for d in s.shape or ()) or "1"
        body += [
            f"        let {i}Data = try Self.copy({a}, Int({size}), {json.dumps(s.name, ensure_ascii=False)})",
            f"        defer {{ {i}Data.deallocate() }}",
            f"        inputs.{i} = UnsafePointer({i}Data)",
        ]
    made = ", ".join(f"{o}: {o}, {o}Shape: {o}Shape" for o in outs)
    results: list[str] = []
    for o in outs:
        results += [
            f"        let {o}Shape = Array(UnsafeBufferPointer(start: outputs.{o}_dims, count: Int(outputs.{o}_rank)))",
            f"        let {o} = Array(UnsafeBufferPointer(start: outputs.{o}, count: Int({o}Shape.reduce(1, *))))",
        ]
    labels = ", ".join(json.dumps(x, ensure_ascii=False) for x in m.labels)
    return "\n".join(
        [
            f"// Written by `deploykit bundle` for the model '{m.name}'.",
            "import Foundation",
            f"import {cls}Engine",
            "",
            "/// An error of the engine; its text starts with a code (DK-...).",
            "public struct DeploykitError: Error, CustomStringConvertible {",
            "    public let description: String",
            "",
            "    init(description: String) {",
            "        self.description = description",
            "    }",
            "",
            "    init(_ status: dk_status, _ text: UnsafePointer<CChar>) {",
            '        description = String(cString: dk_status_name(status)) + ": " + String(cString: text)',
            "    }",
            "}",
            "",
            f"/// The model '{m.name}'. One thread at a time; for more, one object per thread.",
            f"public final class {cls} {{",
            f"    public static let labels: [String] = [{labels}]",
            "",
            "    /// What a run gives.",
            "    public struct Outputs {",
            *fields,
            "    }",
            "",
            f"    private var model = {n}()",
            "",
            "    /// The model of this package, or a file; threads: 0 for all CPUs.",
            "    public init(path: String? = nil, threads: Int32 = 0) throws {",
            f'        guard let file = path ?? Bundle.module.path(forResource: "{n}", ofType: "dk") else {{',
            f'            throw DeploykitError(description: "DK-IO: {n}.dk is not in the bundle")',
            "        }",
            f"        let status = {n}_open(&model, file, threads)",
            "        if status != 0 {",
            "            throw DeploykitError(status, dk_last_error())",
            "        }",
            "    }",
            "",
            "    deinit {",
            f"        {n}_close(&model)",
            "    }",
            "",
            "    /// Run once.",
            f"    public func run({sign}) throws -> Outputs {{",
            *body,
            f"        var outputs = {n}_outputs()",
            f"        let status = {n}_run(model.session, &inputs, &outputs)",
            "        if status != 0 {",
            "            throw DeploykitError(status, dk_session_error(model.session))",
            "        }",
            *results,
            f"        return Outputs({made})",
            "    }",
            "",
            "    /// The numbers, with the bytes behind them that kernels may read.",
            "    private static func copy<T>(_ values: [T], _ want: Int, _ name: String) throws -> UnsafeMutablePointer<T> {",
            "        guard values.count == want else {",
            "            let text = \"DK-INPUT: input '\\(name)': got \\(values.count) elements, expected \\(want)\"",
            "            throw DeploykitError(description: text)",
            "        }",
            "        let data = UnsafeMutablePointer<T>.allocate(capacity: want + 64)",
            "        data.initialize(from: values, count: want)",
            "        return data",
            "    }",
            "}",
            "",
        ]
    )

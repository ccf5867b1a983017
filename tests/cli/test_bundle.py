"""Bundles: what is written compiles, runs on this machine and on 64-bit Arm, and gives the library's answers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import deploykit as dk
from deploykit.bundle import compiler, engine, folder
from deploykit.cli import cli
from deploykit.errors import DeploykitError, InputError, UnsupportedError
from deploykit.graph.dkfile import save
from deploykit.ops.builder import GraphBuilder

ROOT = Path(__file__).resolve().parents[2]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]


def need(*programs: str) -> None:
    """Skip where a program is missing, except in CI."""
    for p in programs:
        if (importlib.util.find_spec(p) if p == "ziglang" else shutil.which(p)) is None:
            assert not os.environ.get("CI"), f"CI needs {p}"
            pytest.skip(f"{p} is not installed")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float branch with convolutions and one in integers, whose bits are the same everywhere."""
    rng = np.random.default_rng(3)
    b = GraphBuilder()
    y = b.input("image", "float32", (1, 15, 13, 3))
    y = b.op(
        "conv", y, b.constant(rng.standard_normal((24, 3, 3, 3)).astype(np.float32)), strides=(2, 2), pads=(1,) * 4
    )
    y = b.op("relu", y)
    y = b.op("conv", y, b.constant(rng.standard_normal((24, 3, 3, 1)).astype(np.float32)), groups=24, pads=(1,) * 4)
    y = b.op("reduce_mean", y, b.constant(np.array([1, 2])))
    y = b.op("matmul", y, b.constant(rng.standard_normal((24, 10)).astype(np.float32)))
    b.output(b.op("softmax", y, axis=-1), "probabilities")
    codes = b.input("codes/in", "uint8", (5, 37))
    graph = b.output(b.op("matmul_integer", codes, b.constant(rng.integers(-9, 9, (37, 3)).astype(np.int8))), "sums")
    graph.metadata["labels"] = ["cat", "dog"]
    path = tmp_path_factory.mktemp("bundle") / "small-net.dk"
    save(graph, path)
    return path


@pytest.fixture(scope="module")
def feeds(model: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    image = rng.standard_normal((1, 15, 13, 3)).astype(np.float32)
    feeds = {"image": image, "codes/in": rng.integers(0, 255, (5, 37)).astype(np.uint8)}
    for k, v in feeds.items():
        (model.parent / f"{k[:5]}.bin").write_bytes(v.tobytes())
    return feeds


def fnv(data: bytes) -> str:
    h = 14695981039346656037
    for byte in data:
        h = (h ^ byte) * 1099511628211 % 2**64
    return f"{h:016x}"


def answers(out: str) -> dict[str, tuple[str, list[float]]]:
    """Digest and first numbers by output, from what the example prints."""
    rows = re.findall(r"^(\S+) \[[\d, ]*\] (\w{16}):(.*)$", out, re.M)
    return {name: (digest, [float(x) for x in numbers.split()]) for name, digest, numbers in rows}


@pytest.fixture(scope="module")
def here(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle for this machine, written by the command."""
    need("g++", "ar")
    out = tmp_path_factory.mktemp("c") / "out"
    done = CliRunner().invoke(cli, ["bundle", str(model), "--target", "c", "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    info = json.loads(done.output)
    assert info["library"] == "lib/host/libdeploykit.a" and info["name"] == "small_net"
    return out


def check_answers(program: list[str | Path], model: Path, feeds: dict[str, np.ndarray], same_cpu: bool) -> None:
    got = answers(run(*program, model, model.parent / "image.bin", model.parent / "codes.bin"))
    want = dk.Interpreter(model).run(feeds)
    assert got["sums"][0] == fnv(want["sums"].tobytes())
    if same_cpu:
        assert got["probabilities"][0] == fnv(want["probabilities"].tobytes())
    np.testing.assert_allclose(got["probabilities"][1], want["probabilities"].ravel()[:8], rtol=1e-5)


def test_example_of_this_machine(here: Path, model: Path, feeds: dict[str, np.ndarray], tmp_path: Path) -> None:
    """By the C compiler alone: no C++ runtime library."""
    program = tmp_path / "example"
    links = [here / "lib/host/libdeploykit.a", "-Wl,--gc-sections", "-lpthread", "-lm"]
    run("gcc", *STRICT, here / "example.c", *links, "-o", program)
    check_answers([program], model, feeds, same_cpu=True)
    missing = subprocess.run([program, tmp_path / "none.dk"], capture_output=True, text=True)
    assert missing.returncode == 1 and "none.dk" in missing.stderr


def test_cmake(here: Path, model: Path, feeds: dict[str, np.ndarray], tmp_path: Path) -> None:
    need("cmake")
    run("cmake", "-S", here, "-B", tmp_path)
    run("cmake", "--build", tmp_path)
    check_answers([tmp_path / "small_net_example"], model, feeds, same_cpu=True)


def test_header_has_sizes_and_labels(here: Path, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(
        '#include "small_net.h"\n'
        '_Static_assert(SMALL_NET_IMAGE_SIZE == 585 && SMALL_NET_IMAGE_DIM_1 == 15 && SMALL_NET_SUMS_SIZE == 15, "sizes");\n'
        "int main(void) { return small_net_labels[1][0] != 'd'; }\n"
    )
    run("gcc", "-std=c11", "-Wall", "-Werror", f"-I{here}", "-c", tmp_path / "a.c", "-o", tmp_path / "a.o")


def test_the_library_holds_what_the_model_needs(here: Path) -> None:
    """Bytes by op add up, and none of an op that is not in the model."""
    info = json.loads((here / "bundle.json").read_text())
    cost = info["bytes_by_op"]
    assert set(cost) == set(info["ops"]) | {"engine", "shared"}
    assert all(n > 0 for n in cost.values()), cost
    assert sum(cost.values()) < info["files"]["lib/host/libdeploykit.a"]
    assert sum(cost.values()) < 900_000  # all ops: 2.1 MB
    symbols = run("nm", here / "lib/host/libdeploykit.a")
    assert "matmul" in symbols and "deform_conv" not in symbols and "winograd" in symbols


def test_arm(model: Path, feeds: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The library by zig; the example runs under emulation, with and without the newer instructions."""
    need("ziglang", "qemu-aarch64-static")
    b = folder.build(model, tmp_path / "out", "linux-arm64", libc="musl")
    assert b.library is not None and b.compiler == "zig"
    zig = compiler.zig("aarch64-linux-musl")
    assert zig is not None
    program = tmp_path / "example"
    run(*zig.cc, *STRICT, "-static", tmp_path / "out/example.c", tmp_path / "out" / b.library, "-o", program)
    for cpu in ("cortex-a53", "max"):
        check_answers(["qemu-aarch64-static", "-cpu", cpu, program], model, feeds, same_cpu=False)


JAVA = """
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;
import org.example.nets.SmallNet;

public class Call {
    static String error(Runnable r) {
        try {
            r.run();
        } catch (RuntimeException e) {
            return e.getClass().getSimpleName() + " " + e.getMessage();
        }
        return "none";
    }

    public static void main(String[] args) throws Exception {
        byte[] raw = Files.readAllBytes(Paths.get(args[1]));
        float[] image = new float[SmallNet.IMAGE_SIZE];
        ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(image);
        byte[] codes = Files.readAllBytes(Paths.get(args[2]));
        byte[] model = Files.readAllBytes(Paths.get(args[0]));
        ByteBuffer direct = ByteBuffer.allocateDirect(model.length);
        direct.put(model);
        for (int i = 0; i < 2000; ++i) {  // no growth, no crash
            SmallNet n = i % 2 == 0 ? new SmallNet(args[0], 1) : new SmallNet(direct, 1);
            n.close();
        }
        try (SmallNet net = new SmallNet(direct, 2)) {
            SmallNet.Outputs y = null;
            for (int i = 0; i < 100; ++i) y = net.run(image, codes);
            for (float p : y.probabilities) System.out.print(Integer.toHexString(Float.floatToIntBits(p)) + " ");
            System.out.println(y.sums[14] + " " + y.sumsShape[0] + "x" + y.sumsShape[1] + " " + SmallNet.LABELS[1]);
            System.out.println(error(() -> net.run(new float[3], codes)));
            System.out.println(error(() -> net.run(image, null)));
            net.close();
            System.out.println(error(() -> net.run(image, codes)));
        }
        System.out.println(error(() -> new SmallNet("none.dk", 1)));
        System.out.println(error(() -> new SmallNet(ByteBuffer.allocateDirect(100), 1)));
        System.out.println(error(() -> new SmallNet(ByteBuffer.wrap(model), 1)));
        System.out.println(error(() -> new SmallNet(args[3], 1)));
    }
}
"""


def test_android_in_a_jvm(model: Path, feeds: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The module's C code built by its own CMake file, its class called from Java."""
    need("g++", "cmake", "javac", "java")
    out = tmp_path / "module"
    b = folder.build(model, out, "android", package="org.example.nets")
    assert b.library is None and "src/main/assets/small_net.dk" in b.files
    source = (out / "src/main/cpp/deploykit.cc").read_text()
    assert "#define DK_OP_conv\n" in source and "minSdk = 21" in (out / "build.gradle.kts").read_text()
    jdk = Path(shutil.which("javac") or "").resolve().parents[1]
    run(
        "cmake",
        "-S",
        out / "src/main/cpp",
        "-B",
        tmp_path / "build",
        f"-DJAVA_HOME={jdk}",
        "-DCMAKE_C_FLAGS=-Wall -Werror",
    )
    run("cmake", "--build", tmp_path / "build")
    exported = run("nm", "-D", "--defined-only", tmp_path / "build/libsmall_net.so")
    assert "Java_org_example_nets_SmallNet_run0" in exported and " dk_" not in exported
    (tmp_path / "Call.java").write_text(JAVA)
    classes = [out / "src/main/java/org/example/nets/SmallNet.java", tmp_path / "Call.java"]
    run("javac", "-encoding", "UTF-8", "-Xlint:all,-try", "-Werror", "-d", tmp_path / "classes", *classes)
    other = tmp_path / "other.dk"
    g = GraphBuilder()
    save(g.output(g.op("relu", g.input("x", "float32", (2,))), "y"), other)
    call = ["java", "-Xcheck:jni", f"-Djava.library.path={tmp_path / 'build'}", "-cp", tmp_path / "classes", "Call"]
    text = run(*call, model, model.parent / "image.bin", model.parent / "codes.bin", other)
    assert "WARNING" not in text and "FATAL" not in text, text
    want = dk.Interpreter(model).run(feeds)
    numbers = " ".join(f"{x:x}" for x in want["probabilities"].ravel().view(np.uint32))
    lines = text.splitlines()
    assert lines[0] == f"{numbers} {want['sums'].ravel()[14]} 5x3 dog"
    assert lines[1] == "IllegalArgumentException DK-INPUT: input 'image': got 3 elements, expected 585"
    assert lines[2] == "IllegalArgumentException DK-INPUT: input 'codes/in': got -1 elements, expected 185"
    assert lines[3] == "IllegalStateException DK-INPUT: the model is closed"
    assert lines[4].startswith("IllegalStateException DK-IO: none.dk")
    assert (
        lines[5].startswith("IllegalStateException DK-FORMAT")
        and "not direct" in lines[6]
        and "another model" in lines[7]
    )


def test_ios_objects(model: Path, tmp_path: Path) -> None:
    """Compiled for 64-bit Arm iOS by zig; nothing here runs it, nor compiles Swift."""
    need("ziglang")
    b = folder.build(model, tmp_path / "out", "ios")
    assert b.library == "lib/ios-arm64/libdeploykit.a"
    data = (tmp_path / "out" / b.library).read_bytes()
    at = data.index(b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01")  # Mach-O, 64-bit Arm
    assert b"_dk_session_run\0" in data[at:]
    build_version = data.index(b"\x32\x00\x00\x00\x18\x00\x00\x00", at)  # LC_BUILD_VERSION
    assert data[build_version + 8] == 2  # iOS
    swift = (tmp_path / "out/Sources/SmallNet/SmallNet.swift").read_text()
    assert "public func run(image: [Float], codes_in: [UInt8]) throws -> Outputs" in swift
    assert swift.count("{") == swift.count("}") and swift.count("(") == swift.count(")")
    assert '.copy("small_net.dk")' in (tmp_path / "out/Package.swift").read_text()


def test_sources_only_needs_no_compiler(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "system", lambda: None)
    monkeypatch.setattr(compiler, "zig", lambda triple: None)
    for target in ("c", "linux-arm64", "ios"):
        with pytest.raises(UnsupportedError, match=r"pip install ziglang.*--sources"):
            folder.build(model, tmp_path / "out", target)
        assert not list(tmp_path.iterdir())
        b = folder.build(model, tmp_path / "out", target, sources_only=True)
        here = [f for f in b.files if f.endswith("deploykit.cc")]
        assert b.library is None and len(here) == 1
        if target != "ios":
            assert {"deploykit.cc", "deploykit.h", "example.c", "CMakeLists.txt"} <= set(b.files)
        text = (tmp_path / "out" / here[0]).read_text()
        assert "#define DK_CUT\n#define DK_OP_conv\n" in text and "#define DK_OP_add\n" not in text
        shutil.rmtree(tmp_path / "out")


def refuses(kind: type[DeploykitError], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_wrong_use(model: Path, tmp_path: Path) -> None:
    refuses(InputError, "toaster.*c, linux-arm64, android, ios", lambda: folder.build(model, tmp_path / "o", "toaster"))
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"x")
    refuses(InputError, "deploykit convert", lambda: folder.build(onnx, tmp_path / "o", "c"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("important")
    refuses(InputError, "holds other things", lambda: folder.build(model, mine, "c", sources_only=True))
    assert (mine / "thesis.txt").read_text() == "important"
    for name in ("Nets", "com.example", "com.Example.nets", "com.my_app.nets"):
        call = partial(folder.build, model, tmp_path / "o", "android", package=name)
        if name != "com.example":
            refuses(InputError, f"--package {name}", call)
    damaged = tmp_path / "damaged.dk"
    damaged.write_bytes(model.read_bytes()[:300])
    with pytest.raises(DeploykitError):
        folder.build(damaged, tmp_path / "o", "c", sources_only=True)
    assert not (tmp_path / "o").exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_training_signatures(tmp_path: Path) -> None:
    b = GraphBuilder()
    graph = b.output(b.op("relu", b.input("x", "float32", (2,))), "y")
    other = GraphBuilder()
    graph.signatures["train"] = other.output(other.op("exp", other.input("x", "float32", (2,))), "loss")
    path = tmp_path / "m.dk"
    save(graph, path)
    refuses(UnsupportedError, r"train.*--main-only", lambda: folder.build(path, tmp_path / "o", "c", sources_only=True))
    made = folder.build(path, tmp_path / "o", "c", sources_only=True, main_only=True)
    assert made.ops == ["relu"]
    assert not dk.load(tmp_path / "o" / "m.dk").signatures


def test_an_earlier_bundle_is_replaced(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder.build(model, out, "c", sources_only=True)
    (out / "leftover.o").write_text("")
    folder.build(model, out, "linux-arm64", sources_only=True)
    assert not (out / "leftover.o").exists()
    assert json.loads((out / "bundle.json").read_text())["target"] == "linux-arm64"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_wheel_holds_the_same_sources(tmp_path: Path) -> None:
    run(sys.executable, ROOT / "runtime" / "amalgamate", "-o", tmp_path / "engine.zip")
    import zipfile

    with zipfile.ZipFile(tmp_path / "engine.zip") as z:
        assert {n: z.read(n).decode() for n in z.namelist()} == engine.sources()
    assert (tmp_path / "engine.zip").stat().st_size < 200_000

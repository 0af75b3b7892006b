"""The files of data sets: many arrays in one zip, sounds and pictures in it without loss.

``numpy.load`` opens such a file. Most members are arrays (.npy). Sounds are FLAC, a third smaller
than what deflate makes of them, and pictures are one large lossless WebP, in rows of equally many;
both come back bit by bit, and a member taken out of the zip is heard or seen with any program.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping

import numpy as np

LESS = "_less_audio"  # of a sound of which what differs from some rows of "audio" is kept
# What reading a file can raise that is none.
ERRORS = (KeyError, ValueError, OSError, RuntimeError, zipfile.BadZipFile)


def pack(
    arrays: Mapping[str, np.ndarray], pictures: Collection[str] = (), rate: int = 8000
) -> bytes:
    """The bytes of a file; the same every time, by the same zlib, libFLAC and libwebp.

    int16 arrays (N, L) are sounds. If the array ``NAME_rows`` is there, too, the sound NAME is kept
    as its difference from these rows of ``audio``, modulo 2**16: where it is the same nothing is
    kept. pictures: names of uint8 arrays (N, H, W) or (N, H, W, 3) to keep as pictures. rate:
    samples in a second, for who listens to a member. Raises ValueError for pictures of other
    dtypes or shapes.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, array in arrays.items():
            if name in pictures:
                member, content = f"{name}.webp", _webp(name, array)
            elif array.dtype == np.int16 and array.ndim == 2:
                rows = arrays.get(f"{name}_rows")
                less = "" if rows is None else LESS
                if rows is not None:
                    array = array - arrays["audio"][rows]
                member, content = f"{name}{less}.flac", _flac(array, rate)
            else:
                member, content = f"{name}.npy", _npy(array)
            info = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            z.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    return out.getvalue()


def unpack(content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a file that ``pack`` made; shapes: which, and their shapes, "audio" before
    what is kept as a difference from it.

    Raises one of ``ERRORS`` if a member is missing, damaged or of another shape, and OSError that
    says so where Pillow was built without WebP.
    """
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as z:
        members = set(z.namelist())
        for name, shape in shapes.items():
            if f"{name}.webp" in members:
                found[name] = _pictures(z.read(f"{name}.webp"), shape)
            elif f"{name}.flac" in members:
                found[name] = _sounds(z.read(f"{name}.flac"), shape)
            elif f"{name}{LESS}.flac" in members:
                less = _sounds(z.read(f"{name}{LESS}.flac"), shape)
                found[name] = less + found["audio"][_array(z, f"{name}_rows")]
            else:
                found[name] = _array(z, name)
    return found


def _array(z: zipfile.ZipFile, name: str) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(z.read(f"{name}.npy")), allow_pickle=False)


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), version=(1, 0))
    return out.getvalue()


def _flac(audio: np.ndarray, rate: int) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(
        out, audio.reshape(-1), rate, format="FLAC", subtype="PCM_16", compression_level=1.0
    )
    return out.getvalue()


def _sounds(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    import soundfile

    return soundfile.read(io.BytesIO(content), dtype="int16")[0].reshape(shape)


def _webp(name: str, images: np.ndarray) -> bytes:
    from PIL import Image

    if images.dtype != np.uint8 or not (images.ndim == 3 or images.shape[3:] == (3,)):
        raise ValueError(
            f"{name} is {images.dtype} {images.shape}; pictures are uint8 (N, H, W) or (N, H, W, 3)"
        )
    n, _, width = images.shape[:3]
    side = math.isqrt(n - 1) + 1
    sheet = np.zeros((-(-n // side) * side, *images.shape[1:]), np.uint8)
    sheet[:n] = images
    sheet = sheet.reshape(-1, side, *images.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(-1, side * width, *images.shape[3:])
    out = io.BytesIO()
    Image.fromarray(sheet).convert("RGB").save(out, "WEBP", lossless=True, method=6, quality=100)
    return out.getvalue()


def _pictures(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image, features

    if not features.check("webp"):
        raise OSError(
            "this Pillow was built without WebP: bring in the usual one with "
            "pip install --force-reinstall --only-binary :all: pillow"
        )
    n, height, width = shape[:3]
    with Image.open(io.BytesIO(content)) as image:
        sheet = np.asarray(image.convert("RGB"))
    if len(shape) == 3:
        sheet = sheet[..., :1]
    down, across = sheet.shape[0] // height, sheet.shape[1] // width
    tiles = sheet.reshape(down, height, across, width, -1).swapaxes(1, 2)
    return tiles.reshape(down * across, height, width, -1)[:n].reshape(shape)

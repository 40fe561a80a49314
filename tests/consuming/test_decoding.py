"""One decoder for whatever reads images: what cameras, scanners and the web make, as Pillow does or refused."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from sklearn.datasets import load_sample_images

import hubkeras
from hubkeras.common.errors import Error
from hubkeras.consuming.decoding import decode_pixels

PHOTO = Image.fromarray(load_sample_images().images[1][100:250, 200:391])  # odd sides
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(pixels, colour_type):
    """A PNG of 16 bits, which Pillow writes for grey only."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels.reshape(height, -1))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def top_down(bmp):
    """The same BMP with its rows from above, said by a negative height."""
    start, width, height, bits = (struct.unpack_from("<i", bmp, at)[0] for at in (10, 18, 22, 26))
    row = -(-width * (bits >> 16) // 32) * 4
    rows = [bmp[start + number * row :][:row] for number in range(height)]
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:start] + b"".join(reversed(rows))


GREY, PALETTE = PHOTO.convert("L"), PHOTO.quantize(37)
ALPHA = PHOTO.convert("RGBA")
ALPHA.putalpha(GREY)
FILES = {
    "jpeg": encoded(PHOTO, "JPEG"),
    "jpeg, best": encoded(PHOTO, "JPEG", quality=98, subsampling=0),
    "jpeg, 4:1:1 and progressive": encoded(PHOTO, "JPEG", progressive=True, subsampling=2, quality=40),
    "jpeg, grey": encoded(GREY, "JPEG"),
    "jpeg, CMYK": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "png": encoded(PHOTO, "PNG"),
    "png, palette": encoded(PALETTE, "PNG"),
    "png, palette with alpha": encoded(PALETTE, "PNG", transparency=bytes(range(37))),
    "png, 2 bits": encoded(PHOTO.quantize(4), "PNG", bits=2),
    "png, 1 bit": encoded(PHOTO.convert("1"), "PNG"),
    "png, grey": encoded(GREY, "PNG"),
    "png, grey with alpha": encoded(ALPHA.convert("LA"), "PNG"),
    "png, alpha": encoded(ALPHA, "PNG"),
    "gif": encoded(PALETTE, "GIF"),
    "gif, animated": encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
    "gif, transparent": encoded(PALETTE, "GIF", transparency=3),
    "webp": encoded(PHOTO, "WEBP"),
    "webp, exact with alpha": encoded(ALPHA, "WEBP", lossless=True, exact=True),
    "webp, animated": encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)]),
    "bmp": encoded(PHOTO, "BMP"),
    "bmp, palette": encoded(PALETTE, "BMP"),
    "bmp, 1 bit": encoded(PHOTO.convert("1"), "BMP"),
    "bmp, grey": encoded(GREY, "BMP"),
    "bmp, 32 bits": encoded(ALPHA, "BMP"),
    "tiff": encoded(PHOTO, "TIFF"),
    "tiff, LZW": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "tiff, JPEG": encoded(PHOTO, "TIFF", compression="jpeg"),
    "tiff, palette": encoded(PALETTE, "TIFF"),
    "tiff, fax": encoded(PHOTO.convert("1"), "TIFF", compression="group4"),
    "tiff, CMYK": encoded(PHOTO.convert("CMYK"), "TIFF"),
    "tiff, pages": encoded(PHOTO, "TIFF", save_all=True, append_images=[PHOTO.rotate(180)]),
}
FILES |= {f"{name}, top-down": top_down(FILES[name]) for name in ("bmp", "bmp, palette", "bmp, 32 bits")}


@pytest.mark.parametrize("name", FILES)
def test_as_pillow_reads_it(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode_pixels(FILES[name])
    expected = Image.open(io.BytesIO(FILES[name]))
    expected.info.pop("transparency", None)  # alpha is dropped
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(expected.convert("RGB")))
    assert "top-down" not in name or np.array_equal(pixels, decode_pixels(FILES[name.removesuffix(", top-down")]))


def test_run_length_encoded_bmp():
    rows = b"\x03\x01\x00\x00" + b"\x00\x03\x02\x01\x02\x00\x00\x00" + b"\x00\x01"  # 1 1 1, then 2 1 2 above
    palette = bytes([0, 0, 0, 0, 30, 20, 10, 0, 60, 50, 40, 0])
    header = struct.pack("<iiiHHIIiiII", 40, 3, 2, 1, 8, 1, len(rows), 0, 0, 3, 0)
    start = 14 + len(header) + len(palette)
    bmp = struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + palette + rows
    low, high = [10, 20, 30], [40, 50, 60]
    np.testing.assert_array_equal(decode_pixels(bmp), [[high, low, high], [low, low, low]])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_by_the_upper_byte(channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (9, 7, channels))
    upper = (pixels >> 8).astype(np.uint8)[..., : 3 if channels > 2 else 1]
    found = decode_pixels(png16(pixels, {1: 0, 2: 4, 3: 2, 4: 6}[channels]))
    np.testing.assert_array_equal(found, np.broadcast_to(upper, found.shape))
    if channels == 1:
        for kind in ("PNG", "TIFF"):
            grey = encoded(Image.fromarray(pixels[..., 0].astype(np.uint16)), kind)
            np.testing.assert_array_equal(decode_pixels(grey)[..., 0], upper[..., 0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_upright(kind, turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(PHOTO, kind, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(encoded(PHOTO, kind, **options))))
    upright = Image.fromarray(stored)
    upright = upright.transpose(getattr(Image.Transpose, TURNS[turn])) if turn in TURNS else upright
    np.testing.assert_array_equal(decode_pixels(data), np.asarray(upright))
    np.testing.assert_array_equal(decode_pixels(data, upright=False), stored)
    (tmp_path / "photo").write_bytes(data)
    height, width = stored.shape[:2]
    loaded = hubkeras.load_image(tmp_path / "photo", (height, width), upright=False)
    np.testing.assert_allclose(loaded, stored / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x09\0\0\0\x63\0\0\0",
        b"\x00" * 40,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_malformed_exif_is_none(kind, exif):
    plain = decode_pixels(encoded(PHOTO, kind))
    np.testing.assert_array_equal(decode_pixels(encoded(PHOTO, kind, exif=exif)), plain)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "x is a HEIC photo: convert it to JPEG"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC photo"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avif", "AVIF image: convert"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isom", "a video"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "a document"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw photo"),
        (b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg xmlns="', "SVG drawing"),
        (b"<!DOCTYPE html><html>404", "web page: the download failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer: run `git lfs pull`"),
        (b"", "x is empty"),
        (b"not an image", "x is not an image that can be read; expected JPEG, PNG, GIF, BMP, WebP or TIFF"),
        (encoded(Image.new("F", (3, 3)), "TIFF"), "numbers for pixels"),
        (encoded(Image.new("RGB", (3, 3)), "TIFF", tiffinfo={254: 1}), "raw photo"),
    ],
)
def test_refused_by_name(data, message):
    with pytest.raises(Error, match=message):
        decode_pixels(data, "x")


@pytest.mark.parametrize("name", [name for name in FILES if "animated" not in name and "pages" not in name])
@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning", "ignore:Truncated:UserWarning")
def test_cut_short(name):
    """Pixels that are all there, or an error by name; what is missing is never grey."""
    whole = decode_pixels(FILES[name])
    for cut in (20, len(FILES[name]) // 2, len(FILES[name]) - 40):
        found = error = None
        try:
            found = decode_pixels(FILES[name][:cut], "photo")
        except Error as caught:
            error = str(caught)
        assert "photo is a damaged" in error if error else np.array_equal(found, whole)


def test_an_image_that_does_not_fit_is_known_by_its_header(monkeypatch):
    large = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    large[16:24] = struct.pack(">II", 22_000, 22_000)
    large[29:33] = struct.pack(">I", zlib.crc32(large[12:29]))
    with pytest.raises(Error, match="x has 22000 x 22000 pixels; at most 268,435,456 are read"):
        decode_pixels(bytes(large), "x")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(Error, match="x does not fit in memory"):
        decode_pixels(FILES["jpeg"], "x")


def test_few_bytes_that_take_minutes():
    """Scans of progressive JPEG, EXIF parts, chunks of PNG and comments of GIF; ordinary images have few of them."""
    image = Image.new("RGB", (2100, 2100))
    jpeg, png = encoded(image, "JPEG", progressive=True), encoded(Image.new("RGB", (8, 8)), "PNG")
    last = jpeg.rfind(b"\xff\xda")
    exif = b"\xff\xe1\0\x10Exif\0\0" + bytes(8)
    bombs = {
        "scans": jpeg[:last] + jpeg[last:-2] * 300 + b"\xff\xd9",
        "EXIF": jpeg[:2] + exif * 40 + jpeg[2:],
        "PNG": png[:33] + (struct.pack(">I", 3) + b"tEXtk\0v" + struct.pack(">I", zlib.crc32(b"tEXtk\0v"))) * 210_000,
        "GIF": b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + b"!\xfe\1a\0" * 110_000,
    }
    for what, data in bombs.items():
        with pytest.raises(Error, match=what):
            decode_pixels(data, "image")
    assert decode_pixels(jpeg).shape == (2100, 2100, 3)

"""What an audio file holds beside its sound, and whether all of its sound is there.

libsndfile decodes what it gets: of data that are cut short what is left, of several Ogg streams the
first, of an MP3 file without a Xing frame as much as mpg123 guesses from its first frames. So a file is
taken apart before: WAV (Microsoft's and IBM's "Multimedia Programming Interface and Data
Specifications 1.0", 1991; RF64 and BW64 after EBU Tech 3306 and ITU-R BS.2088), Ogg (RFC 3533), MP3
(ISO/IEC 11172-3 and 13818-3) and its tags (ID3, APE).
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from beatline.common.errors import UserError

WAV = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"BW64": "<"}  # and the order of their bytes
MAGIC = (*WAV, b"fLaC", b"OggS", b"ID3")  # of an MP3 file, if it has a tag

_PLACEHOLDER = 0x7FFF0000  # bytes, and more: of a WAV file that was streamed
_LARGEST = 0xFFFFFFFF  # bytes in a chunk; in RF64 it says that the size is in ds64
_LINEAR = (1, 3)  # codes of PCM and float
_COMPANDED = (6, 7)  # A-law and µ-law
_MS_ADPCM, _IMA_ADPCM = 2, 0x11
_MP3 = 0x55
_EXTENSIBLE = (b"\xfe\xff", b"\xff\xfe")  # in place of a code, in either order: it comes later
_SOMETHING = re.compile(rb"[^\0]")
_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_OGG_PAGE = struct.Struct("<4sxBqIIIB")  # capture, flags, granule, stream, number, CRC, segments
_FIRST, _LAST = 2, 4  # flags of a page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# kbit/s of MPEG-1 and of MPEG-2 and 2.5, layer III; Hz of MPEG-1, half in MPEG-2, a quarter in 2.5
_BITRATES = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES = (44100, 48000, 32000)
_NO_CRC = 1 << 16  # bit of a frame's header
_DELAY = 529  # samples by which an MP3 decoder is late
_EMPTY = 4608  # samples: whole frames of either MPEG, and whole windows (512) of a decoder


@dataclass(frozen=True)
class Stream:
    """A stream of a file, bare of all that is no sound.

    `frames`: how many it holds, if it is not libsndfile that knows. `filled`: whether what it makes of
    them beyond that number is the filling of a block.
    """

    content: bytes | memoryview
    frames: int | None = None
    filled: bool = False


def streams(content: bytes | memoryview, where: str) -> list[Stream]:
    """The streams that follow each other in a file.

    Raises UserError if it is no such file, cut short or damaged, or holds sound that would be lost.
    """
    content = _untagged(content, where)
    if content[:4] in WAV and content[8:12] == b"WAVE":
        return [_bare_wav(content, where)]
    if content[:4] == b"OggS":
        return [Stream(stream) for stream in _ogg_streams(memoryview(content), where)]
    if content[:4] == b"fLaC":
        return [Stream(content, _flac_samples(content, where))]
    return [Stream(_bare_mp3(content, where))]


def is_mp3(content: bytes) -> bool:
    """Whether a file without a tag begins with a frame of MP3."""
    return _mp3_frame(_word(content, 0)) is not None


def cut_short(where: str) -> UserError:
    return UserError(f"{where} is cut short: get it again, or remove it")


def damaged(where: str, what: str) -> UserError:
    return UserError(f"{where} is damaged ({what}): get it again, or remove it")


def _untagged(content: bytes | memoryview, where: str) -> bytes | memoryview:
    """A file less its ID3v2 tags: libsndfile looks for a WAV file's chunks as if none were there."""
    start = 0
    while content[start : start + 3] == b"ID3" and start + 10 <= len(content):
        size = 0
        for byte in content[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if content[start + 5] & 0x10 else 0)
        if start > len(content):
            raise cut_short(where)
    return content[start:] if start else content


# ---------------------------------------------------------------- WAV


def _bare_wav(content: bytes | memoryview, where: str) -> Stream:
    """A WAV file of its format and its data alone, of which all are there.

    libsndfile refuses a file for chunks that say nothing about the sound. Programs that write to a pipe
    (sox, arecord, ffmpeg) leave a size near 2 or 4 GB where that of the data should stand, and one that
    was stopped leaves 0.
    """
    order = WAV[bytes(content[:4])]
    (whole,) = struct.unpack_from(f"{order}I", content, 4)
    position, most, large = 12, _PLACEHOLDER, _LARGEST
    form, data, frames = b"", None, None
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}4sI", content, position)
        start, left = position + 8, len(content) - position - 8
        if data is not None and not _named(content, position):
            break
        if data is not None and kind in (b"data", *MAGIC):
            raise UserError(
                f"{where} holds several sounds, of which the first alone would be read: export each "
                f"as an ordinary WAV file, or remove it"
            )
        if kind == b"ds64" and min(size, left) >= 16:
            whole, large = struct.unpack_from("<QQ", content, start)
            most = 1 << 62
        elif kind == b"fmt ":
            form = bytes(content[start : start + size])
        elif kind == b"fact" and min(size, left) >= 4:
            (frames,) = struct.unpack_from(f"{order}I", content, start)
        elif kind == b"data":
            frame = _frame_bytes(form, order, where)
            size = large if size == _LARGEST else size
            if size >= most or (not size and whole <= position):
                size = left - left % frame
            if size > left or size % frame:
                raise cut_short(where)
            data = content[start : start + size]
        position = start + size
        if size % 2 and (_named(content, position + 1) or not _named(content, position)):
            position += 1  # unless its writer has forgotten it
    if data is None:
        raise cut_short(where)
    if not _named(content, position) and _SOMETHING.search(content, position):
        raise damaged(where, f"{len(content) - position} bytes after its data that are no chunk")
    if _code(form, order) == _MP3:
        return Stream(_bare_mp3(data, where))
    if len(data) > _LARGEST:
        raise UserError(f"{where} holds more than 4 GB of sound: divide it, or remove it")
    head = struct.pack(f"{order}4sI", b"fmt ", len(form)) + form + bytes(len(form) % 2)
    head += struct.pack(f"{order}4sI", b"data", len(data))
    size = min(4 + len(head) + len(data), _LARGEST)
    start = struct.pack(f"{order}4sI4s", b"RIFX" if order == ">" else b"RIFF", size, b"WAVE")
    frames = _of_last_block(frames, form, order, len(data))
    return Stream(b"".join((start, head, data)), frames, filled=True)


def _named(content: bytes | memoryview, position: int) -> bool:
    """Whether a chunk can begin here: its name is four printable ASCII characters."""
    name = bytes(content[position : position + 4])
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _code(form: bytes, order: str) -> int:
    """What the samples are coded as."""
    (code,) = struct.unpack_from(f"{order}H", form, 24 if form[:2] in _EXTENSIBLE else 0)
    return code


def _frame_bytes(form: bytes, order: str, where: str) -> int:
    """Bytes of a frame, or of a block of ADPCM, of which data hold whole ones; 1 for other codings.

    libsndfile believes the bits of a sample where they contradict the bytes of a frame.
    """
    if len(form) < (26 if form[:2] in _EXTENSIBLE else 16):
        raise damaged(where, "no format before its data")
    code = _code(form, order)
    channels, frame, bits = struct.unpack_from(f"{order}H8xHH", form, 2)
    width = 1 if code in _COMPANDED else (bits + 7) // 8
    if code in (*_LINEAR, *_COMPANDED) and frame != channels * width:
        raise damaged(where, f"frames of {frame} bytes, {channels} channels of {bits} bits")
    return frame if frame and code in (*_LINEAR, *_COMPANDED, _MS_ADPCM, _IMA_ADPCM) else 1


def _of_last_block(frames: int | None, form: bytes, order: str, size: int) -> int | None:
    """`frames` of a fact chunk if they end in the last block of ADPCM data of `size` bytes. IMA's are not
    believed: libsndfile writes those of several channels divided by their number."""
    if frames is None or _code(form, order) != _MS_ADPCM or len(form) < 20:
        return None
    block, of_block = struct.unpack_from(f"{order}H4xH", form, 12)
    fits = block and 0 <= size // block * of_block - frames < of_block
    return frames if fits else None


# ---------------------------------------------------------------- FLAC


def _flac_samples(content: bytes | memoryview, where: str) -> int:
    """How many samples the frames of a FLAC file hold, from the first on without a gap (RFC 9639).

    libFLAC fills a gap with silence, and ends where STREAMINFO says so, whatever follows.
    """
    position, last = 4, False
    while not last and position + 4 <= len(content):
        last = bool(content[position] & 0x80)
        position += 4 + int.from_bytes(content[position + 1 : position + 4], "big")
    announced = int.from_bytes(content[21:26], "big") & 0xF_FFFF_FFFF
    number = samples = 0
    for sync in _FLAC_SYNC.finditer(content, position):
        header = bytes(content[sync.start() : sync.start() + 16]).ljust(20, b"\xff")
        block = _flac_block(header, samples if header[1] & 1 else number)
        number, samples = number + bool(block), samples + block
    if samples < announced:
        raise cut_short(where)
    if announced and samples > announced:
        raise damaged(where, f"{announced} samples announced, {samples} there")
    return samples


def _flac_block(header: bytes, number: int) -> int:
    """Samples of the frame with this header; 0 if it is none, or not the frame or sample `number`."""
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # bytes of its number, coded as in UTF-8; 0 for one
    length = max(ones, 1)
    coded = header[4] & 0x7F >> ones
    for byte in header[5 : 4 + length]:
        coded = coded << 6 | byte & 0x3F
    code, place = header[2] >> 4, 4 + length
    size = {6: 1, 7: 2}.get(code, 0)
    end = place + size + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if not code or coded != number or _crc8(header[:end]) != header[end]:
        return 0
    if size:
        return int.from_bytes(header[place : place + size], "big") + 1
    return 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 & 0xFF ^ (7 if crc & 0x80 else 0)
    return crc


# ---------------------------------------------------------------- Ogg


def _ogg_streams(content: memoryview, where: str) -> list[memoryview]:
    """The streams of an Ogg file, one after another, of which each page is there and undamaged:
    libogg leaves a damaged one out."""
    found: list[memoryview] = []
    position = start = 0
    awaited: tuple[int, int] | None = None  # stream and number of the next page
    while position < len(content):
        if content[position : position + 4] != b"OggS"[: len(content) - position]:
            raise damaged(where, f"something at byte {position} that is no Ogg page")
        if position + _OGG_PAGE.size > len(content):
            raise cut_short(where)
        _, flags, _, stream, number, check, segments = _OGG_PAGE.unpack_from(content, position)
        body = position + _OGG_PAGE.size
        end = body + segments + sum(content[body : body + segments])
        if end > len(content):
            raise cut_short(where)
        if _ogg_crc(content[position:end]) != check:
            raise damaged(where, f"the checksum of the Ogg page at byte {position}")
        if awaited and flags & _FIRST:
            raise UserError(
                f"{where} holds several Ogg streams at once, or one without its end: export its "
                f"sound alone, or remove it"
            )
        if not awaited and flags & _FIRST:
            start, awaited = position, (stream, number)
        if awaited != (stream, number):
            raise damaged(where, f"an Ogg page missing before byte {position}")
        awaited = (stream, number + 1)
        if flags & _LAST:
            found.append(content[start:end])
            awaited = None
        position = end
    if awaited:
        raise cut_short(where)
    return found


def _ogg_crc(page: memoryview) -> int:
    """The CRC-32 of a page, its own field taken as 0. It is zlib's with the bits of each byte, and of
    the result, in reverse, and without the complements before and after."""
    blank = b"".join((page[:22], bytes(4), page[26:]))
    crc = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


# ---------------------------------------------------------------- MP3


@dataclass(frozen=True)
class _Mp3Frame:
    """`coding`: what all frames of a file share. `length`: in bytes. `tag`: where a Xing frame has it."""

    header: int
    coding: tuple[int, int, bool]
    samples: int
    length: int
    tag: int


def _mp3_frame(header: int) -> _Mp3Frame | None:
    """A frame of layer III from its 32 bits of header; None if they are none."""
    version, layer = header >> 19 & 3, header >> 17 & 3  # 0: MPEG-2.5, 2: MPEG-2, 3: MPEG-1; 1: III
    bitrate, rate, stereo = header >> 12 & 15, header >> 10 & 3, header >> 6 & 3 != 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    later = version != 3
    hertz = _RATES[rate] >> (2, 0, 1, 0)[version]
    kilobits, samples = _BITRATES[later][bitrate - 1], 576 if later else 1152
    length = samples * 125 * kilobits // hertz + (header >> 9 & 1)
    side = ((17, 32), (9, 17))[later][stereo] + (0 if header & _NO_CRC else 2)
    return _Mp3Frame(header, (version, rate, stereo), samples, length, 4 + side)


def _bare_mp3(content: bytes | memoryview, where: str) -> bytes:
    """The frames of an MP3 file, which adjoin and are all there, after a Xing frame that counts them."""
    end = _before_tags(content)
    something = _SOMETHING.search(content, 0, end)
    position = something.start() if something else end
    first = _mp3_frame(_word(content, position))
    if first is None:
        raise UserError(
            f"{where} is no audio file that can be read (no WAV, FLAC, Ogg or MP3, or one of "
            f"free bitrate): convert it into one, or remove it"
        )
    start, number = position, 0
    while position < end:
        frame = _mp3_frame(_word(content, position))
        if frame is None or frame.coding != first.coding:
            break
        if position + frame.length > end:
            raise cut_short(where)
        if number and _is_xing(content, position, frame):
            raise UserError(
                f"{where} consists of several MP3 files, joined with what each says of itself: "
                f"export it as one, or remove it"
            )
        number += 1
        position += frame.length
    if _SOMETHING.search(content, position, end):
        raise damaged(where, f"something at byte {position} that is no MP3 frame of its kind")
    frames = bytes(content[start:position])
    counting = b""
    if _is_xing(frames, 0, first):
        number -= 1
        counting, frames = frames[: first.length], frames[first.length :]
    _check_main_data(frames, where)
    flags, announced = struct.unpack_from(
        ">II", counting.ljust(first.tag + 12, b"\0"), first.tag + 4
    )
    if not flags & 1:
        return _counted(first, number) + frames
    if announced != number:
        raise damaged(where, f"{announced} MP3 frames announced, {number} there")
    # mpg123 overlooks the tag behind a checksum, or anything but zeros.
    header = (first.header | _NO_CRC).to_bytes(4, "big")
    side = first.tag - 4 if first.header & _NO_CRC else first.tag - 6
    counting = (header + bytes(side) + counting[first.tag :]).ljust(first.length, b"\0")
    return counting + frames


def _check_main_data(frames: bytes, where: str) -> None:
    """Raise UserError unless the bits of each frame, which may begin in those before it, are all there
    and no other's: where a frame is gone, decoders make noise or nothing."""
    position = used = filled = 0  # bytes of main data: up to the end of a frame's own, and of all
    while position < len(frames):
        frame = _mp3_frame(_word(frames, position))
        assert frame is not None
        version, _, stereo = frame.coding
        size = ((17, 32), (9, 17))[version != 3][stereo]
        side = int.from_bytes(frames[position + frame.tag - size : position + frame.tag], "big")
        before, bits, parts = (9, 59, 2 << stereo) if version == 3 else (8, 63, 1 << stereo)
        start = filled - (side >> 8 * size - before)
        needed = sum(side >> bits * part + bits - 12 & 0xFFF for part in range(parts))
        filled += frame.length - frame.tag
        if start < used or start + (needed + 7) // 8 > filled:
            raise damaged(where, "parts of an MP3 frame are gone")
        used = start + (needed + 7) // 8
        position += frame.length


def _word(content: bytes | memoryview, position: int) -> int:
    return int.from_bytes(content[position : position + 4], "big")


def _is_xing(content: bytes | memoryview, position: int, frame: _Mp3Frame) -> bool:
    place = position + frame.tag
    return frame.length >= frame.tag + 12 and content[place : place + 4] in (b"Xing", b"Info")


def _counted(first: _Mp3Frame, number: int) -> bytes:
    """Frames to go before `number` others: a Xing frame that counts them, and empty ones, which its
    LAME tag has cut off, because mpg123 cuts off its delay in any case. With so many of them its
    samples are those of the others alone, bit for bit."""
    header = first.header & ~0xF200 | 9 << 12 | _NO_CRC  # of 80 or 128 kbit/s, unpadded, no CRC
    frame = _mp3_frame(header)
    assert frame is not None
    empty = header.to_bytes(4, "big") + bytes(frame.tag - 4)
    before = _EMPTY // frame.samples
    tag = struct.pack(">4sII", b"Xing", 1, number + before) + b"LAME".ljust(21, b"\0")
    tag += ((_EMPTY - _DELAY) << 12 | _DELAY).to_bytes(3, "big")
    return (empty + tag).ljust(frame.length, b"\0") + before * empty.ljust(frame.length, b"\0")


def _before_tags(content: bytes | memoryview) -> int:
    """Where the ID3v1 and APE tags at the end of a file begin."""
    end = len(content)
    if content[max(0, end - 128) :][:3] == b"TAG":
        end -= 128
    if end >= 32 and content[end - 32 : end - 24] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", content, end - 20)
        end -= size + (32 if flags >> 31 else 0)
    return max(end, 0)

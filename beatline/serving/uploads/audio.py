"""Audio files: WAV, FLAC, Ogg and MP3, read as the pipeline reads them."""

from __future__ import annotations

import io

import soundfile

from beatline.common.errors import UserError
from beatline.formats import audio
from beatline.serving.problems import malformed, shown, unfit, wording
from beatline.serving.recording import Recording
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, decoding

FULL_SCALE = "full scale"  # from -1 to 1
MAGIC = (b"RIFF", b"fLaC", b"OggS", b"ID3")
MPEG = (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2")  # of an MP3 without a tag


def read(content: bytes, where: str, limits: Serve) -> Recording:
    """The samples float32 `[samples, channels]` in full scale.

    Raises Problem if it is no such file, damaged, or longer than `limits`, as far as it says so
    before it is decoded.
    """
    if not content.startswith((*MAGIC, *MPEG)):
        raise malformed(f"{where} is no WAV, FLAC, Ogg or MP3 file: convert it into one")
    _check_announced(content, where, limits)
    try:
        with decoding(where, "audio file"):
            sound = audio.read(content, where)
    except UserError as error:
        # What the reader of the pipeline says of a file, without its advice for a data set.
        reason = wording(error).rpartition(": ")[0]
        refuse = unfit if isinstance(error, audio.NotFinite) else malformed
        raise refuse(f"{reason}: send an undamaged file") from None
    units = [FULL_SCALE] * sound.samples.shape[1]
    return Recording(sound.samples, sampling_rate=float(sound.sampling_rate), units=units)


def _check_announced(content: bytes, where: str, limits: Serve) -> None:
    """Check what the header says. A WAV file that libsndfile does not open can still be read: its
    samples are bytes of the content, and no more than those."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            frames, channels = file.frames, file.channels
    except soundfile.SoundFileError as error:
        if content[:4] == b"RIFF" and len(content) <= limits.max_bytes:
            return
        reason = shown(str(getattr(error, "error_string", error)).rstrip("."))
        raise malformed(
            f"{where} is no audio file that can be read ({reason}): send an undamaged file"
        ) from None
    if not frames:
        raise unfit(f"{where} holds no samples: send a recording that has some")
    check_size(frames * channels, limits, where)

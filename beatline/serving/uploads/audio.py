"""Audio files: WAV, FLAC, Ogg and MP3, read as the pipeline reads them."""

from __future__ import annotations

from beatline.common.errors import UserError, wording
from beatline.formats import audio
from beatline.formats.recording import Recording
from beatline.serving.problems import malformed, unfit
from beatline.serving.settings import Serve
from beatline.serving.uploads.checks import check_size, decoding

FULL_SCALE = "full scale"  # from -1 to 1


def read(content: bytes, where: str, limits: Serve) -> Recording:
    """The samples float32 `[samples, channels]` in full scale.

    Raises Problem if it is no such file, damaged, or longer than `limits`: before it is decoded if it
    says so itself, else as soon as more than that is decoded.
    """
    try:
        with decoding(where, "audio file"):
            sound = audio.read(content, where, limits.max_values)
    except audio.TooLong as error:
        check_size(error.values, limits, where)
        raise
    except UserError as error:
        # What the reader of the pipeline says of a file, without its advice for a data set.
        reason = wording(error).rpartition(": ")[0]
        refuse = unfit if isinstance(error, audio.Unusable) else malformed
        raise refuse(f"{reason}: send an undamaged WAV, FLAC, Ogg or MP3 file") from None
    units = [FULL_SCALE] * sound.samples.shape[1]
    return Recording(sound.samples, sampling_rate=float(sound.sampling_rate), units=units)

"""Speech synthesis with phone times: espeak-ng as packaged in `espeakng-loader`, through ctypes.

Constants and structures are those of espeak-ng's `speak_lib.h`.
"""

import ctypes
import shutil
import tempfile
from typing import List, NamedTuple, Tuple

import numpy as np

from fairseq_birq.errors import UserError

OUTPUT_SYNCHRONOUS = 2
PHONEME_EVENTS, DONT_EXIT = 0x0001, 0x8000  # options of espeak_Initialize
RATE, PITCH = 1, 3  # parameters
CHARS_UTF8 = 1
EVENT_END_OF_LIST, EVENT_PHONEME = 0, 7
STRESS_MARKS = "',%="


class Phone(NamedTuple):
    start_s: float
    end_s: float
    name: str  # espeak-ng's mnemonic without stress, SIL for pauses


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Synthesiser:
    """espeak-ng, loaded afresh and seeded: its audio depends on all it said before, and otherwise on the clock.

    Raises:
        UserError: the package is missing, or its library does not load on this machine.
    """

    def __init__(self):
        self._library, data = _load_private_copy()
        self._chunks, self._marks = [], []
        self._callback = _Callback(self._receive)  # kept alive: the library calls it
        self.sample_rate = self._library.espeak_Initialize(OUTPUT_SYNCHRONOUS, 0, data.encode(), PHONEME_EVENTS | DONT_EXIT)
        if self.sample_rate <= 0:
            raise UserError(f"espeak-ng finds no data in {data}; install `espeakng-loader` again")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int) -> Tuple[np.ndarray, List[Phone]]:
        """(S,) int16 at `sample_rate`, and its phones without gaps from 0 to the end.

        voice: language and variant, such as "en-us+f2"; pitch: 0 to 99

        Raises:
            UserError: espeak-ng has no such voice, or refuses the text.
        """
        self._chunks.clear()
        self._marks.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(f"espeak-ng has no voice {voice!r}")
        self._library.espeak_SetParameter(RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(PITCH, pitch, 0)
        encoded = text.encode()
        status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, CHARS_UTF8, None, None)
        if status != 0 or not self._chunks:
            raise UserError(f"espeak-ng could not say {text!r} (status {status})")
        wave = np.concatenate(self._chunks)
        return wave, _to_phones(self._marks, len(wave) / self.sample_rate)

    def _receive(self, samples, count, events):
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != EVENT_END_OF_LIST:
            if events[index].type == EVENT_PHONEME:
                self._marks.append((events[index].audio_position_ms / 1000, events[index].id.string.decode()))
            index += 1
        return 0


def _to_phones(marks, total_s):
    """Phones from (start in s, mnemonic) marks; neighbouring pauses become one, empty stretches vanish."""
    phones = [Phone(0.0, marks[0][0] if marks else total_s, "SIL")]
    ends = [start for start, _ in marks[1:]] + [total_s]
    for (start, mnemonic), end in zip(marks, ends):
        stripped = mnemonic.strip(STRESS_MARKS)
        name = "SIL" if not stripped or stripped.startswith("_") else stripped
        if name == phones[-1].name == "SIL":
            phones[-1] = phones[-1]._replace(end_s=end)
        else:
            phones.append(Phone(start, end, name))
    return [phone for phone in phones if phone.end_s > phone.start_s]


def _load_private_copy():
    """(library, data folder). A copy has its own static state; where a copy may not be run, the library itself."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("the demo corpus needs the package espeakng-loader: pip install espeakng-loader") from error
    path = espeakng_loader.get_library_path()
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = ctypes.CDLL(shutil.copy(path, folder))
    except OSError:
        library = _load(path)
    return library, espeakng_loader.get_data_path()


def _load(path):
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise UserError(
            f"{path}: espeak-ng does not load on this machine ({error}); the demo corpus needs Linux with glibc on "
            "x86-64 or arm64. Use your own recordings instead: birq-manifest FOLDER OUT"
        ) from error

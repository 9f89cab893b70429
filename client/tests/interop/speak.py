"""Speaks a sentence into a WAV file, with silence before and after it, by espeak-ng.

    speak.py FILE.wav SENTENCE SECONDS_BEFORE SECONDS_AFTER
"""

import ctypes
import sys
import wave

import espeakng_loader

SYNCHRONOUS = 2
CHARACTERS = 1
UTF8 = 1
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def speak(sentence):
    """Its samples, and their rate."""
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    samples = bytearray()

    def take(part, count, _events):
        if part and count > 0:
            samples.extend(ctypes.string_at(part, 2 * count))
        return 0

    callback = CALLBACK(take)
    espeak.espeak_SetSynthCallback(callback)
    espeak.espeak_SetVoiceByName(b"en-us")
    text = sentence.encode()
    espeak.espeak_Synth(text, len(text) + 1, 0, CHARACTERS, 0, UTF8, None, None)
    espeak.espeak_Synchronize()
    return bytes(samples), rate


def main():
    path, sentence, before, after = sys.argv[1:]
    samples, rate = speak(sentence)
    silence = lambda seconds: bytes(2 * int(float(seconds) * rate))
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(silence(before) + samples + silence(after))


if __name__ == "__main__":
    main()

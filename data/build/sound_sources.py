"""Which file of which package is which drum, note or spoken digit; used by ``build_audio.py``.

The class of a drum was decided by its file name and its kit's description. ``drum`` names what was
struck, so that all hits on it stay in one split: it is the unit of the splits, not the row.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import soundfile
from soundfont import RIGHT_CHANNEL, SoundFont

DRUMS = ("kick", "snare", "hat_closed", "hat_open", "tom", "clap", "cymbal", "perc")
FAMILIES = (
    "piano",
    "chromatic",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "synth_lead",
    "synth_pad",
    "synth_fx",
    "ethnic",
    "percussive",
    "sfx",
)  # General MIDI: eight programs each
UNPITCHED = ("synth_fx", "percussive", "sfx")
KITS = "./usr/share/hydrogen/data/drumkits/"
FONTS = "./usr/share/sounds/sf2/"


@dataclass(frozen=True, eq=False)
class Hit:
    """A recording of a drum: audio float32 (n,) mono at ``rate``, and where it is from."""

    audio: np.ndarray
    rate: int
    label: str
    source: str
    file: str
    licence: str
    author: str
    drum: str


@dataclass(frozen=True, eq=False)
class Note:
    """A recording of a tone. root, cents: the key at which it sounds as recorded, and the tuning
    that the instrument adds; header: the key that the sample's header names, often not the real
    one. loop: (start, stop) in samples, or None."""

    audio: np.ndarray
    rate: int
    family: str
    preset: str
    sample: str
    header: int
    root: int
    cents: int
    loop: tuple[int, int] | None


def members(tar: bytes, mode: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The files of an archive whose name is ``wanted``."""
    with tarfile.open(fileobj=io.BytesIO(tar), mode=mode) as archive:
        return {
            m.name: archive.extractfile(m).read() for m in archive if m.isfile() and wanted(m.name)
        }


def mono(content: bytes) -> tuple[np.ndarray, int]:
    """A sound file as (float32 (n,), rate): the mean of its channels."""
    audio, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return audio.mean(1), rate


# ------------------------------------------------------------------------------- Sonic Pi (npm)

SONIC_PI = (  # the first that fits
    (r"bd_|drum_bass_|drum_heavy_kick|elec_(hollow|soft)_kick", "kick"),
    (r"sn_|drum_snare_|elec_.*snare", "snare"),
    (r"drum_cymbal_(closed|pedal)|hat_", "hat_closed"),
    (r"drum_cymbal_open", "hat_open"),
    (r"drum_tom|elec_fuzz_tom", "tom"),
    (r"perc_snap", "clap"),
    (r"drum_(cymbal_(hard|soft)|splash)|elec_cymbal|ride_", "cymbal"),
    (
        r"drum_cowbell|tabla_|perc_bell|tbd_perc"
        r"|elec_(wood|tick|triangle|bell|bong|ping|blip|blup|pop|twip|plip|flip)",
        "perc",
    ),
)
ADDED_LATER = r"bd_(chip|jazz)|hat_|ride_|tbd_"  # after Sonic Pi 3.2.2


def sonic_pi(files: dict[str, bytes]) -> Iterator[Hit]:
    """The one-shots among Sonic Pi's samples, by name."""
    for path in sorted(files):
        file = path.rpartition("/")[2]
        label = next((c for rule, c in SONIC_PI if re.match(rule, file)), None)
        if label is None:
            continue
        stem = file.removesuffix(".flac")
        if stem.startswith("tabla_"):  # two drums, by the hand that strikes
            drum = "tabla-bayan" if re.match(r"tabla_(ghe|ke)", stem) else "tabla-dayan"
        else:
            drum = re.sub(r"(_hard|_soft|_?\d)$", "", stem) if not stem.startswith("bd_") else stem
        source = "sonic-pi-new" if re.match(ADDED_LATER, file) else "sonic-pi"
        author = "Sonic Pi / freesound contributors"
        yield Hit(*mono(files[path]), label, source, file, "CC0-1.0", author, f"sonic-pi:{drum}")


# ------------------------------------------------------------------- Hydrogen drum kits (Debian)

AUDIOPHOB = {
    "86335__zgump__tom-0105.wav": "kick",
    "16336__sstokes__ss-ht-crunchtime.wav": "perc",
    "124382__cubix__8bit-snare.wav": "snare",
    "29800__stomachache__3.wav": "clap",
    "25671__walter-odington__garage-city-snare-snappy.wav": "snare",
    "99930__menegass__noise-tom0.wav": "tom",
    "116973__cbeeching__hat-light.wav": "hat_closed",
    "99931__menegass__noise-tom1.wav": "tom",
    "156272__dayvonjersen__fxshake5.wav": "perc",
    "101450__menegass__tomh.wav": "tom",
    "104227__minorr__hhat-paiste-302-14-open-p.wav": "hat_open",
    "122557__anillogic__trimo-c3.wav": "perc",
    "15590__lewis__sabmute.wav": "cymbal",
    "124101__connersaw8__crash.wav": "cymbal",
}
PACIFIC = {
    "BD": "kick",
    "SN": "snare",
    "SN4": "snare",
    "HH": "hat_closed",
    "HH2": "hat_open",
    "HH3": "hat_open",
    "TM": "tom",
    "TM2": "tom",
    "CB": "cymbal",
    "CB2": "cymbal",
    "BL": "cymbal",
    "RD": "cymbal",
    "RD2": "cymbal",
}
PACIFIC_SAME = {"SN4": "SN", "RD2": "RD"}  # one snare, one ride, struck elsewhere
RUMPF = {
    "06-38": "kick",
    "06-46": "kick",
    "07-18": "kick",
    "07-20": "kick",
    "09-12": "perc",
    "01-21": "snare",
    "06-25": "snare",
    "01-26": "clap",
    "09-10": "hat_closed",
    "06-28": "hat_closed",
    "08-31": "hat_open",
    "08-17": "tom",
    "08-18": "tom",
    "08-19": "tom",
    "06-43": "cymbal",
    "08-20": "cymbal",
    "06-30": "cymbal",
    "06-40": "cymbal",
    "08-32": "perc",
}


def hydrogen(files: dict[str, bytes]) -> Iterator[Hit]:
    """Four kits under CC licences; the others of the package are under the GPL, or unclear."""
    for file, label in AUDIOPHOB.items():
        _, author, title = file.removesuffix(".wav").split("__")
        by = f"{author} (freesound), kit by audiophobdubstep"
        drum = f"audiophob:{author}-{title.rstrip('0123456789')}"
        yield Hit(*mono(files[f"{KITS}Audiophob/{file}"]), label, "hydrogen-Audiophob", file,
                  "CC0-1.0", by, drum)  # fmt: skip
    for file in _listed(files, "BJA_Pacific"):
        part = file.partition("_")[0]
        if part in PACIFIC and file.endswith(".aiff"):
            by = "Bransin James Anderson / Luc Tanguay"
            drum = f"pacific:{PACIFIC_SAME.get(part, part)}"
            yield Hit(*mono(files[f"{KITS}BJA_Pacific/{file}"]), PACIFIC[part],
                      "hydrogen-BJA_Pacific", file, "CC-BY-SA-3.0-US", by, drum)  # fmt: skip
    for number, label in RUMPF.items():
        file = f"beats_{number}.flac"
        # Three toms that stand in a row come from one beat.
        drum = "rumpf:toms" if label == "tom" else f"rumpf:{number}"
        yield Hit(*mono(files[f"{KITS}rumpf_kit_z01_h2/{file}"]), label, "hydrogen-rumpf", file,
                  "CC-BY-3.0", "Emanuel Rumpf", drum)  # fmt: skip
    for file in _listed(files, "circAfrique v4"):
        if file.endswith(".wav"):
            drum = f"circAfrique:{file.partition(' ')[0]}"
            yield Hit(*mono(files[f"{KITS}circAfrique v4/{file}"]), "perc", "hydrogen-circAfrique",
                      file, "CC-BY-SA-3.0", "Jim Harney", drum)  # fmt: skip


def _listed(files: dict[str, bytes], kit: str) -> list[str]:
    start = f"{KITS}{kit}/"
    return sorted(path.removeprefix(start) for path in files if path.startswith(start))


# ---------------------------------------------------------------- AVL drum kits (Debian, SoundFont)

AVL = {  # General MIDI key: class, and the drum that is struck
    36: ("kick", "kick"),
    37: ("perc", "side stick"),
    38: ("snare", "snare"),
    39: ("clap", "hand clap"),
    40: ("snare", "snare"),  # its edge
    41: ("tom", "floor tom"),
    42: ("hat_closed", "hat closed"),
    43: ("tom", "floor tom"),
    44: ("hat_closed", "hat pedal"),
    45: ("tom", "tom"),
    46: ("hat_open", "hat half open"),
    47: ("tom", "tom"),
    48: ("hat_open", "hat swished"),
    49: ("cymbal", "crash"),
    50: ("cymbal", "crash"),  # choked
    51: ("cymbal", "ride"),
    52: ("cymbal", "ride"),
    53: ("cymbal", "ride"),  # its bell
    54: ("perc", "tambourine"),
    55: ("cymbal", "splash"),
    56: ("perc", "cowbell"),
    57: ("cymbal", "second crash"),
    58: ("cymbal", "second crash"),
    59: ("cymbal", "ride"),  # its shank
    60: ("cymbal", "Paiste 2002"),
    64: ("perc", "maraca"),
}
AVL_SHARED = ("hat", "splash", "cowbell", "Paiste", "side stick")  # the same in both kits


def avl(kit: str, font: SoundFont) -> Iterator[Hit]:
    """Every left or mono sample of "Black_Pearl" or "Red_Zeppelin", by its General MIDI key."""
    for sample in font.samples:
        if sample.kind == RIGHT_CHANNEL:
            continue
        label, drum = AVL[int(sample.name[:2])]
        drum = f"avl:{drum}" if drum.startswith(AVL_SHARED) else f"avl:{kit} {drum}"
        yield Hit(font.audio(sample), sample.rate, label, f"avldrums-{kit}", sample.name,
                  "CC-BY-SA-3.0", "Glen MacArthur", drum)  # fmt: skip


# --------------------------------------------------------------------- Fluid R3 (Debian, SoundFont)

FLUID = (  # the first that is found
    (r"Kick|Bass Drum", "kick"),
    (r"Snr|Snare|Piccolo 1-|RmPwr", "snare"),
    (r"Hi-Hat (Closed|Foot)|808 Closed Hat", "hat_closed"),
    (r"Hi-Hat Half-Open|808 Open Hat", "hat_open"),
    (r"^808 Clap|^Clap", "clap"),
    (r"Tom|Studio|Taiko", "tom"),
    (r"Crsh|Crash|crash|Ride|Splash", "cymbal"),
    (
        r"808 Clave|Conga|808 Cowbell|^Clave|Timbale|Tumba|Slap\(|Bongo|Agogo|Woodblock|Maracas"
        r"|Shaker|Cabasa|Castanet|Tambourine|Rim Tap|Cow Bell|Square Click|^Sticks|Metronome"
        r"|^Slap$|High Q|Guiro Up|Triangle|Quica",
        "perc",
    ),
)
NOT_A_HIT = (
    r"Timpani|Brush Swirl|Slap Bass|Reverse|Steel|Piccolo [A-G]|Electronic Tom"  # melodic, or long
)


def fluid_drums(font: SoundFont) -> Iterator[Hit]:
    """The drum samples of Fluid R3, by name; left or mono."""
    for sample in font.samples:
        if sample.kind == RIGHT_CHANNEL or re.search(NOT_A_HIT, sample.name):
            continue
        label = next((c for rule, c in FLUID if re.search(rule, sample.name)), None)
        if label:
            yield Hit(font.audio(sample), sample.rate, label, "FluidR3", sample.name, "MIT",
                      "Frank Wen", f"fluid:{_fluid_drum(sample.name)}")  # fmt: skip


def _fluid_drum(name: str) -> str:
    """What is struck: "Snr 1-2(L)" and "Snr 1-1(L)" are one snare."""
    stem = re.sub(r"\s*\(L\)?$", "", name)
    if re.search(r"808 Tom|Taiko", stem):
        return re.search(r"808 Tom|Taiko", stem)[0]
    return re.sub(r"-\d$", "", stem)


def fluid_notes(font: SoundFont) -> Iterator[Note]:
    """The tones of Fluid R3's General MIDI bank, each sample once, by the preset that has it first.

    Left or mono; not effects and not drums. The header's key is checked for range because the set
    was chosen so; the tone's real key is the zone's, where it gives one.
    """
    first: dict[int, tuple] = {}
    for preset in font.presets:
        if preset.bank == 0:
            for zone in preset.zones:
                first.setdefault(zone.sample, (FAMILIES[preset.program // 8], preset.name, zone))
    for index, (family, preset, zone) in first.items():
        sample = font.samples[index]
        if sample.kind == RIGHT_CHANNEL or family in UNPITCHED or not 24 <= sample.key <= 108:
            continue
        loop = (sample.loop_start - sample.start, sample.loop_end - sample.start)
        usable = zone.loops and loop[0] >= 0 and loop[0] + 8 <= loop[1] <= sample.end - sample.start
        yield Note(
            font.audio(sample),
            sample.rate,
            family,
            preset,
            sample.name,
            sample.key,
            sample.key if zone.root is None else zone.root,
            zone.cents,
            loop if usable else None,
        )


# ------------------------------------------------------------------------ Asterisk prompts (Debian)


@dataclass(frozen=True)
class Voice:
    """Who speaks, what language, and under which licence."""

    name: str
    language: str
    folder: str
    licence: str
    author: str


VOICES = (
    Voice("allison", "en-US", "en_US_f_Allison", "CC-BY-SA-3.0", "Allison Smith, for Digium, Inc."),
    Voice("allison", "es-MX", "es_MX_f_Allison", "CC-BY-SA-3.0", "Allison Smith, for Digium, Inc."),
    Voice("june", "fr-CA", "fr_CA_f_June", "CC-BY-SA-3.0", "June Wallack, for Digium, Inc."),
    Voice("carlo", "it-IT", "it_IT_m_Carlo", "CC-BY-3.0", "Carlo Flora"),
)


def spoken_digit(files: dict[str, bytes], voice: Voice, digit: int) -> tuple[np.ndarray, int]:
    """One prompt as (int16 (n,), rate), as recorded."""
    path = f"./usr/share/asterisk/sounds/{voice.folder}/digits/{digit}.wav"
    return soundfile.read(io.BytesIO(files[path]), dtype="int16")


@cache
def soundfont(deb_tar: bytes, file: str) -> SoundFont:
    """A SoundFont of a Debian package; kept, since drums and notes share one."""
    return SoundFont(members(deb_tar, "r:xz", lambda name: name == FONTS + file)[FONTS + file])

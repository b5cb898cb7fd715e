"""Drawn heads: a table of shapes for each level at which a slice is cut, and the function that draws one.

A row is ``tissue sides size points``, painted in the order of rows. ``sides`` is ``one``; ``both``, which adds the same
shape on the other side of the mid-line; or ``half``, the left half of an outline. ``size`` is the thickness of a line
along the points (with one point: the diameter of a disc), 0 for a filled outline, or the depth of sulci of a brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectclf.sample_data import tissue
from detectclf.sample_data.tissue import SIZE, Points
from detectclf.types import FloatArray, Mask

_ALL = "0,0 256,0 256,256 0,256"
_AXIAL_HIGH = f"""
head       half  0  128,22 88,31 60,60 48,120 48,168 72,214 128,232
cavity     half  0  128,41 97,49 76,72 67,120 67,162 86,200 128,213
falx       one   2  128,30 128,90 128,170 128,230
brain      one  40  {_ALL}
vessel     one   9  128,217                                             # sagittal sinus
"""
_AXIAL_MIDDLE = f"""
head       half  0  128,22 88,31 60,60 48,120 48,168 72,214 128,232
cavity     half  0  128,39 96,47 74,70 65,120 65,164 84,202 128,215
falx       one   2  128,30 128,86
falx       one   2  128,172 128,230
fissure    both  3  42,112 62,116 76,126 80,140                         # Sylvian fissure
brain      one  24  {_ALL}
nucleus    both  0  103,100 96,112 98,128 108,122 110,108               # caudate
nucleus    both  0  88,108 82,124 88,140 96,128                         # lentiform
nucleus    both 19  115,136 112,146                                     # thalamus
ventricle  both  0  121,96 112,94 105,100 113,110 122,118 124,106       # frontal horn
ventricle  both  0  106,152 98,158 92,172 93,176 104,166 112,156        # trigone
ventricle  one   4  128,128 127,138 128,150                             # third ventricle
vessel     one   9  128,219
"""
_AXIAL_LOW = """
head       half  0  128,20 104,24 72,36 56,72 48,122 48,168 72,214 128,232
cavity     half  0  128,62 108,66 98,84 98,98 84,94 71,104 66,124 65,168 84,204 128,215
face       one   0  0,0 256,0 256,106 0,106
cerebellum half  0  128,156 70,166 58,196 96,230 128,232
brain      half 12  128,62 106,66 96,84 102,100 128,104                 # frontal lobes
brain      both 20  108,112 88,92 66,98 50,122 48,148 66,160 92,152 106,136
nucleus    half  0  128,102 108,106 98,120 104,136 128,142
bone       both  0  62,150 74,157 102,146 98,154 74,170 62,170          # petrous bone
white      one  29  120,152 136,152                                     # pons
ventricle  one   7  123,174 133,174                                     # fourth ventricle
csf        half  0  128,110 119,116 111,122 118,130 128,137             # cistern
gland      one   6  128,122
vessel     both  4  118,120                                             # carotid arteries
orbit      both  0  114,46 77,50 82,72 113,94
muscle     both  4  96,62 110,92                                        # optic nerve
muscle     both  3  84,56 111,90
muscle     both  3  108,56 113,88
nucleus    both 28  96,52                                               # eye
humor      both 24  96,52
nucleus    both  4  92,43 100,43                                        # lens
bone       half  0  128,30 116,42 114,74 128,86                         # nose
mucosa     both  2  120,44 121,60 120,80
"""
_CORONAL = f"""
head       half  0  128,12 88,19 56,44 43,84 42,124 40,152 48,190 56,226 58,280
cavity     half  0  128,33 94,38 68,58 58,92 58,122 64,142 86,152 106,144 116,132 128,130
face       half  0  128,140 90,150 40,150 0,146 0,300 128,300
falx       one   2  128,26 127,60 128,84
fissure    both  3  54,112 74,110 86,104 88,114                         # Sylvian fissure
brain      one  26  {_ALL}
callosum   half  0  128,80 98,86 104,93 128,88
nucleus    both  0  112,108 104,116 110,127 122,124 123,112             # thalamus
nucleus    both  0  86,102 94,100 98,114 90,120                         # lentiform
ventricle  both  0  124,91 112,90 98,93 106,101 118,104 125,101         # lateral ventricle
ventricle  one   3  128,106 128,122                                     # third ventricle
csf        half  0  128,122 114,129 118,137 128,139                     # cistern
vessel     both  5  111,141                                             # carotid arteries
gland      one   5  128,139
vessel     one   7  128,27                                              # sagittal sinus
air        half  0  128,146 114,150 113,162 128,168                     # sphenoid sinus
air        half  0  128,178 117,186 119,204 128,210                     # throat
marrow     both  0  70,168 63,180 66,214 76,214 78,180
bone       both  3  92,158 98,176 94,196
bone       both  0  50,152 64,150 72,156 60,164
"""
_SAGITTAL = """
head       one   0  138,10 90,17 56,44 42,80 37,104 22,130 18,140 32,148 27,160 31,172 27,184 34,204 62,216 88,226 \
92,280 192,280 194,222 212,176 230,120 219,66 184,24
cavity     one   0  58,96 66,58 98,34 140,27 182,40 208,74 212,112 206,142 206,168 188,186 164,192 142,192 122,166 \
108,144 86,130 66,118
face       one   0  0,120 46,126 86,132 116,150 128,184 170,190 256,176 256,300 0,300
cerebellum one   0  152,166 152,146 176,142 198,148 203,164 188,182 164,186
brain      one  30  58,96 66,58 98,34 140,27 182,40 208,74 211,112 198,138 168,138 146,130 104,130 86,128 66,118
bone       one   0  36,136 60,130 84,136 84,164 56,166 36,156           # nose
mucosa     one   4  40,138 60,136 82,138
mucosa     one   4  40,148 60,146 82,148
mucosa     one   4  40,158 60,156 82,158
air        one   0  86,148 100,150 104,164 90,168                       # sphenoid sinus
marrow     one   0  106,148 116,158 124,180 116,180 104,164             # clivus
muscle     one   0  40,182 66,176 92,184 92,206 64,212 44,202           # tongue
air        one   5  36,174 64,171 92,174 104,190 106,226 106,270        # mouth and throat
nucleus    one  15  120,196 130,196                                     # vertebrae
nucleus    one  15  122,215 132,215
nucleus    one  15  124,234 134,234
csf        one   0  138,182 162,182 166,280 143,280                     # spinal canal
white      one   0  130,124 145,127 151,148 150,172 155,192 160,280 149,280 143,194 134,178 122,166 120,150
ventricle  one   0  90,94 104,78 132,73 158,84 164,98 140,92 112,92 98,104
callosum   one   6  94,108 84,96 92,80 112,68 136,66 158,76 168,92 162,100
nucleus    one   0  116,98 134,90 152,98 148,112 126,114                # thalamus
ventricle  one   0  152,152 160,162 153,174                             # fourth ventricle
csf        one   0  100,130 124,132 122,142 108,138                     # cistern
gland      one   8  104,141
vessel     one   2  211,112 204,138 176,139                             # straight sinus
"""

PLANES: dict[str, tuple[str, ...]] = {
    "axial": (_AXIAL_HIGH, _AXIAL_MIDDLE, _AXIAL_LOW),
    "coronal": (_CORONAL,),
    "sagittal": (_SAGITTAL,),
}
"""Plane -> the tables of its levels; the last one shows the sella."""


@dataclass(slots=True, eq=False)
class Head:
    """A drawn slice before the scanner's blur and noise.

    Attributes:
        levels: ``(SIZE, SIZE)`` float32 grey levels, 0 to 1; tumours are painted into it.
        head: everything inside the skin.
        brain: the cerebrum.
        sella: ``(x, y)`` of the pituitary gland, pixels; ``None`` where the slice does not show it.
    """

    levels: FloatArray
    head: Mask
    brain: Mask
    sella: tuple[float, float] | None = None


def draw_head(table: str, rng: np.random.Generator) -> Head:
    """Draws the healthy head of one of the tables in :data:`PLANES`, a little different each time."""
    nothing = np.zeros((SIZE, SIZE), dtype=bool)
    drawn = Head(np.zeros((SIZE, SIZE), dtype=np.float32), nothing, nothing)
    cavity, cuts, swell = nothing, nothing, rng.uniform(0.75, 1.25)
    for row in table.strip().splitlines():
        name, sides, size, *path = row.partition("#")[0].split()
        points = np.array([point.split(",") for point in path], dtype=np.float64)
        if name == "ventricle":
            points = points.mean(0) + swell * (points - points.mean(0))
        mask = _mask(points, sides, 0 if name == "brain" else int(size), rng)
        paint: FloatArray | float = 0.0
        if name == "head":
            drawn.head = mask
        elif name == "cavity":
            cavity, paint = mask, tissue.LEVELS["csf"]
            drawn.levels = tissue.skull_and_scalp(drawn.head, cavity, rng)
        elif name == "face":
            mask &= drawn.head & (tissue.depth_inside(~cavity) > 6)
            paint = np.minimum(tissue.soft_tissue(rng), tissue.skin(drawn.head))
        elif name == "cerebellum":
            mask &= cavity
            paint = tissue.folia(rng, *points[0])
        elif name == "brain":
            drawn.brain = drawn.brain | (mask & cavity)
            mask &= cavity & ~cuts
            paint = tissue.cortex(mask, rng, deepest=int(size))
        else:
            mask &= cavity if name in ("falx", "fissure") else tissue.depth_inside(drawn.head) > 3
            cuts = cuts | mask if name in ("falx", "fissure") else cuts
            paint = tissue.LEVELS[name]
            drawn.sella = tuple(points[0]) if name == "gland" else drawn.sella
        drawn.levels[mask] = paint[mask] if isinstance(paint, np.ndarray) else paint
    return drawn


def _mask(points: Points, sides: str, width: int, rng: np.random.Generator) -> Mask:
    mirrored = points * [-1, 1] + [SIZE, 0]
    if sides == "half":
        points = np.vstack([points, mirrored[::-1][mirrored[::-1, 0] > SIZE / 2]])
    mask = tissue.region(points + rng.uniform(-1.5, 1.5, points.shape), width)
    if sides == "both":
        mask |= tissue.region(mirrored + rng.uniform(-1.5, 1.5, points.shape), width)
    return mask

"""What a picture of the demo model shows, read from its pixels alone.

Nothing here comes from the model's own renderer or captions: colours are measured against a palette
and shapes by their geometry (area against hull and bounding box, moments, holes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

PALETTE = {
    "red": (220, 30, 35),
    "orange": (255, 140, 10),
    "yellow": (250, 225, 40),
    "green": (30, 160, 60),
    "blue": (35, 80, 215),
    "purple": (135, 45, 165),
    "white": (248, 248, 248),
    "black": (15, 15, 18),
}
"""What the colour words stand for, in levels of sRGB."""

MOST_COLOUR_ERROR = 75.0
"""Distance in levels beyond which a colour has no name."""

LEAST_CONTRAST = 45.0
"""Distance in levels from the background at which a pixel may belong to a shape."""

LEAST_AREA = 60
"""Pixels below which there is no shape."""

MOST_STRAY = 0.02
"""Share of a picture's pixels that may be neither background nor shape nor between the two."""

FEATURES = {
    "circle": (0.96, 0.78, 1.00, 0.50, 0.0, 0.0),
    "square": (1.00, 1.00, 0.955, 0.50, 0.0, 0.0),
    "triangle": (0.935, 0.52, 0.83, 0.66, 0.0, 0.0),
    "star": (0.59, 0.42, 0.81, 0.55, 0.0, 0.0),
    "ring": (0.96, 0.78, 1.00, 0.50, 0.27, 0.0),
    "cross": (0.73, 0.57, 0.835, 0.50, 0.0, 0.0),
    "heart": (0.90, 0.63, 0.89, 0.395, 0.0, 0.0),
}
"""Area over hull and over box, compactness, centroid's height, hole and mirror over area."""

TOLERANCES = (0.035, 0.035, 0.025, 0.025, 0.08, 0.06)
"""What counts as one unit of difference in each of them."""

FARTHEST = 3.0
"""Units from the nearest shape beyond which a picture shows none that has a name."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was seen.

    Attributes:
        shape: The nearest shape; None if nothing looks like one.
        colour: Of the shape; None if it has no name or there is no shape.
        background: Colour around it; None if it has no name.
        x: The shape's centroid in pixels from the left.
        y: The shape's centroid in pixels from the top.
        area: Of the shape in pixels, holes included.
        doubt: Distance from the ideal shape, in tolerances.
        stray: Share of pixels that are neither shape nor background nor a mixture.
    """

    shape: str | None
    colour: str | None
    background: str | None
    x: float = 0.0
    y: float = 0.0
    area: float = 0.0
    doubt: float = float("inf")
    stray: float = 0.0

    @property
    def content(self) -> tuple[str | None, str | None, str | None]:
        return self.shape, self.colour, self.background


def read(picture: Image.Image) -> Reading:
    """See what a picture of one shape on a plain background shows."""
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    frame = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
    sides = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)])
    ground = np.median(np.concatenate([frame, sides]), axis=0)
    background = colour_word(ground)
    contrast = np.linalg.norm(pixels - ground, axis=-1)
    inside = largest(contrast > max(LEAST_CONTRAST, 0.5 * np.percentile(contrast, 98)))
    if inside.sum() < LEAST_AREA:
        return Reading(shape=None, colour=None, background=background)
    core = ndimage.binary_erosion(inside)
    paint = np.median(pixels[core if core.sum() > LEAST_AREA / 4 else inside], axis=0)
    across = paint - ground
    # How much of each pixel is paint, and how far it is from any mixture of the two.
    share = (pixels - ground) @ across / (across @ across)
    off = np.linalg.norm(pixels - ground - np.clip(share, 0, 1)[..., None] * across, axis=-1)
    mask = largest(share > 0.5)
    stray = float(((off > LEAST_CONTRAST) | ((share > 0.5) & ~mask)).mean())
    if mask.sum() < LEAST_AREA:
        return Reading(shape=None, colour=None, background=background, stray=stray)
    shape, doubt = shape_word(mask)
    y, x = ndimage.center_of_mass(mask)
    return Reading(
        shape=shape if doubt <= FARTHEST and stray <= MOST_STRAY else None,
        colour=colour_word(paint),
        background=background,
        x=float(x),
        y=float(y),
        area=float(ndimage.binary_fill_holes(mask).sum()),
        doubt=doubt,
        stray=stray,
    )


def colour_word(levels: np.ndarray) -> str | None:
    """The palette's nearest colour."""
    distances = {
        word: float(np.linalg.norm(levels - np.array(colour))) for word, colour in PALETTE.items()
    }
    word = min(distances, key=distances.__getitem__)
    return word if distances[word] <= MOST_COLOUR_ERROR else None


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
    kept: np.ndarray = labels == 1 + int(np.argmax(sizes))
    return kept


def shape_word(mask: np.ndarray) -> tuple[str, float]:
    """The nearest shape, and how far from its ideal the mask is."""
    measured = features(mask)
    units = {
        word: float(np.linalg.norm((measured - np.array(ideal)) / np.array(TOLERANCES)))
        for word, ideal in FEATURES.items()
    }
    word = min(units, key=units.__getitem__)
    return word, units[word]


def features(mask: np.ndarray) -> np.ndarray:
    """The numbers that FEATURES lists, for one part."""
    filled = ndimage.binary_fill_holes(mask)
    rows, columns = np.nonzero(filled)
    area = len(rows)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    corners = np.concatenate(
        [np.stack([columns + dx, rows + dy], axis=1) for dx in (0, 1) for dy in (0, 1)]
    )
    # In the plane, ConvexHull calls the area volume.
    hull = ConvexHull(corners).volume
    # What differs between the two halves of a shape cut out.
    cut = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    mirrored = (cut != cut[:, ::-1]).sum() / 2
    inertia = ((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).sum() + area / 6
    return np.array(
        [
            area / hull,
            area / (height * width),
            area**2 / (2 * np.pi * inertia),
            (rows.mean() + 0.5 - rows.min()) / height,
            1 - mask.sum() / area,
            mirrored / area,
        ]
    )

"""Conversion of images, arrays of shape (n, h, w) or (n, h, w, c), to rows of numbers, and back.

A row has an image's numbers in the order (channels, height, width), as the networks for images need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eigencode.errors import DataError

PIXEL_TYPES = ("bool", "uint8", "uint16")
"""Types of arrays that are images if they have three or four dimensions."""

CHANNELS = (1, 3, 4)
"""Numbers of channels: grey, colour, colour with opacity."""


@dataclass(frozen=True)
class ImageLayout:
    """The order of the axes of an array of images: the first is the image, the others are 'hw', 'hwc' or 'chw'.

    ``image_shape`` is (channels, height, width).

    Examples
    --------
    >>> layout = ImageLayout.of((10, 28, 28, 3))
    >>> layout.image_shape, layout.axes
    ((3, 28, 28), 'hwc')
    >>> layout.rows(np.zeros((10, 28, 28, 3), np.uint8)).shape
    (10, 2352)
    """

    image_shape: tuple[int, int, int]
    axes: str

    @classmethod
    def of(cls, shape: Sequence[int], image_shape: Sequence[int] | None = None) -> ImageLayout:
        """The layout of an array of shape (n, h, w), (n, h, w, c) or (n, c, h, w); channels are last if they can be.

        ``image_shape`` is the (channels, height, width) that the images must have; `DataError` if no layout fits.
        """
        fitting = _layouts(tuple(shape[1:]))
        if image_shape is not None:
            fitting = [layout for layout in fitting if layout.image_shape == tuple(image_shape)]
        if not fitting or len(shape) not in (3, 4) or not all(shape[1:]):
            expected = "" if image_shape is None else f" with (c, h, w) = {tuple(image_shape)}"
            raise DataError(
                f"Images must form an array of shape (n, h, w) or (n, h, w, c){expected}",
                got=f"the shape {tuple(shape)}",
                hint="The number of channels is 1, 3 or 4" if len(shape) == 4 and image_shape is None else None,
            )
        return fitting[0]

    @classmethod
    def usual(cls, image_shape: Sequence[int]) -> ImageLayout:
        """The layout of arrays of shape (n, h, w), or (n, h, w, c) if there is more than one channel."""
        n_channels, height, width = image_shape
        return cls((n_channels, height, width), "hw" if n_channels == 1 else "hwc")

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Convert images in this layout to rows of shape (n, c h w), a view if possible."""
        channels_first = np.moveaxis(images, -1, 1) if self.axes == "hwc" else images
        return channels_first.reshape(len(images), math.prod(self.image_shape))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Convert rows of shape (n, c h w) to images in this layout, a view."""
        images = rows.reshape(len(rows), *self.image_shape)
        if self.axes == "hw":
            return images[:, 0]
        return np.moveaxis(images, 1, -1) if self.axes == "hwc" else images


def _layouts(shape: tuple[int, ...]) -> list[ImageLayout]:
    """The possible layouts of images whose axes after the first have this shape, the most likely first."""
    if len(shape) == 2:
        return [ImageLayout((1, *shape), "hw")]
    if len(shape) != 3:
        return []
    last, first = ImageLayout((shape[2], *shape[:2]), "hwc"), ImageLayout(shape, "chw")
    return [layout for layout in (last, first) if layout.image_shape[0] in CHANNELS]


def rows_to_images(image_shape: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """Convert rows to images of shape (n, h, w), or (n, h, w, c) if they have more than one channel."""
    return ImageLayout.usual(image_shape).images(rows)

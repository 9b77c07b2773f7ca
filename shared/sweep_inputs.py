"""What the input fields of a whole sweep must agree on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from shared.axis import Axis
from shared.errors import InvalidSweep
from shared.fields import Value
from shared.input_files import InputFile, input_title
from shared.kinds import strength_without_image
from shared.manifest import Manifest

Size = tuple[int, int]


def check_inputs(manifest: Manifest, inputs: Mapping[str, InputFile]) -> None:
    """Refuse a strength without any init image, and a mask of another size than its init image.

    Raises:
        InvalidSweep: One sentence with field, value and remedy.
    """
    strengths = [value for value in _distinct(manifest, "strength") if value is not None]
    if strengths and all(value is None for value in _distinct(manifest, "init_image")):
        raise strength_without_image(strengths[0])
    sizes = {key: file.checked.size for key, file in inputs.items() if file.checked is not None}
    if any(file.field == "mask_image" for file in inputs.values()):
        for image, mask in _pairs(manifest, sizes):
            mine, its = sizes[mask], sizes[image]
            if mine != its and mine is not None and its is not None:
                raise wrong_mask(_title(inputs, mask), mine, _title(inputs, image), its)


def wrong_mask(mask: str, its_size: Size, image: str, size: Size) -> InvalidSweep:
    """The error of a mask that does not lie over its image."""
    return InvalidSweep(
        f"{mask} is {its_size[0]} x {its_size[1]} pixels but {image} {size[0]} x {size[1]}: "
        f"a mask has the size of its init image",
        field="mask_image",
    )


def _pairs(manifest: Manifest, sizes: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Keys of every init image and mask that meet, once for each two sizes where many do."""
    axis = _axis_of(manifest, "init_image")
    if axis is not None and "mask_image" in axis.fields:
        columns = [axis.columns[axis.fields.index(n)] for n in ("init_image", "mask_image")]
        met: Iterable[tuple[Value, Value]] = zip(*columns, strict=True)
    else:
        images, masks = (
            {sizes.get(str(value)): value for value in _column(manifest, name)}.values()
            for name in ("init_image", "mask_image")
        )
        met = ((image, mask) for image in images for mask in masks)
    for image, mask in met:
        if isinstance(image, str) and isinstance(mask, str) and {image, mask} <= sizes.keys():
            yield image, mask


def _axis_of(manifest: Manifest, name: str) -> Axis | None:
    return next((axis for axis in manifest.axes if name in axis.fields), None)


def _distinct(manifest: Manifest, name: str) -> Sequence[Value]:
    axis = _axis_of(manifest, name)
    return (manifest.fixed[name],) if axis is None else axis.distinct(name)


def _column(manifest: Manifest, name: str) -> Sequence[Value]:
    axis = _axis_of(manifest, name)
    return (manifest.fixed[name],) if axis is None else axis.columns[axis.fields.index(name)]


def _title(inputs: Mapping[str, InputFile], key: str) -> str:
    file = inputs[key]
    return input_title(file.field, str(file.path or key))

"""Images in parquet files of the Hugging Face form: structs with encoded `bytes`, and integer labels."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from snn.data.image_decoding import Arrays, Entry, damaged_file, decode_images

_ROWS = 64  # that are in memory together
_LARGEST_CELL = 1 << 20  # bytes of an encoded image, on average over a row group
_LARGEST_PHOTO = 1 << 26  # likewise, of images of any size


def read_parquet(
    files: Sequence[Path],
    *,
    label: str,
    side: int,
    num_classes: int,
    scratch: Path,
    unreadable: list[str] | None = None,
) -> Arrays:
    """The images of several files, one after the other.

    Args:
        files: The files, in order.
        label: Name of the column of labels; images are in the first column of structs with bytes.
        side: Height and width of the images.
        num_classes: Number of classes.
        scratch: As for `decode_images`; likewise `unreadable`.

    Raises:
        ValueError: A file that is corrupt, has other columns or would fill the memory, or a cell that is no
            image of this size or no label; the message names file and row.
    """
    largest = _LARGEST_CELL if unreadable is None else _LARGEST_PHOTO
    tables = [_open(file, label, side, largest) for file in files]
    return decode_images(
        (entry for file, table in zip(files, tables, strict=True) for entry in _rows(file, table, label)),
        num_images=sum(table.metadata.num_rows for table in tables),
        side=side,
        num_classes=num_classes,
        source=files[0] if len(files) == 1 else files[0].parent,
        scratch=scratch,
        unreadable=unreadable,
    )


def _open(file: Path, label: str, side: int, most: int) -> Any:
    """The file, after a check of its columns and of what they take in memory."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        kinds = {field.name: field.type for field in table.schema_arrow}
        largest = max((_cell_size(table, i) for i in range(table.num_row_groups)), default=0)
    except Exception as error:  # corrupt files raise errors of any kind
        raise damaged_file(file, error) from error
    image = _image_column(table)
    if label not in kinds or image not in kinds:
        raise ValueError(f"{file} needs the columns img (or image) and {label}, it has {', '.join(kinds)}.")
    if not pa.types.is_struct(kinds[image]) or kinds[image].get_field_index("bytes") < 0:
        raise ValueError(f"Column {image} of {file} should hold structs with bytes, it holds {kinds[image]}.")
    if not (pa.types.is_integer(kinds[label]) or pa.types.is_floating(kinds[label])):
        raise ValueError(f"Column {label} of {file} should hold integers, it holds {kinds[label]}.")
    if largest > most:
        raise ValueError(
            f"The encoded images of {file} take {largest / 2**20:,.0f} MiB each, as those of {side}x{side} "
            f"pixels cannot. Fetch it again."
        )
    return table


def _image_column(table: Any) -> str:
    """The first column of structs with bytes; img or image if there is none."""
    import pyarrow as pa

    for field in table.schema_arrow:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    return "img" if "img" in table.schema_arrow.names else "image"


def find_label_column(file: Path) -> tuple[str, tuple[str, ...] | None]:
    """The column of labels of a file, and the names of the classes if the file says them.

    It is called label or labels, or is the only one of integers.

    Raises:
        ValueError: The file is corrupt, or has no such column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(file)
        features = (
            json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        )
    except Exception as error:  # corrupt files raise errors of any kind
        raise damaged_file(file, error) from error
    numbers = [field.name for field in schema if pa.types.is_integer(field.type)]
    chosen = [name for name in ("label", "labels") if name in numbers] or numbers
    if not chosen or (len(chosen) > 1 and chosen[0] not in ("label", "labels")):
        raise ValueError(
            f"{file} needs one column of integer labels, called label if there are several of integers; it "
            f"has {', '.join(schema.names)}."
        )
    names = features.get(chosen[0], {}).get("names")
    return chosen[0], None if names is None else tuple(map(str, names))


def find_classes(files: Sequence[Path], label: str) -> tuple[str, ...]:
    """Names of the classes 0 to the largest label of the files.

    Raises:
        ValueError: A file is corrupt, or holds no label that is 0 or more.
    """
    import pyarrow.compute as pc
    from pyarrow import parquet

    largest = -1
    for file in files:
        try:
            largest = max(largest, pc.max(parquet.read_table(file, columns=[label])[label]).as_py() or 0)
        except Exception as error:  # corrupt files raise errors of any kind
            raise damaged_file(file, error) from error
    if not 0 <= largest < 1_000_000:
        raise ValueError(
            f"Column {label} of {files[0]} should hold classes from 0 on, the largest is {largest}."
        )
    return tuple(map(str, range(largest + 1)))


def _cell_size(table: Any, row_group: int) -> float:
    """Mean bytes in a row of a row group, uncompressed."""
    group = table.metadata.row_group(row_group)
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns) / max(group.num_rows, 1)


def _rows(file: Path, table: Any, label: str) -> Iterator[Entry]:
    for row, (image, number) in enumerate(_cells(file, table, label)):
        encoded = image["bytes"] if image is not None else None
        if not isinstance(encoded, bytes):
            kind = "null" if encoded is None else type(encoded).__name__
            raise ValueError(
                f"The image of row {row} of {file} should be bytes, it is {kind}. Fetch the file again."
            )
        yield f"row {row} of {file}", io.BytesIO(encoded), number


def _cells(file: Path, table: Any, label: str) -> Iterator[tuple[Any, Any]]:
    image = _image_column(table)
    batches = table.iter_batches(batch_size=_ROWS, columns=[f"{image}.bytes", label])
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            cells = list(zip(batch[image].to_pylist(), batch[label].to_pylist(), strict=True))
        except Exception as error:  # corrupt files raise errors of any kind
            raise damaged_file(file, error) from error
        yield from cells

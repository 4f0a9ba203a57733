"""Finding a data set's files, whatever folders and zips they lie in."""

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.samples import Copy

PICTURES = (".jpg", ".jpeg", ".png")


def copies_below(folder: Path, endings: tuple[str, ...]) -> Iterator[Copy]:
    """Every file of the folder, of its folders and of the zips in it, whose name ends so; in a fixed order.

    `folder` may itself be a zip.
    """
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            yield from (Copy(path, name) for name in names if name.lower().endswith(endings))
        elif path.suffix.lower() in endings and path.is_file():
            yield Copy(path)


def parts_of(copy: Copy) -> tuple[str, ...]:
    """Folders and name of a file, also of one in a zip."""
    return (*copy.path.parts, *Path(copy.member).parts) if copy.member else copy.path.parts


def by_stem(copies: Iterable[Copy]) -> dict[str, list[Copy]]:
    """Name without ending -> its files, in their order."""
    found: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        found[Path(parts_of(copy)[-1]).stem].append(copy)
    return found

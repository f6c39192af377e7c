"""Files and folders that are no scans: what systems leave behind, and what was made of scans that stand beside it."""

import re
from bisect import bisect_left
from collections.abc import Collection, Sequence

_SYSTEM_FOLDERS = {
    "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "$recycle.bin", "recycler", "lost+found", "found.000",
    "system volume information", "__pycache__", "node_modules", "@synoresource", "@sharebin", "@appstore", "@database", "network trash folder",
    "temporary items", "recycle bin", "$windows.~bt", "ipynb_checkpoints", "site-packages",
}  # fmt: skip
_SYSTEM_FILES = {
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "picasa.ini",
    "zbthumbnail.info",
}

_SCAN_FOLDERS = re.compile(r"(?:images?|imgs?|scans?|pictures?|photos?|slices?|raw|originals?|data)(?:tr|ts|va)?")
_DERIVED_FOLDERS = re.compile(
    r"(?:(?:lesion|binary|lung|brain|tumou?r)?masks?|labels?|annotations?|segmentations?|segs?|gts?|groundtruths?|rois?|contours?|"
    r"overlays?|heatmaps?|superpixels?|bbox(?:es)?|thumb(?:nail)?s?|previews?)(?:tr|ts|va)?"
)
_ALWAYS_DERIVED = re.compile(r"\.?(?:thumb(?:nail)?s?|previews?)")

_WORDS = (
    r"(?:(?:binary|lesion|lung|brain|tumou?r|left|right|organ|vessel)?[ _-]?masks?|seg|segmentations?|segmented|labels?|lbl|labelmap|gt|groundtruth|"
    r"ground_truth|truth|annot|annotations?|annotated|rois?|contours?|manual|bbox(?:es)?|superpixels?|lesion|overlays?|heatmaps?|thumbs?|"
    r"thumbnails?|preview)"
)
_DERIVED_FILE = re.compile(rf"(?P<of>.+?)[ _.-]+{_WORDS}(?:[ _-]*\d+)?", re.IGNORECASE)
_DERIVED_FILE_BEFORE = re.compile(rf"{_WORDS}[ _.-]+(?P<of>.+)", re.IGNORECASE)
_VOLUME = (".nii", ".nii.gz")


def is_system_folder(name: str) -> bool:
    """Whether a folder is of a system or program: thumbnails of a server, a recycle bin, files that a check found again.

    >>> is_system_folder("@eaDir"), is_system_folder("$RECYCLE.BIN"), is_system_folder("tumor")
    (True, True, False)
    """
    return name.casefold() in _SYSTEM_FOLDERS


def is_system_file(name: str) -> bool:
    """Whether a file is of a system: `Thumbs.db`, `desktop.ini`."""
    return name.casefold() in _SYSTEM_FILES


def derived_folders(names: Collection[str]) -> list[str]:
    """Those of some folders of one place that hold masks or thumbnails of the scans in another one.

    >>> derived_folders(["images", "masks"]), derived_folders(["mask", "no mask"]), derived_folders(["thumbnails", "tumor"])
    (['masks'], [], ['thumbnails'])
    """
    plain = {name: re.sub(r"[\s_-]", "", name).casefold() for name in names}
    beside = any(_SCAN_FOLDERS.fullmatch(text) for text in plain.values())
    return [
        name
        for name, text in plain.items()
        if len(names) > 1 and (_ALWAYS_DERIVED.fullmatch(text) or (beside and _DERIVED_FOLDERS.fullmatch(text)))
    ]


def derived_files(names: Sequence[str]) -> dict[str, str]:
    """Those of the files of one folder that were made of another one, with its name: `a_mask.png` beside `a.png`.

    Of volumes, it is enough that another one begins alike: `case1_seg.nii` beside `case1_t1.nii`.

    >>> derived_files(["a.png", "a_mask.png", "a_mask_1.png", "b_mask.png"])
    {'a_mask.png': 'a.png', 'a_mask_1.png': 'a.png'}
    """
    parts = {name: origin for name in names if (origin := _origin(name))}
    others = [name for name in names if name not in parts]
    if not parts or not others:
        return {}
    by_stem = {_stem(name).casefold(): name for name in reversed(others)}
    volumes = sorted(_stem(name).casefold() for name in others if name.casefold().endswith(_VOLUME))
    origin_of: dict[str, str] = {}
    for name, origin in parts.items():
        if (of := by_stem.get(origin)) is None and name.casefold().endswith(_VOLUME):
            at = bisect_left(volumes, f"{origin}_")
            of = by_stem[volumes[at]] if at < len(volumes) and volumes[at].startswith(f"{origin}_") else None
        if of is not None:
            origin_of[name] = of
    return origin_of


def _origin(name: str) -> str:
    """The stem, without case, of the file that a file was made of by its name, or ""."""
    stem = _stem(name)
    match = _DERIVED_FILE.fullmatch(stem) or _DERIVED_FILE_BEFORE.fullmatch(stem)
    return match["of"].casefold() if match else ""


def _stem(name: str) -> str:
    """The name without its ending, `.nii.gz` included."""
    whole = name[:-3] if name.casefold().endswith(".nii.gz") else name
    return whole.rpartition(".")[0] or whole

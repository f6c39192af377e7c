"""List the scans of a data set: folders of classes, known trees (BIDS, Kaggle), and manifests.

A layout lists files; it opens none but tables. What it lists becomes a Cohort once the store has decoded it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scanwise.cohort.classes import LabelReading
from scanwise.cohort.decoding.remote_files import RemoteFolder, is_remote
from scanwise.cohort.decoding.slice_names import file_of_scan, split_slice
from scanwise.cohort.layouts import bids, folder_roles, folders, kaggle, manifests, subject_ids
from scanwise.cohort.listing import Listing, first, texts
from scanwise.cohort.remote_tables import is_remote_table, table_here, with_urls
from scanwise.cohort.table_files import SUFFIXES, is_table
from scanwise.errors import DataError
from scanwise.records.names import clean_subjects, clean_values, compose
from scanwise.untrusted import require_data

__all__ = [
    "Listing",
    "check_given",
    "describe_patient_folders",
    "discover_scans",
    "list_unlabelled",
    "resolve_data",
    "resolve_place",
]


def resolve_data(data: str) -> Path:
    """A local path from what a user typed: `~` and `file://` included."""
    return Path(data.removeprefix("file://")).expanduser()


def resolve_place(named: str) -> Path | str:
    """A local path, or a URL as it is, from what a user typed."""
    return named if is_remote(named) else resolve_data(named)


def discover_scans(
    data: Path,
    subject: str = "",
    label: str = "",
    *,
    anywhere: bool = True,
    bare: bool = False,
    labelled: bool = True,
) -> Listing:
    """List the scans of a folder or manifest, with the subject of each where `subject` tells it.

    Args:
        data: a folder of class folders, a folder of train and test folders of those, a BIDS tree, one of the Kaggle
            trees, or a manifest (see `manifests`).
        subject: a column of the manifest, a table of path,subject, or a regular expression over the path.
        label: the column that holds the class, where it cannot be told by itself.
        anywhere: whether a manifest may name absolute paths outside its folder.
        bare: whether scans need no class; a folder that just holds files then has one, `list_unlabelled`.
        labelled: whether labels come with the scans; else every file of a folder is listed, with an empty label.

    Raises:
        DataError: with what to change.
    """
    require_data(data)
    if data.is_file():
        listing = _of_file(data, subject, label, anywhere, labelled)
    else:
        listing = _of_folder(data, subject, label) if labelled else _all_files(data)
    if not len(listing.path) and bare and data.is_dir():
        listing = _bare(data)
    if not len(listing.path):
        raise DataError(
            f"No scans in {data}: expected one folder a class with images inside, {{train,test}}/class folders, "
            "or a manifest with the columns path and label."
        )
    if subject and listing.subject is None:
        listing = subject_ids.add_subjects(listing, subject)
    listing = _with_clean_names(listing)
    if labelled:
        check_given(listing)
    return listing


FEWEST = 5
"""Folders of one subject each from which they are taken for people: a few classes of one person each are a small cohort."""


def describe_patient_folders(scans: Listing) -> str:
    """A refusal of class folders that are people, with what to do; "" where they are classes.

    They are people by their names, or where each holds one subject and no subject is in two.
    """
    names = sorted(set(scans.label.tolist()))
    if scans.labels_from != "folders" or LabelReading.of(names).scale is not None:
        return ""
    subject = scans.subject
    pairs = set() if subject is None else set(zip(scans.label.tolist(), subject.tolist(), strict=True))
    sure = (
        len(names) >= FEWEST
        and subject is not None
        and "" not in subject
        and len(pairs) == len(names) == len(set(subject.tolist()))
    )
    return folder_roles.describe_people(names, sure=sure) if sure or folder_roles.names_people(names) else ""


def _with_clean_names(listing: Listing) -> Listing:
    """The listing with one spelling of each label, subject and group."""
    labels = listing.label.tolist()
    composed = list(map(compose, labels))
    again = sorted({new for old, new in set(zip(labels, composed, strict=True)) if old != new} & set(labels))
    remark = (
        f"Labels that look alike and differ in their Unicode (in its form, or in signs that are not seen) are one each: {first(again)}."
        if again
        else ""
    )
    return replace(
        listing,
        label=texts(composed),
        subject=None if listing.subject is None else texts(clean_subjects(listing.subject.tolist())),
        groups={compose(name): texts(clean_values(values.tolist())) for name, values in listing.groups.items()},
        remarks=(*listing.remarks, remark) if remark else listing.remarks,
    )


def _bare(root: Path) -> Listing:
    walked = list(folders.walk(root))
    files = [path for path, fault in walked if not fault]
    unused = tuple((path, fault) for path, fault in walked if fault)
    return Listing(root, texts(files), texts("unlabelled" for _ in files), unused=unused)


def _all_files(data: Path) -> Listing:
    """Every file of a folder, whatever its folders mean; the sides where these are all that it is divided into."""
    root = folders.descend(data)
    if bids.has_people(root):
        return bids.list_images(root)
    listing = _bare(root)
    side_of = folder_roles.sides_of(folders.tops(root))
    return replace(
        listing,
        label=texts("" for _ in listing.path),
        given=texts(side_of.get(path.split("/")[0], "") for path in listing.path.tolist()) if side_of else None,
        unused=(*listing.unused, *folders.passed_over(data, root)),
    )


def _of_file(data: Path, subject: str, label: str, anywhere: bool, labelled: bool) -> Listing:
    if kaggle.is_styles(data):
        return kaggle.fashion(data.parent, subject)
    return manifests.read_manifest(data, subject, label, labelled=labelled, anywhere=anywhere)


def _of_folder(data: Path, subject: str, label: str) -> Listing:
    root = folders.descend(data)
    listing = _of_tree(root, subject, label)
    return replace(listing, unused=(*listing.unused, *folders.passed_over(data, root)))


def _of_tree(root: Path, subject: str, label: str) -> Listing:
    names = set(folders.tops(root))
    if kaggle.is_styles(root / "styles.csv") and "images" in names:
        return kaggle.fashion(root, subject)
    for recognised, listing in kaggle.TREES:
        if (layout := recognised(root)) is not None:
            return listing(layout)
    if bids.is_tree(root):
        return bids.read_bids(root, subject, label)
    return folders.classes(root, label)


def list_unlabelled(scans: Sequence[Path | str], manifest: Path | str | None, subject: str = "") -> Listing:
    """List scans to predict: files, folders of files, or the rows of a manifest that needs no labels.

    Args:
        scans: files and folders, or URLs of them; paths of the listing are as given here. A slice is named by `file#slice`. One
            table alone is a manifest.
        manifest: table with the column path, and optionally subject and group columns; or the URL of one, whose scans lie
            beside it or at URLs of their own.
        subject: as in `discover_scans`.

    Raises:
        DataError: if there is nothing, or both scans and a manifest.
    """
    if (manifest is None) == (not scans):
        raise DataError("Name scans (files or folders) to predict, or give --manifest; one of the two.")
    if len(scans) == 1 and (is_remote_table(str(scans[0])) or is_table(Path(scans[0]))):
        manifest = scans[0]
    if manifest is not None:
        listing = _rows_of(str(manifest), subject)
    else:
        lost = [str(scan) for scan in scans if isinstance(scan, Path) and not split_slice(scan)[0].exists()]
        if lost:
            raise DataError(f"There is nothing at {first(lost)}. Check the paths.")
        named = [file for scan in scans for file in (_files_at(scan) if isinstance(scan, str) else _files_in(scan))]
        files = [path for path, fault in named if not fault]
        unused = tuple((path, fault) for path, fault in named if fault)
        listing = Listing(Path(), texts(files), texts("" for _ in files), unused=unused)
    if not len(listing.path):
        raise DataError("There are no files to predict in what was named.")
    listing = listing.with_shown_urls()
    if subject and listing.subject is None:
        listing = subject_ids.add_subjects(listing, subject)
    return _with_clean_names(listing)


def _rows_of(manifest: str, subject: str) -> Listing:
    """The rows of a manifest without labels, with paths as they are spelt there, or URLs."""
    away = is_remote(manifest)
    with table_here(manifest) as file:
        if not Path(file).is_file():
            endings = f"; the name of one ends in {' or '.join(SUFFIXES)}" if away else ""
            raise DataError(f"There is no manifest at {manifest}{endings}.")
        listing = manifests.read_manifest(Path(file), subject, labelled=False, anywhere=not away, as_given=True)
    return with_urls(listing, manifest) if away else listing


def _files_in(scan: Path) -> list[tuple[str, str]]:
    """A file, or the files of a folder, each with the reason why it cannot be used, or ""."""
    return [(str(scan / name), fault) for name, fault in folders.walk(scan)] if scan.is_dir() else [(str(scan), "")]


def _files_at(url: str) -> list[tuple[str, str]]:
    """The same of a URL."""
    folder = RemoteFolder(url)
    if folder.is_folder:
        return [(folder.url_of(name), fault) for name, fault in folders.walk_entries(folder.entries)]
    if not folder.is_there and not RemoteFolder(file_of_scan(url)).is_there:
        raise DataError(f"There is nothing at {url}. Check the address.")
    return [(url, "")]


def check_given(listing: Listing) -> None:
    """A label that is tested must have been taught."""
    if listing.given is None:
        return
    taught = sorted(set(listing.label[listing.given == "train"].tolist()))
    reading = LabelReading.of(listing.label.tolist())
    keys = {reading.key(label) for label in taught}
    untaught = [
        label
        for label in sorted(set(listing.label[listing.given == "test"].tolist()))
        if reading.key(label) not in keys
    ]
    if taught and untaught:
        raise DataError(
            f"The test side has labels that the train side lacks: {first(untaught)}. "
            f"Train has {first(taught)}. Rename them, or add training scans of these classes."
        )

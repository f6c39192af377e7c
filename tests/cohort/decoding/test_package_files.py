"""Every test file that pydicom and nibabel bring along: the pixels that they give, or the right reason."""

import re

import numpy as np
import pytest

from package_files import COMPARED, Comparison, compare_all

REFUSED = {
    r"pydicom/.*\.(txt|json|md|dump)|.*/README": "(a text file)",
    r"pydicom/.*/DICOMDIR.*": "a DICOMDIR, which lists other files",
    r"pydicom/.*/zipMR\.gz": "a packed DICOM file",
    r"pydicom/.*/(JPEG-lossy|JPGExtended)\.dcm": "12 bits, which is not read here",
    r"pydicom/.*/JPEG2000-embedded-sequence-delimiter\.dcm": "damaged: its frame claims",
    r"pydicom/.*/MR_truncated\.dcm": "damaged or truncated: 8,130 of 8,192 bytes of pixels are there",
    r"pydicom/.*/badVR\.dcm": "its header lacks NumberOfFrames",  # which says 1A
    r"pydicom/.*/(meta_missing_tsyntax|nested_priv_SQ)\.dcm": "its header lacks Rows, Columns",
    r"pydicom/.*/(no_meta\.dcm|crayons\.icc)": "not an image",  # the first begins in the midst of an element
    r"pydicom/.*": "a DICOM file without pixels",
    r".*\.dconn\.nii": "a CIFTI file",
    r".*/resampled_anat_moved\.nii": "holds 40 NaN or infinite voxels; data.nan=black",
    r".*/nifti[12]\.hdr": "a NIfTI pair",
    r".*/analyze\.hdr": "an Analyze 7.5 header",
    r".*\.(mgz)": "a FreeSurfer volume (MGZ)",
    r".*/(minc2|small|test_minc2).*\.mnc": "an HDF5 file (as MINC 2",
    r".*\.mnc": "a NetCDF file (as MINC 1",
    r".*\.PAR": "a Philips PAR header",
    r".*\.HEAD": "an AFNI header",
    r".*\.BRIK\.gz": "a packed file",
    r".*\.(trk|tck)": "a file of fibre tracks|not an image",
    r".*\.v": "an ECAT volume",
    r"nibabel/.*": "not an image",
}
READ = [one for one in compare_all() if not isinstance(one.ours, str)]
NOT_READ = [one for one in compare_all() if isinstance(one.ours, str)]


def name_of(one: Comparison) -> str:
    return one.file


@pytest.mark.parametrize("one", READ, ids=name_of)
def test_the_pixels_are_those_of_the_package(one: Comparison) -> None:
    assert one.theirs is not None
    assert np.isfinite(one.difference)
    assert one.difference <= COMPARED


@pytest.mark.parametrize("one", NOT_READ, ids=name_of)
def test_what_is_refused_is_refused_for_the_right_reason(one: Comparison) -> None:
    expected = next(reason for pattern, reason in REFUSED.items() if re.fullmatch(pattern, one.file))
    assert any(part in one.ours for part in expected.split("|"))
    if one.theirs is not None:
        assert "NaN" in one.ours  # nothing else that a package decodes is refused


def test_most_files_with_pixels_are_among_them() -> None:
    """Against a comparison that compares nothing."""
    assert len(READ) >= 100
    assert sum(one.theirs is not None for one in compare_all()) == len(READ) + 1

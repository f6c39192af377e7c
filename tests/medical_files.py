"""Small DICOM and NIfTI files on disk, with headers that name a person who does not exist."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

# What of a header names somebody; none of it may ever be written down.
NAMES = {
    "PatientName": "Quibblewort^Zenobia",
    "PatientID": "HOSP-4711-XQ",
    "PatientBirthDate": "19311224",
    "OtherPatientNames": "Zenobia^Thistledown",
    "PatientAddress": "7 Larkspur Mews",
    "AccessionNumber": "ACC-998877",
    "ReferringPhysicianName": "Hummelbrand^Otto",
    "StudyDescription": "Follow up of Quibblewort",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111222333",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.444555666",
}


def dataset(stored: np.ndarray, **tags: Any) -> pydicom.FileDataset:
    """A DICOM data set of one frame (H, W), of several (N, H, W), or in colour (H, W, 3)."""
    colour = stored.ndim == 3 and stored.shape[-1] == 3
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = pydicom.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    made.Modality = "MR"
    made.Rows, made.Columns = stored.shape[:2] if colour or stored.ndim == 2 else stored.shape[1:]
    if stored.ndim == 3 and not colour:
        made.NumberOfFrames = len(stored)
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    bits = 8 * stored.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    made.PixelData = stored.tobytes()
    made["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in {**NAMES, **tags}.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def write_dicom(file: Path, stored: np.ndarray, **tags: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset(stored, **tags).save_as(file, enforce_file_format=True)
    return file


def write_packed(file: Path, frames: list[bytes], syntax: str, stored: np.ndarray, **tags: Any) -> Path:
    """A DICOM file whose frames are these streams, whatever the header says."""
    made = dataset(stored, **tags)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    made.save_as(file, enforce_file_format=True)
    return file


def write_encoded(file: Path, made: pydicom.FileDataset, syntax: str) -> Path:
    """A DICOM file in another encoding; bytes of pixels and tables stay as they are."""
    made.file_meta.TransferSyntaxUID = syntax
    order = {"implicit_vr": syntax == ImplicitVRLittleEndian, "little_endian": syntax != ExplicitVRBigEndian}
    pydicom.dcmwrite(file, made, force_encoding=True, **order)
    return file


def shipped(name: str) -> Path:
    """A test file that comes with pydicom."""
    found = get_testdata_file(name, download=False)
    assert found is not None, name
    return Path(found)


def write_nifti(
    file: Path, voxels: np.ndarray, affine: np.ndarray | None = None, kind: Any = nibabel.Nifti1Image
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    kind(voxels, np.eye(4) if affine is None else affine).to_filename(file)
    return file

"""From the bytes of a file to uint8 pixels: pictures, DICOM and NIfTI."""

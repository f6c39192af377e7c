"""A receiver of DICOM images: a scanner or PACS sends a series, and the result goes back into its study. Research use only."""

"""Names of the files in a run folder, an audit, an external validation and a comparison.

A table has its name within `tables/`, a figure within `figures/`; `table_link` and `heatmap_link` give the address that
a page of the run uses.
"""

HONEST = "honest"

# the run folder itself
RECIPE = "recipe.yaml"
PROVENANCE = "provenance.json"
COHORT = "cohort.parquet"
FINDINGS = "findings.json"
QUARANTINE = "quarantine.csv"
METRICS = "metrics.json"
REPORT = "report.html"
REPORT_PDF = {"summary": "report.pdf", "full": "report-full.pdf"}
COPIES = "copies.csv"
AUDIT_PAGE = "audit.html"
CHECKLISTS = "checklists.html"
MODEL_CARD = "model_card.md"
CHECKSUMS = "SHA256SUMS"
BUNDLE_ABOUT = "bundle.json"  # in a bundle or an exported model, and never in a run
LOCK = ".scanwise.lock"  # held by the process that writes the folder

# folders
TABLES = "tables"
FIGURES = "figures"
HEATMAPS = "heatmaps"
FITS = "fits"
BUNDLE = "bundle"
EXTERNAL = "external"
NESTED = "nested"  # of cross-validation
RETRAINED = "retrained"  # for the checks of heatmaps

# tables/
PREDICTIONS = "predictions.csv"
PREDICTIONS_SUBJECT = "predictions_subject.csv"
CLASSIFICATION_REPORT = "classification_report.csv"
CONFUSION_MATRIX = "confusion_matrix.csv"
SUMMARY_STATISTICS = "summary_statistics.csv"
BASELINES = "rivals.csv"
CLASS_DISTRIBUTION = "class_distribution.csv"
HISTORY = "history.csv"
OPERATING_POINTS = "operating_points.csv"
DECISION_CURVE = "decision_curve.csv"
SELECTIVE = "selective.csv"
OUT_OF_DISTRIBUTION = "out_of_distribution.csv"
MEMBERS = "members.csv"
FAILURES = "failures.csv"
CASES = "cases.csv"
CHOICES = "choices.csv"  # of nested cross-validation
DRIFT = "drift.csv"  # of an external validation
RECALIBRATION = "recalibration.csv"  # of an external validation

# figures/
SCANS_SHEET = "scans.png"
FAILURES_SHEET = "failures.png"
CASES_SHEET = "cases.png"

# heatmaps/
CHECKS = "checks.json"
MAPS = "maps.npz"
SPREAD = "spread.npz"
REGIONS = "regions.csv"
COMPONENTS = "components.csv"
WORDS = "words.csv"
ATTENTION = "attention.csv"
MEAN_SHEET = "mean.png"
UNCERTAINTY_SHEET = "uncertainty.png"

# fits/PROTOCOL/FOLD/
SPLIT = "split.parquet"
CHECKPOINTS = "checkpoints"
MODEL = "model.safetensors"
CALIBRATOR = "calibrator.json"
CONFORMAL = "conformal.json"
ABSTENTION = "abstention.json"
NOVELTY = "novelty.safetensors"
VOCABULARY = "vocabulary.json"

# an audit without a run, an external validation, a comparison
SUBJECTS = "subjects.csv"
EXTERNAL_PAGE = "external.html"
COMPARISON = "comparison.csv"
COMPARISON_PAGE = "comparison.html"
FOLD_PAGE = "folds.html"  # of a cross-validation
DIFFERENCES = "differences.csv"
MCNEMAR = "mcnemar.csv"
RANKING = "ranking.csv"

CHECKSUMMED = (
    RECIPE, PROVENANCE, COHORT, FINDINGS, QUARANTINE, METRICS,
    "tables/**/*.csv", "tables/**/*.parquet", "figures/*.png",
    "heatmaps/*.json", "heatmaps/*.csv", "heatmaps/*.png",
    "fits/*/*/*.json", "fits/*/*/history.csv", "fits/*/*/split.parquet", "fits/*/*/logits/test.npz",
)  # fmt: skip
"""Patterns of the files that a report is made from: their hashes stand in `SHA256SUMS`."""


def table_link(name: str, protocol: str = HONEST) -> str:
    """Address of a table, relative to the run folder.

    >>> table_link(PREDICTIONS), table_link(PREDICTIONS, "published")
    ('tables/predictions.csv', 'tables/published/predictions.csv')
    """
    return f"{TABLES}/{name}" if protocol == HONEST else f"{TABLES}/{protocol}/{name}"


def figure_link(name: str) -> str:
    """Address of a figure, relative to the run folder."""
    return f"{FIGURES}/{name}"


def heatmap_link(name: str) -> str:
    """Address of a file about heatmaps, relative to the run folder."""
    return f"{HEATMAPS}/{name}"


def predictions_file(unit: str) -> str:
    """Name of the table of predictions, by scan or by subject."""
    return PREDICTIONS if unit == "scan" else PREDICTIONS_SUBJECT

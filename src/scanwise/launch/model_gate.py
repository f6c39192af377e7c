"""Whether a trained model beats the one that was registered last: the middle step of the SageMaker pipeline.

Both figures are those of honest test sides. A model that has none, because its only split leaks, beats nothing.
"""

import math
import os
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scanwise.errors import LaunchError
from scanwise.metrics import lower_is_better
from scanwise.records import Metric, load_metrics
from scanwise.run import layout, write_json


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison.

    Attributes:
        metric: what was compared.
        unit: subject, or scan where nobody is known.
        value: of the new model; None without an honest split.
        previous: of the last one that was registered and not rejected; None if there is none.
        beats: 1 if the new one is to be registered.
        text: the value as the registry keeps it.
    """

    metric: str
    unit: str
    value: float | None
    previous: float | None
    beats: int
    text: str


def gate_model(model: Path, group: str, metric: str, out: Path) -> Verdict:
    """Compare, and write the verdict as JSON.

    Args:
        model: a folder with `metrics.json`, or with the `model.tar.gz` that holds it.
        group: of model packages, where the last one is looked up.
        metric: a name in metrics.json.
        out: the JSON file.

    Raises:
        LaunchError: if there are no figures, none of that name, or the registry cannot be asked.
    """
    figure = _figure(_metrics_in(model), metric)
    previous = _previous(group, metric)
    value = None if figure is None else figure.value
    verdict = Verdict(
        metric, "" if figure is None else figure.unit, value, previous, int(_beats(value, previous, metric)), f"{value}"
    )
    write_json(asdict(verdict), out)
    return verdict


def _beats(value: float | None, previous: float | None, metric: str) -> bool:
    if value is None or math.isnan(value):
        return False
    if previous is None:
        return True
    return value < previous if lower_is_better(metric) else value > previous


def _metrics_in(model: Path) -> list[Metric]:
    archive = model / "model.tar.gz"
    if not archive.is_file():
        if not (model / layout.METRICS).is_file():
            raise LaunchError(
                f"{model} holds neither metrics.json nor model.tar.gz. Give the folder that a training left."
            )
        return load_metrics(model / layout.METRICS)
    with tarfile.open(archive) as opened, TemporaryDirectory() as folder:
        names = [name for name in opened.getnames() if Path(name).name == layout.METRICS]
        if not names:
            raise LaunchError(f"{archive} holds no metrics.json; was it made by scanwise?")
        opened.extract(names[0], folder, filter="data")
        return load_metrics(Path(folder) / names[0])


def _figure(metrics: list[Metric], name: str) -> Metric | None:
    """The network's figure on the honest test side, by subject if there is one; of several folds, all together."""
    whole = [m for m in metrics if (m.model, m.split, m.group) == ("network", "test", "")]
    if name not in {m.name for m in whole}:
        raise LaunchError(f"There is no metric {name!r}; choose one of {', '.join(sorted({m.name for m in whole}))}.")
    honest = [m for m in whole if m.protocol == "honest" and m.name == name]
    return min(honest, key=lambda m: (m.unit != "subject", m.fold), default=None)


def _previous(group: str, metric: str) -> float | None:
    """Figures of the newest package of a group that was not rejected."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session
    except ImportError as error:
        raise LaunchError(
            "The registry is asked through botocore. Install it with pip install 'scanwise[s3]'."
        ) from error
    try:
        # SageMaker's containers set AWS_REGION; botocore itself heeds AWS_DEFAULT_REGION alone.
        client = get_session().create_client("sagemaker", region_name=os.environ.get("AWS_REGION") or None)
        # SageMaker lists ten at a time, and all of the first may be rejected.
        pages = client.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending"
        )
        for package in (package_summary for page in pages for package_summary in page["ModelPackageSummaryList"]):
            if package.get("ModelApprovalStatus") != "Rejected":
                return _told(client.describe_model_package(ModelPackageName=package["ModelPackageArn"]), metric)
    except ClientError as error:
        if "does not exist" not in str(error) and error.response["Error"]["Code"] != "ResourceNotFound":
            raise LaunchError(f"SageMaker's registry refused: {error}") from error
    except BotoCoreError as error:
        raise LaunchError(f"SageMaker's registry cannot be asked: {error} Check region and credentials.") from error
    return None


def _told(package: dict[str, Any], metric: str) -> float | None:
    text = package.get("CustomerMetadataProperties", {}).get(metric)
    return None if text is None else float(text)

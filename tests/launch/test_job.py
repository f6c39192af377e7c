"""A job is checked here before it costs money, and what SageMaker is told is what was asked for."""

import json
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from scanwise import recipe
from scanwise.errors import LaunchError, RecipeError
from scanwise.launch import job
from scanwise.launch.container import Contract, command
from tiny import Command

ROLE = "arn:aws:iam::123456789012:role/scanwise"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/scanwise:1"
ASKED = [
    "launch", "sagemaker", "alexnet-gray", "--data", "s3://bucket/scans", "--out", "s3://bucket/out", "--image", IMAGE,
    "--role", ROLE, "--set", "train.epochs=3",
]  # fmt: skip
CHANNEL = "/opt/ml/input/data/weights"
HYBRID = [
    "--set", "model={name: hybrid, hybrid: {convolution: {name: test_resnet}, transformer: {name: test_vit, options: "
    "{img_size: 32}}}}",
]  # fmt: skip
FUSION = ["--set", "model={name: fusion, fusion: {image: {name: test_resnet}}}"]
EXECUTION = {"Get": "Execution.PipelineExecutionId"}


def client(name: str = "sagemaker") -> Any:
    return pytest.importorskip("botocore.session").get_session().create_client(name)


@pytest.mark.slow
def test_a_job_is_submitted_as_asked(sagemaker: str, sdk: Path, scanwise: Command) -> None:
    said = scanwise(
        *ASKED, "--spot", "--hours", 2, "--subject", "who.csv", "--instance", "ml.g5.2xlarge", "--python", sdk,
        "--channel", "weights=s3://bucket/w.pth",
    )  # fmt: skip
    assert said.code == 0, said.err
    (summary,) = client().list_training_jobs()["TrainingJobSummaries"]
    name = summary["TrainingJobName"]
    assert name in said.out
    assert name.startswith("scanwise-alexnet-gray-")
    found = client().describe_training_job(TrainingJobName=name)
    assert found["RoleArn"] == ROLE
    assert found["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    assert found["HyperParameters"] == {"recipe": "alexnet-gray", "train.epochs": "3", "subject": "who.csv"}
    assert found["ResourceConfig"] == {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50}
    channels = {
        given["ChannelName"]: given["DataSource"]["S3DataSource"]["S3Uri"] for given in found["InputDataConfig"]
    }
    assert channels == {"data": "s3://bucket/scans", "weights": "s3://bucket/w.pth"}
    assert found["OutputDataConfig"]["S3OutputPath"] == "s3://bucket/out"
    assert found["EnableManagedSpotTraining"]
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    kept = found["CheckpointConfig"]
    assert re.fullmatch(r"s3://bucket/out/checkpoints/scanwise-alexnet-gray-\d{20}", kept["S3Uri"])
    assert kept["LocalPath"] == "/opt/ml/checkpoints"
    assert f"checkpoints: {kept['S3Uri']}" in said.out


@pytest.mark.slow
def test_a_pipeline_trains_judges_and_registers_what_is_better(sagemaker: str, sdk: Path, scanwise: Command) -> None:
    said = scanwise(*ASKED, "--pipeline", "brains", "--metric", "auroc", "--python", sdk)
    assert said.code == 0, said.err
    found = client().describe_pipeline(PipelineName="scanwise-alexnet-gray")
    assert found["PipelineArn"] in said.out
    steps = {step["Name"]: step for step in json.loads(found["PipelineDefinition"])["Steps"]}
    assert list(steps) == ["Train", "Judge", "Beats"]
    assert steps["Train"]["Type"] == "Training"
    assert steps["Train"]["Arguments"]["HyperParameters"]["train.epochs"] == "3"
    assert steps["Train"]["Arguments"]["CheckpointConfig"] == {
        "S3Uri": {"Std:Join": {"On": "/", "Values": ["s3://bucket/out/checkpoints/scanwise-alexnet-gray", EXECUTION]}},
        "LocalPath": "/opt/ml/checkpoints",
    }
    judge = steps["Judge"]["Arguments"]
    (left,) = judge["ProcessingOutputConfig"]["Outputs"]
    assert left["S3Output"]["S3Uri"] == {"Std:Join": {"On": "/", "Values": ["s3://bucket/out/verdict", EXECUTION]}}
    assert judge["AppSpecification"]["ContainerEntrypoint"] == ["scanwise", "verdict"]
    assert judge["AppSpecification"]["ContainerArguments"][-4:] == ["--group", "brains", "--metric", "auroc"]
    artifacts = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
    assert judge["ProcessingInputs"][0]["S3Input"]["S3Uri"] == artifacts
    (condition,) = steps["Beats"]["Arguments"]["Conditions"]
    assert condition["Type"] == "Equals"
    assert condition["LeftValue"] == {
        "Std:JsonGet": {"PropertyFile": {"Get": "Steps.Judge.PropertyFiles.Verdict"}, "Path": "beats"}
    }
    (register,) = steps["Beats"]["Arguments"]["IfSteps"]
    assert register["Type"] == "RegisterModel"
    assert register["Arguments"]["ModelPackageGroupName"] == "brains"
    assert register["Arguments"]["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == artifacts


@pytest.mark.slow
def test_what_sagemaker_refuses_is_one_line(sagemaker: str, sdk: Path, scanwise: Command) -> None:
    said = scanwise(*ASKED, "--instance", "no-such-instance", "--image", "", "--python", sdk)
    assert said.code == 2
    assert "SageMaker was not given the job" in said.refusal
    assert "\n" not in said.refusal


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--data", "/scans"], "S3 alone"),
        (["--out", "bucket/out"], "S3 alone"),
        (["--checkpoints", "kept"], "S3 alone"),
        (["--data", "s3://bucket/scans/all.csv"], "--data s3://bucket/scans --manifest all.csv"),
        (["--data", "s3://bucket/all.XLSX"], "--data s3://bucket --manifest all.XLSX"),
        (["--manifest", "s3://bucket/scans/all.csv"], "in the folder that --data names"),
        (["--manifest", "/scans/all.csv"], "in the folder that --data names"),
        (["--manifest", "../all.csv"], "in the folder that --data names"),
        (["--manifest", "scans"], "in the folder that --data names"),
        (["--subject", "/home/me/who.csv"], "in the folder that --data names"),
        (["--set", "train.epoch=3"], "Did you mean 'epochs'"),
        (["--set", "model.name=resnet5"], "There is no network 'resnet5'"),
        (["--set", "model.weights=hub"], "no weights for 'alexnet'"),
        (["--set", "model.weights=/home/me/local.pth"], "set model.weights=/opt/ml/input/data/weights/local.pth"),
        (["--set", "model.weights=s3://bucket/local.pth"], "--channel weights=s3://bucket/folder"),
        (["--set", f"model.weights={CHANNEL}/w.pth"], "no channel 'weights' (it has data)"),
        (["--set", "model.weights=/opt/ml/input/data/data/../../w.pth"], "the container does not have"),
        (["--set", "rivals.weights=local.pth"], "rivals.weights is 'local.pth', which the container does not have"),
        (["--set", "rivals.weights=hub", "--set", "rivals.backbone=resnet5"], "There is no network 'resnet5'"),
        ([*HYBRID, "--set", "model.hybrid.transformer.weights=v.pth"], "model.hybrid.transformer.weights is 'v.pth'"),
        (["--set", "model={name: vit_tiny_patch16_224}"], "cannot take scans of 32 × 32 pixels"),
        ([*FUSION, "--set", "model.fusion.image.weights=i.pth"], "model.fusion.image.weights is 'i.pth'"),
        ([*FUSION, "--set", "model.text.encoder=/home/me/bert"], "model.text.encoder is '/home/me/bert'"),
        ([*FUSION, "--set", "model.text.encoder=some/bert"], "model.weights is none. Set model.weights to hub"),
        (["--channel", "weights"], "no NAME=URL"),
        (["--channel", "data=s3://bucket/more"], "no NAME=URL"),
        (["--channel", "weights=/home/me"], "S3 alone"),
        (["--channel", "my weights=s3://bucket/w"], "name of a channel"),
        (["--pipeline", "g", "--metric", "balanced_acuracy"], "Did you mean 'balanced_accuracy'"),
        (["--pipeline", "g", "--metric", "mean_set_size"], "There is no metric 'mean_set_size'"),
        (["--pipeline", "g", "--metric", "stage_error"], "Set ordered=true"),
        (["--pipeline", "g", "--set", "split.protocols=[published]"], "Add honest to it"),
        (["--name", "no spaces"], "letters, digits and dashes"),
        (["--python", "/no/such/python"], "cannot be run"),
        (["--python", sys.executable], "no SageMaker SDK"),
    ],
)
def test_mistakes_are_said_before_anything_is_asked_of_aws(scanwise: Command, changed: list[str], told: str) -> None:
    said = scanwise(*ASKED, *changed)
    assert said.code == 2
    assert told in said.refusal


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[job.Job]:
    """The jobs that would have been handed over."""
    jobs: list[job.Job] = []

    def keep(made: job.Job, _: object) -> dict[str, str]:
        jobs.append(made)
        return {"job": made.name}

    monkeypatch.setattr(job, "submit_job", keep)
    return jobs


def test_no_two_jobs_share_checkpoints_unless_told_to(submitted: list[job.Job], scanwise: Command) -> None:
    said = [scanwise(*ASKED) for _ in range(2)]
    assert all(found.code == 0 for found in said), said
    first, second = (made.checkpoints for made in submitted)
    assert first != second
    assert f"checkpoints: {first}" in said[0].out
    assert first.startswith("s3://bucket/out/checkpoints/scanwise-alexnet-gray-")
    assert scanwise(*ASKED, "--checkpoints", first).code == 0
    assert submitted[-1].checkpoints == first


def test_a_manifest_in_the_data_is_told_to_the_container(submitted: list[job.Job], scanwise: Command) -> None:
    assert scanwise(*ASKED, "--manifest", "lists/all.csv").code == 0
    assert submitted[0].hyperparameters["manifest"] == "lists/all.csv"
    assert submitted[0].channels == {"data": "s3://bucket/scans"}


def test_a_patient_table_in_the_data_is_told_to_the_container(
    submitted: list[job.Job], scanwise: Command, tmp_path: Path
) -> None:
    described = ["--patients", "lists/patients.csv", "--id", "ID", "--label", "diagnosis: first", "--series", "T1"]
    assert scanwise(*ASKED, *described, "--set", "train.epochs=7").code == 0
    given = submitted[0].hyperparameters
    assert given["patients"] == "lists/patients.csv"
    folder = tmp_path / "input"
    (folder / "data" / "data").mkdir(parents=True)
    (folder / "config").mkdir()
    (folder / "config" / "hyperparameters.json").write_text(json.dumps(given), encoding="utf-8")
    made = command(Contract(tmp_path, {"SM_NUM_GPUS": "0"}))
    assert made[made.index("--patients") + 1] == str(folder / "data" / "data" / "lists" / "patients.csv")
    settings = [made[place + 1] for place, word in enumerate(made) if word == "--set"]
    wanted = ["data.id=ID", "data.label='diagnosis: first'", "data.series=T1", "train.epochs=7"]
    name = given["recipe"]
    assert recipe.load_recipe(name, settings) == recipe.load_recipe(name, wanted)


def test_a_patient_table_elsewhere_is_refused(scanwise: Command) -> None:
    assert "in the folder that --data names" in scanwise(*ASKED, "--patients", "/home/patients.csv").refusal


@pytest.mark.parametrize(
    "settings",
    [
        [f"model.weights={CHANNEL}/w.pth", f"rivals.weights={CHANNEL}/r.safetensors"],
        [FUSION[1], f"model.weights={CHANNEL}/w.pth", "model.text.encoder=some/bert"],
        [FUSION[1], f"model.text.encoder={CHANNEL}/bert", "model.text.length=24"],
        ["model={name: text, weights: hub, text: {encoder: bert}}"],
    ],
)
def test_what_a_channel_brings_is_there_for_the_container(
    submitted: list[job.Job], scanwise: Command, settings: list[str]
) -> None:
    more = [word for setting in settings for word in ("--set", setting)]
    said = scanwise(*ASKED, *more, "--channel", "weights=s3://bucket/w", "--pipeline", "g", "--metric", "nll")
    assert said.code == 0, said.err
    assert submitted[0].channels == {"data": "s3://bucket/scans", "weights": "s3://bucket/w"}
    assert submitted[0].hyperparameters.items() >= dict(setting.split("=", 1) for setting in settings).items()


def test_the_image_has_the_packages_of_every_recipe() -> None:
    image = (Path(__file__).parents[2] / "constraints-image.txt").read_text(encoding="utf-8")
    trackers = get_args(get_args(recipe.Tracking.model_fields["names"].annotation)[0])
    assert set(re.findall(r"--extra (\w+)", image)) == {"s3", "text", *trackers}


def test_the_image_has_the_tested_versions() -> None:
    root = Path(__file__).parents[2]
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = [re.sub(r"^[\w.-]+", lambda name: re.sub(r"[._]", "-", name.group()).lower(), line) for line in lines]
    pinned = re.findall(
        r"^([\w.-]+==[^ ]+) ", (root / "constraints-image.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(pinned) > 100
    assert not [line for line in pinned if line not in tested]


def test_a_recipe_of_ones_own_travels_as_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\n" + "# why\n" * 900 + "train: {epochs: 7}\n", encoding="utf-8")
    told = job.hyperparameters(str(file), ["train.batch=4"], "who.csv")
    assert all(len(value) <= job.PIECE for value in told.values())
    place = tmp_path / "ml"
    (place / "input" / "config").mkdir(parents=True)
    (place / "input" / "data" / "data").mkdir(parents=True)
    (place / "input" / "config" / "hyperparameters.json").write_text(json.dumps(told), encoding="utf-8")
    made = command(Contract(place, {"SM_NUM_GPUS": "4"}))
    again = recipe.load_recipe(made[1], [made[made.index("--set") + 1]])
    assert (again.name, again.train.epochs, again.train.batch) == ("mine", 7, 4)
    assert made[-2:] == ["--processes", "4"]
    file.write_text("name: Not A Name\n", encoding="utf-8")
    with pytest.raises(RecipeError):
        job.hyperparameters(str(file), [], "")


def test_a_job_needs_a_place_in_s3() -> None:
    with pytest.raises(LaunchError, match="--data is ''"):
        job.Job("a", IMAGE, ROLE, "ml.m5.large", {}, "s3://bucket/out", "s3://bucket/c", {})

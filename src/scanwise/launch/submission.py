"""Hand a job to SageMaker with its official SDK; run by the Python of an environment that has that SDK and nothing of scanwise.

    PYTHON -I submission.py < job.json

The job is what `launch.job.Job` writes. Prints, as its last line, JSON of what was made. Errors of the SDK come out as one
line on standard error and exit code 2.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

QUIET = "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n"
"""The SDK reports its use to its maker unless told not to; who runs it may say otherwise with a configuration of their own."""

MODEL, VERDICT, PREVIOUS = "/opt/ml/processing/model", "/opt/ml/processing/verdict", "verdict.json"


def create_in_sagemaker(job: dict[str, Any]) -> dict[str, str]:
    """Start a training job, and return its name, or make a pipeline and return its ARN."""
    import boto3
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.workflow.pipeline_context import PipelineSession

    # boto3 itself heeds AWS_DEFAULT_REGION alone.
    boto = boto3.Session(region_name=job["region"] or os.environ.get("AWS_REGION") or None)
    if job["group"]:
        return _make_pipeline(job, PipelineSession(boto_session=boto, default_bucket=job["output"].split("/")[2]))
    session = Session(boto_session=boto, default_bucket=job["output"].split("/")[2])
    trainer = _trainer(job, session, job["checkpoints"])
    trainer.train(wait=job["wait"], logs=job["wait"])
    return {"job": str(trainer._latest_training_job.training_job_name)}


def _trainer(job: dict[str, Any], session: Any, checkpoints: Any) -> Any:
    from sagemaker.core.training import configs
    from sagemaker.train import ModelTrainer

    spot = job["spot"]
    return ModelTrainer(
        sagemaker_session=session,
        role=job["role"],
        base_job_name=job["name"],
        training_image=job["image"],
        compute=configs.Compute(
            instance_type=job["instance"],
            instance_count=1,
            volume_size_in_gb=job["disk"],
            enable_managed_spot_training=spot,
        ),
        stopping_condition=configs.StoppingCondition(
            max_runtime_in_seconds=job["seconds"], max_wait_time_in_seconds=2 * job["seconds"] if spot else None
        ),
        output_data_config=configs.OutputDataConfig(s3_output_path=job["output"], compression_type="GZIP"),
        checkpoint_config=configs.CheckpointConfig(s3_uri=checkpoints, local_path="/opt/ml/checkpoints"),
        hyperparameters=job["hyperparameters"],
        input_data_config=[
            configs.InputData(channel_name=name, data_source=url) for name, url in job["channels"].items()
        ],
        tags=[{"key": name, "value": value} for name, value in job["tags"].items()] or None,
    )


def _make_pipeline(job: dict[str, Any], session: Any) -> dict[str, str]:
    """Train, look whether the model beats the one that the group holds, and register it if so."""
    from sagemaker.core.workflow.conditions import ConditionEquals
    from sagemaker.core.workflow.functions import JsonGet
    from sagemaker.mlops.workflow.condition_step import ConditionStep
    from sagemaker.mlops.workflow.pipeline import Pipeline
    from sagemaker.mlops.workflow.steps import TrainingStep

    train = TrainingStep("Train", step_args=_trainer(job, session, _of_execution(job["checkpoints"])).train())
    artifacts = train.properties.ModelArtifacts.S3ModelArtifacts
    step, property_file = _judging(job, session, artifacts)
    figure = JsonGet(step_name=step.name, property_file=property_file, json_path="text")
    beats = ConditionEquals(JsonGet(step_name=step.name, property_file=property_file, json_path="beats"), 1)
    register = _registering(job, artifacts, figure)
    steps = [train, step, ConditionStep("Beats", conditions=[beats], if_steps=[register], else_steps=[])]
    pipeline = Pipeline(name=job["name"], steps=steps, sagemaker_session=session)
    created = pipeline.upsert(role_arn=job["role"])
    if job["wait"]:
        pipeline.start()
    return {"pipeline": str(created["PipelineArn"])}


def _of_execution(url: str) -> Any:
    """A folder below a URL that each execution of the pipeline has for itself; one that starts a step again finds it again."""
    from sagemaker.core.workflow.execution_variables import ExecutionVariables
    from sagemaker.core.workflow.functions import Join

    return Join(on="/", values=[url.rstrip("/"), ExecutionVariables.PIPELINE_EXECUTION_ID])


def _judging(job: dict[str, Any], session: Any, artifacts: Any) -> tuple[Any, Any]:
    from sagemaker.core.processing import Processor
    from sagemaker.core.shapes import (
        ProcessingInput,
        ProcessingOutput,
        ProcessingS3Input,
        ProcessingS3Output,
    )
    from sagemaker.core.workflow.properties import PropertyFile
    from sagemaker.mlops.workflow.steps import ProcessingStep

    processor = Processor(
        role=job["role"], image_uri=job["image"], instance_count=1, instance_type=job["gate_instance"],
        entrypoint=["scanwise", "verdict"], sagemaker_session=session,
    )  # fmt: skip
    given = ProcessingS3Input(s3_uri=artifacts, local_path=MODEL, s3_data_type="S3Prefix", s3_input_mode="File")
    left = ProcessingS3Output(
        s3_uri=_of_execution(f"{job['output']}/verdict"), local_path=VERDICT, s3_upload_mode="EndOfJob"
    )
    arguments = [MODEL, "--out", f"{VERDICT}/{PREVIOUS}", "--group", job["group"], "--metric", job["metric"]]
    property_file = PropertyFile(name="Verdict", output_name="verdict", path=PREVIOUS)
    step_args = processor.run(
        inputs=[ProcessingInput(input_name="model", s3_input=given)],
        outputs=[ProcessingOutput(output_name="verdict", s3_output=left)],
        arguments=arguments,
    )
    return ProcessingStep("Judge", step_args=step_args, property_files=[property_file]), property_file


def _registering(job: dict[str, Any], artifacts: Any, figure: Any) -> Any:
    from sagemaker.core.workflow.properties import Properties
    from sagemaker.mlops.workflow.steps import Step, StepTypeEnum

    class Register(Step):  # type: ignore[misc]
        """Registers the model; the SDK's own step for it asks for a server of predictions, which this is not."""

        @property
        def arguments(self) -> dict[str, Any]:
            container = {"Image": job["image"], "ModelDataUrl": artifacts}
            return {
                "ModelPackageGroupName": job["group"],
                "ModelApprovalStatus": "PendingManualApproval",
                "CustomerMetadataProperties": {job["metric"]: figure},
                "InferenceSpecification": {
                    "Containers": [container],
                    "SupportedContentTypes": ["application/json"],
                    "SupportedResponseMIMETypes": ["application/json"],
                },
            }

        @property
        def properties(self) -> Any:
            return Properties(step_name=self.name, step=self, shape_name="DescribeModelPackageOutput")

    return Register("Register", step_type=StepTypeEnum.REGISTER_MODEL)


def main() -> int:
    """Read the job, hand it over, tell what was made."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = Path(folder) / "config.yaml"
        quiet.write_text(QUIET, encoding="utf-8")
        os.environ.setdefault("SAGEMAKER_USER_CONFIG_OVERRIDE", str(quiet))
        try:
            created = create_in_sagemaker(json.load(sys.stdin))
        except Exception as error:  # noqa: BLE001 - the SDK throws what it likes; the parent tells it in one line
            sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())}\n")
            return 2
    sys.stdout.write(f"\n{json.dumps(created)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

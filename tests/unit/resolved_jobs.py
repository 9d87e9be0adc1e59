"""Jobs as an invoke would make them, for tests that only need some job."""

from datetime import UTC, datetime

from batchpoint.domain.job import Job, JobStatus
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.job_spec import (
    ResolvedCode,
    ResolvedEnvironment,
    ResolvedModel,
    ScoreSpec,
    ScoringSettings,
)

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)


def new_job(
    name: str = "heart-00000001", endpoint: str = "heart", deployment: str = "first"
) -> Job:
    return Job(
        name=name,
        spec=ScoreSpec(
            endpoint_name=endpoint,
            deployment_name=deployment,
            model=ResolvedModel(
                name="m", version="1", type="custom_model", path="/m", hash="a" * 64
            ),
            code=ResolvedCode(path="/c", scoring_script="s.py", hash="b" * 64),
            environment=ResolvedEnvironment(
                name="e", version="1", hash="c" * 64, python="/usr/bin/python3"
            ),
            compute="local",
            idle_seconds=120,
            settings=ScoringSettings(
                instance_count=1,
                max_concurrency_per_instance=1,
                mini_batch_size=10,
                max_retries=3,
                timeout_seconds=None,
                error_threshold=None,
                logging_level="info",
                output_action="append_row",
                output_file_name="predictions.csv",
                output_format="batchpoint",
                environment_variables={},
                split_files=False,
                coalesce_files=True,
            ),
            input=JobInput(type="uri_folder", uri="file:///data"),
            output=JobOutput(uri="file:///out"),
        ),
        status=JobStatus(),
        created_at=NOON,
    )

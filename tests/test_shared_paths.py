"""What the workers of a cluster do not see is said before anything is computed."""

import pytest

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import use_cluster
from tabular_trainers.shared_paths import check_here, check_workers_see, lacking
from tests.dask_workers import dask_workers


def test_what_workers_lack_is_named_with_the_folder_of_the_marker(tmp_path):
    (tmp_path / "marker").touch()
    with dask_workers(2) as cluster, use_cluster(cluster.name):
        check_workers_see([tmp_path], tmp_path / "marker")
        with pytest.raises(SchemaError) as told:
            check_workers_see([tmp_path, tmp_path / "gone"], tmp_path / "out" / "marker")
    said = str(told.value)
    assert said.startswith("workers on ")
    assert f"have no {tmp_path / 'gone'}, {tmp_path / 'out'}. Files and output must lie" in said


def test_on_this_machine_no_worker_is_asked(tmp_path):
    check_workers_see([tmp_path / "gone"])


def test_a_task_refuses_to_start_without_its_paths(tmp_path):
    check_here([tmp_path])
    with pytest.raises(SchemaError, match=r"have no .*gone\. Files and output"):
        check_here([tmp_path, tmp_path / "gone"])
    assert lacking([str(tmp_path)])["lacking"].empty

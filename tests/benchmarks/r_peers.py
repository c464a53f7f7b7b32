"""R's libraries as peers: r_peers.R fits them on the same numbers and measures itself."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from measure import Job

SCRIPT = Path(__file__).with_suffix(".R")


def r_installed(package):
    """Say whether Rscript and one of its packages are there."""
    if shutil.which("Rscript") is None:
        return False
    asked = f"quit(status = !requireNamespace('{package}', quietly = TRUE))"
    return subprocess.run(["Rscript", "-e", asked], capture_output=True).returncode == 0


def r_job(task, X, y, facts=None, **options):
    """Hand a cohort to R and let it fit.

    Parameters
    ----------
    task : str
        A function of r_peers.R.
    X, y : arrays of shape (n, p) and (n,)
    facts : callable, optional
        ``facts(penalties, coef)`` of what R found, (k,) and (p, k).
    options : dict
        For the function, as JSON can say them.
    """

    def run():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            X.T.astype(np.float32).tofile(folder / "X")
            y["time"].astype(np.float64).tofile(folder / "time")
            y["event"].astype(np.float64).tofile(folder / "event")
            given = {"task": task, "n": X.shape[0], "p": X.shape[1], **options}
            (folder / "options.json").write_text(json.dumps(given))
            subprocess.run(
                ["Rscript", str(SCRIPT), str(folder)],
                check=True,
                stdout=subprocess.DEVNULL,
                env=os.environ,
            )
            measured = json.loads((folder / "measured.json").read_text())
            if facts is not None:
                penalties = np.fromfile(folder / "penalties")
                coef = np.fromfile(folder / "coef").reshape(len(penalties), -1).T
                measured["found"] = facts(penalties, coef)
            return measured

    return Job(run, lambda measured: measured.pop("found", {}), measures_itself=True)

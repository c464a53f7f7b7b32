"""Cluster the patches of a store larger than memory: sample, k-means, shares of every patient.

A store of 2,000 slides x 5,000 patches x 384 float16 (7.7 GB, removed afterwards) is written to the
temporary folder: patches of 60 overlapping kinds, which vary along 30 directions and by noise, in
shares of each patient's own. Then, in a process of its own for each number of clusters: 500,000
patches are drawn, clustered, and every patch of the store is assigned. What is found is held
against distances taken in float64, and against scikit-learn's MiniBatchKMeans of the same sample.

    python tests/benchmarks/large_store.py [--slides 2000] [--clusters 50 200] [--threads 2]

The table goes to LARGE_STORE.md. POSIX only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import Job, measure

FOLDER = Path(__file__).parent
STORE, TABLE = FOLDER / "large_store.json", FOLDER / "LARGE_STORE.md"
PATCHES, DIM, SAMPLE = 5000, 384, 500_000
KINDS, DIRECTIONS = 60, 30
CHECKED = 5  # slides whose shares are counted again
WALL_SECONDS, MEMORY_GB = 600, 4  # at most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=2000)
    parser.add_argument("--clusters", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    known = {"slides": options.slides, "threads": options.threads, "clusters": {}}
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "store"
        # by another process: writing would leave its peak of memory here
        command = [sys.executable, __file__, "--write", str(options.slides), str(store)]
        subprocess.run(command, check=True)
        written = sum(file.stat().st_size for file in store.rglob("*.parquet"))
        known["store_gb"] = written / 1e9
        for k in options.clusters:
            given = {"store": str(store), "k": k}
            found = measure("large_store:job", given, options.threads)
            known["clusters"][str(k)] = found | {"load": os.getloadavg()[1]}
            STORE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
            TABLE.write_text(table(known))
            print(TABLE.read_text(), flush=True)


def write(n_slides, folder):
    """Write the store: one slide a patient."""
    import pandas as pd

    from tabular_trainers.embed.store import Recipe, SlideFacts, write_slide
    from tabular_trainers.tables import write_table

    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 0.6, (KINDS, DIM)).astype("float32")
    along = rng.normal(0, 0.25, (DIRECTIONS, DIM)).astype("float32")
    recipe = Recipe("benchmark-1", {"patch_px": 256, "mpp": 0.5})
    place, share = np.arange(PATCHES) * 128.0, np.zeros(PATCHES, dtype="float32")
    columns = {"x_um": place, "y_um": place, "size_um": np.full(PATCHES, 128.0)}
    columns |= {"tissue": share, "blur": share, "artefact": share}
    rows = []
    for i in range(n_slides):
        vectors = kinds[rng.choice(KINDS, PATCHES, p=rng.dirichlet(np.full(KINDS, 0.3)))]
        vectors += rng.standard_normal((PATCHES, DIRECTIONS), dtype="float32") @ along
        vectors += rng.standard_normal((PATCHES, DIM), dtype="float32")
        slide = SlideFacts(f"s{i:05d}", f"p{i:05d}", "x.svs", 0.5, 10_000, 10_000, 1)
        write_slide(folder, columns, vectors.astype("float16"), recipe, slide)
        rows.append((slide.slide_id, slide.patient_id, "x.svs", 0.5, 10_000, 10_000, PATCHES))
    names = ["slide_id", "patient_id", "path", "mpp", "width_px", "height_px", "n_patches"]
    frame = pd.DataFrame(rows, columns=names).assign(status="done", encoder_id="benchmark-1")
    write_table(frame, "slides", folder / "slides.parquet")


def job(store, k):
    """Sample, cluster, assign; the seconds of each are told."""
    import sklearn.cluster  # noqa: F401  (imports are not what is timed)

    from tabular_trainers.patch_clusters import fit_clusters
    from tabular_trainers.patch_prevalence import prevalence
    from tabular_trainers.patch_sample import sample_patches
    from tabular_trainers.patch_store import open_patches

    def run():
        times = [time.perf_counter()]
        patches = open_patches(store)
        sample = sample_patches(patches, n=SAMPLE)
        times.append(time.perf_counter())
        clusters = fit_clusters(sample, k)
        times.append(time.perf_counter())
        vectors = sample.vectors[:: len(sample.vectors) // 50_000]
        del sample
        found = prevalence(patches, clusters)
        times.append(time.perf_counter())
        return patches, clusters, vectors, found, np.diff(times)

    def facts(result):
        patches, clusters, vectors, found, seconds = result
        return {
            **dict(zip(("sample_s", "fit_s", "assign_s"), map(float, seconds), strict=True)),
            "n_patches": patches.n_patches,
            "largest_error_of_a_sum": float(np.abs(found.sum(axis=1) - 1).max()),
            "largest_error_of_a_share": error_of_shares(patches, clusters, found),
            "of_minibatch": against_minibatch(clusters, vectors),
        }

    return Job(run, facts)


def error_of_shares(patches, clusters, found):
    """Count the shares of some patients again, by distances in float64."""
    errors = []
    for i in np.linspace(0, len(patches.slides) - 1, CHECKED).astype(int):
        slide = patches.slides.iloc[i]
        z = (patches.vectors(slide["slide_id"]).astype("float64") - clusters.mean) / clusters.spread
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        far = np.stack([np.square(z - centre).sum(axis=1) for centre in clusters.centres])
        shares = np.bincount(far.argmin(axis=0), minlength=clusters.k) / len(z)
        errors.append(np.abs(found.loc[slide["patient_id"]] - shares).max())
    return float(max(errors))


def against_minibatch(clusters, vectors):
    """Compare sums of squares with those of MiniBatchKMeans, which is usual at this size."""
    from sklearn.cluster import MiniBatchKMeans

    z = clusters.place(vectors)
    fitted = MiniBatchKMeans(clusters.k, batch_size=10_000, n_init=3, random_state=0).fit(z)
    return float(np.square(clusters.distance(vectors)).sum() / fitted.inertia_)


def table(known):
    patches = f"{PATCHES:,} patches x {DIM}"
    lines = [
        "# Clusters of a store larger than memory",
        "",
        f"Made by large_store.py on {known['threads']} threads: {known['slides']:,} slides x "
        f"{patches} float16 ({known['store_gb']:.1f} GB), {SAMPLE:,} patches clustered, all "
        "assigned.",
        "",
        "| clusters | wall s | sample | k-means | assign and count | CPU s | peak GB | load | "
        "largest error of a share | sum of squares, of MiniBatchKMeans' |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for k, one in known["clusters"].items():
        if "problem" in one:
            lines.append(f"| {k} | {one['problem']} ||||||||| ")
            continue
        facts = one["facts"]
        stages = " | ".join(f"{facts[name]:.0f}" for name in ("sample_s", "fit_s", "assign_s"))
        lines.append(
            f"| {k} | {one['wall_seconds']:.0f} | {stages} | {one['cpu_seconds']:.0f} | "
            f"{one['peak_gb']:.2f} | {one['load']:.1f} | {facts['largest_error_of_a_share']:.1g} | "
            f"{facts['of_minibatch']:.4f} |"
        )
    lines += [
        "",
        f"Bars: {WALL_SECONDS} s of wall time, {MEMORY_GB} GB. The load is the machine's average "
        "of five minutes; this work alone is a load of 1 to 2.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()

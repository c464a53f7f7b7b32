"""How fast slides become features, beside what the encoder and the readers could do alone.

In turn, several times: the encoder on patches in memory; two reader processes whose patches nobody
encodes; `extract_slides`, which does both at once; and a plain loop of openslide, Pillow and the
encoder. All on the same slides (0.25 um a pixel, JPEG, read at 0.5), in one run, on all processors.
Rates are taken from the first prepared slide on, so that starting the first reader, some seconds
once a run, is left out; that the second still starts then is not. The table goes to
SLIDE_PIPELINE.md.

    .venv-embed/bin/python tests/benchmarks/slide_pipeline.py [--repeats 3] [--slides 8]

Meant for an otherwise idle machine with two processors. POSIX only.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

FOLDER = Path(__file__).parent
STORE, TABLE = FOLDER / "slide_pipeline.json", FOLDER / "SLIDE_PIPELINE.md"
SIDE_PX, WORKERS = 6144, 2
OF_SLOWER, OF_PLAIN, OF_CARD = 0.9, 1.5, 0.7
SMALL, VIT = "timm:test_vit3", "timm:vit_small_patch16_224"


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--encoders", nargs="+", default=["stain", SMALL, VIT])
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    with tempfile.TemporaryDirectory() as place:
        slides = [draw(Path(place) / f"S{i}.tiff", i) for i in range(options.slides)]
        for name in options.encoders:
            encoder = load(name, Path(place), device)
            chosen = slides[:3] if name == VIT and device == "cpu" else slides
            runs = [measure(name, encoder, chosen, Path(place)) for _ in range(options.repeats)]
            found[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(name, {key: round(value, 3) for key, value in found[name].items()}, flush=True)
    known = {"device": device, "processors": psutil.cpu_count(), "encoders": found}
    STORE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    TABLE.write_text(table(known))
    print(TABLE.read_text(), flush=True)


def draw(path, seed):
    """Write a slide that is all tissue, textured so that its JPEG is of a usual size."""
    from tabular_trainers.embed.pyramid_tiff import write_pyramid

    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(64, 64, 1)).repeat(16, 0).repeat(16, 1)
    tile = np.array([205, 130, 175]) + 18 * coarse + rng.normal(0, 4, (1024, 1024, 1))
    tile = np.clip(tile, 0, 255).astype(np.uint8)
    image = np.tile(tile, (SIDE_PX // 1024, SIDE_PX // 1024, 1))
    write_pyramid(path, image, 0.25)
    return path


def load(name, place, device):
    """Load an encoder; networks get random weights, which cost what trained ones cost."""
    from tabular_trainers.embed import load_encoder

    if name == "stain":
        return load_encoder(name)
    import timm
    import torch

    weights = place / f"{name.partition(':')[2]}.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model(name.partition(":")[2], num_classes=0).state_dict(), weights)
    return load_encoder(name, weights, device)


def measure(name, encoder, slides, place):
    """Measure each side once: rates in patches a second, CPU milliseconds a patch, memory."""
    images, corners = some_patches(slides[0], encoder)
    found = {}
    on_card = getattr(encoder, "device", "cpu") != "cpu"
    n = 512 if on_card or name != VIT else 64
    batch = 256 if on_card else 32
    encoder.encode(images[:batch])  # compiles, warms up
    began, cpu = time.perf_counter(), cpu_seconds()
    for start in range(0, n, batch):
        encoder.encode(images[np.arange(start, start + batch) % len(images)])
    encoder_rate = n / (time.perf_counter() - began)
    found["encoder_ms"] = 1e3 * (cpu_seconds() - cpu) / n
    # computed in the readers, on one thread each
    found["encoder"] = encoder_rate * (WORKERS if encoder.in_reader else 1)
    found |= readers_alone(encoder, slides, corners, batch)
    found |= pipeline(name, encoder, slides, place)
    found |= plain_loop(encoder, slides, corners, batch)
    found["of_slower"] = found["pipeline"] / min(found["encoder"], found["readers"])
    found["of_plain"] = found["pipeline"] / found["plain"]
    return found


def some_patches(slide, encoder):
    from tabular_trainers.embed.slide_reading import open_slide

    step = encoder.patch_px * encoder.mpp
    along = np.arange(int(SIDE_PX * 0.25 / step)) * step
    x, y = (grid.ravel() for grid in np.meshgrid(along, along))
    with open_slide(slide) as opened:
        return opened.read_many(x, y, encoder.patch_px, encoder.mpp), (x, y)


def readers_alone(encoder, slides, corners, batch):
    """Read all slides, and encode nothing."""
    from tabular_trainers.embed.reader_processes import ReaderPool
    from tabular_trainers.embed.slide_pipeline import READERS
    from tabular_trainers.embed.slide_tasks import ReadSettings
    from tabular_trainers.embed.tissue_mask import TissueOptions

    settings = ReadSettings(encoder.patch_px, encoder.mpp, None, TissueOptions(), Path("."))
    x, y = corners
    tasks = iter(
        ("patches", (str(slide), None, None), x[i : i + batch], y[i : i + batch])
        for i in range(0, len(x), batch)
        for slide in slides
    )
    with ReaderPool(WORKERS, READERS, settings) as readers:
        task, waiting, answered = next(tasks), 0, []
        while task or waiting:
            while task and readers.has_room:
                readers.submit(len(task[2]), *task, near=task[1])
                task, waiting = next(tasks, None), waiting + 1
            size = readers.next_answer().key
            waiting -= 1
            answered.append((time.perf_counter(), cpu_seconds(), size))
    first, last = answered[WORKERS - 1], answered[-1]  # a task each to import and compile
    n = sum(size for *_, size in answered[WORKERS:])
    return {"readers": n / (last[0] - first[0]), "readers_ms": 1e3 * (last[1] - first[1]) / n}


def pipeline(name, encoder, slides, place):
    """Extract features of all slides into a store."""
    from tabular_trainers.embed import extract_slides

    calls, most = [], 0

    def tell(share, total, words):
        nonlocal most
        calls.append((time.perf_counter(), cpu_seconds()))
        if len(calls) % 8 == 1:
            main = psutil.Process()
            most = max(most, sum(p.memory_info().rss for p in (main, *main.children())))

    store = place / "store"
    shutil.rmtree(store, ignore_errors=True)
    done = extract_slides(
        [str(slide) for slide in slides],
        store,
        name if encoder.in_reader else encoder,
        n_workers=WORKERS,
        progress=tell,
    )
    seconds, cpu = np.subtract(calls[-1], calls[0])
    return {
        "pipeline": done.n_patches / seconds,
        "pipeline_ms": 1e3 * cpu / done.n_patches,
        "with_start": done.n_patches / done.seconds,
        "memory_gb": most / 1e9,
    }


def plain_loop(encoder, slides, corners, batch):
    """Read, resize and encode one after the other, as a script of a dozen lines does."""
    import openslide
    from PIL import Image

    x, y = (np.rint(along / 0.25).astype(int) for along in corners)
    px = round(encoder.patch_px * encoder.mpp / 0.25)
    n, cpu, began = 0, cpu_seconds(), time.perf_counter()
    for slide in slides:
        opened = openslide.OpenSlide(slide)
        for start in range(0, len(x), batch):
            images = []
            for corner in zip(x[start : start + batch], y[start : start + batch], strict=True):
                image = opened.read_region(corner, 0, (px, px)).convert("RGB")
                image = image.resize((encoder.patch_px,) * 2, Image.Resampling.LANCZOS)
                images.append(np.asarray(image))
            encoder.encode(np.stack(images))
            n += len(images)
    return {
        "plain": n / (time.perf_counter() - began),
        "plain_ms": 1e3 * (cpu_seconds() - cpu) / n,
    }


def cpu_seconds():
    """Add up user and system time of this process and its children, those at work and the ended."""
    running = [child.cpu_times() for child in psutil.Process().children()]
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.user + part.system for part in running) + sum(
        part.ru_utime + part.ru_stime for part in ended
    )


def table(known):
    lines = [
        "# From slides to features: speed",
        "",
        f"Made by slide_pipeline.py; {known['processors']} processors, two reader processes, "
        f"networks on {known['device']}. Patches a second of wall time, medians; in brackets CPU",
        "milliseconds a patch.",
        "",
        "| encoder | encoder alone | readers alone | pipeline | of the slower | plain loop | times "
        "the plain loop | with start | memory, all processes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in known["encoders"].items():
        lines.append(
            f"| `{name}` | {one['encoder']:.0f} ({one['encoder_ms']:.1f}) | {one['readers']:.0f} "
            f"({one['readers_ms']:.1f}) | "
            f"{one['pipeline']:.0f} ({one['pipeline_ms']:.1f}) | {one['of_slower']:.2f} | "
            f"{one['plain']:.0f} ({one['plain_ms']:.1f}) | {one['of_plain']:.2f} | "
            f"{one['with_start']:.0f} | {one['memory_gb']:.2f} GB |"
        )
    vit = known["encoders"].get(VIT)
    lines += [
        "",
        f"Bars: {OF_SLOWER} of the slower of encoder and readers alone; {OF_PLAIN} times the plain "
        "loop.",
        "",
        f"ViT-S/16 in bf16 on a graphics card: {vit['pipeline'] / vit['encoder']:.2f} of the "
        f"encoder alone (bar {OF_CARD}), {vit['pipeline']:.0f} patches a second."
        if vit and known["device"] == "cuda"
        else "ViT-S/16 in bf16 on a graphics card: not measured: no GPU here.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

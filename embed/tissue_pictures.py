"""All pictures of an explained run: montages of clusters, maps and case pages, with thumbnails."""

import base64

from tabular_trainers.errors import SchemaError, count, listing

from .case_pages import Case, CaseSlide, draw_case_page
from .cluster_looks import cluster_looks
from .maps import draw_cluster_map, draw_risk_map
from .montages import ClusterPicture, cut_patches, draw_montage, draw_side_by_side
from .picture_parts import shrink_picture
from .requirements import need
from .slide_files import find_slides

SIDE_BY_SIDE = 4  # clusters of either side
THUMBNAIL_PX, WIDE_PX, MAP_PX = 420, 900, 300


class TissuePictures:
    """Draws what a scene of the core describes, where the slides are there.

    Parameters
    ----------
    store : path
    slides : path, optional
        Folder, glob or CSV of the slides; default: where they lay when they were read.
    """

    def __init__(self, store, slides=None):
        self.store, self.slides = store, slides
        self.files, self.why_not = None, None

    def find(self):
        """Look for the slides, before anything is computed.

        Raises
        ------
        SchemaError
            ``slides`` names no slides.
        """
        try:
            for module in ("openslide", "tifffile", "PIL.Image"):
                need(module)
        except SchemaError as error:
            self.why_not = str(error)
            return
        self.files = find_slides(self.store, self.slides)
        if not self.files.paths:
            self.why_not = (
                f"None of the {count(len(self.files.missing), 'slide')} of the store was found "
                "where it was read. Say where they are now with --slides."
            )

    def draw(self, scene, folder, progress=None):
        """Draw montages of clusters, and maps and pages of cases.

        Parameters
        ----------
        scene : Scene
            Of the core's `tissue_scene`: what to draw, in plain tables and words.
        folder : path
            Gets ``clusters/``, ``maps/``, ``cases/`` and ``high_and_low.png``.
        progress : callable, optional
            Called as ``progress(done, total, what)``.

        Returns
        -------
        dict
            ``clusters`` and ``cases`` (a page and maps each) by id, ``side_by_side``: pictures with
            their file, thumbnail (``source``), size and words; ``looks`` (colour and texture) by
            cluster; ``notes``.
        """
        drawn = {"clusters": {}, "cases": {}, "side_by_side": None, "looks": {}, "notes": []}
        looks = cluster_looks(scene.clusters, scene.names, scene.order)
        drawn["looks"] = {
            look.cluster: {
                "colour": "#{:02x}{:02x}{:02x}".format(*look.colour),
                "texture": look.texture,
            }
            for look in looks
        }
        if self.why_not is not None:
            return drawn
        if self.files.missing:
            drawn["notes"].append(f"Pictures: {self.files.words()}.")
        total = len(scene.clusters) + len(scene.cases) + 1
        self._done = 0

        def tell(what):
            self._done += 1
            if progress is not None:
                progress(self._done, total, what)

        failures = {}
        self._draw_clusters(scene, looks, folder, drawn, failures, tell)
        for case in scene.cases:
            drawn["cases"][case.patient_id] = self._draw_case(case, scene, looks, folder, failures)
            tell(f"maps of patient {case.patient_id}")
        if failures:
            first = next(iter(failures.values()))
            drawn["notes"].append(
                f"Pictures: {count(len(failures), 'slide')} could not be read "
                f"({listing(failures)}); the first: {first}"
            )
        return drawn

    def _draw_clusters(self, scene, looks, folder, drawn, failures, tell):
        """Draw a montage a cluster, and those of highest and lowest risk side by side."""
        (folder / "clusters").mkdir(exist_ok=True)
        images, wrong = cut_patches(scene.examples, self.files)
        failures.update({slide: why for slide, why in wrong.items() if slide in self.files})
        tell("patches cut from slides")
        cluster = scene.examples["cluster"].to_numpy()
        pictures = {}
        for label, look in zip(scene.clusters, looks, strict=True):
            rows = (cluster == label).nonzero()[0]
            examples = scene.examples.iloc[rows]
            own = [images[row] for row in rows]
            title = f"{label}, {scene.names[label]}" if label in scene.names else label
            facts = tuple(scene.facts[label])
            pictures[label] = ClusterPicture(title, facts, own, examples, look)
            if any(image is not None for image in own):
                file = f"clusters/{label}.png"
                draw_montage(pictures[label], folder / file)
                words = f"Patches of cluster {title}: nearest its centre, and random ones"
                drawn["clusters"][label] = _picture(folder, file, words, THUMBNAIL_PX)
            tell(f"montage of {label}")
        high, low = (
            [pictures[label] for label in labels if label in drawn["clusters"]][:SIDE_BY_SIDE]
            for labels in (scene.high, scene.low)
        )
        if high or low:
            file = "high_and_low.png"
            title = "Clusters that go with higher and with lower risk"
            draw_side_by_side(high, low, folder / file, title=title)
            drawn["side_by_side"] = _picture(folder, file, title, WIDE_PX)

    def _draw_case(self, case, scene, looks, folder, failures):
        """Draw the page of a patient, and maps of each of its slides."""
        for name in ("cases", "maps"):
            (folder / name).mkdir(exist_ok=True)
        found = {"page": None, "maps": []}
        page = f"cases/{file_stem(case.patient_id)}.png"
        there = [slide for slide in case.slides if slide in self.files]
        largest = max(there, key=case.slides.get) if there else None
        fields = case.patient_id, case.lines, case.composition, scene.composition, case.clinical
        facts = Case(*fields, case.times, case.survival, scene.time_unit, scene.unit)
        paged = False
        for slide_id in there:
            shown = CaseSlide(
                slide_id,
                scene.frame(slide_id),
                scene.labels(slide_id),
                scene.terms(slide_id),
                len(case.slides),
            )
            try:
                with self.files.open(slide_id) as slide:
                    if slide_id == largest:
                        draw_case_page(
                            facts, folder / page, banner=scene.banner, looks=looks, shown=shown,
                            slide=slide, limit=scene.limit,
                        )  # fmt: skip
                        paged = True
                    found["maps"] += self._draw_maps(shown, slide, scene, looks, folder)
            except (SchemaError, OSError) as error:
                failures[slide_id] = str(error)
        if not paged:
            draw_case_page(facts, folder / page, banner=scene.banner, looks=looks)
        words = f"Page of patient {case.patient_id}"
        found["page"] = _picture(folder, page, words, THUMBNAIL_PX)
        return found

    def _draw_maps(self, shown, slide, scene, looks, folder):
        """Draw which cluster, and which part of the risk, lies where."""
        stem, slide_id = file_stem(shown.slide_id), shown.slide_id
        file, title = f"maps/{stem}_clusters.png", f"Slide {slide_id}: clusters"
        draw_cluster_map(slide, shown.frame, shown.labels, looks, folder / file, title=title)
        found = [_picture(folder, file, title, MAP_PX)]
        if shown.terms is not None:
            file, title = f"maps/{stem}_risk.png", f"Slide {slide_id}: part of the risk"
            draw_risk_map(
                slide, shown.frame, shown.terms, folder / file, limit=scene.limit, title=title,
                lines=(scene.terms_words,), unit=scene.unit,
            )  # fmt: skip
            found.append(_picture(folder, file, title, MAP_PX))
        return found


def file_stem(name):
    """Make a file name of an id: letters, digits, dots, dashes and underscores stay.

    Examples
    --------
    >>> file_stem("TCGA-01/A b")
    'TCGA-01%2FA%20b'
    """
    from urllib.parse import quote

    return quote(name, safe="")


def _picture(folder, file, words, width_px):
    """Describe a picture for a page: its file, and a thumbnail of it as text."""
    from urllib.parse import quote

    path = folder / file
    with need("PIL.Image").open(path) as image:
        width, height = image.size
    width_px = min(width_px, width)
    thumbnail = base64.b64encode(shrink_picture(path, width_px)).decode()
    return {
        "file": quote(file),
        "source": f"data:image/jpeg;base64,{thumbnail}",
        "width": width_px,
        "height": max(1, round(height * width_px / width)),
        "alt": words,
    }

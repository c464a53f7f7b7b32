"""Slides are listed from files, folders, globs, URIs or a CSV; all errors come at once."""

import fsspec
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed.slide_list import SlideSource, list_slides


@pytest.fixture
def folder(tmp_path):
    for name in ("P2.svs", "P1.ndpi", "notes.txt", "P3.v2.TIFF", ".hidden.svs", "deep/P4.svs"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for number in (1, 2):
        part = tmp_path / "scan" / f"{number}.dcm"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(b"")
    (tmp_path / "P2").mkdir()  # as beside an .mrxs file
    (tmp_path / "P2" / "Data0000.dat").write_bytes(b"")
    return tmp_path


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def ids(slides):
    return [slide.slide_id for slide in slides]


def test_a_folder_gives_its_own_slides_sorted(folder):
    slides = list_slides(folder, assume_mpp=0.5)
    assert ids(slides) == ["P1", "P2", "P3.v2", "scan"]
    assert slides[0] == SlideSource("P1", "P1", str(folder / "P1.ndpi"), None, 0.5)
    assert slides[3].path == str(folder / "scan")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.svs", ["P2"]),
        ("**/*.svs", ["P2", "P4"]),
        ("*", ["P1", "P2", "P3.v2", "scan"]),
        ("P[12].*", ["P1", "P2"]),
        ("scan", ["scan"]),
        ("deep/P4.svs", ["P4"]),
        ("notes.txt", ["notes.txt"]),  # asked for by name; whether it is a slide, reading will say
    ],
)
def test_globs_files_and_dicom_folders(folder, pattern, expected):
    assert ids(list_slides(str(folder / pattern))) == expected


def test_a_slide_that_is_named_twice_is_there_once(folder):
    assert ids(list_slides([folder / "P2.svs", str(folder / "*.svs")])) == ["P2"]


def test_nothing_found_is_an_error(folder):
    (folder / "empty").mkdir()
    with pytest.raises(SchemaError) as caught:
        list_slides([str(folder / "*.scn"), folder / "empty", folder / "P2.sv", "gone/P1.svs"])
    message = str(caught.value)
    assert message.startswith("4 problems:")
    assert "*.scn: no slide matches; expected files ending in .svs, " in message
    assert "empty: no slides in it; expected files ending" in message
    assert "P2.sv: no such file in " in message
    assert "Did you mean 'P2.svs'?" in message
    assert "P1.svs: no such file, because there is no folder gone." in message
    with pytest.raises(SchemaError, match="no slides given"):
        list_slides([])


def test_slides_in_subfolders_are_hinted_at(tmp_path):
    (tmp_path / "deep").mkdir()
    with pytest.raises(SchemaError, match=r"Name slides in its subfolders by a glob, such as '"):
        list_slides(tmp_path)


def test_two_files_of_one_name_are_an_error(folder):
    (folder / "P2.tiff").write_bytes(b"")
    with pytest.raises(SchemaError, match="slide_id 'P2': there more than once; every slide needs"):
        list_slides(folder)


def write_csv(folder, text, name="slides.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_a_csv_says_whose_slides_they_are(folder):
    path = write_csv(
        folder,
        "path,slide_id,patient_id,mpp,site\n"
        "deep/P4.svs,S2, 007 ,,A\n"
        "/data/x.svs,S1,007,0.25,B\n"
        "s3://bucket/y.svs,S3,NA,,B\n",
    )
    assert list_slides(path, assume_mpp=0.5) == [
        SlideSource("S1", "007", "/data/x.svs", 0.25, 0.5),
        SlideSource("S2", "007", str(folder / "deep/P4.svs"), None, 0.5),
        SlideSource("S3", "NA", "s3://bucket/y.svs", None, 0.5),
    ]


def test_all_that_is_wrong_with_a_csv_comes_at_once(folder):
    path = write_csv(
        folder, "slide,patient_id,path,mpp\nS1,P1,a.svs,0.5\nS2,,b.svs,40x\nS3,P3,,7e9\n"
    )
    with pytest.raises(SchemaError) as caught:
        list_slides(path)
    assert str(caught.value).splitlines() == [
        "4 problems:",
        "- slides.csv: no column 'slide_id'; expected slide_id, patient_id, path and, if need be, "
        "mpp. Did you mean 'slide'?",
        "- slides.csv, column patient_id: empty in row 2; expected a value.",
        "- slides.csv, column path: empty in row 3; expected a value.",
        "- slides.csv, column mpp: rows 2, 3 not a number from 0.05 to 20; expected micrometres a "
        "pixel, or nothing where the file says it.",
    ]


def test_ids_must_name_files_on_every_computer(folder):
    long = "x" * 201
    path = write_csv(
        folder,
        "slide_id,patient_id,path\n"
        f"a/b,P1,1.svs\nS1,P1,2.svs\nS1,P1,3.svs\ns1,P1,4.svs\n..,P1,5.svs\n{long},P1,6.svs\n"
        "c:d,P1,7.svs\nend.,P1,8.svs\nfine é,P1,9.svs\n",
    )
    with pytest.raises(SchemaError) as caught:
        list_slides(path)
    repeated, alike, bad = str(caught.value).splitlines()[1:]
    assert repeated.startswith("- slide_id 'S1': there more than once")
    assert alike.startswith("- slide_id 'S1' and 's1': differ only in upper and lower case")
    assert bad.startswith(f"- slide_id '..', 'a/b', 'c:d', 'end.', '{long}': cannot be the name")


def test_a_csv_stands_alone(folder):
    path = write_csv(folder, "slide_id,patient_id,path\nS1,P1,a.svs\n")
    with pytest.raises(
        SchemaError, match=r"slides.csv: a CSV of slides must be the only source; 2"
    ):
        list_slides([path, folder / "P2.svs"])
    with pytest.raises(
        SchemaError, match=r"slide.csv: no such file in .* Did you mean 'slides.csv'"
    ):
        list_slides(folder / "slide.csv")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("memory://bucket/*.svs", ["P1", "P2"]),
        ("memory://bucket/**/*.svs", ["P1", "P2", "P3"]),
        ("memory://bucket", ["P1", "P2", "P4", "dicom"]),
        ("memory://bucket/P1.svs", ["P1"]),
        ("memory://bucket/d*", ["dicom"]),
        ("memory://bucket/dicom", ["dicom"]),
        ("memory://bucket/gone.svs", ["gone"]),  # a failure when it is read, as in a CSV
    ],
)
def test_uris(memory, uri, expected):
    for name in ("P2.svs", "P1.svs", "deep/P3.svs", "P4.tiff", "notes.txt", "dicom/1.dcm"):
        memory.pipe_file(f"/bucket/{name}", b"x")
    slides = list_slides(uri)
    assert ids(slides) == expected
    assert all(slide.path.startswith("memory://") for slide in slides)


def test_a_csv_at_a_uri_names_slides_beside_it(memory):
    memory.pipe_file("/b/slides.csv", b"slide_id,patient_id,path\nS1,P1,deep/a.svs\n")
    assert list_slides("memory://b/slides.csv")[0].path == "memory://b/deep/a.svs"


def test_files_at_a_file_uri(folder):
    slides = list_slides(f"file://{folder}/*.svs")
    assert ids(slides) == ["P2"]
    assert slides[0].path == f"file://{folder}/P2.svs"


def test_an_unknown_or_absent_kind_of_uri_is_an_error(memory):
    with pytest.raises(SchemaError, match="nonsense://bucket/a.svs: "):
        list_slides("nonsense://bucket/a.svs")
    with pytest.raises(SchemaError, match="memory://bucket/.*: no slide there; expected files"):
        list_slides("memory://bucket/*.svs")

"""Tables of labels as spreadsheets, pandas and people write them: read right, or refused by line and column."""

import pathlib

import pytest

from hubkeras.bulk.labelled import open_labelled
from hubkeras.bulk.sources import open_images
from hubkeras.common.errors import Error

EXPECTED = [("a/1.jpg", "cat"), ("a/2.JPG", "dog"), ("b c/3.png", "cat")]
PLAIN = "path,label\na/1.jpg,cat\na/2.JPG,dog\nb c/3.png,cat\n"


@pytest.fixture
def folder(tmp_path):
    for name, _ in EXPECTED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def read(folder, content, name="labels.csv"):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    found = open_labelled(folder / name)
    paths = [pathlib.Path(found.images.path(number)) for number in range(len(found.images))]
    return [(str(path.relative_to(folder)), label) for path, label in zip(paths, found.labels, strict=True)]


TABLES = {
    "plain": PLAIN,
    "byte-order mark": PLAIN.encode("utf-8-sig"),
    "Excel's Unicode text": PLAIN.replace(",", "\t").encode("utf-16"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "sep=": "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "CRLF, blank and half-blank lines at the end": PLAIN.replace("\n", "\r\n") + "\r\n\r\n,\r\n  \r\n",
    "CR": PLAIN.replace("\n", "\r"),
    "no header": PLAIN.partition("\n")[2],
    "the header in capitals, spaced": PLAIN.replace("path,label", " File Name , LABEL "),
    "an index without a name": ",path,label\n0,a/1.jpg,cat\n1,a/2.JPG,dog\n2,b c/3.png,cat\n",
    "an index, no header": "0,a/1.jpg,cat\n1,a/2.JPG,dog\n2,b c/3.png,cat\n",
    "pandas' unnamed index": "Unnamed: 0,image,species\n0,a/1.jpg,cat\n1,a/2.JPG,dog\n2,b c/3.png,cat\n",
    "the label first": "label,path\ncat,a/1.jpg\ndog,a/2.JPG\ncat,b c/3.png\n",
    "more columns": "id,width,file,Class\n7,1,a/1.jpg,cat\n8,2,a/2.JPG,dog\n9,3,b c/3.png,cat\n",
    "empty columns at the end": "path,label,,\na/1.jpg,cat,,\na/2.JPG,dog,,\nb c/3.png,cat\n",
    "quoted": '"path","label"\n"a/1.jpg","cat"\n"a/2.JPG", "dog"\n"b c/3.png","cat"\n',
    "Windows": PLAIN.replace("/", "\\"),
    "Windows, another machine's": PLAIN.replace("a/", "C:\\Users\\me\\a\\").replace("b c/", "D:\\b c\\"),
    "names in another case": PLAIN.replace("1.jpg", "1.JPG").replace("2.JPG", "2.jpg"),
    "names without folders": PLAIN.replace("a/", "").replace("b c/", ""),
    "names without endings": PLAIN.replace(".jpg", "").replace(".JPG", "").replace(".png", ""),
    "file://": PLAIN.replace("a/", "file://a/"),
}


@pytest.mark.parametrize("name", TABLES)
def test_read_right(folder, name):
    assert read(folder, TABLES[name]) == EXPECTED


def test_other_labels(folder):
    numbers = [("a/1.jpg", "3"), ("a/2.JPG", "0"), ("b c/3.png", "12")]
    assert read(folder, "path,label\na/1.jpg,3\na/2.JPG,0\nb c/3.png,12\n") == numbers
    assert read(folder, "path,label\na/1.jpg,3.0\na/2.JPG,0.0\nb c/3.png,12.0\n") == numbers
    assert read(folder, "path;label;weight\na/1.jpg;3,0;0,5\na/2.JPG;0,0;1\nb c/3.png;12,0;0,25\n") == numbers
    assert read(folder, "a/1.jpg 3\na/2.JPG 0\nb c/3.png 12\n", "val.txt") == numbers
    assert read(folder, 'a/1.jpg,"cat, tabby"\na/2.JPG,"say ""dog"""\n')[:2] == [
        ("a/1.jpg", "cat, tabby"),
        ("a/2.JPG", 'say "dog"'),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN.replace("dog", ""), r"labels\.csv, line 3, column 2 \(label\): it is empty"),
        (PLAIN.replace("a/2.JPG", ""), r"line 3, column 1 \(path\): it is empty"),
        (PLAIN.replace("dog", "dog, brown"), r"line 3 has 3 columns, where the first line has 2; put names"),
        (PLAIN.replace("dog", '"dog'), r"line 3: it cannot be read .*quotation marks come in pairs"),
        (PLAIN.replace("dog", '"dog').replace("c/3.png,cat", 'c/3.png,"cat'), r"line 3"),
        (PLAIN.replace("a/2.JPG", "a/4.jpg"), r"line 3, column 1: a/4\.jpg is not in .* or below"),
        (PLAIN + "a/1.jpg,dog\n", r"lines 2 and 5 give a/1\.jpg two labels, cat and dog"),
        (PLAIN.replace("dog", "café").encode("cp1252"), r"line 3: it is not UTF-8 text; save"),
        ("path,one,two\na/1.jpg,cat,dog\n", r"line 1 \(path, one, two\): name the column with the labels `label`"),
        ("a/1.jpg\na/2.JPG\n", "name the column with the labels"),
        ("path,label\n", "has no images"),
        ("\n \n", "is empty"),
    ],
)
def test_refused_by_line_and_column(folder, content, message):
    with pytest.raises(Error, match=message):
        read(folder, content)


def test_one_name_in_two_folders(folder):
    (folder / "b c" / "1.jpg").write_bytes(b"")
    assert read(folder, "path,label\nC:\\a\\1.jpg,cat\nphotos/b c/1.jpg,dog\n") == [
        ("a/1.jpg", "cat"),
        ("b c/1.jpg", "dog"),
    ]
    with pytest.raises(Error, match=r"line 2, column 1: 1\.jpg may be .*1\.jpg or .*1\.jpg; give its folder too"):
        read(folder, "path,label\n1.jpg,cat\n")


def test_what_a_table_does_not_name_is_counted(folder):
    (folder / "labels.csv").write_text("path,label\na/1.jpg,cat\n")
    named = "images that labels.csv does not name"
    assert open_labelled(folder).left_out == {named: 2}
    for name in ("more.csv", "more.tsv"):
        (folder / "a" / name).write_text("")
    assert open_labelled(folder).left_out == {named: 2, ".csv": 1, ".tsv": 1}


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.TSV"])
def test_lists_of_images(folder, name):
    lines = {"txt": "\ufeffa/1.jpg\r\n\r\nb c\\3.png\r\n", "csv": PLAIN, "tsv": PLAIN.replace(",", "\t")}
    (folder / name).write_text(lines[name[-3:].lower()], "utf-8")
    images = open_images(folder / name)
    expected = [str(folder / path) for path, _ in EXPECTED]
    assert [images.path(number) for number in range(len(images))] in (expected, expected[::2])

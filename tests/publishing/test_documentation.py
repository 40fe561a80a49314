"""Pages and model cards: the published form, true for the model, with code that runs."""

import dataclasses
import json
import re
import shlex
import shutil

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures import NETWORKS
from hubkeras.commands import main
from hubkeras.common.guards import integrity
from hubkeras.common.metadata import Metadata, read_metadata
from hubkeras.common.preprocessing import IMAGENET
from hubkeras.publishing import catalog, documentation
from tests.support.files import DIGITS

SECTIONS = ["Overview", "Training", "Usage", "Fine-tuning", "Changelog"]
# the identifiers of these networks in https://github.com/tensorflow/tfhub.dev/tree/master/tags
ALLOWED = {
    "asset-path": {"internal"},
    "dataset": {"imagenet-ilsvrc-2012-cls", "other"},
    "fine-tunable": {"true"},
    "format": {"saved_model_2"},
    "task": {"image-classification", "image-feature-vector"},
    "network-architecture": {"inception-v2", "inception-resnet-v2", "mobilenet-v2"},
}
PUBLISHED = "google/imagenet/mobilenet_v2_035_96/feature_vector"


def comments(text):
    return dict(re.findall(r"^<!-- ([\w-]+): (.+) -->$", text, re.MULTILINE))


def code_blocks(text):
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def metadata_of(module):
    """Metadata of a SavedModel of a catalogued module, as an export of its published checkpoint has them."""
    (network,) = (network for network in NETWORKS if network.architecture == module.architecture)
    return Metadata(
        architecture=module.architecture,
        task=module.task,
        depth_multiplier=module.depth_multiplier,
        default_image_size=module.image_size,
        minimum_image_size=network.minimum_image_size,
        fixed_image_size=module.fixed_size,
        num_features=module.features,
        num_classes=module.classes,
        settings={},
        source={"checkpoint": module.checkpoint, "sha256": {}},
        weights="ema" if module.architecture == "mobilenet_v2" else "raw",
        frozen=False,
        handle=module.handle,
        versions={},
        preprocessing=IMAGENET,
    )


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """Function from the options of an export of the digits to the SavedModel, made by the command."""
    cache = {}

    def export(*options):
        if options not in cache:
            cache[options] = tmp_path_factory.mktemp("documented") / "digits"
            assert main(["export", str(DIGITS), str(cache[options]), *options]) == 0
        return cache[options]

    return export


@pytest.mark.parametrize("handle", catalog.MODULES)
def test_every_catalogued_module_has_a_page_of_the_published_form(handle):
    module = catalog.get(handle)
    text = documentation.page(metadata_of(module))
    lines = text.splitlines()
    assert lines[0] == f"# Module {module.handle}/{module.versions[-1]}"
    assert lines[1].endswith("trained on ImageNet (ILSVRC-2012-CLS).")
    metadata = comments(text)
    assert list(metadata) == list(ALLOWED)
    assert all(value in ALLOWED[key] for key, value in metadata.items())
    assert metadata["task"] == f"image-{module.task.replace('_', '-')}"
    assert metadata["network-architecture"] == module.architecture.replace("_", "-")
    assert metadata["dataset"] == "imagenet-ilsvrc-2012-cls"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    sibling = module.sibling()
    assert f"[`{sibling.handle}/{sibling.versions[-1]}`]({sibling.url})" in text
    assert module.paper[3] in text
    for fact in (f"features: {module.features}", f"{module.parameters:,}", f"{module.top_1} %", module.checkpoint):
        assert fact in text
    assert f"{module.image_size} x {module.image_size} pixels" in text
    assert ("pixels only" in text) == module.fixed_size
    assert [int(n) for n in re.findall(r"^#### Version (\d)", text, re.MULTILINE)] == list(module.versions)
    for language, code in code_blocks(text):
        assert language in ("python", "sh")
        assert module.url in code
        if language == "python":
            compile(code, handle, "exec")


@pytest.mark.parametrize("network", NETWORKS)
def test_the_catalogues_facts_are_the_networks(network):
    module = next(m for m in catalog.MODULES.values() if m.architecture == network.architecture and m.image_size > 200)
    assert module.image_size == network.default_image_size


@pytest.mark.parametrize("handle", sorted(catalog.MODULES)[:3])
def test_cards_have_front_matter(handle):
    text = documentation.model_card(metadata_of(catalog.get(handle)))
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    fields = dict(line.split(": ", 1) for line in front.splitlines())
    task = "image-classification" if handle.endswith("classification") else "image-feature-extraction"
    assert (fields["pipeline_tag"], fields["license"], fields["datasets"]) == (task, "apache-2.0", "[imagenet-1k]")
    assert re.findall(r"^## (.+)$", body, re.MULTILINE) == SECTIONS


@pytest.mark.slow
def test_a_page_claims_googles_training_of_googles_checkpoint_only(documented):
    text = (documented("--handle", PUBLISHED) / documentation.PAGE_FILE).read_text()
    assert comments(text)["dataset"] == "other"
    assert "Google trained" not in text
    assert "the weights are others" in text
    assert "license" not in (documented("--handle", PUBLISHED) / documentation.CARD_FILE).read_text()


@pytest.mark.parametrize("frozen", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_page_tells_the_truth_about_its_model(frozen, documented):
    directory = documented("--handle", "me/digits/classification/2", *["--frozen"] * frozen)
    text = (directory / documentation.PAGE_FILE).read_text()
    parity = json.loads((directory / documentation.VERIFICATION_FILE).read_text())
    assert text.startswith("# Module me/digits/classification/2\n")
    assert f"by {parity['error']:.1e} of the largest" in text
    assert ("262 of 262 variables are bit-identical" in text) != frozen
    assert ("39 of 39 large constants are bit-identical" in text) == frozen
    (digest,) = read_metadata(directory).source["sha256"].values()
    assert digest in text
    assert "classes: 11" in text


def test_document_regenerates_the_files_and_leaves_the_model_alone(documented, tmp_path, capsys):
    directory = documented("--handle", "me/digits/classification/2")
    page, card = (directory / name for name in (documentation.PAGE_FILE, documentation.CARD_FILE))
    before, content = (page.read_text(), card.read_text()), integrity.hashes(directory)
    page.write_text(f"{before[0]}edited")
    card.unlink()
    assert main(["document", str(directory)]) == 0
    assert (page.read_text(), card.read_text()) == before
    assert main(["document", str(directory), "--asset-path", "https://example.com/x.tar.gz"]) == 0
    assert comments(page.read_text())["asset-path"] == "https://example.com/x.tar.gz"
    assert integrity.hashes(directory) == content
    assert main(["document", str(tmp_path)]) == 1
    assert "not a hubkeras SavedModel" in capsys.readouterr().err


@pytest.mark.parametrize(
    "which",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in ("published handle", "own handle", "no handle")), "frozen"],
)
def test_every_code_block_runs(which, documented, exported, tmp_path, monkeypatch):
    directory = {
        "published handle": lambda: documented("--handle", PUBLISHED),
        "own handle": lambda: documented("--handle", "me/digits/classification/2"),
        "no handle": lambda: exported("mobilenet_v2", "feature_vector"),
        "frozen": lambda: documented("--frozen"),
    }[which]()
    # the model card has the same
    blocks = code_blocks((directory / documentation.PAGE_FILE).read_text())
    assert len(blocks) >= 3
    assert (which == "frozen") != ("trainable=True" in "".join(code for _, code in blocks))
    assert blocks == code_blocks((directory / documentation.CARD_FILE).read_text())
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (120, 100, 3), np.uint8)
    (directory.parent / "photo.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    for language, code in blocks:
        if language == "sh":
            monkeypatch.chdir(directory)
            for line in code.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "hubkeras"
                assert main(arguments) == 0
        else:
            monkeypatch.chdir(directory.parent)
            exec(compile(code, which, "exec"), {})


def test_the_page_of_a_frozen_model_promises_no_training(documented):
    text = (documented("--frozen") / documentation.PAGE_FILE).read_text()
    assert comments(text)["fine-tunable"] == "false"
    assert "cannot be trained" in text
    for words in ("trainable=True", "return_endpoints", "end points included"):
        assert words not in text


@pytest.mark.parametrize(
    ("handle", "name", "title"),
    [
        (None, "my model (1)+[x]", "hubkeras/my-model-1-x/1"),
        (None, "\udcff", "hubkeras/model/1"),
        ("Some_Body/Model_A/3", "x", "some-body/Model_A/3"),
        ("me/42", "x", "me/42/1"),
    ],
)
def test_titles_are_what_tfhub_dev_takes(handle, name, title):
    metadata = dataclasses.replace(metadata_of(catalog.get(PUBLISHED)), handle=handle)
    assert documentation.title_of(metadata, name) == title
    # the pattern of tfhub.dev's validator for the first line of a page
    assert re.fullmatch(r"[a-z\d-]+/[\w.-]+(/[\w.-]+)*/\d+", title)


def test_asset_paths_that_tfhub_dev_refuses(exported, capsys):
    directory = exported("mobilenet_v2", "feature_vector")
    for path in ("https://example.com/model.zip", "model.tar.gz"):
        assert main(["document", str(directory), "--asset-path", path]) == 1
        assert "address of a .tar.gz" in capsys.readouterr().err


def test_texts_of_strangers_stay_in_their_spans():
    """A model card is shown by sites that take HTML and Markdown; names in a model are anybody's."""
    hostile = "a`\n\n<img src=x onerror=alert(1)>\x1b[31m\n# b"
    metadata = dataclasses.replace(
        metadata_of(catalog.get(PUBLISHED.replace("feature_vector", "classification"))),
        handle=None,
        source={"checkpoint": hostile, "sha256": {hostile: hostile}, "through": {"checkpoint": hostile, "sha256": {}}},
        versions={"hubkeras": hostile},
    )
    for text in (documentation.page(metadata, labels=[hostile]), documentation.model_card(metadata, labels=[hostile])):
        lines = [line for line in text.splitlines() if "onerror" in line]
        assert len(lines) >= 3
        assert all(re.search(r"`a' <img src=x onerror=alert\(1\)>\\x1b\[31m # b`", line) for line in lines)
        assert text.count("onerror") == text.count("`a' <img src=x onerror")
        assert "\x1b" not in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"error": "x"}', "[" * 100_000])
def test_a_damaged_record_of_verification(text, documented, tmp_path, capsys):
    directory = tmp_path / "copy"
    shutil.copytree(documented("--frozen"), directory)
    (directory / documentation.VERIFICATION_FILE).write_text(text)
    assert main(["document", str(directory)]) == 1
    assert "verification.json is damaged" in capsys.readouterr().err


def test_the_api_documents_what_it_exports(exported):
    text = (exported("mobilenet_v2", "feature_vector") / documentation.PAGE_FILE).read_text()
    assert text.startswith("# Module hubkeras/")
    assert "does not say where they came from" in text
    assert "Measured" not in text
    assert hubkeras.get_expected_image_size(exported("mobilenet_v2", "feature_vector")) == (96, 96)

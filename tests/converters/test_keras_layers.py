"""`KerasLayer` in users' models: which network it runs, what its options change, which of its tensors is which."""

import dataclasses
import itertools

import numpy as np
import pytest

import hubkeras
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.keras_layers import run_of
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import HubModule, SavedLayer
from tests.support.slim import recipe

SCOPE = "MobilenetV2"


def tensor_of(value):
    return Tensor(value.shape, value.dtype.name, lambda: value)


@pytest.fixture(scope="module")
def variables():
    """`{Slim's name: shape}` in Slim's order, those that are trained first, as our SavedModels have them."""
    network = hubkeras.MobileNetV2(0.35, num_classes=3, initialize=False)
    shapes = {name: tuple(variable.shape) for name, variable in network.slim_variables().items()}
    return dict(sorted(shapes.items(), key=lambda item: "/moving_" in item[0]))


def file_of(shapes, form, module=None, **config):
    """A layer of a file with these variables, the file's tensors, and their paths.

    A form is `numbered`, or what names begin with.
    """
    values = {name: recipe(name, shape) for name, shape in shapes.items()}
    if form == "numbered":
        paths = {name: f"/layers/keras_layer/vars/{number}" for number, name in enumerate(values)}
        weights = {path.rsplit("/", 1)[1]: path for path in paths.values()}
    else:
        paths = {name: f"{form}{name}:0" for name in values}
        weights = {path.removeprefix("/model_weights/"): path for path in paths.values()}
    tensors = {path: tensor_of(values[name]) for name, path in paths.items()}
    return SavedLayer("keras_layer", "keras_layer", weights, config=config, module=module), tensors, paths


@pytest.mark.parametrize(
    "form", ["numbered", "/model_weights/keras_layer/", "/model_weights/keras_layer/model/keras_layer/"]
)
def test_names_with_scopes_before_them_and_numbers(variables, form):
    layer, tensors, paths = file_of(variables, form)
    run = run_of(layer, tensors)
    assert run.network is hubkeras.MobileNetV2
    assert {name: path for path, name in run.variables.items()} == paths
    assert (run.output, run.settings) == ("logits", {"num_classes": 3})
    assert len(run.notes) == (form == "numbered")


def test_numbered_variables_of_another_order_are_told_by_their_shapes_or_refused(variables):
    ordered = sorted(variables, key=lambda name: ("/moving_" in name, name))
    layer, tensors, paths = file_of({name: variables[name] for name in ordered}, "numbered")
    assert {name: path for path, name in run_of(layer, tensors).variables.items()} == paths
    swapped = [name.replace("/gamma", "/x").replace("/beta", "/gamma").replace("/x", "/beta") for name in variables]
    for names in (swapped, list(reversed(variables))):
        layer, tensors, _ = file_of({name: variables[name] for name in names}, "numbered")
        with pytest.raises(NamingError, match="nothing tells which is which"):
            run_of(layer, tensors)
        # the SavedModel tells it
        module = HubModule(shapes={name: variables[name] for name in names})
        assert list(run_of(dataclasses.replace(layer, module=module), tensors).variables.values()) == names


def test_a_module_of_other_shapes_is_not_believed(variables):
    other = hubkeras.MobileNetV2(0.5, num_classes=3, initialize=False)
    shapes = {name: tuple(variable.shape) for name, variable in other.slim_variables().items()}
    for form in ("numbered", "/keras_layer/"):
        layer, tensors, _ = file_of(variables, form, HubModule(shapes=shapes), handle="/a/module")
        run = run_of(layer, tensors)
        assert run.module is None
        assert "at the handle of the layer keras_layer (KerasLayer of /a/module) has other variables" in run.notes[0]


def test_the_end_of_what_a_layer_returns(variables):
    features = {name: shape for name, shape in variables.items() if "/Logits/" not in name}
    for signature, key, shapes, output in (
        (None, None, features, "features"),
        (None, None, variables, "logits"),
        ("default", "default", features, "features"),
        ("serving_default", "logits", variables, "logits"),
        ("image_feature_vector", "default", variables, "features"),
        ("image_classification", "default", variables, "logits"),
    ):
        layer, tensors, _ = file_of(shapes, "/keras_layer/", signature=signature, output_key=key)
        assert run_of(layer, tensors).output == output
    layer, tensors, _ = file_of(features, "/keras_layer/", signature="image_classification", output_key="default")
    with pytest.raises(NamingError, match="returns logits, and its SavedModel has no head"):
        run_of(layer, tensors)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"output_key": "MobilenetV2/layer_15"}, "output_key='MobilenetV2/layer_15'"),
        ({"arguments": {"return_endpoints": True}}, "return_endpoints=True without an output_key"),
        ({"arguments": {"return_endpoints": True}, "output_key": "MobilenetV2/layer_7"}, "output_key="),
        ({"arguments": {"training": True}}, "arguments training=True"),
        ({"arguments": {"dropout": 0.5}}, "arguments dropout=0.5"),
        ({"signature": "default", "signature_outputs_as_dict": True}, "signature_outputs_as_dict=True"),
        ({"signature": "image_feature_vector_with_bn_hparams", "output_key": "default"}, "calls the signature"),
        ({"signature": "serving_default", "output_key": "probabilities"}, "output_key='probabilities'"),
    ],
)
def test_options_that_change_the_output_are_refused_by_name(variables, config, words):
    layer, tensors, _ = file_of(variables, "/keras_layer/", handle="/a/module", **config)
    with pytest.raises(NamingError) as caught:
        run_of(layer, tensors)
    assert words in str(caught.value)
    assert "the layer keras_layer (KerasLayer of /a/module)" in str(caught.value)


def test_options_that_do_not_are_kept(variables):
    arguments = {"batch_norm_momentum": 0.997, "return_endpoints": True, "training": False}
    layer, tensors, _ = file_of(variables, "/keras_layer/", arguments=arguments, output_key="default", trainable=True)
    assert run_of(layer, tensors).settings == {"num_classes": 3, "batch_norm_momentum": 0.997}


def test_layers_without_weights_or_of_two_networks_are_refused(variables):
    with pytest.raises(NamingError, match="the file has no weights of the layer keras_layer"):
        run_of(SavedLayer("keras_layer", "keras_layer"), {})
    names = [*variables, *(f"InceptionV2/{name.partition('/')[2]}" for name in itertools.islice(variables, 3))]
    shapes = {name: variables.get(name, (1,)) for name in names}
    layer, tensors, _ = file_of(shapes, "/keras_layer/")
    with pytest.raises(NamingError, match=r"variables of 2 networks \(InceptionV2, MobilenetV2\)"):
        run_of(layer, tensors)


def test_values_are_looked_at_where_shapes_fit_several_orders(variables):
    """A variance is never negative."""
    layer, tensors, paths = file_of(variables, "numbered")
    path = paths[f"{SCOPE}/Conv/BatchNorm/moving_variance"]
    tensors[path] = tensor_of(-np.asarray(tensors[path].read()))
    with pytest.raises(NamingError, match="nothing tells which is which"):
        run_of(layer, tensors)


@pytest.mark.parametrize(
    "config",
    [{"arguments": 3}, {"arguments": ["x"]}, {"signature": ["default"]}, {"output_key": {"a": 1}}, {"handle": [1]}],
)
def test_configs_that_are_none(variables, config):
    layer, tensors, _ = file_of(variables, "/keras_layer/", **config)
    if "handle" in config:
        assert run_of(layer, tensors).output == "logits"
    else:
        with pytest.raises(NamingError, match="the layer keras_layer"):
            run_of(layer, tensors)

#!/usr/bin/env python3
"""Records how TF-Slim's own networks draw their initial weights, for `test_initial.py`.

Runs in the environment of `slim_reference.py`, the script that made the other figures of this folder, which must be
on PYTHONPATH:

    PYTHONPATH=/path/to/oracle python make_initial.py initial.npz

For each kernel, by its name, of Slim's draws in float32: mean, standard deviation, and 33 quantiles from the smallest
value to the largest.
"""

import sys
from argparse import Namespace

import numpy as np
from slim_reference import make_graph, tf1

# the networks of `test_initial.py`
CASES = (
    {"arch": "mobilenet_v2", "depth_multiplier": 0.35},
    {"arch": "inception_v2", "depth_multiplier": 0.5},
    {"arch": "inception_resnet_v2", "depth_multiplier": 1.0},
)
QUANTILES = 33


def figures(case):
    """`{name: figures}` of each kernel of a new network, without the auxiliary head."""
    args = Namespace(image_size=96, num_classes=11, momentum=0.99, no_aux=True, **case)
    graph, *_ = make_graph(args, training=True)
    with graph.as_default(), tf1.Session() as session:
        variables = [v for v in tf1.global_variables() if v.op.name.endswith("weights")]
        session.run([v.initializer for v in variables])
        values = session.run(variables)
    levels = np.linspace(0, 1, QUANTILES)
    return {
        variable.op.name: np.array([x.mean(), x.std(), *np.quantile(x, levels)], np.float32)
        for variable, x in zip(variables, values, strict=True)
    }


def main(out):
    np.savez_compressed(out, **{name: x for case in CASES for name, x in figures(case).items()})


if __name__ == "__main__":
    main(*sys.argv[1:])

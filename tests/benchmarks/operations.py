"""The operations that TensorFlow runs after its own optimizations, how many of each kind, and the slowest ten.

python -m tests.benchmarks.operations --networks mobilenet_v2 --batch 1
"""

import argparse
import collections
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WARM_UP, CALLS = 3, 10


def kind(node):
    """The operation of a node with what is fused into it, `_FusedConv2D{BiasAdd,Relu}`."""
    fused = [name.decode() for name in node.attr["fused_ops"].list.s] if "fused_ops" in node.attr else []
    return f"{node.op}{{{','.join(fused)}}}" if fused else node.op


def operations(session, fetch, feed):
    """Measures the operations of a TF1 session, which reports more than a `tf.function` does.

    Args:
        session, fetch, feed: of `session.run`.

    Returns:
        Rows (kind, number, milliseconds of all of that kind, median of the calls), slowest first. Operations may run
        side by side, so the times add up to more than the call takes; and being measured slows them.
    """
    import numpy as np
    import tensorflow as tf

    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE, output_partition_graphs=True)
    for _ in range(WARM_UP):
        session.run(fetch, feed)
    times = collections.defaultdict(list)
    for _ in range(CALLS):
        metadata = tf.compat.v1.RunMetadata()
        session.run(fetch, feed, options=options, run_metadata=metadata)
        kinds = {node.name: kind(node) for graph in metadata.partition_graphs for node in graph.node}
        total = collections.Counter(dict.fromkeys(kinds.values(), 0))
        for device in metadata.step_stats.dev_stats:
            for node in device.node_stats:
                if node.node_name in kinds:
                    total[kinds[node.node_name]] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1000
        for name, milliseconds in total.items():
            times[name].append(milliseconds)
    numbers = collections.Counter(kinds.values())
    rows = [(name, numbers[name], float(np.median(values))) for name, values in times.items()]
    return sorted(rows, key=lambda row: -row[2])


def saved_model_session(path):
    """A session over a SavedModel, its input and its output."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        output = tf.saved_model.load(path)(images)
        session = tf.compat.v1.Session(graph=graph)
        session.run(tf.compat.v1.global_variables_initializer())
    return session, images, output


def show(title, rows):
    """Prints the rows of `operations`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("operation", "number", "ms"):
        table.add_column(column)
    for name, number, milliseconds in rows[:10]:
        table.add_row(name, str(number), f"{milliseconds:.2f}")
    rest = ", ".join(f"{number} {name}" for name, number, _ in rows[10:])
    Console(width=120).print(table, f"and: {rest}\n", markup=False)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.operations", description=__doc__.splitlines()[0])
    networks = ("mobilenet_v2", "inception_v2", "inception_resnet_v2")
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--slim-frozen", metavar="DIR", type=pathlib.Path, help="folder of frozen graphs, NETWORK.pb")
    options = parser.parse_args()

    from hubkeras.verifying import sample_images
    from tests.benchmarks import contestants

    with tempfile.TemporaryDirectory() as directory:
        for network in options.networks:
            folder = pathlib.Path(directory, network)
            folder.mkdir()
            files = contestants.Files(network, folder)
            size = files.model.default_image_size
            images = sample_images(size, options.batch)
            for frozen in (False, True):
                session, placeholder, output = saved_model_session(files.saved_model(frozen=frozen))
                title = f"{network}{', frozen' if frozen else ''}, batch {options.batch}"
                show(title, operations(session, output, {placeholder: images}))
            graph = contestants.slim_graph(options.slim_frozen, network)
            if graph:
                session = contestants.frozen_session(graph)
                show(f"{network}, Slim frozen", operations(session, "logits:0", {"images:0": images}))


if __name__ == "__main__":
    main()

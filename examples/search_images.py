"""Finds the images that are most like a given one, in the Parquet files of `hubkeras embed` with feature vectors.

    pip install 'hubkeras[bulk]' usearch matplotlib
    hubkeras export mobilenet_v2_1.0_224.tgz build/features --task feature_vector
    hubkeras embed build/features my/photos build/rows
    python examples/search_images.py build/rows my/photos/cat.jpg

The first run makes an index beside the Parquet files, `<ROWS>.usearch`, which later runs map from disk: a query does
not read the vectors. usearch was chosen over faiss-cpu and lancedb since one small package with one dependency gives a
graph (HNSW) that grows, is saved as one file and is searched without being loaded; faiss-cpu loads the index or needs
a choice of its kind by size, and lancedb keeps a second copy of the rows in a format of its own.
"""

import argparse
import pathlib

import numpy as np
import pyarrow.dataset
from usearch.index import Index

import hubkeras


def read_batches(rows):
    """Yields numbers, paths and features, float32 `[batch, num_features]`, of the images that could be read."""
    start = 0
    for batch in pyarrow.dataset.dataset(rows, format="parquet").to_batches(columns=["path", "features"]):
        good = batch.column("features").is_valid().to_numpy(zero_copy_only=False)
        numbers = start + np.flatnonzero(good)
        start += len(batch)
        vectors = batch.filter(pyarrow.array(good))
        if len(numbers):
            flat = vectors.column("features").flatten().to_numpy(zero_copy_only=False)
            yield numbers, vectors.column("path").to_pylist(), flat.reshape(len(numbers), -1)


def build_index(rows, path):
    """The index over all rows, by the angle between feature vectors, written to `path`."""
    index = None
    for numbers, _, features in read_batches(rows):
        index = index or Index(ndim=features.shape[1], metric="cos", dtype="f16")
        index.add(numbers, features)
    if index is None:
        raise SystemExit(f"{rows} has no feature vectors; run `hubkeras embed` with --task feature_vector.")
    index.save(path)
    return index


def open_index(rows):
    """The index of `rows`: mapped from its file, or made where it is older than the rows or not there."""
    path = pathlib.Path(f"{str(rows).rstrip('/')}.usearch")
    newest = max((file.stat().st_mtime for file in pathlib.Path(rows).glob("*.parquet")), default=0)
    if path.is_file() and path.stat().st_mtime >= newest:
        return Index.restore(path, view=True)
    return build_index(rows, path)


def find(rows, query, count):
    """`[(path, cosine)]` of the images most like that of the row `query`, without itself."""
    index = open_index(rows)
    paths = pyarrow.dataset.dataset(rows, format="parquet").to_table(columns=["path"]).column("path").to_pylist()
    if query not in paths:
        raise SystemExit(f"{query} is not a row of {rows}; name an image as its column `path` does.")
    number = paths.index(query)
    matches = index.search(index.get(number), count + 1)
    return [(paths[m.key], 1 - float(m.distance)) for m in matches if m.key != number][:count]


def draw(query, found, path):
    """The image looked for, and to its right those that were found."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found) + 1, figsize=(2 * len(found) + 2, 2.5), layout="constrained")
    for axis, (name, cosine) in zip(axes, [(query, None), *found], strict=True):
        axis.imshow(hubkeras.load_image(name, 160, resize="crop"))
        axis.set_title("looked for" if cosine is None else f"{cosine:.3f}", fontsize=9)
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", metavar="ROWS", help="the folder that `hubkeras embed` wrote")
    parser.add_argument("query", metavar="IMAGE", help="one of its images, as its column `path` names it")
    parser.add_argument("--count", type=int, default=5, help="how many to find (5)")
    parser.add_argument("--picture", metavar="FILE.png", help="draw them, where the rows are image files")
    options = parser.parse_args(arguments)
    found = find(options.rows, options.query, options.count)
    for path, cosine in found:
        print(f"{cosine:.3f}  {path}")
    if options.picture:
        draw(options.query, found, options.picture)
    return found


if __name__ == "__main__":
    main()

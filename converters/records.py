"""What a file of weights says of itself, so that it is read again as what it was written of."""

import dataclasses

from hubkeras.common.forms import Job
from hubkeras.common.labels import default_labels
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import preprocessing_of


def metadata_of(job: Job) -> Metadata:
    """The metadata of what a job writes: the source's own where it has some, with what was chosen for this job."""
    source = job.report.metadata if job.report else None
    network, chosen = job.network, job.metadata
    task = "classification" if network.num_classes else chosen.task
    return dataclasses.replace(
        source or chosen,
        task=source.task if source and not network.num_classes else task,
        default_image_size=chosen.default_image_size,
        num_classes=network.num_classes,
        settings=network.settings(),
        source=chosen.source,
        weights=chosen.weights,
        frozen=False,
        versions=chosen.versions,
    )


def labels_of(job: Job) -> list[str] | None:
    """The class names of what a job writes, None where they are those that a reader would give it anyway."""
    if job.labels is None or list(job.labels) == default_labels(len(job.labels)):
        return None
    return list(job.labels)


def say_lost(job: Job, form: str, *, labels: bool = False, image_size: bool = False) -> None:
    """Adds a note to the job of what a form does not hold.

    Args:
        job: what is written.
        form: its name, for the note.
        labels: whether it has no place for class names.
        image_size: whether it has none for the size of the images.
    """
    lost = []
    if labels and labels_of(job):
        lost.append("the class names")
    if image_size and job.metadata.default_image_size != job.network.default_image_size:
        lost.append(f"the image size of {job.metadata.default_image_size}")
    cut = job.metadata.preprocessing
    if cut != preprocessing_of(num_classes=job.network.num_classes):
        lost.append(f"how images are cut ({cut})")
    if lost:
        job.notes.append(f"{form} does not hold {' and '.join(lost)}; give them again when it is read.")

"""Holds metrics against torchmetrics, on several numbers of ranks: the same value to 1e-6, the same bits on any ranks.

    metrics_test.py BUILD_FOLDER
"""

import math
import pathlib
import tempfile
import warnings

import torch
import torchmetrics.classification as tc
import torchmetrics.regression as tr
from programs import run
from safetensors.torch import save_file

TOLERANCE = 1e-6
AVERAGES = ("macro", "micro", "weighted", "none")
SAMPLES = 1003  # the last of the chunks of 64 is a part of one


def entries(tag, value):
    """As lab names them: one number under the tag, several under its keys."""
    if value.dim() == 0:
        return {f"{tag}/validate": float(value)}
    return {f"{tag} (validate)/{key}": float(number) for key, number in enumerate(value)}


def of_classes(output, labels):
    n = output.shape[1]
    found = entries("accuracy", tc.MulticlassAccuracy(n, average="micro")(output, labels))
    counts = tc.MulticlassConfusionMatrix(n)(output, labels)
    found |= {f"confusion (validate)/{a} as {b}": float(counts[a, b]) for a in range(n) for b in range(n)}
    metrics = {"accuracy": tc.MulticlassAccuracy, "precision": tc.MulticlassPrecision, "recall": tc.MulticlassRecall,
               "f1": tc.MulticlassF1Score}
    areas = {"auroc": tc.MulticlassAUROC, "average_precision": tc.MulticlassAveragePrecision}
    for average in AVERAGES:
        for name, metric in metrics.items():
            for k in (1, 2):
                found |= entries(f"{name}-{average}-{k}", metric(n, average=average, top_k=k)(output, labels))
        for name, metric in areas.items() if average != "micro" else ():
            found |= entries(f"{name}-{average}", metric(n, average=average)(output, labels))
    return found


def of_yes_or_no(output, labels):
    found = {}
    metrics = {"accuracy": tc.BinaryAccuracy, "precision": tc.BinaryPrecision, "recall": tc.BinaryRecall,
               "f1": tc.BinaryF1Score}
    for threshold in (0.5, 0.3):
        for name, metric in metrics.items():
            found |= entries(f"{name}-{threshold}", metric(threshold=threshold)(output, labels))
        counts = tc.BinaryConfusionMatrix(threshold=threshold)(output, labels).flatten()
        found |= {f"confusion-{threshold} (validate)/{key}": float(count)
                  for key, count in zip(("tn", "fp", "fn", "tp"), counts)}
    found |= entries("auroc", tc.BinaryAUROC()(output, labels))
    return found | entries("average_precision", tc.BinaryAveragePrecision()(output, labels))


def of_numbers(output, labels):
    found = entries("mse", tr.MeanSquaredError()(output, labels)) | entries("mae", tr.MeanAbsoluteError()(output, labels))
    return found | entries("r2", tr.R2Score()(output, labels))


def class_cases():
    torch.manual_seed(1)
    logits, labels = 2 * torch.randn(SAMPLES, 5), torch.randint(5, (SAMPLES,))
    helped = logits + 2 * torch.nn.functional.one_hot(labels, 5)
    yield "random", logits, labels
    yield "mostly right", helped, labels
    yield "with ties", (2 * helped).round() / 2, labels
    yield "a class absent, but predicted", helped, labels.where(labels != 3, 0)
    yield "a class neither there nor predicted", helped - torch.tensor([0, 0, 0, 99.0, 0]), labels.where(labels != 3, 0)
    yield "the first class only", logits, torch.zeros(SAMPLES, dtype=torch.long)
    yield "the third class only", logits, torch.full((SAMPLES,), 2)
    yield "64 bits", helped.double(), labels
    for samples in (64, 65, 5, 1):
        yield f"{samples} samples", helped[:samples], labels[:samples]
    yield "two classes", helped[:, :2], labels % 2


def binary_cases():
    torch.manual_seed(2)
    labels = torch.randint(2, (SAMPLES,))
    logits = torch.randn(SAMPLES) + labels
    for kind, scores in (("logits", logits), ("binary", logits.sigmoid())):
        yield kind, "random", scores, labels
        yield kind, "with ties", (4 * scores).round() / 4, labels
        yield kind, "yes only", scores, torch.ones_like(labels)
        yield kind, "no only", scores, torch.zeros_like(labels)
        yield kind, "64 bits", scores.double(), labels
        yield kind, "70 samples", scores[:70], labels[:70]
    yield "binary", "all the same", torch.full((SAMPLES,), 0.7), labels
    yield "binary", "at the thresholds", torch.tensor([0.5, 0.3] * 500), labels[:1000]
    yield "binary", "one sample", torch.tensor([0.9]), torch.tensor([1])


def number_cases():
    torch.manual_seed(3)
    for columns in (1, 3):
        truth = 3 * torch.randn(SAMPLES, columns) + torch.arange(columns)
        guess = truth + torch.randn(SAMPLES, columns)
        yield f"{columns} columns", guess, truth
        yield f"{columns} columns in 64 bits", guess.double(), truth.double()
        yield f"{columns} columns, two samples", guess[:2].double(), truth[:2].double()
        yield f"{columns} columns, all right", truth, truth
        yield f"{columns} columns without spread", guess, torch.full_like(truth, 2)
    yield "a vector", guess[:, 0], truth[:, 0]


def measured(kind, path, ranks):
    done = run(ranks, "metrics_tool", kind, path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compare(kind, name, output, labels, reference, folder):
    """The largest difference of the case, and its tag."""
    path = folder / "samples.safetensors"
    save_file({"output": output.contiguous(), "labels": labels.clone().contiguous()}, path)
    texts = {ranks: measured(kind, path, ranks) for ranks in ((1, 2, 3, 4) if name in RANKED else (2,))}
    assert len(set(texts.values())) == 1, f"{kind}, {name}: {texts}"
    ours = {tag: float(value) for tag, value in (line.split("\t") for line in texts[2].splitlines())}
    theirs = reference(output, labels)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for tag in theirs:
        assert math.isnan(ours[tag]) == math.isnan(theirs[tag]), f"{kind}, {name}: {tag}: {ours[tag]}, not {theirs[tag]}"
    worst = max((abs(ours[tag] - theirs[tag]), tag) for tag in theirs if not math.isnan(theirs[tag]))
    print(f"{kind}, {name}: {len(theirs)} values, {sum(map(math.isnan, theirs.values()))} of them NaN, "
          f"{worst[0]:.1e} apart ({worst[1]}), on {', '.join(map(str, texts))} ranks", flush=True)
    assert worst[0] <= TOLERANCE, f"{kind}, {name}: {worst[1]}: {ours[worst[1]]}, not {theirs[worst[1]]}"
    return worst[0]


RANKED = {"mostly right", "with ties", "1 samples", "70 samples", "3 columns"}


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torchmetrics' of classes that are absent
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        worst = [compare("classes", *case, of_classes, folder) for case in class_cases()]
        worst += [compare(*case, of_yes_or_no, folder) for case in binary_cases()]
        worst += [compare("numbers", *case, of_numbers, folder) for case in number_cases()]
    print(f"{len(worst)} cases, {max(worst):.1e} apart at most")


if __name__ == "__main__":
    main()

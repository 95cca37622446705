"""Models of earlier tasks, from the stand-in for a ClearML server: lab fetches Lightning's, uploaded by the SDK, and
its own; the SDK and PyTorch take lab's.

    clearml_retrieval_test.py BUILD_FOLDER
"""

import csv
import json
import pathlib
import sys
import tempfile

import clearml_sdk
import h5py
import programs
import torch
from clearml_server import ClearmlServer
from networks import ConvNet
from safetensors.torch import load_file, safe_open
from torch import nn

SAMPLES, BATCH, EPOCHS, STEPS = 480, 128, 2, 8  # four steps an epoch
CONFIG = {
    "config.train_samples": SAMPLES, "config.batch_size": BATCH, "config.schedule": "multi_step",
    "config.milestones": [5], "config.shift": 0, "trainer.init.log_every_n_steps": 1,
    "trainer.init.enable_progress_bar": "false",
}
TEST_DIGITS = "data/mnist-test.h5"
torch.set_num_threads(1)


def digits(path, first=0, last=None):
    with h5py.File(path) as file:
        images = torch.from_numpy(file["images"][first:last]).float()[:, None] / 255
        return images, torch.from_numpy(file["labels"][first:last]).long()


def logits_of(model):
    """For the digits that nothing was trained on."""
    with torch.no_grad():
        return model(digits(TEST_DIGITS)[0])


def lightning_checkpoint(path, last_batch=True):
    """What torch-lab leaves of a run: the bare model's names, and everything that Lightning adds. Returns the model."""
    torch.manual_seed(3)
    model = ConvNet()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5], 0.2)
    images, labels = digits("data/mnist-train.h5", 0, SAMPLES)
    for _ in range(EPOCHS):
        for batch in range(0, SAMPLES, BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch:batch + BATCH]), labels[batch:batch + BATCH])
            loss.backward()
            optimizer.step()
        scheduler.step()
    progress = {"ready": EPOCHS, "completed": EPOCHS - 1, "started": EPOCHS, "processed": EPOCHS - 1}
    torch.save({
        "epoch": EPOCHS - 1, "global_step": STEPS, "pytorch-lightning_version": "2.6.6",
        "state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": progress, "current": progress},
                               "epoch_loop.batch_progress": {"is_last_batch": last_batch}}},
        "callbacks": {"EarlyStopping{'monitor': 'loss/validate', 'mode': 'min'}": {"wait_count": 0}},
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 3e-3},
    }, path)
    return model


def points(folder, tag):
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [(int(row["step"]), float(row["value"])) for row in csv.DictReader(file) if row["tag"] == tag]


def state_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["lab"])


class Retrieval:
    def __init__(self, server, folder):
        self.server, self.folder, self.root = server, folder, folder / "artifacts"
        self.out = folder / "results.csv"
        self.sdk = clearml_sdk.sandbox(folder / "sdk", server.environment())
        programs.ENVIRONMENT.update(server.environment(), CLEARML_CONFIG_FILE=str(folder / "none.conf"))

    def task_with(self, **files):
        """A task of the SDK with these files as models: name -> path."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        for name, path in files.items():
            path = pathlib.Path(path)
            (folder / (name + path.suffix)).write_bytes(path.read_bytes())
        return clearml_sdk.call(self.sdk, "models", folder)["id"]

    def train(self, ranks, *words, root=None, **values):
        """The finished process and its folder (None where it failed). Keys with __ for a dot."""
        given = {**CONFIG, "trainer.init.default_root_dir": root or self.root,
                 **{key.replace("__", "."): value for key, value in values.items()}}
        done = programs.run(ranks, "lab_train", "configs/mnist.toml", *programs.settings(given), *words)
        folder = None
        if done.returncode == 0:
            folder = pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])
        return done, folder

    def trained(self, ranks, *words, **values):
        done, folder = self.train(ranks, *words, **values)
        assert folder, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return folder

    def refused(self, code, *texts, ranks=0, words=(), **values):
        done, _ = self.train(ranks, *words, **values)
        assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stderr}"
        for text in texts:
            assert done.stderr.count(text) == 1, f"{text!r} is not there once:\n{done.stderr}"

    def infer(self, weights, ranks=0):
        return programs.run(ranks, "lab_infer", "configs/mnist.toml", "--set",
                            f"trainer.init.default_root_dir={self.root}", weights, TEST_DIGITS, self.out)

    def predicted(self, weights, ranks=0):
        """The class of each test digit by lab_infer, and what it says of them."""
        done = self.infer(weights, ranks)
        assert done.returncode == 0, done.stderr
        with open(self.out, encoding="utf-8") as file:
            return torch.tensor([int(row["prediction"]) for row in csv.DictReader(file)]), done.stdout

    def stored(self, task):
        """The file of a task's model "last" on the server."""
        (path,) = (self.folder / "files").glob(f"**/*.{task}/models/last*")
        return path

    def downloads(self):
        return len(self.server.records.of("files.download"))


def check_lightning(world):
    """A Lightning checkpoint that the SDK uploaded, with its state, its weights alone, and for predictions."""
    path = world.folder / "last.ckpt"
    model = lightning_checkpoint(path)
    task = world.task_with(last=path, best=path)
    images, labels = digits("data/mnist-train.h5", SAMPLES)
    with torch.no_grad():
        loss = float(nn.functional.cross_entropy(model(images), labels))

    full = world.trained(2, checkpoint__checkpoint_task_id=task, trainer__init__max_epochs=3)
    assert abs(points(full, "loss/validate")[0][1] - loss) < 1e-6, (points(full, "loss/validate"), loss)
    assert [step for step, _ in points(full, "loss/train_step")] == [8, 9, 10, 11], points(full, "loss/train_step")
    start, end = (full / "checkpoints" / f"epoch={e}-step={s}.safetensors" for e, s in ((1, 8), (2, 12)))
    tensors = load_file(start)
    saved = torch.load(path, weights_only=True)
    optimizer = saved["optimizer_states"][0]["state"]
    for number, (name, value) in enumerate(saved["state_dict"].items()):
        assert torch.equal(tensors[name], value), name
        for part in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(tensors[f"lab.optimizer.{part}.{name}"], optimizer[number][part]), (part, name)
    assert state_of(start)["optimizer"] == {"name": "AdamW", "steps": STEPS}, state_of(start)
    assert state_of(end)["optimizer"]["steps"] == 12 and state_of(end)["epoch"] == 2, state_of(end)
    assert json.loads((full / "run.json").read_text())["parent"] == task
    assert (full / "log.txt").read_text(encoding="utf-8").count("Loading checkpoint ") == 1

    fresh = world.trained(0, checkpoint__checkpoint_task_id=task, checkpoint__checkpoint_name="best",
                          checkpoint__weights_only="true", trainer__init__max_epochs=1)
    assert abs(points(fresh, "loss/validate")[0][1] - loss) < 1e-6
    assert (fresh / "log.txt").read_text(encoding="utf-8").count("Loading weights ") == 1
    assert [step for step, _ in points(fresh, "loss/train_step")] == [0, 1, 2, 3]
    assert state_of(fresh / "checkpoints" / "last.safetensors")["optimizer"]["steps"] == 4

    two = logits_of(model).topk(2)
    differ = world.predicted(f"task:{task}/best", ranks=2)[0] != two.indices[:, 0]
    assert not bool((differ & (two.values[:, 0] - two.values[:, 1] > 1e-6)).any()), differ.nonzero()
    fetched = world.out.read_bytes()
    world.predicted(path)
    assert world.out.read_bytes() == fetched

    assert world.downloads() == 2, world.downloads()


def check_unfit(world):
    """Lightning checkpoints that lab cannot go on from are refused with the reason; a state dict gives its weights."""
    path = world.folder / "unfit.ckpt"
    lightning_checkpoint(path)
    changes = {
        "was saved within epoch 1": lambda saved: saved["loops"]["fit_loop"]["epoch_loop.batch_progress"].update(
            is_last_batch=False),
        "with amsgrad": lambda saved: saved["optimizer_states"][0]["param_groups"][0].update(amsgrad=True),
        "the states of 2 optimizers": lambda saved: saved["optimizer_states"].append(saved["optimizer_states"][0]),
        "an optimizer with 2 groups": lambda saved: saved["optimizer_states"][0]["param_groups"].append({"params": []}),
        "with the options lr, rho": lambda saved: saved["optimizer_states"][0].update(
            param_groups=[{"lr": 1, "rho": 0.9, "params": list(range(8))}]),
        "this one has AdamW": lambda saved: saved["optimizer_states"][0].update(
            param_groups=[{"lr": 1, "momentum": 0, "dampening": 0, "nesterov": False, "params": list(range(8))}]),
        "no epoch and global_step": lambda saved: saved.pop("global_step"),
        "of another model": lambda saved: saved["state_dict"].pop("fc2.bias"),
    }
    for text, change in changes.items():
        saved = torch.load(path, weights_only=True)
        change(saved)
        torch.save(saved, world.folder / "changed.ckpt")
        world.refused(65, text, words=["-o"], trainer__fit__ckpt_path=world.folder / "changed.ckpt")
    torch.save(torch.load(path, weights_only=True)["state_dict"], world.folder / "changed.ckpt")
    world.trained(0, "-o", trainer__fit__ckpt_path=world.folder / "changed.ckpt", checkpoint__weights_only="true",
                  trainer__init__max_epochs=1)


def check_lab(world):
    """A run's checkpoint goes on in another run, to the same bits as one that was never interrupted."""
    straight = world.trained(0, "-o", root=world.folder / "straight", trainer__init__max_epochs=2)
    first = world.trained(0, "-o", root=world.folder / "first", trainer__init__max_epochs=1)
    checkpoints = first / "checkpoints"
    task = world.task_with(last=checkpoints / "last.safetensors", best=checkpoints / "best.safetensors")
    second = world.trained(2, checkpoint__checkpoint_task_id=task, trainer__init__max_epochs=2)
    ours, theirs = (load_file(folder / "checkpoints" / "last.safetensors") for folder in (second, straight))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert state_of(second / "checkpoints" / "last.safetensors")["best"] == \
        state_of(straight / "checkpoints" / "last.safetensors")["best"]
    assert points(second, "loss/train_step") == points(straight, "loss/train_step")[4:]
    assert (second / "log.txt").read_text(encoding="utf-8").count("Starting training") == 1
    assert points(second, "loss/validate") == [(0, points(straight, "loss/validate")[1][1]),
                                               points(straight, "loss/validate")[2]]
    local = world.trained(0, "-o", trainer__fit__ckpt_path=checkpoints / "last.safetensors",
                          trainer__init__max_epochs=2)
    assert torch.equal(load_file(local / "checkpoints" / "last.safetensors")["fc2.bias"], theirs["fc2.bias"])
    other = world.trained(0, "-o", trainer__fit__ckpt_path=checkpoints / "last.safetensors",
                          config__batch_size=96, trainer__init__max_epochs=2)  # five steps an epoch
    assert [step for step, _ in points(other, "loss/train_step")] == [5, 6, 7, 8, 9]
    world.refused(65, "this one has SGD", words=["-o"], config__optimizer="sgd",
                  trainer__fit__ckpt_path=checkpoints / "last.safetensors")
    return task


def check_python(world):
    """What a run of lab leaves is retrieved as torch-lab does, and predicts there what it predicts here."""
    # The smaller the better: "best" is the epoch that predicts worst, which is not the last.
    folder = world.trained(2, config__monitor="accuracy/validate", trainer__init__max_epochs=2)
    task, labels = json.loads((folder / "run.json").read_text())["task_id"], digits(TEST_DIGITS)[1]
    found = {}
    for name, path in clearml_sdk.call(world.sdk, "retrieve", task, "last", "best").items():
        converted = world.folder / f"{name}-of-lab.ckpt"
        done = programs.run(0, "lab_ckpt", "convert", path, converted)
        assert done.returncode == 0, done.stderr
        model = ConvNet()
        model.load_state_dict(torch.load(converted, weights_only=True)["state_dict"], strict=True)
        found[name] = logits_of(model).argmax(1)
        ours, said = world.predicted(folder / "checkpoints" / f"{name}.safetensors")
        assert torch.equal(ours, found[name]), (ours != found[name]).nonzero()
        right = int((found[name] == labels).sum())
        assert said == f"accuracy {right / len(labels):g} ({right} of {len(labels)})\n", (name, right, said)
    assert not torch.equal(found["last"], found["best"])
    return task


def check_measured(world, task):
    """A task's models are tested, and predict, where the config names them."""
    for name in ("last", "best"):
        model = {"checkpoint.checkpoint_task_id": task, "checkpoint.checkpoint_name": name}
        folder = world.trained(2, "--test", **{key.replace(".", "__"): value for key, value in model.items()})
        assert folder.name.startswith("test_mnist-mnist_v") and not list((folder / "checkpoints").iterdir()), folder
        new = world.server.store.tasks[json.loads((folder / "run.json").read_text())["task_id"]]
        assert new["type"] == "testing" and new["status"] == "completed", new
        _, said = world.predicted(f"task:{task}/{name}")
        ((_, accuracy),) = points(folder, "accuracy/test")
        assert said.startswith(f"accuracy {accuracy:g} ("), (accuracy, said)
        before = world.out.read_bytes()
        world.out.unlink()
        done = programs.run(2, "lab_infer", "configs/mnist.toml", *programs.settings({
            "trainer.init.default_root_dir": world.root, **model}), TEST_DIGITS, world.out)
        assert done.returncode == 0 and done.stdout == said and world.out.read_bytes() == before, done.stderr


def check_damage(world, task):
    """A file that is not what was uploaded is not kept; what is no model is fetched again at the next start."""
    stored = world.stored(task)
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = world.infer(f"task:{task}")
    assert done.returncode == 65 and done.stderr.count("what was uploaded had") == 1, done.stderr
    assert not list(world.root.glob(f"*-{task}/train/model_weights/last*"))
    stored.write_bytes(whole)
    world.predicted(f"task:{task}")

    page = world.folder / "page.safetensors"
    page.write_text("<html>a proxy's, that came in place of the model</html>", encoding="utf-8")
    other = world.task_with(last=page)
    world.refused(65, f'it came as the model "last" of the task {other}', checkpoint__checkpoint_task_id=other)
    (kept,) = world.root.glob(f"*-{other}/train/model_weights/last*")
    assert kept.read_bytes() == page.read_bytes()
    done = world.infer(f"task:{other}")
    assert done.returncode == 65 and str(kept) in done.stderr, done.stderr
    world.stored(other).write_bytes(whole)
    world.predicted(f"task:{other}")


def check_cache(world, task):
    """What was fetched is used again, also without the server and without a socket."""
    before = world.downloads()
    again = {"checkpoint__checkpoint_task_id": task, "trainer__init__max_epochs": 1}
    world.trained(0, **again)
    assert world.downloads() == before
    requests = len(world.server.records.requests)
    world.trained(0, "-o", **again)
    assert len(world.server.records.requests) == requests
    world.server.close_port("api")
    done, folder = world.train(0, **again)
    assert folder and "cannot be reached" in done.stderr, done.stderr
    world.refused(69, "cannot be reached", root=world.folder / "empty", **again)
    world.server.open_port("api")
    world.refused(69, "--offline", words=["-o"], root=world.folder / "empty", **again)


def check_refusals(world, task):
    """Each is said once, by one of two ranks, and leaves no run behind."""
    root = world.folder / "refused"
    runs = lambda: len(world.server.store.tasks)  # noqa: E731
    before = runs()
    missing = {"checkpoint__checkpoint_task_id": "0" * 32, "root": root}
    world.refused(66, f"no task {'0' * 32}", ranks=2, **missing)
    world.refused(66, 'no output model "lost"; it has "best", "last"', root=root, checkpoint__checkpoint_task_id=task,
                  checkpoint__checkpoint_name="lost")
    done = programs.run(2, "lab_infer", "configs/mnist.toml", f"task:{'0' * 32}", "data/mnist-test.h5",
                        world.folder / "no.csv")
    assert done.returncode == 66 and done.stderr.count(f"no task {'0' * 32}") == 1, done.stderr
    secret = programs.ENVIRONMENT["CLEARML_API_SECRET_KEY"]
    programs.ENVIRONMENT["CLEARML_API_SECRET_KEY"] = "wrong"
    world.refused(78, "no rights", root=root, checkpoint__checkpoint_task_id=task)
    programs.ENVIRONMENT["CLEARML_API_SECRET_KEY"] = secret
    assert runs() == before and not list(root.glob("*/run.json"))


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with ClearmlServer(folder / "files", tolerate_sdk=True) as server:
            world = Retrieval(server, folder)
            check_lightning(world)
            print("a Lightning checkpoint of the SDK's goes on, and predicts as PyTorch does", flush=True)
            check_unfit(world)
            print("what cannot go on is refused", flush=True)
            task = check_lab(world)
            print("a run's checkpoint goes on in another run, bit for bit", flush=True)
            of_lab = check_python(world)
            print("a run of lab is retrieved in Python, and predicts the same there", flush=True)
            check_damage(world, of_lab)
            print("what is damaged on the server, or no model, is not used", flush=True)
            check_measured(world, of_lab)
            print("a task's models are tested, and predict", flush=True)
            check_cache(world, task)
            print("what was fetched is used again", flush=True)
            check_refusals(world, task)
            print("refusals are said once", flush=True)
            assert not server.records.violations, server.records.violations


if __name__ == "__main__":
    sys.exit(main())

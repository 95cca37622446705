"""lab_data against h5py: files of h5py's making are read, files of ours are read by h5py, and damaged or hostile
files end with the exit codes that scripts rely on. Usage: lab_data_test.py BUILD_FOLDER"""

import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np

program = os.path.abspath(os.path.join(sys.argv[1], "lab_data"))


def run(*arguments, code=0, words=()):
    """Runs lab_data; returns its stdout (and, where it fails, stderr) once its exit code and words are as expected."""
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    output = result.stdout if code == 0 else result.stdout + result.stderr
    assert result.returncode == code, (arguments, result)
    if code == 0:
        assert result.stderr == "", (arguments, result)
    for word in words:
        assert word in output, (word, result)
    return output


def read_by_layout(path, name):
    """One contiguous field, read from where lab_data says that it lies."""
    layout = json.loads(run("layout", path))
    field = next(f for f in layout["fields"] if f["name"] == name)
    types = {"u8": "u1", "i16": "i2", "f32": "f4", "f64": "f8", "bool": "?", "f16": "f2", "i64": "i8"}
    dtype = np.dtype((">" if field["big_endian"] else "<") + types[field["type"]])
    count = int(np.prod(field["shape"]))
    return np.fromfile(path, dtype, count, offset=field["offset"]).reshape(field["shape"])


def idx_bytes(array):
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    head = bytes([0, 0, codes[array.dtype.str[1:]], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
    return path


def import_idx(images, labels):
    write("images.idx", idx_bytes(images))
    with gzip.open("labels.idx.gz", "wb") as file:
        file.write(idx_bytes(labels))
    return ["import", "idx", "--images", "images.idx", "--labels", "labels.idx.gz", "--out", "out.h5"]


def test_imports_idx_files_that_h5py_reads():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 10, 50).astype("u1")
    for images in (
        generator.integers(0, 256, (50, 7, 5)).astype("u1"),
        generator.integers(-9, 9, (50, 3)).astype("i2"),
        generator.normal(size=(50, 2, 2, 2)).astype("f8"),
    ):
        command = import_idx(images, labels)
        run(*command, "--force", words=["wrote out.h5", "50"])
        with h5py.File("out.h5") as file:
            assert sorted(file) == ["images", "labels"]
            for name, array in (("images", images), ("labels", labels)):
                assert file[name].dtype == array.dtype and file[name].chunks is None
                assert np.array_equal(file[name][()], array)
        run("verify", "out.h5", words=["sound", "50 samples of images, labels"])
    run(*command, code=64, words=["--force"])
    os.remove("out.h5")
    run(*import_idx(images, labels[:49]), code=65, words=["50 images", "49 labels"])
    run(*import_idx(labels, labels), code=65, words=["two dimensions"])
    run(*import_idx(images, images), code=65, words=["one dimension"])
    assert not os.path.exists("out.h5")


def test_reads_what_h5py_writes():
    generator = np.random.default_rng(2)
    arrays = {
        "u8": generator.integers(0, 256, (30, 4, 3)).astype("u1"),
        "f32_big": generator.normal(size=(30, 2)).astype(">f4"),
        "f16": generator.normal(size=30).astype("f2"),
        "flags": generator.integers(0, 2, (30, 5)).astype(bool),
        "i64": generator.integers(-(2**62), 2**62, 30),
    }
    for libver in ("earliest", "v110"):
        with h5py.File("x.h5", "w", libver=libver) as file:
            for name, array in arrays.items():
                file[name] = array
            file["words"] = ["a"] * 30
            file["scalar"] = 3.5
            file.create_group("more")["inside"] = [1, 2]
        for name, array in arrays.items():
            assert np.array_equal(read_by_layout("x.h5", name), array), name
        run("verify", "x.h5", words=["30 samples of " + ", ".join(sorted(arrays))])


def test_checks_chunks_that_h5py_writes():
    array = np.random.default_rng(3).integers(0, 50, (100, 9, 9)).astype("i4")
    for number, options in enumerate(
        [
            {"chunks": True},
            {"chunks": (10, 4, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
            {"chunks": (33, 9, 9), "compression": 9, "maxshape": (None, 9, 9)},
            {"fletcher32": True},
        ]
    ):
        for libver in ("earliest", "v110"):
            with h5py.File("x.h5", "w", libver=libver) as file:
                file.create_dataset("x", data=array, **options)
            run("verify", "x.h5", words=["sound"])
            lines = run("inspect", "x.h5", words=["i32", "(100, 9, 9)", "from 0 to 49", f"mean {array.mean():.6g}"])
            assert all(len(line) <= 80 for line in lines.splitlines()), (number, lines)


def test_refuses_by_name():
    def refused(words, make, **options):
        with h5py.File("bad.h5", "w", **options) as file:
            make(file)
        for command in ("verify", "inspect", "layout"):
            output = run(command, "bad.h5", code=65, words=["'images'", "bad.h5", words])
            assert output.startswith("lab_data: ") and len(output.splitlines()) == 1, output

    ones = np.ones((8, 4), "u1")
    with h5py.File("good.h5", "w") as file:
        file["images"] = ones
    virtual = h5py.VirtualLayout((8, 4), "u1")
    virtual[:] = h5py.VirtualSource("good.h5", "images", (8, 4))
    refused("virtual dataset", lambda f: f.create_virtual_dataset("images", virtual), libver="v110")
    refused("external link", lambda f: f.update(images=h5py.ExternalLink("good.h5", "/images")))
    refused("soft link", lambda f: f.update(images=h5py.SoftLink("/nothing")))
    refused("external storage", lambda f: f.create_dataset("images", (8,), "u1", external="/etc/passwd"))
    refused("lzf", lambda f: f.create_dataset("images", data=ones, compression="lzf"))
    refused("compound", lambda f: f.create_dataset("images", data=np.zeros(3, "i4,f4")))
    refused("reference", lambda f: f.create_dataset("images", (3,), h5py.ref_dtype))
    refused("variable-length", lambda f: f.create_dataset("images", (3,), h5py.vlen_dtype("i4")))
    refused("compact", lambda f: f.create_dataset("images", data=ones[0], dcpl=compact()))


def compact():
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    return properties


def test_lists_all_problems():
    values = np.ones((20, 2), "f4")
    values[3, 1] = values[12, 0] = np.nan
    values[15, 0] = np.inf
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("a", data=np.arange(40, dtype="i4").reshape(20, 2), chunks=(5, 2), fletcher32=True)
        file["b"] = values
        file["c"] = np.ones(19)
        place = file["a"].id.get_chunk_info(1).byte_offset
    with open("x.h5", "r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    output = run("verify", "x.h5", code=65, words=["chunk 1 of 'a' in x.h5 (samples 5 to 9)", "x.h5 has 3 problems"])
    assert "NaN or infinity in 'b' (samples 3, 12, 15) of x.h5" in output
    assert "'c' has 19" in output


def test_survives_damage():
    """Cut short anywhere: refused. Bits flipped anywhere: refused, or still sound; nothing else, and soon."""
    with h5py.File("whole.h5", "w") as file:
        file["labels"] = np.arange(30, dtype="u1")
        file.create_dataset("images", data=np.ones((30, 4, 4), "f4"), chunks=(7, 4, 4), compression="gzip")
    whole = open("whole.h5", "rb").read()
    draw = random.Random(4)
    for size in [0, 1, 7, 8, 47, 48, 95, 96, len(whole) - 1] + draw.sample(range(len(whole)), 20):
        write("cut.h5", whole[:size])
        run("verify", "cut.h5", code=65, words=["cut.h5"])
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 4, 16])):
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        write("damaged.h5", damaged)
        result = subprocess.run([program, "verify", "damaged.h5"], capture_output=True, text=True, timeout=120)
        assert result.returncode in (0, 65), result
        refused += result.returncode == 65
    assert refused > 0


def test_loads_no_code_that_the_environment_names():
    """A filter that is not built in makes the HDF5 library load all it finds in HDF5_PLUGIN_PATH: a trap lies there."""
    write("trap.c", b'#include <stdio.h>\n__attribute__((constructor)) void spring() { fclose(fopen("sprung", "w")); }\n')
    os.mkdir("plugins")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "plugins/libtrap.so", "trap.c"], check=True)
    environment = dict(os.environ, HDF5_PLUGIN_PATH=os.path.abspath("plugins"))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3,))
    properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("images", (3,), "u1", chunks=(3,), dcpl=properties).id.write_direct_chunk((0,), b"abc")
    for command in ("layout", "verify", "inspect"):
        result = subprocess.run([program, command, "x.h5"], env=environment, capture_output=True, text=True)
        assert result.returncode == 65 and "32099" in result.stderr, result
    assert not os.path.exists("sprung")
    subprocess.run([sys.executable, "-c", "import h5py; h5py.File('x.h5')['images'][0]"], env=environment, capture_output=True)
    assert os.path.exists("sprung"), "the trap does not work, so that it proves nothing"


def test_command_line():
    run("--help", words=["import idx", "inspect", "verify"])
    run("--version", words=["lab_data 0."])
    for command in ("import", "inspect", "verify"):
        run(command, "--help", words=["--help"])
    run(code=64, words=["--help"])
    run("verfy", code=64, words=["did you mean verify?"])
    run("inspect", "--sow", "3", "x.h5", code=64, words=["--sow", "did you mean --show?"])
    run("inspect", code=64, words=["needs a file"])
    run("verify", "a.h5", "b.h5", code=64, words=["b.h5"])
    run("import", "csv", code=64, words=["csv", "idx"])
    run("import", "idx", "--images", "a", code=64, words=["--labels"])
    run("inspect", "--show", "x", "a.h5", code=64)
    run("verify", "absent.h5", code=66, words=["absent.h5"])
    run("import", "idx", "--images", "absent", "--labels", "absent", "--out", "o.h5", code=66, words=["absent"])
    run("verify", write("text.h5", b"hello"), code=65, words=["it is text"])
    images = np.zeros((3, 2, 2), "u1")
    images[1] = [[255, 0], [0, 128]]
    run(*import_idx(images, np.array([4, 5, 6], "u1")), "--force")
    run("inspect", "out.h5", "--show", 1, words=["images  u8  (3, 2, 2)", "4: 1  5: 1  6: 1", "labels 5\n@@\n  ++\n"])
    run("inspect", "out.h5", "--show", 3, code=65, words=["from 0 to 2"])
    run(*import_idx(images, np.array([4, 5, 6], "u1"))[:-1], "absent/out.h5", code=74, words=["absent/out.h5"])


if __name__ == "__main__":
    tests = [function for name, function in list(globals().items()) if name.startswith("test_")]
    for test in tests:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test()
            os.chdir("/")
        print(test.__name__, "passed", flush=True)
    print(f"{len(tests)} passed, 0 failed")

"""The store: initial values, reading, writing, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import InputError, StateError
from symgrad.node import Parameter, State
from symgrad.schedule.layout import Layout
from symgrad.state import Store, aligned, load, save


def store(*parameters: Parameter, seed: int = 0) -> Store:
    made = Store(seed)
    made.add(parameters)
    return made


def weights(name: str = "w", **kwargs: Any) -> Parameter:
    return Parameter(name, (5, 20), init=lambda shape, rng: rng.standard_normal(shape), **kwargs)


# -- initial values ---------------------------------------------------------------------------


def test_initial_values() -> None:
    made = store(
        Parameter("zeros", (2, 3)),
        Parameter("given", (2,), init=np.array([1, 2])),
        State("number", (3,), init=7, dtype="int32"),
        Parameter("scalar", (), init=0.5, dtype="float64"),
    )
    assert made["zeros"].tolist() == [[0] * 3] * 2
    assert made["given"].dtype == np.float32 and made["given"].tolist() == [1, 2]
    assert made["number"].dtype == np.int32 and made["number"].tolist() == [7, 7, 7]
    assert made["scalar"] == 0.5 and made["scalar"].shape == ()


def test_initial_values_depend_on_seed_and_name_only() -> None:
    first = store(weights("a"), weights("b"))
    second = store(weights("b"), weights("c"), weights("a"))
    assert np.array_equal(first["a"], second["a"]) and np.array_equal(first["b"], second["b"])
    assert not np.array_equal(first["a"], first["b"])
    assert not np.array_equal(first["a"], store(weights("a"), seed=1)["a"])


def test_an_initial_rule_of_the_wrong_shape() -> None:
    bad = Parameter("w", (2, 3), init=lambda shape, rng: np.ones(4))
    with pytest.raises(InputError, match=r"'w' of shape \(2, 3\): its init rule gave shape \(4,\)"):
        store(bad)


def test_an_initial_rule_that_is_not_one() -> None:
    with pytest.raises(InputError, match=r"'w': its init rule is called with .* sg.init.ones\(\)"):
        store(Parameter("w", (2, 3), init=sg.init.ones))


# -- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout", [Layout((0, 1)), Layout((1, 0)), Layout((1, 0), 1), Layout((0, 1), 0)]
)
def test_layouts_are_invisible(layout: Layout) -> None:
    w = weights()
    made = store(w)
    before = made["w"]
    memory = made.place(w, layout, 16)
    assert memory.ctypes.data % 64 == 0
    assert np.array_equal(made["w"], before)
    fresh = np.arange(100, dtype=np.float32).reshape(5, 20)
    made["w"] = fresh
    assert np.array_equal(made["w"], fresh)
    assert made.place(w, layout, 16) is memory
    with pytest.raises(StateError, match="same target"):
        made.place(w, Layout((1, 0), 0), 16)


def test_reading_gives_a_copy() -> None:
    w = weights()
    made = store(w)
    made["w"][:] = 0
    assert made["w"].any()
    made.place(w, Layout((0, 1)), 16)
    made["w"][:] = 0
    assert made["w"].any()


def test_a_mapping_by_name_or_parameter() -> None:
    w, k = weights(), State("k", (), dtype="int64")
    made = store(w, k)
    assert list(made) == ["w", "k"] and len(made) == 2 and "w" in made and w in made
    assert weights() not in made and np.array_equal(made[w], made["w"])
    assert list(made.parameters.values())[1] is k
    assert made.get("missing") is None
    made.update(k=3)
    assert made["k"] == 3
    with pytest.raises(TypeError, match="cannot be deleted"):
        del made["w"]
    with pytest.raises(KeyError):
        made["missing"]


def test_writing_converts_under_same_kind() -> None:
    made = store(weights(), State("k", (), dtype="int64"))
    made["w"] = np.ones((5, 20), np.float64)
    made["w"] = np.ones((5, 20), np.int8)
    for name, bad in (
        ("k", 1.5),
        ("k", np.float32(1)),
        ("w", np.ones((5, 20), complex)),
        ("w", 1.0),
    ):
        with pytest.raises(InputError, match=f"'{name}'"):
            made[name] = bad


def test_aligned_memory() -> None:
    for n in (1, 7, 64, 1000):
        memory = aligned(n, "float32")
        assert memory.size == n and memory.ctypes.data % 64 == 0 and not memory.any()


def test_snapshots() -> None:
    made = store(weights())
    saved = made.snapshot()
    before = made["w"]
    made["w"] = np.zeros((5, 20))
    made.rng[2] = 9
    made.restore(saved)
    assert np.array_equal(made["w"], before) and made.rng[2] == 0


# -- files ------------------------------------------------------------------------------------


def model() -> Store:
    return store(
        weights("fc.weight"),
        State("steps", (), init=4, dtype="int64"),
        State("mask", (3,), init=np.array([True, False, True]), dtype="bool"),
        Parameter("wide", (2,), init=np.array([1 / 3, 2 / 3]), dtype="float64"),
    )


def test_files_hold_everything(tmp_path: Path) -> None:
    first = model()
    first.rng[2:] = [5, 6]
    first.epoch = 3
    first.place(first.parameters["fc.weight"], Layout((1, 0), 1), 16)
    save(tmp_path / "s.safetensors", first)
    second = model()
    for name in second:
        second[name] = np.zeros(second[name].shape, second[name].dtype)
    load(tmp_path / "s.safetensors", second)
    for name in first:
        assert np.array_equal(first[name], second[name]) and first[name].dtype == second[name].dtype
    assert second.rng.tolist() == first.rng.tolist() and second.epoch == 3
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_files_hold_public_shapes(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    made = model()
    made.place(made.parameters["fc.weight"], Layout((1, 0), 1), 16)
    save(tmp_path / "s.safetensors", made)
    arrays = load_file(tmp_path / "s.safetensors")
    assert np.array_equal(arrays["fc.weight"], made["fc.weight"])


def test_training_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    n = sg.dim("batch", 8)
    x, y = sg.input("x", (n, 4)), sg.input("y", (n,), dtype="int32")
    model = sg.nn.Sequential(sg.nn.Linear(4, 6, name="a"), sg.nn.relu, sg.nn.Dropout(0.3))
    head = sg.nn.Linear(6, 3, name="b")
    loss = sg.losses.cross_entropy(head(model(x, training=True)), y)
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((30, 4)), "y": rng.integers(0, 3, 30)}

    def step() -> Any:
        return sg.train_step(loss, sg.optim.Adam(0.05), seed=5, target="interpret")

    whole = step()
    expected = whole.run(data, batch_size=8, epochs=4)
    first = step()
    got = first.run(data, batch_size=8, epochs=2)
    sg.save(tmp_path / "half.safetensors", first.state)
    second = step()
    sg.load(tmp_path / "half.safetensors", second.state)
    got += second.run(data, batch_size=8, epochs=2)
    assert got == expected


def test_a_training_state_loads_into_a_function_that_predicts(tmp_path: Path) -> None:
    x = sg.input("x", (2, 3))
    w = sg.parameter("w", (3,), init=sg.init.normal())
    step = sg.train_step(sg.sum((x @ w) ** 2), sg.optim.Adam(0.1), target="interpret")
    step(np.ones((2, 3)))
    sg.save(tmp_path / "s.safetensors", step.state)
    predict = sg.function([x], x @ w, target="interpret", seed=9)
    sg.load(tmp_path / "s.safetensors", predict.state)
    assert np.array_equal(predict.state["w"], step.state["w"])


def changed(path: Path, made: Store) -> dict[str, str]:
    """Every kind of bad file, and what its error says."""
    save(path, made)
    data = path.read_bytes()
    (path.parent / "short").write_bytes(data[:-8])
    (path.parent / "tiny").write_bytes(data[:3])
    (path.parent / "empty").write_bytes(b"")
    (path.parent / "text").write_bytes(b"not a tensor in sight " * 10)
    (path.parent / "folder").mkdir()
    save(path.parent / "other", store(weights("other")))
    save(path.parent / "shape", store(Parameter("fc.weight", (5, 21)), *rest(made)))
    save(path.parent / "dtype", store(weights("fc.weight", dtype="float64"), *rest(made)))
    save(path.parent / "more", store(weights("fc.weight"), weights("extra"), *rest(made)))
    return {
        "missing": "no such file",
        "folder": "no such file",
        "short": "not a whole safetensors file",
        "tiny": "not a whole safetensors file",
        "empty": "not a whole safetensors file",
        "text": "not a whole safetensors file",
        "other": "'fc.weight' is not in the file",
        "shape": r"'fc.weight' is \(5, 21\) there and \(5, 20\) here",
        "dtype": "'fc.weight' is float64 there and float32 here",
        "more": "'extra' is not in the model",
    }


def rest(made: Store) -> list[Parameter]:
    return list(made.parameters.values())[1:]


def test_bad_files_change_nothing(tmp_path: Path) -> None:
    made = model()
    cases = changed(tmp_path / "good", made)
    made["fc.weight"] = np.ones((5, 20))
    before, rng = {name: made[name] for name in made}, made.rng.copy()
    for name, message in cases.items():
        with pytest.raises(StateError, match=message):
            load(tmp_path / name, made)
        assert all(np.array_equal(before[k], made[k]) for k in before)
        assert np.array_equal(made.rng, rng)


def test_loading_what_fits(tmp_path: Path) -> None:
    made = model()
    cases = changed(tmp_path / "good", made)
    assert cases
    made["fc.weight"] = np.ones((5, 20))
    load(tmp_path / "more", made, strict=False)
    assert np.array_equal(made["fc.weight"], model()["fc.weight"])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write"):
        save(tmp_path / "no" / "such" / "folder.safetensors", model())
    (tmp_path / "taken").mkdir()
    with pytest.raises(StateError, match="cannot write"):
        save(tmp_path / "taken", model())
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]

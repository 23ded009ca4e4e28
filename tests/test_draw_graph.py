"""What a picture shows of a graph: nodes, parts, gates, sharing, boxes."""

from __future__ import annotations

from typing import Any

import drawings
import pytest

import symgrad as sg
from symgrad.draw.boxes import Tree, boxes
from symgrad.draw.graph import Graph, Node, build


def drawn() -> tuple[Graph, Tree]:
    loss, parameters = drawings.two_layers()
    picture = sg.draw({"loss": loss}, wrt=parameters)
    return picture.graph, picture.tree


def labelled(graph: Graph, label: str, part: str = "forward") -> list[Node]:
    return [n for n in graph.nodes if n.label == label and n.part == part]


def titles(tree: Tree, part: str) -> set[str]:
    return {b.title for k, b in tree.boxes.items() if k and b.part == part}


def test_forward_and_backward_are_told_apart() -> None:
    graph, _ = drawn()
    assert len(labelled(graph, "matmul")) == 2
    assert len(labelled(graph, "matmul", "backward")) == 3
    assert labelled(graph, "softmax", "backward") and not labelled(graph, "softmax")
    assert all(n.part == "forward" for n in graph.nodes if n.role in ("input", "parameter"))
    backward = {n.key for n in graph.nodes if n.part == "backward"}
    assert not [e for e in graph.edges if e.source in backward and e.target not in backward]


def test_gates_are_labelled_where_a_gradient_is_drawn() -> None:
    graph, _ = drawn()
    gates = {n.label: n.gate for n in graph.nodes if n.part == "forward" and n.role == "op"}
    assert gates["+"] == "distributes" and gates["matmul"] == gates["⊙"] == "switches"
    assert gates["relu"] == gates["max"] == "routes"
    assert gates["exp"] == gates["log"] == "" and gates["· / n"] == ""
    assert not any(n.gate for n in graph.nodes if n.part == "backward")
    loss, _ = drawings.two_layers()
    assert not any(n.gate for n in sg.draw(loss).graph.nodes)


def test_gates_of_single_operations() -> None:
    x, y = sg.parameter("x", (3,)), sg.parameter("y", (3,))
    for value, gate in [(x + y, "distributes"), (x - y, "distributes"), (x * y, "switches"),
                        (sg.maximum(x, y), "routes"), (sg.dot(x, y), "switches")]:  # fmt: skip
        loss = sg.sum(value) if value.ndim else value
        graph = sg.draw(loss, wrt=[x, y], simplify=False).graph
        first = next(n for n in graph.nodes if n.role == "op" and n.part == "forward")
        assert first.gate == gate, first.label


def test_shared_values_are_marked() -> None:
    graph, _ = drawn()
    (h,) = labelled(graph, "relu")
    assert h.name == "h" and h.shared and h.readers == 3
    assert not labelled(graph, "exp")[0].shared


def test_trivia_belong_to_their_readers_unless_all_is_asked_for() -> None:
    loss, _ = drawings.two_layers()
    small, full = sg.draw(loss).graph, sg.draw(loss, full=True).graph
    assert not [n for n in small.nodes if n.label in ("repeat", "iota", "constant")]
    assert [n for n in full.nodes if n.label == "repeat"]
    assert len(full.nodes) > len(small.nodes)
    (bias,) = [n for n in small.nodes if n.label == "fc1.bias"]
    (reader,) = [e.target for e in small.edges if e.source == bias.key]
    assert small.by_key[reader].label == "+"


def test_everything_is_covered_by_some_node() -> None:
    from symgrad.node import toposort

    step = drawings.transformer()
    request = step._pipeline.rewritten
    graph = build(request.outputs, request.updates)
    covered = {id(c) for n in graph.nodes for c in n.covers}
    assert [e for e in toposort(request.roots) if e.args and id(e) not in covered] == []


def test_layers_are_boxes_and_their_derivatives_too() -> None:
    _, tree = drawn()
    assert titles(tree, "forward") >= {"fc1", "fc2", "cross_entropy"}
    assert titles(tree, "backward") >= {"∂ fc1", "∂ fc2"}


def test_names_of_parameters_make_boxes_where_no_layer_was_called() -> None:
    x = sg.input("x", (4, 3))
    w, b = sg.parameter("block3.conv2.weight", (3, 5)), sg.parameter("block3.conv2.bias", (5,))
    v = sg.parameter("head.weight", (5, 2))
    tree = sg.draw(sg.sum(sg.tanh(x @ w + b) @ v)).tree
    assert "block3.conv2" in titles(tree, "forward")
    (box,) = [b for b in tree.boxes.values() if b.title == "block3.conv2"]
    assert len(box.inside) == 4  # weight, bias, product, sum


def test_a_residual_network_folds_into_few_boxes() -> None:
    step = drawings.residual()
    tree = sg.draw(step).tree
    assert len(tree.root.children) < 30
    forward = [b for b in tree.boxes.values() if b.part == "forward"]
    (layer2,) = [b for b in forward if b.title == "layer2"]
    inner = [tree.boxes[k].title for k in layer2.children]
    assert inner == ["layer2.0", "layer2.1", "layer2.2"]
    for key, home in tree.home.items():  # every node is at home once
        assert sum(key in b.children for b in tree.boxes.values()) == 1
        assert key in tree.boxes[home].children


def test_loops_are_boxes_with_a_carry_going_back() -> None:
    loss = drawings.recurrent()
    step = sg.train_step(loss, sg.optim.SGD(0.1), target="interpret")
    picture = sg.draw(step)
    loops = [b for b in picture.tree.boxes.values() if b.title.startswith("loop over")]
    assert loops and "carries h, c" in loops[0].kind
    assert {e.carried for e in picture.graph.edges} == {True, False}
    back = [b for b in picture.tree.boxes.values() if b.title.startswith("∂ loop over")]
    assert back and "reversed" in back[0].kind


def test_updates_are_boxed_by_parameter() -> None:
    loss, _ = drawings.two_layers()
    picture = sg.draw(sg.train_step(loss, sg.optim.Adam(1e-3), target="interpret"))
    (update,) = [b for b in picture.tree.boxes.values() if b.title == "update"]
    inner = [picture.tree.boxes[k].title for k in update.children if k in picture.tree.boxes]
    assert inner == ["fc1", "fc2"]
    gradients = {n.name for n in picture.graph.nodes if n.name.startswith("∂")}
    assert gradients == {"∂fc1.weight", "∂fc1.bias", "∂fc2.weight", "∂fc2.bias"}


def test_side_by_side_no_arrow_crosses() -> None:
    loss, parameters = drawings.two_layers()
    graph = sg.draw({"loss": loss}, wrt=parameters, joined=False).graph
    parts = {n.key: n.part for n in graph.nodes}
    assert all(parts[e.source] == parts[e.target] for e in graph.edges)
    references = {n.label for n in graph.nodes if n.role == "reference"}
    assert references >= {"h", "x", "logits", "fc2.weight"}


def test_the_calls_of_one_layer_are_boxes_of_their_own() -> None:
    layer = sg.nn.Linear(3, 3, name="cell")
    x = sg.input("x", (2, 3))
    tree = sg.draw(sg.sum(layer(sg.tanh(layer(x))))).tree
    assert [b.title for k, b in tree.boxes.items() if k] == ["cell", "cell"]


def test_pictures_are_deterministic() -> None:
    def once() -> Any:
        loss, parameters = drawings.two_layers()
        return sg.draw({"loss": loss}, wrt=parameters).svg()

    assert once() == once()


def test_random_numbers_and_shared_states_have_a_place() -> None:
    x, y = sg.input("x", (4, 3)), sg.input("y", (4,), dtype="int32")
    model = sg.nn.Sequential(sg.nn.Linear(3, 5), sg.nn.Dropout(0.5), sg.nn.Linear(5, 2))
    loss = sg.losses.cross_entropy(model(x, training=True), y)
    step = sg.train_step(loss, sg.optim.Adam(1e-3), target="interpret")
    for full in (False, True):
        picture = sg.draw(step, full=full, data={"x": [[1.0] * 3] * 4, "y": [0, 1, 0, 1]})
        assert set(picture.tree.home) == {n.key for n in picture.graph.nodes}
        assert picture.html() and picture.svg()


def test_a_deep_network_is_drawn_in_seconds() -> None:
    w = value = sg.parameter("w", (3,))
    for _ in range(200):
        value = sg.tanh(value + w)
    assert len(sg.draw(value).scene().marks) == 401


@pytest.mark.parametrize("wrong", [[], {}, [1.0], "x", None])
def test_nothing_to_draw(wrong: Any) -> None:
    with pytest.raises(sg.errors.InputError, match="draw: "):
        sg.draw(wrong)


def test_a_layer_that_is_gone_still_has_its_name() -> None:
    def model(x: Any) -> Any:
        net = sg.nn.Sequential(
            sg.nn.Linear(4, 5, name="first"), sg.nn.tanh, sg.nn.Linear(5, 2, name="second")
        )
        return net(x)

    graph = build({"y": model(sg.input("x", (3, 4)))})
    assert {"first", "second"} <= titles(boxes(graph), "forward")

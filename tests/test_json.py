"""MXNet's symbol files: the writer byte for byte, the reader of every version, its strictness."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from golden import FOLDER, GOLDEN

import raysym as mx

sym, V = mx.sym, mx.sym.Variable

FILES = sorted((FOLDER / "nets").glob("*-symbol.json"))
GRAPHS = [case["id"] for case in GOLDEN.cases.values() if "json" in case]


# ----- writing


def test_the_writer_is_mxnets_to_the_byte() -> None:
    fc = sym.FullyConnected(V("a", shape=(2, 3)), num_hidden=3, no_bias=True, name="fc")
    bn = sym.BatchNorm(fc, name="bn")
    assert bn.tojson() == (
        "{\n"
        '  "nodes": [\n'
        "    {\n"
        '      "op": "null", \n'
        '      "name": "a", \n'
        '      "attrs": {"__shape__": "(2, 3)"}, \n'
        '      "inputs": []\n'
        "    }, \n"
        "    {\n"
        '      "op": "null", \n'
        '      "name": "fc_weight", \n'
        '      "attrs": {\n'
        '        "no_bias": "True", \n'
        '        "num_hidden": "3"\n'
        "      }, \n"
        '      "inputs": []\n'
        "    }, \n"
        "    {\n"
        '      "op": "FullyConnected", \n'
        '      "name": "fc", \n'
        '      "attrs": {\n'
        '        "no_bias": "True", \n'
        '        "num_hidden": "3"\n'
        "      }, \n"
        '      "inputs": [[0, 0, 0], [1, 0, 0]]\n'
        "    }, \n"
        "    {\n"
        '      "op": "null", \n'
        '      "name": "bn_gamma", \n'
        '      "inputs": []\n'
        "    }, \n"
        "    {\n"
        '      "op": "null", \n'
        '      "name": "bn_beta", \n'
        '      "inputs": []\n'
        "    }, \n"
        "    {\n"
        '      "op": "null", \n'
        '      "name": "bn_moving_mean", \n'
        '      "attrs": {"__init__": "[\\"zero\\", {}]"}, \n'
        '      "inputs": []\n'
        "    }, \n"
        "    {\n"
        '      "op": "null", \n'
        '      "name": "bn_moving_var", \n'
        '      "attrs": {"__init__": "[\\"one\\", {}]"}, \n'
        '      "inputs": []\n'
        "    }, \n"
        "    {\n"
        '      "op": "BatchNorm", \n'
        '      "name": "bn", \n'
        '      "inputs": [[2, 0, 0], [3, 0, 0], [4, 0, 0], [5, 0, 1], [6, 0, 1]]\n'
        "    }\n"
        "  ], \n"
        '  "arg_nodes": [0, 1, 3, 4, 5, 6], \n'
        '  "node_row_ptr": [0, 1, 2, 3, 4, 5, 6, 7, 10], \n'
        '  "heads": [[7, 0, 0]], \n'
        '  "attrs": {"mxnet_version": ["int", 10901]}\n'
        "}"
    )


def test_long_lists_take_one_line_for_each_member() -> None:
    text = sym.Group([V(f"a{i}") for i in range(11)]).tojson()
    assert '"arg_nodes": [\n    0, \n    1, \n' in text
    assert '"heads": [\n    [0, 0, 0], \n    [1, 0, 0], \n' in text
    short = sym.Group([V(f"a{i}") for i in range(10)]).tojson()
    assert '"arg_nodes": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]' in short


def test_strings_are_escaped_as_mxnet_does() -> None:
    assert V('aé"\n\t\\b').tojson().split("\n")[4] == '      "name": "aé\\"\\n\\t\\\\b", '


def test_a_state_counts_its_updates() -> None:
    m = V("m")
    first = sym.BatchNorm(V("a"), moving_mean=m, name="b1")
    second = sym.BatchNorm(first, moving_mean=m, name="b2")
    nodes = {
        node["name"]: node for node in json.loads(sym.Group([second, second + m]).tojson())["nodes"]
    }
    versions = {name: [v for *_, v in node["inputs"]] for name, node in nodes.items()}
    assert versions["b1"] == [0, 0, 0, 1, 1]
    assert versions["b2"] == [0, 0, 0, 2, 1]
    assert versions["_plus0"] == [0, 2]
    both = sym.BatchNorm(V("a"), moving_mean=m, moving_var=m, name="b")
    assert json.loads(both.tojson())["nodes"][-1]["inputs"][3:] == [[3, 0, 1], [3, 0, 2]]


def test_rows_count_the_outputs_of_mxnets_kernels() -> None:
    def count(symbol: mx.Symbol) -> int:
        ends = json.loads(symbol.tojson())["node_row_ptr"]
        return ends[-1] - ends[-2]

    a = V("a")
    assert count(sym.Pooling(a, kernel=(2, 2))) == 2
    assert count(sym.Pooling(a, kernel=(2, 2), layout="NHWC")) == 1
    assert count(sym.Pooling(a, kernel=(2, 2), pool_type="avg")) == 1
    assert count(sym.Pooling(a, global_pool=True)) == 1
    assert count(sym.linalg.det(a)) == 3
    assert count(sym.Dropout(a)) == count(sym.LRN(a, nsize=3)) == 2
    assert count(sym.LayerNorm(a)) == 3


def test_casts_of_mixed_precision_are_left_out_unless_asked_for() -> None:
    cast = sym.amp_cast(V("a"), dtype="float16", name="cast") + 1
    assert "amp_cast" not in cast.tojson()
    assert "amp_cast" in cast.tojson(remove_amp_cast=False)
    assert pickle.loads(pickle.dumps(cast)).tojson(False) == cast.tojson(False)


@pytest.mark.skipif(not FILES, reason="no golden files here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_of_mxnet_come_out_as_they_went_in(path: Path, tmp_path: Path) -> None:
    symbol = sym.load(str(path))
    symbol.save(str(tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.skipif(not GRAPHS, reason="no golden graphs here")
def test_graphs_of_mxnet_come_out_as_they_went_in() -> None:
    for name in GRAPHS:
        graph = GOLDEN.cases[name]["json"]
        again = sym.load_json(json.dumps(graph)).tojson(remove_amp_cast=False)
        assert json.loads(again) == graph, name


# ----- reading what older versions wrote


def load(*nodes: dict, heads: list | None = None, version: int | None = None) -> mx.Symbol:
    filled = [{"inputs": [], **node} for node in nodes]
    data = {
        "nodes": filled,
        "arg_nodes": [i for i, node in enumerate(filled) if node["op"] == "null"],
        "heads": heads or [[len(filled) - 1, 0]],
    }
    if version is not None:
        data["attrs"] = {"mxnet_version": ["int", version]}
    return sym.load_json(json.dumps(data))


def var(name: str, **more: object) -> dict:
    return {"op": "null", "name": name, **more}


FC = {"op": "FullyConnected", "name": "fc", "inputs": [[0, 0], [1, 0]]}


def test_attributes_of_all_spellings_are_merged() -> None:
    fc = {**FC, "param": {"num_hidden": "3"}, "attr": {"no_bias": "True"}, "backward_source_id": -1}
    assert load(var("a"), var("w"), fc).list_attr() == {"num_hidden": "3", "no_bias": "True"}
    fc = {**FC, "attrs": {"num_hidden": "3", "no_bias": "True"}}
    assert load(var("a"), var("w"), fc, version=10901).infer_shape(a=(2, 4))[1] == [(2, 3)]


def test_hidden_keys_of_old_files_get_underscores() -> None:
    fc = {**FC, "attr": {"num_hidden": "3", "no_bias": "True", "lr_mult": "2"}}
    made = load(var("a", attr={"ctx_group": "g"}), var("w"), fc, version=1000)
    assert made.attr_dict() == {
        "a": {"__ctx_group__": "g", "ctx_group": "g"},
        "fc": {"num_hidden": "3", "no_bias": "True", "__lr_mult__": "2", "lr_mult": "2"},
    }


def test_hints_for_an_input_move_to_its_variable() -> None:
    attrs = {"num_hidden": "3", "no_bias": "True", "weight_lr_mult": "1.2"}
    made = load(
        var("a"), var("fc_weight", attr={"lr_mult": "9"}), {**FC, "attr": attrs}, version=1000
    )
    assert made.attr_dict()["fc_weight"] == {"__lr_mult__": "1.2", "lr_mult": "1.2"}
    assert "weight_lr_mult" not in made.list_attr()


def test_before_09_auxiliary_states_were_not_stored() -> None:
    bn = {"op": "BatchNorm", "name": "bn", "param": {"eps": "0.1"}}
    made = load(var("a"), var("g"), var("b"), {**bn, "inputs": [[0, 0], [1, 0], [2, 0]]})
    assert made.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert made.attr_dict()["bn_moving_var"] == {"eps": "0.1", "__init__": '["one", {}]'}


def test_before_094_ops_did_not_tell_variables_how_to_start() -> None:
    bn = {"op": "BatchNorm", "name": "bn", "inputs": [[i, 0] for i in range(5)]}
    nodes = [*(var(name) for name in ("a", "g", "b", "m")), var("v", attr={"__init__": "x"}), bn]
    assert load(*nodes, version=903).attr_dict() == {
        "m": {"__init__": '["zero", {}]'}, "v": {"__init__": "x"},
    }  # fmt: skip
    assert load(*nodes, version=904).attr_dict() == {"v": {"__init__": "x"}}


@pytest.mark.parametrize(("version", "attrs"), [(904, {}), (905, {"axis": "-1"})])
def test_before_095_an_axis_of_minus_one_meant_all(version: int, attrs: dict) -> None:
    node = {"op": "argmax", "name": "top", "attr": {"axis": "-1"}, "inputs": [[0, 0]]}
    assert load(var("a"), node, version=version).list_attr() == attrs


def test_aliases_are_read_and_written_canonically() -> None:
    made = load(var("a"), {"op": "_Plus", "name": "p", "inputs": [[0, 0], [0, 0]]}, version=905)
    assert made.attr("op_name") == "elemwise_add"
    assert '"op": "elemwise_add"' in made.tojson()


def test_current_files_may_leave_inputs_out() -> None:
    fc = {**FC, "attrs": {"num_hidden": "3"}, "inputs": [[0, 0, 0]]}
    made = load(var("a"), fc, version=10901)
    assert made.list_arguments() == ["a"]
    with pytest.raises(mx.MXNetError, match="FullyConnected 'fc': wrong number of inputs: got 1"):
        made.infer_shape(a=(2, 3))


def test_ops_without_parameters_tolerate_attributes() -> None:
    node = {"op": "exp", "name": "e", "attrs": {"mood": "x"}, "inputs": [[0, 0, 0]]}
    assert load(var("a"), node, version=10901).list_attr() == {"mood": "x"}


def test_files_of_newer_versions_are_read() -> None:
    assert load(var("a"), version=20000).list_arguments() == ["a"]


# ----- strictness


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "malformed"),
        ("", "malformed"),
        ("[]", "wrong type: got list, expected an object"),
        ('{"nodes": []}', "field 'arg_nodes' is missing"),
        ('{"nodes": [], "arg_nodes": [], "heads": []}', "heads: got none, expected at least one"),
        ('{"nodes": 3, "arg_nodes": [], "heads": []}', "nodes: wrong type: got int"),
        ('{"nodes": [], "arg_nodes": [], "heads": [[0, 0, 0]]}', r"no such value: got \[0, 0, 0\]"),
        (
            '{"nodes": [], "arg_nodes": [], "heads": [], "zz": 1}',
            "Unknown field: got 'zz', expected one of arg_nodes",
        ),
        (
            '{"nodes": [], "arg_nodes": [], "heads": [], "attrs": {"mxnet_version": 3}}',
            "attrs: unreadable",
        ),
    ],
)
def test_what_is_no_graph_is_refused(text: str, words: str) -> None:
    with pytest.raises(mx.MXNetError, match=words):
        sym.load_json(text)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"op": "null", "inputs": []}, "node 0: field 'name' is missing"),
        ({"name": "a", "inputs": []}, "node 0: field 'op' is missing"),
        ({"op": "null", "name": "a"}, "node 0: field 'inputs' is missing"),
        ({"op": "null", "name": 3, "inputs": []}, "node 0, name: wrong type: got int"),
        (var("a", inputs=[], attrs={"x": 3}), "node 0 'a', attrs, x: wrong type: got int"),
        (var("a", inputs=[], attrs=3), "node 0 'a', attrs: wrong type"),
        ({"op": "Foo", "name": "f", "inputs": []}, "Operator Foo is not registered"),
        ({"op": "exp", "name": "f", "inputs": [[5, 0, 0]]}, r"no such value: got \[5, 0, 0\]"),
        ({"op": "exp", "name": "f", "inputs": [[0, 0, 0]]}, "node 0 'f', inputs: no such value"),
        (
            {"op": "_zeros", "name": "z", "inputs": [], "attrs": {"shpe": "3"}},
            "_zeros 'z': Cannot find argument 'shpe'. Did you mean 'shape'",
        ),
        ({"op": "_zeros", "name": "z", "inputs": [], "attrs": {"dtype": "x"}}, "got 'x', expected"),
    ],
)
def test_what_is_no_node_is_refused(node: dict, words: str) -> None:
    text = json.dumps({"nodes": [node], "arg_nodes": [0], "heads": [[0, 0, 0]]})
    with pytest.raises(mx.MXNetError, match=words):
        sym.load_json(text)


def test_current_files_must_spell_hidden_keys_as_they_are() -> None:
    fc = {**FC, "attrs": {"num_hidden": "3", "weight_lr_mult": "3"}}
    with pytest.raises(mx.MXNetError, match="Cannot find argument 'weight_lr_mult'"):
        load(var("a"), var("w"), fc, version=10901)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(mx.MXNetError, match="cannot read a symbol from"):
        sym.load(str(tmp_path / "nowhere.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(mx.MXNetError, match="cannot read a symbol from"):
        sym.load(str(tmp_path / "binary.json"))


@pytest.mark.parametrize("call", [sym.load, sym.load_json, V("a").save])
def test_names_and_texts_must_be_strings(call) -> None:
    with pytest.raises(TypeError, match="got int, expected a str"):
        call(3)

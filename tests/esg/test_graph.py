"""The graph: versions, edges, staleness, edits. Nothing is executed here."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from lorimer.core.errors import ExecutorErrorCode
from lorimer.esg import ExecutionStateGraph, infer_edges
from lorimer.esg.graph.graph import StepError
from lorimer.esg.graph.steps import ABSENT


def graph_of(*sources: str) -> ExecutionStateGraph:
    graph = ExecutionStateGraph()
    for number, source in enumerate(sources):
        graph.add_step(f"s{number}", source)
    return graph


def run_all(graph: ExecutionStateGraph, **values: str) -> None:
    """As if every step had run; the value of a name is its name unless told otherwise."""
    for step in graph.steps:
        node = graph.get_node(step)
        reads = {name: values.get(name, name) for name in node["reads"]}
        graph.observe(
            step,
            reads,
            {name: values.get(name, name) for name in node["writes"]},
            kills=[name for name in node["writes"] if name not in reads],
        )


# ---------------------------------------------------------------- the seed


def test_row_2_infer_edges_takes_the_last_writer() -> None:
    assert infer_edges([("step_0", "x = 5"), ("step_1", "y = x + 3")]) == [("step_0", "step_1")]
    steps = [("a", "x = 1"), ("b", "x = 2"), ("c", "y = x"), ("d", "z = y + x")]
    assert infer_edges(steps) == [("b", "c"), ("b", "d"), ("c", "d")]


def test_infer_edges_says_where_a_text_is_no_python() -> None:
    with pytest.raises(SyntaxError):
        infer_edges([("a", "x = (")])


def test_row_3_a_graph_for_networkx() -> None:
    networkx = pytest.importorskip("networkx")
    graph = graph_of("x = 1", "y = x", "z = 1")
    graph.add_edge("s0", "s2")
    drawn = graph.graph()
    assert isinstance(drawn, networkx.DiGraph)
    assert [*drawn.edges(data="names")] == [("s0", "s1", ("x",)), ("s0", "s2", ())]
    assert drawn.nodes["s1"] == {"source": "y = x", "status": "new"}


def test_row_4_record_output_makes_a_version() -> None:
    graph = graph_of("x = 5", "y = x")
    graph.record_output("s0", {"x": 5, "__builtins__": {}, "found": 2})
    node = graph.get_node("s0")
    assert node["outputs"] == {"x": 5, "found": 2}
    assert node["status"] == "fresh"
    assert graph.last_writer("found") == "s0"


def test_row_5_ancestors_of_some_names_only() -> None:
    graph = graph_of("a = 1", "b = 1", "c = a", "d = c + b")
    assert graph.get_ancestors("s3") == ["s0", "s1", "s2"]
    assert graph.get_ancestors("s3", {"c"}) == ["s0", "s2"]
    assert graph.get_ancestors("s3", {"unknown"}) == []


def test_row_6_subgraph_in_step_order() -> None:
    graph = graph_of("a = 1", "b = a", "n = 0", "c = b", "d = a")
    assert graph.get_subgraph_from("s0") == ["s0", "s1", "s3", "s4"]


def test_row_7_mark_stale_returns_what_is_stale() -> None:
    graph = graph_of("a = 1", "b = a", "c = b", "d = 1")
    run_all(graph)
    assert graph.stale() == []
    assert graph.mark_stale("s1") == ["s1", "s2"]
    assert graph.stale() == ["s1", "s2"]
    assert [str(cause) for cause in graph.causes("s2")] == ["it reads 'b', which s1 makes again"]


def test_row_8_replay_from_executes_nothing_and_tells_the_order() -> None:
    graph = graph_of("raise SystemExit", "a = 1", "b = a", "c = b")
    assert graph.replay_from("s2") == ["s1", "s2", "s3"], "s1 never ran, and s2 needs it"
    run_all(graph)
    assert graph.replay_from("s2") == ["s2", "s3"]


# ---------------------------------------------------------------- versions


def test_row_14_a_read_sees_the_version_before_it() -> None:
    graph = graph_of("x = 5", "x = x + 1", "y = x", "x = 0", "z = x")
    assert [graph.makers(step) for step in graph.steps] == [
        {},
        {"x": "s0"},
        {"x": "s1"},
        {},
        {"x": "s3"},
    ]
    run_all(graph)
    assert graph.edit_step("s0", "x = 7") == ["s0", "s1", "s2"], "s4 reads another version"


def test_row_15_an_increment_depends_on_the_version_before_it() -> None:
    graph = graph_of("n = 0", "n += 1", "n += 1")
    assert graph.edges() == [("s0", "s1", ("n",)), ("s1", "s2", ("n",))]


def test_row_16_what_may_be_written_hides_nothing() -> None:
    graph = graph_of("x = 1", "if c:\n    x = 2", "y = x")
    assert graph.get_ancestors("s2") == ["s0", "s1"]


def test_row_19_a_deleted_name_is_told_before_anything_runs() -> None:
    graph = graph_of("x = 1", "del x", "y = x", "print(nam)", "nam = 1")
    assert graph.makers("s2") == {"x": "s1"}
    assert graph.unresolved("s3") == {"nam": "s4"}
    graph.observe("s0", {}, {"x": "1"}, kills=["x"])
    graph.observe("s1", {"x": "1"}, {"x": ABSENT})
    assert graph.unresolved("s2") == {"x": ""}


def test_a_step_that_may_write_anything_is_before_all_that_follow() -> None:
    graph = graph_of("x = 1", "from m import *", "y = x + z")
    assert graph.makers("s2") == {"x": "s0"}
    assert graph.get_ancestors("s2") == ["s0", "s1"]
    assert graph.unresolved("s2") == {}
    graph.observe("s1", {}, {"z": "z"}, kills=["z"])
    assert graph.makers("s2") == {"x": "s0", "z": "s1"}


def test_a_step_that_may_read_anything_depends_on_all_before_it() -> None:
    graph = graph_of("x = 1", "y = 1", "exec(code)", "z = 1")
    assert graph.get_ancestors("s2") == ["s0", "s1"]
    assert graph.mark_stale("s1") == ["s1", "s2"]
    graph.observe("s2", {"x": "x"}, {})
    assert graph.get_ancestors("s2") == ["s0"]


def test_a_builtin_that_a_step_shadows_is_a_name_like_others() -> None:
    graph = graph_of("n = len(xs)", "len = max", "m = len(xs)")
    assert graph.makers("s0") == {}
    assert graph.makers("s2") == {"len": "s1"}
    graph.move_step("s1", after="")
    assert graph.makers("s0") == {"len": "s1"}


# ---------------------------------------------------------------- staleness


def test_row_29_a_step_that_makes_the_same_again_leaves_its_readers_alone() -> None:
    graph = graph_of("x = 1", "y = x", "z = y")
    run_all(graph)
    assert graph.edit_step("s0", "x = 2 - 1") == ["s0", "s1", "s2"]
    assert graph.observe("s0", {}, {"x": "x"}, kills=["x"]) == []
    assert graph.stale() == []


def test_only_who_reads_the_name_that_changed_runs_again() -> None:
    graph = graph_of("a = 1\nb = 2", "c = a", "d = b", "e = d")
    run_all(graph)
    graph.mark_stale("s0")
    assert graph.observe("s0", {}, {"a": "a", "b": "other"}, kills=["a", "b"]) == ["s2"]
    assert graph.stale() == ["s2", "s3"]
    assert graph.stale() == ["s2", "s3"]
    graph.observe("s2", {"b": "other"}, {"d": "d"}, kills=["d"])
    assert graph.stale() == [], "d is what it was"


def test_row_30_comments_and_layout_are_no_edit() -> None:
    graph = graph_of("x = f(1, 2)", "y = x")
    run_all(graph)
    assert graph.edit_step("s0", "# why\nx = f(1,\n      2)") == []
    assert graph.get_node("s0")["source"].startswith("# why")
    assert graph.stale() == []


def test_row_31_a_run_that_writes_another_name_moves_its_readers() -> None:
    graph = graph_of("x = 1\ny = 1", "x = 2", "z = x + y")
    run_all(graph)
    graph.edit_step("s1", "y = 2")
    assert graph.makers("s2") == {"x": "s0", "y": "s1"}
    assert "s2" in graph.stale()


def test_row_33_what_needs_a_failed_step_is_blocked_and_not_stale() -> None:
    graph = graph_of("a = 1", "b = a", "c = b", "d = 1")
    run_all(graph)
    graph.mark_stale("s1")
    assert graph.failed("s1") == ["s2"]
    assert [graph.get_node(step)["status"] for step in graph.steps] == [
        "fresh",
        "failed",
        "blocked",
        "fresh",
    ]
    graph.observe("s1", {"a": "a"}, {"b": "b"}, kills=["b"])
    assert graph.get_node("s2")["status"] == "fresh"


def test_row_34_who_has_read_a_file_is_stale_when_it_changes() -> None:
    graph = graph_of("t = open(p).read()", "n = len(t)", "p2 = 1")
    graph.observe("s0", {"file:/data.csv": "1"}, {"t": "t"}, kills=["t"])
    graph.observe("s1", {"t": "t"}, {"n": "n"}, kills=["n"])
    graph.observe("s2", {}, {"p2": "p"}, kills=["p2"])
    assert graph.changed("file:/data.csv") == ["s0", "s1"]
    assert "file:/data.csv, which has changed" in str(graph.causes("s0")[0])
    assert graph.changed("file:/other.csv") == []


def test_a_file_that_a_step_writes_binds_its_readers() -> None:
    graph = graph_of("a", "b", "c")
    graph.observe("s0", {}, {"file:/out": "1"}, kills=["file:/out"])
    graph.observe("s1", {"file:/out": "1"}, {}, kills=[])
    assert graph.get_ancestors("s1") == ["s0"]
    assert graph.mark_stale("s0") == ["s0", "s1"]


# ---------------------------------------------------------------- edits


def test_row_32_a_step_put_in_between_takes_the_readers_behind_it() -> None:
    graph = graph_of("x = 1", "y = x", "z = x")
    run_all(graph)
    graph.add_step("new", "x = 3", after="s1")
    assert graph.steps == ("s0", "s1", "new", "s2")
    assert graph.stale() == ["new", "s2"]
    assert [str(cause) for cause in graph.causes("s2")] == ["it reads 'x', which new makes now"]
    assert graph.delete_step("new") == []
    assert graph.stale() == [], "it reads again what it has read"


def test_deleting_the_only_maker_makes_its_readers_stale() -> None:
    graph = graph_of("x = 1", "y = x", "z = y")
    run_all(graph)
    assert graph.delete_step("s0") == ["s1", "s2"]
    assert graph.unresolved("s1") == {"x": ""}
    assert [str(cause) for cause in graph.causes("s1")] == ["it reads 'x', which no step makes now"]


def test_moving_a_step_binds_anew() -> None:
    graph = graph_of("x = 1", "x = 2", "y = x")
    run_all(graph)
    run_all(graph, x="two")
    assert graph.move_step("s1", after="s2") == []
    assert graph.makers("s2") == {"x": "s0"}
    graph = graph_of("x = 1", "y = x")
    run_all(graph)
    assert graph.move_step("s1", after="") == ["s1"]


def test_renaming_keeps_everything() -> None:
    graph = graph_of("x = 1", "y = x", "z = y")
    graph.add_edge("s0", "s2")
    run_all(graph)
    graph.mark_stale("s0")
    graph.rename_step("s0", "first")
    graph.rename_step("s1", "second")
    assert graph.steps == ("first", "second", "s2")
    assert graph.edges() == [
        ("first", "second", ("x",)),
        ("first", "s2", ()),
        ("second", "s2", ("y",)),
    ]
    assert [str(cause) for cause in graph.causes("second")] == [
        "it reads 'x', which first makes again"
    ]
    assert graph.get_subgraph_from("first") == ["first", "second", "s2"]


def test_many_steps_fit_between_two() -> None:
    graph = graph_of("x = 0", "y = x")
    for number in range(200):
        graph.add_step(f"n{number}", f"x = {number}", after="s0")
    assert graph.steps[:3] == ("s0", "n199", "n198")
    assert graph.makers("s1") == {"x": "n0"}


# ---------------------------------------------------------------- wrong input


def test_wrong_input_is_told_in_a_line() -> None:
    graph = graph_of("x = 1", "y = x")
    wrong = {
        "there is no step 'step'": lambda: graph.get_node("step"),
        "there is a step 's0' already": lambda: graph.add_step("s0", ""),
        "cannot be empty": lambda: graph.add_step("", ""),
        "which comes after it": lambda: graph.add_edge("s1", "s0"),
        "cannot be called 's1'": lambda: graph.rename_step("s0", "s1"),
        "cannot come after itself": lambda: graph.move_step("s0", after="s0"),
    }
    for text, act in wrong.items():
        with pytest.raises(StepError, match=text) as raised:
            act()
        assert raised.value.code is ExecutorErrorCode.EXEC_STEP_INVALID
    assert graph.steps == ("s0", "s1")


def test_an_edge_by_hand_never_points_backwards() -> None:
    graph = graph_of("x = 1", "y = 1")
    graph.add_edge("s0", "s1")
    with pytest.raises(StepError, match="would point backwards"):
        graph.move_step("s0", after="s1")
    assert graph.edges() == [("s0", "s1", ())]


def test_text_that_is_no_python_is_kept_and_can_be_edited() -> None:
    graph = graph_of("x = 1", "y = (", "z = y")
    assert "line 1" in graph.get_node("s1")["error"]
    graph.edit_step("s1", "y = (x)")
    assert graph.get_node("s1")["error"] == ""
    assert graph.get_ancestors("s2") == ["s0", "s1"]


# ---------------------------------------------------------------- properties

NAMES = st.sampled_from("abcd")
SOURCES = st.one_of(
    st.builds("{} = 1".format, NAMES),
    st.builds("{} = {} + {}".format, NAMES, NAMES, NAMES),
    st.builds("{} += {}".format, NAMES, NAMES),
    st.builds("if {}:\n    {} = {}".format, NAMES, NAMES, NAMES),
    st.builds("{}.append({})".format, NAMES, NAMES),
    st.builds("del {}".format, NAMES),
    st.builds("len = {}".format, NAMES),
    st.builds("{} = len({})".format, NAMES, NAMES),
    st.just("from m import *"),
    st.just("exec(a)"),
    st.just("x = ("),
)


class Edits(RuleBasedStateMachine):
    """After any edits the edges are those of a graph that was built from the final steps."""

    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.graph = ExecutionStateGraph()
        self.added = 0

    def _new(self) -> str:
        self.added += 1
        return f"n{self.added}"

    def _some(self, data: st.DataObject) -> str | None:
        return data.draw(st.sampled_from(self.graph.steps)) if self.graph.steps else None

    @rule(source=SOURCES, data=st.data())
    def add(self, source: str, data: st.DataObject) -> None:
        after = data.draw(st.sampled_from([None, "", *self.graph.steps]))
        self.graph.add_step(self._new(), source, after=after)

    @rule(source=SOURCES, data=st.data())
    def edit(self, source: str, data: st.DataObject) -> None:
        if (step := self._some(data)) is not None:
            self.graph.edit_step(step, source)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if (step := self._some(data)) is not None:
            self.graph.delete_step(step)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        if (step := self._some(data)) is not None:
            after = data.draw(st.sampled_from(["", *self.graph.steps]))
            if after != step:
                self.graph.move_step(step, after=after)

    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        if (step := self._some(data)) is not None:
            self.graph.rename_step(step, self._new())

    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        if (step := self._some(data)) is not None:
            stale = self.graph.mark_stale(step)
            assert stale == self.graph.get_subgraph_from(step)

    @invariant()
    def the_edges_are_those_of_the_final_steps(self) -> None:
        again = ExecutionStateGraph()
        for step in self.graph.steps:
            again.add_step(step, self.graph.get_node(step)["source"])
        assert again.edges() == self.graph.edges()
        for step in self.graph.steps:
            assert again.makers(step) == self.graph.makers(step)
            assert again.unresolved(step) == self.graph.unresolved(step)
            assert again.get_subgraph_from(step) == self.graph.get_subgraph_from(step)
            assert again.get_ancestors(step) == self.graph.get_ancestors(step)


Edits.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestEdits = Edits.TestCase


@given(st.lists(SOURCES, min_size=1, max_size=8), st.data())
@settings(max_examples=100, deadline=None)
def test_what_runs_again_alike_leaves_nothing_stale(
    sources: list[str], data: st.DataObject
) -> None:
    """Early cut-off: every step that is stale runs again, in order, and makes what it made."""
    graph = graph_of(*sources)
    run_all(graph)
    graph.mark_stale(data.draw(st.sampled_from(graph.steps)))
    ran = list[str]()
    for step in graph.steps:
        if step in graph.stale():
            ran.append(step)
            node = graph.get_node(step)
            writes = {name: name for name in node["writes"]}
            reads = {name: name for name in node["reads"]}
            graph.observe(step, reads, writes, kills=writes.keys() - reads.keys())
    assert len(ran) == 1
    assert graph.stale() == []


# ---------------------------------------------------------------- answers


def test_row_44_a_dry_run_names_the_version_and_its_producer() -> None:
    graph = graph_of("x = 1", "y = x", "z = 1")
    graph.observe("s0", {}, {"x": "1"}, kills=["x"], seconds=0.5)
    graph.observe("s1", {"x": "1"}, {"y": "1"}, kills=["y"], seconds=2.0)
    graph.edit_step("s0", "x = 2")
    assert [(each.step, each.reasons, each.seconds) for each in graph.plan()] == [
        ("s0", ("its code was edited",), 0.5),
        ("s1", ("it reads 'x', which s0 makes again",), 2.0),
        ("s2", ("it never ran",), None),
    ]


def test_row_45_a_lineage_is_in_the_order_of_the_steps_whatever_they_are_called() -> None:
    graph = ExecutionStateGraph()
    for step, source in (("z", "a = b = 1"), ("y", "c = a + b"), ("x", "d = c + a")):
        graph.add_step(step, source)
    assert graph.lineage("d") == [("z", "a"), ("z", "b"), ("y", "c"), ("x", "d")]


def test_row_45_why_a_step_is_stale_goes_back_to_the_root() -> None:
    graph = graph_of("x = 1", "y = x", "z = y")
    run_all(graph)
    assert graph.why_stale("s2") == []
    graph.edit_step("s0", "x = 2")
    assert graph.why_stale("s2") == [
        "s2: it reads 'y', which s1 makes again",
        "s1: it reads 'x', which s0 makes again",
        "s0: its code was edited",
    ]
    assert graph.lineage("z") == [("s0", "x"), ("s1", "y"), ("s2", "z")]
    assert graph.lineage("y", at="s2") == [("s0", "x"), ("s1", "y")]
    assert graph.lineage("nothing") == []
    assert graph.explain("s1").splitlines() == [
        "s1 is stale",
        "  reads x of s0",
        "  makes y for s2",
        "  because s1: it reads 'x', which s0 makes again",
        "  because s0: its code was edited",
    ]


def test_row_46_a_slice_is_a_script_that_makes_the_value() -> None:
    graph = graph_of("a = 2", "noise = 1", "b = a * 3", "noise += b", "c = b + 1")
    assert graph.backward_slice("c") == ["s0", "s2", "s4"]
    assert graph.backward_slice("s2") == ["s0", "s2"]
    assert graph.get_subgraph_from("s2") == ["s2", "s3", "s4"]
    script = graph.script(graph.backward_slice("c"))
    assert script.startswith("# %% s0\na = 2\n")
    namespace = dict[str, object]()
    exec(script, namespace)
    assert namespace["c"] == 7
    assert "noise" not in namespace
    with pytest.raises(StepError, match="no step and no name 'd'"):
        graph.backward_slice("d")
    with pytest.raises(StepError, match="no step 's9'"):
        graph.script(["s9"])


def test_a_step_that_failed_is_not_said_to_have_never_run() -> None:
    graph = graph_of("x = 1 / 0", "y = x")
    graph.failed("s0")
    assert graph.why_stale("s0") == ["s0: its last run failed"]
    assert graph.why_stale("s1") == ["s1: it never ran"]
    assert graph.plan()[0].reasons == ("its last run failed",)
    assert "because s0: its last run failed" in graph.explain("s0")


def test_a_name_and_its_objects_are_one_reason() -> None:
    graph = graph_of("x = [1]", "y = x")
    graph.observe("s0", {}, {"x": "1", "x#1": "1"}, kills=["x", "x#1"])
    graph.observe("s1", {"x": "1", "x#1": "1"}, {"y": "1"}, kills=["y"])
    graph.edit_step("s0", "x = [2]")
    reasons = ("it reads 'x', which s0 makes again",)
    assert graph.plan()[1].reasons == reasons
    assert graph.get_node("s1")["causes"] == [*reasons]


def test_row_52_unresolved_names_are_known_before_anything_runs() -> None:
    graph = graph_of("total = sum(rows)", "rows = [1]", "print(totl)")
    assert graph.unresolved("s0") == {"rows": "s1"}
    assert graph.unresolved("s2") == {"totl": ""}
    assert "reads rows, which only s1 makes, behind it" in graph.explain("s0")


def test_a_chain_of_any_length_is_up_to_date_again() -> None:
    graph = ExecutionStateGraph()
    for number in range(1500):
        graph.add_step(f"s{number}", f"x{number} = x{number - 1}")
        reads = {f"x{number - 1}": "same"} if number else dict[str, str]()
        graph.observe(f"s{number}", reads, {f"x{number}": "same"})
    assert len(graph.mark_stale("s0")) == 1500
    graph.observe("s0", {}, {"x0": "same"})
    assert graph.stale() == []

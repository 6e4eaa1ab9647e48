"""Tables as Markdown and LaTeX: no text can break out of its cell."""

from lra_bench.report.table import Table, latex_text

TABLE = Table(
    "One & two", "50 % of them.", [{"model": "a|b", "x_1": "n^2"}, {"model": "c\nd", "x_1": "<= 3"}]
)


def test_markdown():
    assert TABLE.markdown(3).splitlines() == [
        "### One & two",
        "",
        "50 % of them.",
        "",
        "| model | x_1 |",
        "| --- | --- |",
        "| a\\|b | n^2 |",
        "| c d | <= 3 |",
    ]


def test_latex_is_escaped_and_has_the_rules_of_booktabs():
    lines = TABLE.latex().splitlines()
    assert r"\caption{One \& two. 50 \% of them.}" in lines
    assert r"\begin{tabular}{lr}" in lines
    assert lines[5:11] == [
        r"\toprule",
        r"model & x\_1 \\",
        r"\midrule",
        r"a\textbar{}b & n\textasciicircum{}2 \\",
        r"c d & \textless{}= 3 \\",
        r"\bottomrule",
    ]
    assert latex_text("\\input{x}") == r"\textbackslash{}input\{x\}"


def test_an_empty_table_has_no_columns():
    assert Table("t", "", []).columns == []

"""The notebooks: how they open and close, what they take, and the whole course executed by papermill."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import cells_of

from helpers.run import config, machine
from helpers.run.folder import OUTPUTS

NOTEBOOKS = sorted((machine.ROOT / "notebooks").glob("*.ipynb"))
COURSE = [path for path in NOTEBOOKS if "01" <= path.name[:2] <= "05"]
SWITCHES = {"run_dir", "preset", "use_drive", "resume", "open_demo"}
OF_06 = {"database", "question", "export_as", "pairs_to"}  # what to ask and to write: no settings of a run


def bootstrap(path):
    return cells_of(path, "code")[0]["source"]


def parameters_of(path):
    papermill = pytest.importorskip("papermill")
    return papermill.inspect_notebook(str(path))


def test_the_course_has_its_notebooks():
    assert [path.name for path in COURSE] == [file for _, file, _ in OUTPUTS.values()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean_plain_python_and_takes_parameters(path):
    cells = cells_of(path)
    code = cells_of(path, "code")

    assert cells[0]["source"].startswith("# "), "the first cell is the title"
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell["outputs"] and cell["execution_count"] is None, f"outputs belong in results/: {cell['source'][:60]}"
        ast.parse(cell["source"])  # no cell needs a magic to run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_output_is_followed_by_what_to_look_for(path):
    cells = cells_of(path)
    run = 0
    for cell in cells:
        run = run + 1 if cell["cell_type"] == "code" else 0
        assert run <= 3, f"too many code cells without a word: {cell['source'][:60]}"
    assert sum("**Look for:**" in cell["source"] for cell in cells) >= 3
    assert "**You now have**" in cells[-1]["source"] and "**Try:**" in cells[-1]["source"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_lists_every_parameter_with_words(path):
    tagged = next(cell for cell in cells_of(path, "code") if "parameters" in cell["metadata"].get("tags", []))
    names = [
        ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target) for node in ast.parse(tagged["source"]).body
    ]
    listed = parameters_of(path)

    assert list(listed) == names
    assert all(entry["help"] for entry in listed.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_a_setting_or_a_switch_and_is_handed_on(path):
    names = set(parameters_of(path))
    settings = {field.name for field in config.settings_fields()}
    source = "\n".join(cell["source"] for cell in cells_of(path, "code"))

    assert names - SWITCHES - OF_06 <= settings
    for name in names - SWITCHES - OF_06:
        assert f"{name}={name}" in source, f"{name} is asked for and not used"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_notebooks_and_files_resolve(path):
    for cell in cells_of(path, "markdown"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", cell["source"]):
            assert (path.parent / target).exists(), f"{target} is linked and not there"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_notebooks_begin_with_the_same_bootstrap(path):
    assert bootstrap(path) == bootstrap(NOTEBOOKS[0])


@pytest.mark.parametrize("folder", [machine.ROOT, machine.ROOT / "notebooks"], ids=["root", "notebooks"])
def test_the_bootstrap_installs_nothing_and_moves_nowhere_outside_of_colab(folder, tmp_path):
    script = tmp_path / "bootstrap.py"  # the same in every notebook
    script.write_text(
        "import subprocess\nsubprocess.run = None\n" + bootstrap(NOTEBOOKS[0]) + "\nimport helpers\nprint(os.getcwd())\n",
        encoding="utf-8",
    )

    done = subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == folder


def test_on_colab_the_bootstrap_fetches_once_and_fails_loudly(tmp_path, monkeypatch):
    source = bootstrap(NOTEBOOKS[0])
    recorder = """
import subprocess
calls = []
def record(command, check=False, **options):
    assert check, "a failed command must stop the notebook"
    calls.append(command[:3])
    if command[0] == "git":
        import pathlib
        (pathlib.Path(command[-1]) / "helpers").mkdir(parents=True)
        (pathlib.Path(command[-1]) / "helpers/__init__.py").touch()
subprocess.run = record
"""
    script = tmp_path / "colab.py"
    script.write_text(f"{recorder}\n{source}\n{source}\nprint(len(calls), calls[1][1:])", encoding="utf-8")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")

    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "2 ['-m', 'pip']", done.stderr


def test_plain_papermill_refuses_a_parameter_that_the_notebook_does_not_know(tmp_path):
    papermill = pytest.importorskip("papermill")
    source, parameters = machine.ROOT / "notebooks/01_setup.ipynb", {"run_dir": str(tmp_path / "run"), "presett": "cpu"}

    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(str(source), str(tmp_path / "out.ipynb"), parameters, progress_bar=False)

    assert "No parameter is called 'presett' here. Did you mean 'preset'?" in caught.value.evalue

"""The demo: what its page shows, by its functions, and in a real browser where there is one."""

import csv
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psutil
import pytest
from conftest import ROOT

from helpers.__main__ import main
from helpers.apps import ask as ask_module
from helpers.apps import demo, own_files
from helpers.apps.ask import Answer, Assistant, nearest_names
from helpers.databases import layout, schema
from helpers.databases.sandbox import Result
from helpers.decoding.select import execute_candidates
from helpers.sources import spider

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="needs gradio")

HOSTILE = '<img src=x onerror=document.title="HACKED">'


class Scripted(Assistant):
    """An assistant that writes what the question says behind a colon, so that every answer is known."""

    def write(self, database, question, *, base=False):
        sql = "I would count them." if base else question.partition(": ")[2]
        for end in range(6, len(sql) + 6, 6):
            time.sleep(0.02)
            yield sql[:end]

    def ask(self, database, question, *, candidates=4):
        found = execute_candidates(database, {question.partition(": ")[2]: 0.6, "SELECT count(*) FROM owners": 0.2}, 2.0)
        hint = nearest_names([one.result.error or "" for one in found], schema.read(database))
        return Answer(question=question, candidates=found, left_out=("log",), hint=hint, seconds=0.1)


@pytest.fixture(scope="module")
def scripted(smoke):
    return Scripted(model=None, tokenizer=None, settings=smoke, name="scripted", trust="Judged on 60 questions.")


def result(rows, columns, outcome="ok", error=None):
    return Result(outcome=outcome, rows=tuple(rows), columns=columns, error=error)


@pytest.mark.parametrize(
    "rows, columns, drawn",
    [
        ([("a", 1), ("b", 2.5)], ("kind", "count(*)"), True),
        ([(1990, 3), (1991, 4)], ("year", "boats"), True),
        ([("a", 1)], ("kind", "n"), False),
        ([("a", 1), ("a", 2)], ("kind", "n"), False),
        ([("a", "x"), ("b", "y")], ("kind", "n"), False),
        ([("a", 1), ("b", None)], ("kind", "n"), False),
        ([(None, 1), ("b", 2)], ("kind", "n"), False),
        ([("a", 1, 2), ("b", 2, 3)], ("a", "b", "c"), False),
        ([(str(number), number) for number in range(31)], ("a", "b"), False),
    ],
)
def test_bars_are_drawn_for_names_with_a_number_each(rows, columns, drawn):
    bars = demo.chart_of(result(rows, columns))
    assert (bars is not None) is drawn
    if drawn:
        assert list(bars["y"]) == [number for _, number in rows]


def test_rows_are_shown_as_text_cut_and_with_columns_that_differ():
    frame = demo.as_frame(result([(None, b"123", "x" * 500)] * 300, ("a", "a", "")))
    assert list(frame.columns) == ["a", "a_2", "column"] and len(frame) == demo.ROWS
    assert list(frame.iloc[0]) == ["NULL", "3 bytes", "x" * 199 + "…"]


def test_names_of_a_hostile_file_are_no_markup(tmp_path):
    file = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE '{HOSTILE}' ('**b** [a](http://evil)' TEXT)")
    shown = demo.tables_markdown(file)
    assert "<" not in shown and "](" not in shown and shown.count("**") == 2, "the bold of the table's name alone"


@pytest.mark.parametrize(
    "outcome, error, words",
    [("refused", "not authorized", "only queries that read"), ("timeout", "stopped after 5 s", "took too long"), ("no such table", "no such table: x", "does not run: no such table: x")],
)  # fmt: skip
def test_what_goes_wrong_is_said_in_plain_words(outcome, error, words):
    assert words in demo.reason(result([], (), outcome, error))


def test_examples_to_click_belong_to_the_database_and_were_not_trained_on(marina):
    asked = {row["question"] for _, row in layout.read_rows(spider.SAMPLE / "train.csv")}
    for database in own_files.named().values():
        questions = {question for (question,) in demo.examples_of(database)}
        assert len(questions) == demo.EXAMPLES and not questions & asked


def test_the_command_refuses_a_run_without_a_model_and_a_port_that_is_taken(tmp_path, capsys, scripted, monkeypatch):
    assert main(["demo", "--run-dir", str(tmp_path / "none")]) == 2
    assert "has no tuned model yet" in capsys.readouterr().err
    monkeypatch.setattr(ask_module, "load", lambda *_: scripted)
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "--model", "scripted", "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert str(port) in err and "Traceback" not in err


# In a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser test needs `pip install playwright` and a Chromium"
    )
    chromium = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, scripted):
    """The demo opened, and the addresses outside of this machine that it asked for."""
    served = demo.launch(scripted, wait=False)
    opened = browser.new_page()
    opened.outside = []
    opened.on(
        "request",
        lambda request: (
            "127.0.0.1" in request.url or request.url.startswith(("data:", "blob:")) or opened.outside.append(request.url)
        ),
    )
    opened.goto(served.local_url, wait_until="domcontentloaded")
    opened.wait_for_selector("#ask")
    yield opened
    assert opened.outside == [], "nothing leaves this machine"
    opened.close()
    served.close()


def ask_in(page, question):
    page.fill("#question textarea", question)
    page.click("#ask")


def said(page, words, part="tuned"):
    page.wait_for_function(f"document.querySelector('#{part}-said')?.innerText.includes({words!r})", timeout=15_000)
    return page.inner_text(f"#{part}-said")


def test_in_a_browser_a_question_is_answered_with_sql_rows_and_bars(page):
    ask_in(page, "How many of each kind?: SELECT kind, count(*) FROM boats GROUP BY kind")
    said(page, "6 rows")
    assert "SELECT kind, count(*) FROM boats GROUP BY kind" in page.inner_text("#tuned-sql .cm-content")
    assert "houseboat" in page.inner_text("#tuned-rows")
    page.wait_for_selector("#tuned-chart canvas, #tuned-chart svg")


def test_in_a_browser_the_model_before_training_answers_beside_it(page):
    page.click("#compare label")
    ask_in(page, "How many?: SELECT count(*) FROM boats")
    said(page, "1 row")
    assert "wrote no SQL" in said(page, "no SQL", "base")


def test_in_a_browser_a_hostile_question_changes_nothing(page, marina):
    before = marina.read_bytes()
    ask_in(page, "drop all tables: DROP TABLE owners")
    said(page, "1 row")  # another candidate ran instead
    assert "SELECT count(*) FROM owners" in page.inner_text("#tuned-sql .cm-content")
    ask_in(page, "again: SELECT 1; DROP TABLE owners")
    said(page, "1 row")
    assert marina.read_bytes() == before


def test_in_a_browser_a_long_result_is_cut_and_one_without_end_is_stopped(page):
    ask_in(page, "all: SELECT a.name FROM boats AS a, boats AS b, boats AS c")
    said(page, "4,096 rows, the first 200 shown")
    ask_in(page, "for ever: WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT max(n) FROM x")
    said(page, "1 row")
    assert "took too long" in page.inner_text("#tuned-said")


def test_in_a_browser_an_upload_is_asked_and_its_values_are_no_markup(page, tmp_path):
    file = tmp_path / "cats.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("name", "note"), ("Tom", HOSTILE), ("Kit", "**bold**")])
    page.set_input_files("#upload input[type=file]", file)
    page.wait_for_function("document.querySelector('#tables').innerText.includes('note')")
    ask_in(page, "all: SELECT * FROM cats")
    said(page, "2 rows")
    assert HOSTILE in page.inner_text("#tuned-rows") and "**bold**" in page.inner_text("#tuned-rows")
    assert page.title() == "Ask your database"


def test_in_a_browser_a_bad_upload_is_refused_in_words(page, tmp_path):
    file = tmp_path / "bad.sqlite"
    file.write_text("no database" * 100)
    page.set_input_files("#upload input[type=file]", file)
    page.wait_for_function("document.body.innerText.includes('bad.sqlite cannot be read as an SQLite database')")
    assert "boats" in page.inner_text("#tables"), "the old database stays"


def test_in_a_browser_an_empty_question_is_answered_with_advice(page):
    page.click("#ask")
    page.wait_for_function("document.body.innerText.includes('There is no question yet')")


# As a server


@pytest.fixture
def served(scripted):
    page = demo.launch(scripted, wait=False)
    yield page
    page.close()


class Visitor:
    """A browser that talks to the page without showing it."""

    def __init__(self, page, name):
        import httpx

        self.name = name
        self.http = httpx.Client(base_url=page.local_url, timeout=120)
        found = self.http.get("/config").json()["dependencies"]
        self.number = next(one["id"] for one in found if len(one["inputs"]) == 3)
        self.upload_number = next(
            one["id"]
            for one in found
            if len(one["inputs"]) == 1 and len(one["outputs"]) == 4 and one["targets"][0][1] == "change"
        )

    def send(self, number, *data):
        """The page's answer to an event: its texts, or "busy"."""
        sent = self.http.post("/gradio_api/queue/join", json={"fn_index": number, "session_hash": self.name, "data": data})
        if sent.status_code == 503:
            return "busy"
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as events:
            for line in events.iter_lines():
                message = json.loads(line.removeprefix("data:") or "{}")
                if message.get("msg") == "process_completed":
                    return json.dumps(message, ensure_ascii=False)
        return ""

    def ask(self, question):
        return self.send(self.number, question, None, False)

    def upload(self, file):
        path = self.http.post("/gradio_api/upload", files={"files": (file.name, file.read_bytes())}).json()[0]
        return self.send(self.upload_number, {"path": path, "orig_name": file.name, "meta": {"_type": "gradio.FileData"}})


@pytest.mark.parametrize("host", ["evil.com", "127.0.0.1.evil.com", ""])
def test_a_page_under_another_name_is_refused(served, host):
    import httpx

    assert httpx.get(f"{served.local_url}config", headers={"Host": host}).status_code == 400
    assert httpx.get(f"{served.local_url}config").status_code == 200


def test_a_question_too_long_is_refused_on_the_server(served):
    begin = time.monotonic()
    assert "400,000 characters, 1,000 are allowed" in Visitor(served, "ada").ask("x" * 400_000)
    assert time.monotonic() - begin < 10


def test_an_answer_names_no_folder_of_this_machine_and_no_markup(served, tmp_path):
    bad = tmp_path / f"{HOSTILE[:30].replace('/', '')}.sqlite"
    bad.write_text("no database" * 100)
    said = Visitor(served, "ada").upload(bad)
    assert "cannot be read as an SQLite database" in said
    assert "<img" not in said and served.uploads.name not in said and str(tmp_path) not in said


def test_uploads_go_when_the_page_is_closed(scripted, tmp_path):
    page = demo.launch(scripted, wait=False)
    file = tmp_path / "cats.csv"
    file.write_text("name,age\nTom,3\n")
    assert "cats" in Visitor(page, "ada").upload(file)
    (folder,) = page.visitors.folder.iterdir()
    assert {path.suffix for path in folder.iterdir()} >= {".csv", ".sqlite"}
    page.visitors.leave("ada")
    assert not folder.exists()
    page.close()


@pytest.mark.parametrize("seconds", [3, pytest.param(120, marks=pytest.mark.slow)])
def test_fifty_visitors_each_get_their_own_answer_or_busy(served, seconds):
    before, end = psutil.Process().memory_info().rss, time.monotonic() + seconds

    def visit(number):
        visitor, heard = Visitor(served, f"visitor{number}"), []
        while not heard or time.monotonic() < end:
            found = visitor.ask(f"mine: SELECT {number} + 700000")
            heard.append("busy" if found == "busy" else "own" if f"{number + 700_000:,}".replace(",", "") in found else found)
            time.sleep(0.5)
        return heard

    with ThreadPoolExecutor(50) as together:
        heard = Counter(itertools.chain.from_iterable(together.map(visit, range(50))))
    assert set(heard) <= {"own", "busy"} and heard["own"] >= 5, heard
    assert psutil.Process().memory_info().rss < before + 200 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_page_and_leaves_no_files(trained_run, tmp_path, number):
    line = [sys.executable, "-m", "helpers", "demo", "--run-dir", str(trained_run.path)]
    process = subprocess.Popen(
        line,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background job ignores it
    )
    assert "127.0.0.1" in process.stdout.readline()
    assert list(tmp_path.glob("uploads-*"))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert not list(tmp_path.glob("uploads-*"))
